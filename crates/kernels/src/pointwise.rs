//! Element by element.

use crate::exp::{exp, tanh};
use crate::simd::{Floats, Kernel, LANES, load_part, store_part};

/// The activation of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

/// A function of two vectors. A closure would be compiled without the instructions of its caller.
trait Pointwise: Copy {
    fn of<S: Floats>(self, s: S, x: S::V, y: S::V) -> S::V;
}

/// `x = f(x, y)`, element by element.
#[inline(always)]
fn map<S: Floats>(s: S, x: &mut [f32], y: &[f32], f: impl Pointwise) {
    let len = x.len();
    assert!(y.len() >= len, "{} beside {len}", y.len());
    let (x, x_rest) = x.as_chunks_mut::<LANES>();
    let (y, y_rest) = y[..len].as_chunks::<LANES>();
    for (x, y) in x.iter_mut().zip(y) {
        s.store(f.of(s, s.load(x), s.load(y)), x);
    }
    if !x_rest.is_empty() {
        let value = f.of(s, load_part(s, x_rest), load_part(s, y_rest));
        store_part(s, value, x_rest);
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
    fn of<S: Floats>(self, s: S, x: S::V, y: S::V) -> S::V {
        s.add(x, y)
    }
}

impl Kernel for Add<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        map(s, self.x, self.y, Sum);
    }
}

/// `x += scale y`, rounded once.
pub(crate) struct AddScaled<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) y: &'a [f32],
    pub(crate) scale: f32,
}

#[derive(Clone, Copy)]
struct ScaledSum(f32);

impl Pointwise for ScaledSum {
    #[inline(always)]
    fn of<S: Floats>(self, s: S, x: S::V, y: S::V) -> S::V {
        s.fma(y, s.splat(self.0), x)
    }
}

impl Kernel for AddScaled<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        map(s, self.x, self.y, ScaledSum(self.scale));
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
    fn of<S: Floats>(self, s: S, x: S::V, up: S::V) -> S::V {
        s.mul(sigmoid_of(s, x, x), up)
    }
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Pointwise for GeluTanh {
    #[inline(always)]
    fn of<S: Floats>(self, s: S, x: S::V, up: S::V) -> S::V {
        s.mul(sigmoid_of(s, x, gelu_argument(s, x)), up)
    }
}

impl Kernel for Gate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        match self.kind {
            GateKind::Silu => map(s, self.gate, self.up, Silu),
            GateKind::GeluTanh => map(s, self.gate, self.up, GeluTanh),
        }
    }
}

/// `x / (1 + e^-t)`.
#[inline(always)]
fn sigmoid_of<S: Floats>(s: S, x: S::V, t: S::V) -> S::V {
    let e = exp(s, s.sub(s.splat(0.0), t));
    s.div(x, s.add(s.splat(1.0), e))
}

/// `2 sqrt(2 / pi) (x + 0.044715 x^3)`: half of `1 + tanh(t / 2)` is the sigmoid of `t`.
#[inline(always)]
fn gelu_argument<S: Floats>(s: S, x: S::V) -> S::V {
    const LINEAR: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    let cubic = s.fma(s.mul(x, x), s.splat(0.044715), s.splat(1.0));
    s.mul(s.mul(s.splat(LINEAR), x), cubic)
}

/// `x = cap * tanh(x / cap)`.
pub(crate) struct Softcap<'a> {
    pub(crate) cap: f32,
    pub(crate) x: &'a mut [f32],
}

impl Kernel for Softcap<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        let cap = s.splat(self.cap);
        for x in self.x.chunks_mut(LANES) {
            let v = load_part(s, x);
            store_part(s, s.mul(cap, tanh(s, s.div(v, cap))), x);
        }
    }
}
