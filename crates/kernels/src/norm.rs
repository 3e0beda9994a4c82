use crate::lanes::{Kernel, LANES, Lanes, load_part, store_part};

/// A root-mean-square norm (Zhang and Sennrich 2019): `x / sqrt(mean(x^2) + epsilon) * weight`.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    /// `[width]`.
    pub weight: &'a [f32],
    /// Added to the mean of the squares.
    pub epsilon: f32,
}

/// What a normed row goes to.
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
    unsafe fn run<L: Lanes>(self) {
        let norm = &self.norm;
        let width = norm.weight.len();
        // SAFETY: the caller has `L`; `chunks_exact` gives rows of `width`.
        unsafe {
            match self.rows {
                Normed::Into(x, out) => {
                    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                        norm_row::<L, false>(norm, x.as_ptr(), out.as_mut_ptr());
                    }
                }
                Normed::InPlace(x) => {
                    for x in x.chunks_exact_mut(width) {
                        norm_row::<L, false>(norm, x.as_ptr(), x.as_mut_ptr());
                    }
                }
                Normed::Onto(x, y) => {
                    for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
                        norm_row::<L, true>(norm, y.as_ptr(), x.as_mut_ptr());
                    }
                }
            }
        }
    }
}

/// One row: the norm of `x` goes to `out`, or is added there.
///
/// # Safety
/// As for [`Lanes`]; both pointers are valid for the norm's width, and may be equal.
#[inline(always)]
unsafe fn norm_row<L: Lanes, const ADD: bool>(norm: &RmsNorm<'_>, x: *const f32, out: *mut f32) {
    let width = norm.weight.len();
    let (whole, rest) = (width - width % LANES, width % LANES);
    // SAFETY: the caller has `L`; all offsets stay below `width`.
    unsafe {
        let mean = sum_of_squares::<L>(x, width) / width as f32;
        let scale = L::splat(1.0 / (mean + norm.epsilon).sqrt());
        let weight = norm.weight.as_ptr();
        for i in (0..whole).step_by(LANES) {
            let value = L::mul(L::mul(L::load(x.add(i)), scale), L::load(weight.add(i)));
            let value = if ADD {
                L::add(L::load(out.add(i)), value)
            } else {
                value
            };
            L::store(out.add(i), value);
        }
        if rest > 0 {
            let (x, weight) = (x.add(whole), weight.add(whole));
            let value = L::mul(
                L::mul(load_part::<L>(x, rest), scale),
                load_part::<L>(weight, rest),
            );
            let old = load_part::<L>(out.add(whole), rest);
            let value = if ADD { L::add(old, value) } else { value };
            store_part::<L>(out.add(whole), value, rest);
        }
    }
}

/// Lane `i` sums the squares at `i`, `i + 16`, …; the lanes are then added as a tree.
///
/// # Safety
/// As for [`Lanes`]; `x` is readable for `len`.
#[inline(always)]
unsafe fn sum_of_squares<L: Lanes>(x: *const f32, len: usize) -> f32 {
    let (whole, rest) = (len - len % LANES, len % LANES);
    // SAFETY: the caller has `L`; all offsets stay below `len`.
    unsafe {
        let mut sum = L::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let v = L::load(x.add(i));
            sum = L::fma(v, v, sum);
        }
        if rest > 0 {
            let v = load_part::<L>(x.add(whole), rest);
            sum = L::fma(v, v, sum);
        }
        L::sum(sum)
    }
}
