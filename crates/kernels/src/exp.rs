//! Our own elementary functions, so that their bits are ours on every machine.

use crate::simd::{Floats, LANES};

/// Below this the exponential is taken as zero; it would not be a normal float.
const EXP_ZERO_BELOW: f32 = -87.3;
/// Above this the exponential is taken as infinite (float's own limit is 88.72).
const EXP_INFINITE_ABOVE: f32 = 88.3;
/// `q` of `e^r = 1 + r + r^2 q(r)` for `|r| <= ln 2 / 2`, constant term first; a minimax fit with
/// relative error under 1e-10.
const EXP_FIT: [f32; 6] = [
    0.5,
    0.16666667,
    0.041666266,
    0.008333265,
    0.0013946304,
    0.00019918126,
];
/// `p` of `tanh x = x + x^3 p(x^2)` for `|x| <= 0.625`, constant term first; a minimax fit with
/// error under 2e-10.
const TANH_FIT: [f32; 6] = [
    -0.3333333,
    0.1333321,
    -0.053947203,
    0.021702968,
    -0.008182674,
    0.002147537,
];

/// `fit[0] + fit[1] x + …`.
#[inline(always)]
fn polynomial<S: Floats>(s: S, fit: [f32; 6], x: S::V) -> S::V {
    let mut sum = s.splat(fit[5]);
    for term in [fit[4], fit[3], fit[2], fit[1], fit[0]] {
        sum = s.fma(sum, x, s.splat(term));
    }
    sum
}

/// `e^x`, within 1.5 units in the last place where the result is a normal float; `exp(0)` is 1,
/// `exp(-inf)` is 0, and NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Floats>(s: S, x: S::V) -> S::V {
    // Adding this rounds to an integer n and leaves n + 127 in the low bits: the exponent of 2^n.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    const LN2_HIGH: f32 = std::f32::consts::LN_2;
    const LN2_LOW: f32 = -1.904_654_3e-9;
    let shifted = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(shifted, s.splat(ROUND));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    let q = polynomial(s, EXP_FIT, r);
    let power = s.add(s.fma(s.mul(r, r), q, r), s.splat(1.0));
    let value = s.mul(power, s.low_bits_to_exponent(shifted));
    let value = s.if_less([x, s.splat(EXP_ZERO_BELOW)], s.splat(0.0), value);
    let infinite = s.splat(f32::INFINITY);
    s.if_less([s.splat(EXP_INFINITE_ABOVE), x], infinite, value)
}

/// [`exp`] of one float.
#[inline(always)]
pub(crate) fn exp_one<S: Floats>(s: S, x: f32) -> f32 {
    let mut all = [0.0; LANES];
    s.store(exp(s, s.splat(x)), &mut all);
    all[0]
}

/// The hyperbolic tangent, within 3 units in the last place.
#[inline(always)]
pub(crate) fn tanh<S: Floats>(s: S, x: S::V) -> S::V {
    let zero = s.splat(0.0);
    let one = s.splat(1.0);
    let negated = s.sub(zero, x);
    let size = s.max(x, negated);
    let e = exp(s, s.add(size, size));
    let far = s.sub(one, s.div(s.splat(2.0), s.add(e, one)));
    let far = s.if_less([x, zero], s.sub(zero, far), far);
    let square = s.mul(x, x);
    let fit = polynomial(s, TANH_FIT, square);
    let near = s.fma(s.mul(x, square), fit, x);
    s.if_less([size, s.splat(0.625)], near, far)
}

/// The natural logarithm of a positive normal number, within 1e-15 relative to `max(1, |ln x|)`; of
/// anything else, not a number.
pub(crate) fn ln(x: f64) -> f64 {
    if !(x.is_normal() && x > 0.0) {
        return f64::NAN;
    }
    let bits = x.to_bits();
    // Exponent and mantissa such that the mantissa lies around 1: sqrt(1/2) ..= sqrt(2).
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), whose argument is under 0.1716.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..11).rev().fold(0.0, |sum: f64, i| {
        sum.mul_add(square, 1.0 / f64::from(2 * i + 1))
    });
    (exponent as f64).mul_add(std::f64::consts::LN_2, 2.0 * s * series)
}

/// Sine and cosine of `angle`, within 1e-11 for angles up to 10^7.
pub(crate) fn sin_cos(angle: f64) -> (f64, f64) {
    // Half a right angle's turn at most is left after whole right angles are taken off; the second
    // constant is what pi/2 lacks as a double.
    const LOW: f64 = 6.123_233_995_736_766e-17;
    let turns = (angle * std::f64::consts::FRAC_2_PI).round_ties_even();
    let r = turns.mul_add(-std::f64::consts::FRAC_PI_2, angle);
    let r = turns.mul_add(-LOW, r);
    let square = r * r;
    // The Taylor series, last term first: 1/n! with alternating signs.
    let series = |first: f64, terms: u32, offset: u32| {
        (1..=terms).rev().fold(1.0, |sum: f64, i| {
            let n = f64::from(2 * i + offset);
            (sum * -square / (n * (n - 1.0))) + 1.0
        }) * first
    };
    let (sin, cos) = (series(r, 8, 1), series(1.0, 8, 0));
    // The cast saturates; angles are far below 2^63.
    match (turns as i64).rem_euclid(4) {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Kernel, Simd};

    struct Map<'a>(&'a mut [f32], bool);

    impl Kernel for Map<'_> {
        type Out = ();

        #[inline(always)]
        fn run<S: Floats>(self, s: S) {
            for x in self.0.as_chunks_mut().0 {
                let v = s.load(x);
                s.store(if self.1 { exp(s, v) } else { tanh(s, v) }, x);
            }
        }
    }

    fn map(isa: Isa, x: &[f32], exp: bool) -> Vec<f32> {
        let mut out = x.to_vec();
        Simd::expect(isa).run(Map(&mut out, exp));
        out
    }

    /// The worst distance from `exact` in units in the last place of a float.
    fn worst_ulp(x: &[f32], got: &[f32], exact: impl Fn(f64) -> f64) -> f64 {
        let distance = |(&x, &got): (&f32, &f32)| {
            let want = exact(f64::from(x));
            let unit = f64::from(f32::EPSILON) * 2f64.powi(want.abs().log2().floor() as i32);
            (f64::from(got) - want).abs() / unit
        };
        x.iter().zip(got).map(distance).fold(0.0, f64::max)
    }

    fn grid(low: f32, high: f32, count: usize) -> Vec<f32> {
        let step = (f64::from(high) - f64::from(low)) / count as f64;
        (0..count)
            .map(|i| (f64::from(low) + step * (i as f64 + 0.37)) as f32)
            .collect()
    }

    #[test]
    fn exp_is_close_and_the_same_everywhere() {
        let x = grid(-87.29, 88.29, 1 << 20);
        let got = map(Isa::detect(), &x, true);
        let worst = worst_ulp(&x, &got, f64::exp);
        assert!(worst < 1.5, "{worst} ulp");
        for isa in Isa::available() {
            assert_eq!(map(isa, &x[..1 << 16], true), got[..1 << 16], "{isa}");
        }
    }

    #[test]
    fn exp_at_the_edges() {
        let mut x = [0.0f32; 16];
        x[..7].copy_from_slice(&[
            0.0,
            -0.0,
            f32::NEG_INFINITY,
            -1e30,
            100.0,
            f32::INFINITY,
            f32::NAN,
        ]);
        for isa in Isa::available() {
            let got = map(isa, &x, true);
            assert_eq!(
                got[..6],
                [1.0, 1.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY],
                "{isa}"
            );
            assert!(got[6].is_nan(), "{isa}");
        }
    }

    #[test]
    fn tanh_is_close_and_the_same_everywhere() {
        let x = grid(-12.0, 12.0, 1 << 20);
        let got = map(Isa::detect(), &x, false);
        let worst = worst_ulp(&x, &got, f64::tanh);
        assert!(worst < 3.0, "{worst} ulp");
        for isa in Isa::available() {
            assert_eq!(map(isa, &x[..1 << 16], false), got[..1 << 16], "{isa}");
        }
    }

    #[test]
    fn ln_is_close() {
        for i in 0..200_000 {
            let x = (f64::from(i) * 0.003 - 300.0).exp();
            let worst = (ln(x) - x.ln()).abs() / x.ln().abs().max(1.0);
            assert!(worst < 1e-15, "ln {x}: off by {worst}");
        }
    }

    #[test]
    fn sin_and_cos_are_close() {
        for i in 0..200_000 {
            let angle = f64::from(i) * 7.3211 - 3.0;
            let (sin, cos) = sin_cos(angle);
            let worst = (sin - angle.sin()).abs().max((cos - angle.cos()).abs());
            assert!(worst < 1e-11, "angle {angle}: off by {worst}");
        }
    }
}
