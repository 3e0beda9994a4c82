//! Joining the sums over spans of keys, in the order of the spans.

use super::tiles::exp_one;
use crate::lanes::{Kernel, LANES, Lanes, load_part, store_part};

/// What is known of a query over the spans so far, beside the weighted sum of values in the
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
    /// As in [`Partial`](super::tiles::Partial).
    pub(crate) scale: [f32; 2],
}

impl Kernel for Merge<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let [greatest, sum] = self.scale;
        let running = self.running;
        let top = if running.greatest > greatest {
            running.greatest
        } else {
            greatest
        };
        let len = self.out.len();
        assert!(
            self.values.len() >= len,
            "{} values for {len}",
            self.values.len()
        );
        // SAFETY: the caller has `L`; all offsets stay below `len`, which both have.
        unsafe {
            let before = exp_one::<L>(running.greatest - top);
            let now = exp_one::<L>(greatest - top);
            *running = Running {
                greatest: top,
                sum: running.sum * before + sum * now,
            };
            let (before, now) = (L::splat(before), L::splat(now));
            let (out, values) = (self.out.as_mut_ptr(), self.values.as_ptr());
            for at in (0..len).step_by(LANES) {
                let part = (len - at).min(LANES);
                let old = load_part::<L>(out.add(at), part);
                let new = load_part::<L>(values.add(at), part);
                let sum = L::fma(new, now, L::mul(old, before));
                store_part::<L>(out.add(at), sum, part);
            }
        }
    }
}

/// Divides the sum of values by the sum of weights, which ends a query.
pub(crate) fn finish(running: Running, out: &mut [f32]) {
    for x in out {
        *x /= running.sum;
    }
}
