use std::fmt;

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
use super::floats::{Kernel, Run};
#[cfg(target_arch = "aarch64")]
use super::neon::{Neon, NeonDot};
use super::scalar::Scalar;
use super::token::InstructionSet;

/// The instruction set the kernels run on. All give equal bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain Rust, on any machine: the reference.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
    /// Any aarch64.
    Neon,
    /// aarch64 with the dot product of bytes (FEAT_DotProd).
    NeonDot,
}

impl Isa {
    pub(crate) const ALL: [Self; 5] = [
        Self::Avx512Vnni,
        Self::Avx2,
        Self::NeonDot,
        Self::Neon,
        Self::Scalar,
    ];

    /// The fastest this machine has.
    pub fn detect() -> Self {
        let best = Self::ALL.into_iter().find(|isa| isa.is_available());
        best.expect("plain Rust runs on any machine")
    }

    /// Everything this machine has, fastest first.
    pub fn available() -> Vec<Self> {
        let all = Self::ALL.into_iter();
        all.filter(|isa| isa.is_available()).collect()
    }

    /// Whether this machine has it. Cheap: the standard library asks the processor once.
    pub fn is_available(self) -> bool {
        Simd::of(self).is_some()
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Neon => "neon",
            Self::NeonDot => "neon-dotprod",
        })
    }
}

/// The token of an [`Isa`] that this machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Simd {
    /// Plain Rust.
    Scalar(Scalar),
    /// Detected.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Detected.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// Detected.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// Detected.
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
}

impl Simd {
    /// `None` where this machine has not got `isa`.
    pub(crate) fn of(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Self::Scalar(Scalar)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Avx512::detect().map(Self::Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512Vnni => None,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::detect().map(Self::Neon),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => NeonDot::detect().map(Self::NeonDot),
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Neon | Isa::NeonDot => None,
        }
    }

    /// [`of`](Self::of), where the caller has said that it is there.
    ///
    /// # Panics
    /// When this machine has not got `isa`.
    pub(crate) fn expect(isa: Isa) -> Self {
        Self::of(isa).unwrap_or_else(|| panic!("this machine has no {isa}"))
    }

    /// Its name.
    pub(crate) fn isa(self) -> Isa {
        match self {
            Self::Scalar(_) => Isa::Scalar,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Isa::Avx512Vnni,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => Isa::Neon,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(_) => Isa::NeonDot,
        }
    }

    /// Runs a kernel on floats, compiled for these instructions.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self {
            Self::Scalar(token) => token.enter(Run(kernel)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => token.enter(Run(kernel)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => token.enter(Run(kernel)),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(token) => token.enter(Run(kernel)),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(token) => token.enter(Run(kernel)),
        }
    }
}
