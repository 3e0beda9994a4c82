//! Element by element.

use crate::exp::{exp, tanh};
use crate::lanes::{Kernel, LANES, Lanes, load_part, store_part};

/// What a gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

/// A function of two vectors. A closure would be compiled without the instructions of its caller.
trait Pointwise {
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn of<L: Lanes>(self, x: L::V, y: L::V) -> L::V;
}

/// `x = f(x, y)`, element by element.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn map<L: Lanes>(x: &mut [f32], y: &[f32], f: impl Pointwise + Copy) {
    let len = x.len();
    assert!(y.len() >= len, "{} beside {len}", y.len());
    let (x, y) = (x.as_mut_ptr(), y.as_ptr());
    let whole = len - len % LANES;
    // SAFETY: the caller has `L`; all offsets stay below `len`.
    unsafe {
        for at in (0..whole).step_by(LANES) {
            L::store(x.add(at), f.of::<L>(L::load(x.add(at)), L::load(y.add(at))));
        }
        let rest = len - whole;
        if rest > 0 {
            let (x, y) = (x.add(whole), y.add(whole));
            let value = f.of::<L>(load_part::<L>(x, rest), load_part::<L>(y, rest));
            store_part::<L>(x, value, rest);
        }
    }
}

/// `x += y`.
pub(crate) struct Add<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) y: &'a [f32],
}

#[derive(Clone, Copy)]
struct Sum;

impl Pointwise for Sum {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, x: L::V, y: L::V) -> L::V {
        // SAFETY: the caller has `L`.
        unsafe { L::add(x, y) }
    }
}

impl Kernel for Add<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller has `L`.
        unsafe { map::<L>(self.x, self.y, Sum) }
    }
}

/// `gate = activation(gate) * up`.
pub(crate) struct Gate<'a> {
    pub(crate) kind: GateKind,
    pub(crate) gate: &'a mut [f32],
    pub(crate) up: &'a [f32],
}

#[derive(Clone, Copy)]
struct Silu;

impl Pointwise for Silu {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, x: L::V, up: L::V) -> L::V {
        // SAFETY: the caller has `L`.
        unsafe { L::mul(sigmoid_of::<L>(x, x), up) }
    }
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Pointwise for GeluTanh {
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, x: L::V, up: L::V) -> L::V {
        // SAFETY: the caller has `L`.
        unsafe { L::mul(sigmoid_of::<L>(x, gelu_argument::<L>(x)), up) }
    }
}

impl Kernel for Gate<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller has `L`.
        unsafe {
            match self.kind {
                GateKind::Silu => map::<L>(self.gate, self.up, Silu),
                GateKind::GeluTanh => map::<L>(self.gate, self.up, GeluTanh),
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
        let len = x.len();
        let x = x.as_mut_ptr();
        // SAFETY: the caller has `L`; all offsets stay below `len`.
        unsafe {
            let cap = L::splat(cap);
            for at in (0..len).step_by(LANES) {
                let part = (len - at).min(LANES);
                let v = load_part::<L>(x.add(at), part);
                store_part::<L>(x.add(at), L::mul(cap, tanh::<L>(L::div(v, cap))), part);
            }
        }
    }
}
