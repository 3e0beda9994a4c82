//! Computing a unit of attention: span after span, and in each a few queries at a time.

use std::ops::Range;

use gogrid_units::Work;

use super::merge::{Merge, Running, finish};
use super::scores::Score;
use super::values::AddValues;
use super::view::{Partial, Query, Scores, View};
use super::weigh::Weigh;
use super::{Plan, Rows, SPAN_TOKENS, Unit, split_partial};
use crate::capability::HEAD_DIM_MAX;
use crate::cost::{pieces_per_point, times};
use crate::kv::KV_TOKENS;
use crate::region::{Abandoned, Pauses};
use crate::simd::{Floats, Kernel, LANES, Simd};

/// The most queries computed side by side on any instruction set.
const SIDE_BY_SIDE_MAX: usize = 8;
/// The widest head of nearly all models.
const USUAL_HEAD_DIM_MAX: usize = 256;
/// What a score's weight costs, most of it the exponential.
const WEIGHT_WORK: Work = Work {
    bytes: 4,
    multiply_adds: 24,
};

/// How many queries are computed side by side: as many as there are registers for.
struct SideBySide;

impl Kernel for SideBySide {
    type Out = usize;

    #[inline(always)]
    fn run<S: Floats>(self, _: S) -> usize {
        (S::VECTORS_AT_ONCE - 1).min(SIDE_BY_SIDE_MAX)
    }
}

/// A unit, for the thread that computes it.
pub(super) struct Compute<'a, 'p> {
    pub(super) plan: &'a Plan<'p>,
    pub(super) rows: &'a Rows<'p>,
    pub(super) unit: &'a Unit,
    pub(super) simd: Simd,
    pub(super) pauses: &'a Pauses<'a>,
}

impl<'p> Compute<'_, 'p> {
    /// # Safety
    /// The outputs and partials of the unit's queries are this thread's.
    pub(super) unsafe fn run(&self) -> Result<(), Abandoned> {
        let count = self.unit.rows.len() * self.plan.heads.group();
        let queries: Vec<_> = (0..count).map(|query| self.query(query)).collect();
        let mut scores = [[0.0; SPAN_TOKENS]; SIDE_BY_SIDE_MAX];
        if let Some(span) = self.unit.span {
            let partial = |query| {
                // SAFETY: the caller's; a query of a unit has one partial for its span.
                unsafe { self.plan.partial(self.rows, self.row_and_head(query), span) }
            };
            for few in self.fews(count) {
                let mut partials: Vec<_> = few.clone().map(partial).collect();
                self.span(span, &queries[few], (&mut scores, &mut partials))?;
            }
            return Ok(());
        }
        let out = |query| {
            let (row, head) = self.row_and_head(query);
            // SAFETY: the caller's.
            unsafe { self.rows.out_of(&self.plan.heads, row, head) }
        };
        let mut outs: Vec<_> = (0..count).map(out).collect();
        // Most heads are no wider than this, and the buffer is filled with zeros each time.
        match self.plan.heads.head_dim {
            ..=USUAL_HEAD_DIM_MAX => {
                let mut buffer = [0.0; SIDE_BY_SIDE_MAX * (USUAL_HEAD_DIM_MAX + LANES)];
                self.all_spans(&queries, &mut outs, (&mut scores, &mut buffer))
            }
            _ => {
                let mut buffer = [0.0; SIDE_BY_SIDE_MAX * (HEAD_DIM_MAX + LANES)];
                self.all_spans(&queries, &mut outs, (&mut scores, &mut buffer))
            }
        }
    }

    /// The row and the head of a query: row after row, and in a row head after head of the group.
    fn row_and_head(&self, query: usize) -> (usize, usize) {
        let group = self.plan.heads.group();
        (
            self.unit.rows.start + query / group,
            self.unit.kv_head * group + query % group,
        )
    }

    fn query(&self, query: usize) -> Query<'p> {
        let heads = &self.plan.heads;
        let (row, head) = self.row_and_head(query);
        let at = (row * heads.heads + head) * heads.head_dim;
        Query {
            q: &self.rows.q[at..at + heads.head_dim],
            sees: heads.sees(self.rows.start + row),
        }
    }

    /// The queries that are computed side by side.
    fn fews(&self, count: usize) -> impl Iterator<Item = Range<usize>> {
        let at_once = self.simd.run(SideBySide);
        let firsts = (0..count).step_by(at_once);
        firsts.map(move |first| first..(first + at_once).min(count))
    }

    /// All spans, each for all queries while its keys and values are near.
    fn all_spans(
        &self,
        queries: &[Query<'_>],
        outs: &mut [&mut [f32]],
        (scores, buffer): (&mut [Scores; SIDE_BY_SIDE_MAX], &mut [f32]),
    ) -> Result<(), Abandoned> {
        let heads = &self.plan.heads;
        let mut running = vec![Running::EMPTY; queries.len()];
        outs.iter_mut().for_each(|out| out.fill(0.0));
        for span in heads.spans(self.rows.positions(self.unit.rows.clone())) {
            for few in self.fews(queries.len()) {
                let parts = buffer.chunks_exact_mut(heads.partial_len());
                let mut partials: Vec<_> = parts.map(split_partial).take(few.len()).collect();
                self.span(span, &queries[few.clone()], (scores, &mut partials))?;
                for (partial, query) in partials.iter().zip(few) {
                    if queries[query].in_span(span).is_some() {
                        self.simd.run(Merge {
                            running: &mut running[query],
                            out: outs[query],
                            values: partial.values,
                            scale: *partial.scale,
                        });
                    }
                }
            }
        }
        for (out, running) in outs.iter_mut().zip(running) {
            finish(running, out);
        }
        Ok(())
    }

    /// The partials of a few queries over one span.
    fn span(
        &self,
        span: usize,
        queries: &[Query<'_>],
        (scores, partials): (&mut [Scores; SIDE_BY_SIDE_MAX], &mut [Partial<'_>]),
    ) -> Result<(), Abandoned> {
        let heads = &self.plan.heads;
        partials.iter_mut().for_each(Partial::clear);
        let view = View {
            heads,
            kv_head: self.unit.kv_head,
            blocks: self.rows.blocks,
            queries,
            span,
        };
        let scores = &mut scores[..queries.len()];
        let tile = heads.work(KV_TOKENS, queries.len());
        self.tiles(&view, tile, |tiles| {
            self.simd.run(Score {
                view,
                tiles,
                scores,
            });
        })?;
        self.pauses
            .point(times(WEIGHT_WORK, queries.len() * SPAN_TOKENS))?;
        for (n, query) in queries.iter().enumerate() {
            if let Some(seen) = query.in_span(span) {
                *partials[n].scale = self.simd.run(Weigh {
                    heads,
                    seen,
                    scores: &mut scores[n],
                });
            }
        }
        self.tiles(&view, tile, |tiles| {
            self.simd.run(AddValues {
                view,
                tiles,
                weights: scores,
                partials,
            });
        })
    }

    /// The tiles that a view shows, as many between two pause points as costs allow.
    fn tiles(
        &self,
        view: &View<'_>,
        work: Work,
        mut each: impl FnMut(Range<usize>),
    ) -> Result<(), Abandoned> {
        let at_once = pieces_per_point(self.simd.isa(), work);
        let all = view.tiles();
        for first in all.clone().step_by(at_once) {
            let tiles = first..(first + at_once).min(all.end);
            self.pauses.point(times(work, tiles.len()))?;
            each(tiles);
        }
        Ok(())
    }
}
