use super::Heads;
use super::view::{Keys, Scores};
use crate::exp::{exp, tanh};
use crate::simd::{Floats, Kernel, LANES};

/// Makes weights of the scores of one query for the keys of a span, `e^(score - greatest)` after scale and
/// cap; zero for keys that are not seen, in the vectors that hold one that is. Gives the greatest score and
/// the sum of the weights.
///
/// The sum runs lane by lane over vectors on a grid from the span's first key, so a vector without a seen
/// key, which would add zeros, can be left out.
pub(super) struct Weigh<'a> {
    pub(super) heads: &'a Heads,
    pub(super) seen: Keys,
    pub(super) scores: &'a mut Scores,
}

/// The number of each lane.
const INDEX: [f32; LANES] = {
    let mut index = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        index[i] = i as f32;
        i += 1;
    }
    index
};

impl Kernel for Weigh<'_> {
    type Out = [f32; 2];

    #[inline(always)]
    fn run<S: Floats>(self, s: S) -> [f32; 2] {
        let Keys { low, end } = self.seen;
        let vectors = low / LANES..end.div_ceil(LANES);
        let first = vectors.start * LANES;
        let scores = &mut self.scores.as_chunks_mut::<LANES>().0[vectors];
        let unseen = s.splat(f32::NEG_INFINITY);
        let mut top = unseen;
        for (v, scores) in scores.iter_mut().enumerate() {
            let mut score = s.mul(s.load(scores), s.splat(self.heads.scale));
            if let Some(cap) = self.heads.softcap {
                let cap = s.splat(cap);
                score = s.mul(cap, tanh(s, s.div(score, cap)));
            }
            let at = first + v * LANES;
            if at < low || end < at + LANES {
                // Whole numbers up to 256 are exact.
                let index = s.add(s.load(&INDEX), s.splat(at as f32));
                let (low, end) = (s.splat(low as f32), s.splat(end as f32));
                score = s.if_less([index, end], score, unseen);
                score = s.if_less([index, low], unseen, score);
            }
            top = s.max(top, score);
            s.store(score, scores);
        }
        let greatest = s.greatest(top);
        let top = s.splat(greatest);
        let mut sum = s.splat(0.0);
        for scores in scores {
            let weight = exp(s, s.sub(s.load(scores), top));
            sum = s.add(sum, weight);
            s.store(weight, scores);
        }
        [greatest, s.sum(sum)]
    }
}
