//! Joining the sums over spans of keys, in the order of the spans.

use crate::exp::exp_one;
use crate::simd::{Floats, Kernel, LANES, load_part, store_part};

/// A query's state over the spans so far, beside the weighted sum of values in the
/// output: the greatest score and the sum of the weights.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    greatest: f32,
    sum: f32,
}

impl Running {
    /// Over no keys; the output holds zeros.
    pub(crate) const EMPTY: Self = Self {
        greatest: f32::NEG_INFINITY,
        sum: 0.0,
    };
}

/// Joins the next span to `out`.
pub(crate) struct Merge<'a> {
    pub(crate) running: &'a mut Running,
    /// `[head_dim]`.
    pub(crate) out: &'a mut [f32],
    /// `[head_dim]`, rounded up to whole vectors.
    pub(crate) values: &'a [f32],
    /// As in [`Partial`](super::view::Partial).
    pub(crate) scale: [f32; 2],
}

impl Kernel for Merge<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        let [greatest, sum] = self.scale;
        let running = self.running;
        let top = if running.greatest > greatest {
            running.greatest
        } else {
            greatest
        };
        let len = self.out.len();
        let has = self.values.len();
        assert!(has >= len, "{has} values for {len}");
        let before = exp_one(s, running.greatest - top);
        let now = exp_one(s, greatest - top);
        *running = Running {
            greatest: top,
            sum: running.sum * before + sum * now,
        };
        let (before, now) = (s.splat(before), s.splat(now));
        let (out, out_rest) = self.out.as_chunks_mut::<LANES>();
        let (values, values_rest) = self.values[..len].as_chunks::<LANES>();
        for (out, new) in out.iter_mut().zip(values) {
            let old = s.mul(s.load(out), before);
            s.store(s.fma(s.load(new), now, old), out);
        }
        if !out_rest.is_empty() {
            let old = s.mul(load_part(s, out_rest), before);
            let new = load_part(s, values_rest);
            store_part(s, s.fma(new, now, old), out_rest);
        }
    }
}

/// Divides the sum of values by the sum of weights, which ends a query.
pub(crate) fn finish(running: Running, out: &mut [f32]) {
    for x in out {
        *x /= running.sum;
    }
}
