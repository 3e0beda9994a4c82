use std::ops::Range;

use super::merge::{Merge, Running, finish};
use super::tiles::{Partial, QUERIES_MAX, Query, Tiles};
use super::{Plan, Rows, SPAN_TILES, SPAN_TOKENS, Unit, split_partial};
use crate::capability::HEAD_DIM_MAX;
use crate::cost::{pieces_per_point, times};
use crate::kv::KV_TOKENS;
use crate::region::{Abandoned, Pauses};
use crate::simd::{LANES, Simd};

/// The widest head of nearly all models.
const USUAL_HEAD_DIM_MAX: usize = 256;

/// At most [`QUERIES_MAX`] queries of a unit.
pub(super) struct Few<'a, 'p> {
    pub(super) plan: &'a Plan<'p>,
    pub(super) rows: &'a Rows<'p>,
    pub(super) unit: &'a Unit,
    /// Row after row, and in a row head after head of the group.
    pub(super) queries: Range<usize>,
    pub(super) simd: Simd,
    pub(super) pauses: &'a Pauses<'a>,
}

impl<'a> Few<'a, '_> {
    fn row_and_head(&self, query: usize) -> (usize, usize) {
        let group = self.plan.heads.group();
        (
            self.unit.rows.start + query / group,
            self.unit.kv_head * group + query % group,
        )
    }

    fn query(&self, query: usize) -> Query<'a> {
        let heads = &self.plan.heads;
        let (row, head) = self.row_and_head(query);
        let at = (row * heads.heads + head) * heads.head_dim;
        Query {
            q: &self.rows.q[at..at + heads.head_dim],
            sees: heads.sees(self.rows.start + row),
        }
    }

    /// # Safety
    /// The queries' outputs and partials are this thread's.
    pub(super) unsafe fn compute(&self) -> Result<(), Abandoned> {
        let queries: Vec<_> = self
            .queries
            .clone()
            .map(|query| self.query(query))
            .collect();
        let Some(span) = self.unit.span else {
            // SAFETY: the caller's.
            return unsafe {
                // Most heads are no wider than this, and the buffer is filled with zeros each time.
                match self.plan.heads.head_dim {
                    ..=USUAL_HEAD_DIM_MAX => self.all_spans(
                        &queries,
                        &mut [0.0; QUERIES_MAX * (USUAL_HEAD_DIM_MAX + LANES)],
                    ),
                    _ => self.all_spans(&queries, &mut [0.0; QUERIES_MAX * (HEAD_DIM_MAX + LANES)]),
                }
            };
        };
        let partial = |query| {
            // SAFETY: the caller's; a query of a unit has one partial for its span.
            unsafe { self.plan.partial(self.rows, self.row_and_head(query), span) }
        };
        let mut partials: Vec<_> = self.queries.clone().map(partial).collect();
        self.span(span, &queries, &mut partials)
    }

    /// # Safety
    /// The queries' outputs are this thread's.
    unsafe fn all_spans(&self, queries: &[Query<'_>], buffer: &mut [f32]) -> Result<(), Abandoned> {
        let heads = &self.plan.heads;
        let out = |query| {
            let (row, head) = self.row_and_head(query);
            // SAFETY: the caller's.
            unsafe { self.rows.out_of(heads, row, head) }
        };
        let parts = buffer.chunks_exact_mut(heads.partial_len());
        let mut partials: Vec<_> = parts.map(split_partial).take(queries.len()).collect();
        let mut running = [Running::EMPTY; QUERIES_MAX];
        let mut outs: Vec<_> = self.queries.clone().map(out).collect();
        outs.iter_mut().for_each(|out| out.fill(0.0));
        for span in heads.spans(self.rows.positions(self.unit.rows.clone())) {
            self.span(span, queries, &mut partials)?;
            let ends = (span * SPAN_TOKENS, (span + 1) * SPAN_TOKENS);
            for (n, query) in queries.iter().enumerate() {
                if query.sees.0 < ends.1 && ends.0 < query.sees.1 {
                    let (values, scale) = (&*partials[n].values, *partials[n].scale);
                    self.simd.run(Merge {
                        running: &mut running[n],
                        out: outs[n],
                        values,
                        scale,
                    });
                }
            }
        }
        for (out, running) in outs.into_iter().zip(running) {
            finish(running, out);
        }
        Ok(())
    }

    /// The partials of the queries over one span.
    fn span(
        &self,
        span: usize,
        queries: &[Query<'_>],
        partials: &mut [Partial<'_>],
    ) -> Result<(), Abandoned> {
        let (heads, kv_head) = (&self.plan.heads, self.unit.kv_head);
        partials.iter_mut().for_each(Partial::clear);
        let tile = self.plan.work(KV_TOKENS, queries.len());
        let each = pieces_per_point(self.simd.isa(), tile).min(SPAN_TILES);
        let end = (span + 1) * SPAN_TILES;
        for first in (span * SPAN_TILES..end).step_by(each) {
            let tiles = first..(first + each).min(end);
            self.pauses.point(times(tile, tiles.len()))?;
            let blocks = self.rows.blocks;
            self.simd.run(Tiles {
                heads,
                kv_head,
                blocks,
                tiles,
                queries,
                partials,
            });
        }
        Ok(())
    }
}
