//! The logarithm of a softmax, with pause points inside a vocabulary.

use gogrid_units::Work;

use crate::cost::times;
use crate::exp::{exp, ln};
use crate::region::{Abandoned, Pauses};
use crate::simd::{Floats, Kernel, LANES, Simd, load_part};

/// Logits between two pause points, in whole vectors: 74 us by the cost of the slowest core. Where
/// the pauses are changes no bit, for lanes go on from piece to piece.
const PIECE: usize = 4096;

/// Of a logit, in the pass that looks for the greatest.
const GREATEST_WORK: Work = Work {
    bytes: 4,
    multiply_adds: 2,
};
/// Of a logit, in the pass that sums the weights.
const SUM_WORK: Work = Work {
    bytes: 4,
    multiply_adds: 18,
};

/// The work of [`log_prob`] for `vocab` logits.
pub(crate) fn log_prob_work(vocab: usize) -> Work {
    let each = Work {
        bytes: GREATEST_WORK.bytes + SUM_WORK.bytes,
        multiply_adds: GREATEST_WORK.multiply_adds + SUM_WORK.multiply_adds,
    };
    times(each, vocab)
}

/// The natural logarithm of the probability of a target under the softmax of its logits.
pub(crate) fn log_prob(
    simd: Simd,
    (logits, target): (&[f32], u32),
    pauses: &Pauses<'_>,
) -> Result<f32, Abandoned> {
    // A u32 fits a usize on every platform this runs on.
    let logit = logits[target as usize];
    let greatest = greatest_of(simd, logits, pauses)?;
    let mut sums = [0.0; LANES];
    for logits in logits.chunks(PIECE) {
        pauses.point(times(SUM_WORK, logits.len()))?;
        let sums = &mut sums;
        simd.run(AddWeights {
            logits,
            greatest,
            sums,
        });
    }
    let sum: f64 = sums.iter().sum();
    // The sum is at least one, so its logarithm is defined; rounded to float once.
    Ok((f64::from(logit) - f64::from(greatest) - ln(sum)) as f32)
}

fn greatest_of(simd: Simd, logits: &[f32], pauses: &Pauses<'_>) -> Result<f32, Abandoned> {
    let (whole, tail) = logits.as_chunks::<LANES>();
    let mut top = [f32::NEG_INFINITY; LANES];
    for logits in whole.chunks(PIECE / LANES) {
        pauses.point(times(GREATEST_WORK, LANES * logits.len()))?;
        let top = &mut top;
        simd.run(Raise { logits, top });
    }
    let greatest = simd.run(Greatest(top));
    let raise = |greatest: f32, &x: &f32| if x > greatest { x } else { greatest };
    Ok(tail.iter().fold(greatest, raise))
}

/// Raises each lane of `top` to the greatest of its logits.
struct Raise<'a> {
    logits: &'a [[f32; LANES]],
    top: &'a mut [f32; LANES],
}

impl Kernel for Raise<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        let mut top = s.load(self.top);
        for v in self.logits {
            top = s.max(s.load(v), top);
        }
        s.store(top, self.top);
    }
}

/// The greatest lane.
struct Greatest([f32; LANES]);

impl Kernel for Greatest {
    type Out = f32;

    #[inline(always)]
    fn run<S: Floats>(self, s: S) -> f32 {
        s.greatest(s.load(&self.0))
    }
}

/// Adds `e^(logit - greatest)` to the sums, lane by lane.
struct AddWeights<'a> {
    logits: &'a [f32],
    greatest: f32,
    sums: &'a mut [f64; LANES],
}

impl Kernel for AddWeights<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        let (whole, tail) = self.logits.as_chunks::<LANES>();
        let mut sums = *self.sums;
        let top = s.splat(self.greatest);
        for v in whole {
            add_weights(s, &mut sums, s.sub(s.load(v), top));
        }
        let rest = s.sub(load_part(s, tail), top);
        add_weights(s, &mut sums[..tail.len()], rest);
        *self.sums = sums;
    }
}

/// Adds `e^v` to the sums, lane by lane, as many as there are.
#[inline(always)]
fn add_weights<S: Floats>(s: S, sums: &mut [f64], v: S::V) {
    let mut weights = [0.0; LANES];
    s.store(exp(s, v), &mut weights);
    for (sum, weight) in sums.iter_mut().zip(&weights) {
        *sum += f64::from(*weight);
    }
}
