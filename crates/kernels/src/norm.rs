use crate::simd::{Floats, Kernel, LANES, load_part, store_part};

/// A root-mean-square norm (Zhang and Sennrich 2019): `x / sqrt(mean(x^2) + epsilon) * weight`.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    /// `[width]`.
    pub weight: &'a [f32],
    /// Added to the mean of the squares.
    pub epsilon: f32,
}

/// The input of a norm and where its output goes.
pub(crate) enum Normed<'a> {
    /// `out = norm(x)`, both `[rows, width]`.
    Into(&'a [f32], &'a mut [f32]),
    /// `x = norm(x)`.
    InPlace(&'a mut [f32]),
    /// `x += norm(y)`, `y` second.
    Onto(&'a mut [f32], &'a [f32]),
}

/// Norms rows of `norm.weight.len()` each.
pub(crate) struct NormRows<'a> {
    pub(crate) norm: RmsNorm<'a>,
    pub(crate) rows: Normed<'a>,
}

impl Kernel for NormRows<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        let norm = &self.norm;
        let width = norm.weight.len();
        match self.rows {
            Normed::Into(x, out) => {
                for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                    norm_row::<S, false>(s, norm, x, out);
                }
            }
            Normed::InPlace(x) => {
                for x in x.chunks_exact_mut(width) {
                    norm_in_place(s, norm, x);
                }
            }
            Normed::Onto(x, y) => {
                for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
                    norm_row::<S, true>(s, norm, y, x);
                }
            }
        }
    }
}

/// One row: the norm of `x` goes to `out`, or is added there. Both are as wide as the norm.
#[inline(always)]
fn norm_row<S: Floats, const ADD: bool>(s: S, norm: &RmsNorm<'_>, x: &[f32], out: &mut [f32]) {
    let scale = scale_of(s, norm, x);
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (weight, weight_rest) = norm.weight.as_chunks::<LANES>();
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for ((x, weight), out) in x.iter().zip(weight).zip(out) {
        let value = s.mul(s.mul(s.load(x), scale), s.load(weight));
        let value = if ADD {
            s.add(s.load(out), value)
        } else {
            value
        };
        s.store(value, out);
    }
    if !out_rest.is_empty() {
        let (x, weight) = (load_part(s, x_rest), load_part(s, weight_rest));
        let value = s.mul(s.mul(x, scale), weight);
        let value = if ADD {
            s.add(load_part(s, out_rest), value)
        } else {
            value
        };
        store_part(s, value, out_rest);
    }
}

/// One row: `x` becomes its norm.
#[inline(always)]
fn norm_in_place<S: Floats>(s: S, norm: &RmsNorm<'_>, x: &mut [f32]) {
    let scale = scale_of(s, norm, x);
    let (x, x_rest) = x.as_chunks_mut::<LANES>();
    let (weight, weight_rest) = norm.weight.as_chunks::<LANES>();
    for (x, weight) in x.iter_mut().zip(weight) {
        s.store(s.mul(s.mul(s.load(x), scale), s.load(weight)), x);
    }
    if !x_rest.is_empty() {
        let weight = load_part(s, weight_rest);
        let value = s.mul(s.mul(load_part(s, x_rest), scale), weight);
        store_part(s, value, x_rest);
    }
}

/// The factor of all elements of `x`, before the weights.
#[inline(always)]
fn scale_of<S: Floats>(s: S, norm: &RmsNorm<'_>, x: &[f32]) -> S::V {
    let mean = sum_of_squares(s, x) / x.len() as f32;
    s.splat(1.0 / (mean + norm.epsilon).sqrt())
}

/// Lane `i` sums the squares at `i`, `i + 16`, …; the lanes are then added as a tree.
#[inline(always)]
fn sum_of_squares<S: Floats>(s: S, x: &[f32]) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut sum = s.splat(0.0);
    for x in whole {
        let v = s.load(x);
        sum = s.fma(v, v, sum);
    }
    if !rest.is_empty() {
        let v = load_part(s, rest);
        sum = s.fma(v, v, sum);
    }
    s.sum(sum)
}
