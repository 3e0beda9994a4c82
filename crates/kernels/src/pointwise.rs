//! Element by element, and the logarithm of a softmax.

use crate::exp::{exp, ln, tanh};
use crate::isa::Isa;
use crate::lanes::{Kernel, LANES, Lanes, load_part, run, store_part};

/// What a gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

/// `x = f(x, y)`, lanes by lanes.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn map<L: Lanes>(x: &mut [f32], y: &[f32], f: impl Fn(L::V, L::V) -> L::V) {
    let len = x.len();
    assert!(y.len() >= len, "{} beside {len}", y.len());
    let (x, y) = (x.as_mut_ptr(), y.as_ptr());
    let whole = len - len % LANES;
    // SAFETY: the caller has `L`; all offsets stay below `len`.
    unsafe {
        for at in (0..whole).step_by(LANES) {
            L::store(x.add(at), f(L::load(x.add(at)), L::load(y.add(at))));
        }
        let rest = len - whole;
        if rest > 0 {
            let part = |from: *const f32| load_part::<L>(from.add(whole), rest);
            store_part::<L>(x.add(whole), f(part(x), part(y)), rest);
        }
    }
}

/// `x += y`.
pub(crate) struct Add<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) y: &'a [f32],
}

impl Kernel for Add<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller has `L`.
        unsafe { map::<L>(self.x, self.y, |x, y| L::add(x, y)) }
    }
}

/// `gate = activation(gate) * up`.
pub(crate) struct Gate<'a> {
    pub(crate) kind: GateKind,
    pub(crate) gate: &'a mut [f32],
    pub(crate) up: &'a [f32],
}

impl Kernel for Gate<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller has `L`.
        unsafe {
            match self.kind {
                GateKind::Silu => map::<L>(self.gate, self.up, |x, up| {
                    L::mul(sigmoid_of::<L>(x, x), up)
                }),
                GateKind::GeluTanh => map::<L>(self.gate, self.up, |x, up| {
                    L::mul(sigmoid_of::<L>(x, gelu_argument::<L>(x)), up)
                }),
            }
        }
    }
}

/// `x / (1 + e^-t)`.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn sigmoid_of<L: Lanes>(x: L::V, t: L::V) -> L::V {
    // SAFETY: the caller has `L`.
    unsafe {
        let e = exp::<L>(L::sub(L::splat(0.0), t));
        L::div(x, L::add(L::splat(1.0), e))
    }
}

/// `2 sqrt(2 / pi) (x + 0.044715 x^3)`: half of `1 + tanh(t / 2)` is the sigmoid of `t`.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn gelu_argument<L: Lanes>(x: L::V) -> L::V {
    const LINEAR: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    // SAFETY: the caller has `L`.
    unsafe {
        let cubic = L::fma(L::mul(x, x), L::splat(0.044715), L::splat(1.0));
        L::mul(L::mul(L::splat(LINEAR), x), cubic)
    }
}

/// `x = cap * tanh(x / cap)`.
pub(crate) struct Softcap<'a> {
    pub(crate) cap: f32,
    pub(crate) x: &'a mut [f32],
}

impl Kernel for Softcap<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { cap, x } = self;
        // SAFETY: the caller has `L`; only `x` is used.
        unsafe {
            let cap = L::splat(cap);
            let len = x.len();
            let x = x.as_mut_ptr();
            for at in (0..len).step_by(LANES) {
                let part = (len - at).min(LANES);
                let v = load_part::<L>(x.add(at), part);
                store_part::<L>(x.add(at), L::mul(cap, tanh::<L>(L::div(v, cap))), part);
            }
        }
    }
}

/// The greatest of `logits` and the sum of `e^(logit - greatest)`.
struct SoftmaxSum<'a> {
    logits: &'a [f32],
}

impl Kernel for SoftmaxSum<'_> {
    type Out = (f32, f64);

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> (f32, f64) {
        let logits = self.logits;
        let (whole, tail) = logits.as_chunks::<LANES>();
        // SAFETY: the caller has `L`; chunks hold a vector.
        unsafe {
            let mut top = L::splat(f32::NEG_INFINITY);
            for v in whole {
                top = L::max(L::load(v.as_ptr()), top);
            }
            let mut greatest = L::greatest(top);
            for &x in tail {
                greatest = if x > greatest { x } else { greatest };
            }
            let mut sums = [0.0f64; LANES];
            let mut add = |v: L::V, len: usize| {
                let mut weights = [0.0; LANES];
                L::store(
                    weights.as_mut_ptr(),
                    exp::<L>(L::sub(v, L::splat(greatest))),
                );
                for (sum, weight) in sums.iter_mut().zip(&weights[..len]) {
                    *sum += f64::from(*weight);
                }
            };
            for v in whole {
                add(L::load(v.as_ptr()), LANES);
            }
            add(load_part::<L>(tail.as_ptr(), tail.len()), tail.len());
            (greatest, sums.iter().sum())
        }
    }
}

/// The natural logarithm of the probability of `target` under the softmax of `logits`.
pub(crate) fn log_prob(isa: Isa, logits: &[f32], target: u32) -> f32 {
    // A u32 fits a usize on every platform this runs on.
    let logit = logits[target as usize];
    let (greatest, sum) = run(isa, SoftmaxSum { logits });
    // The sum is at least one, so its logarithm is defined; rounded to float once.
    (f64::from(logit) - f64::from(greatest) - ln(sum)) as f32
}
