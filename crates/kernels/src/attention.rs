//! Attention over keys and values in blocks.
//!
//! A query's result is a fixed sequence of operations on that query and the keys it sees, in the order of
//! their positions: a softmax over each span of 256 positions on a grid from position 0, and spans joined in
//! order (Milakov and Gimelshein 2018). It depends on nothing else, not on the queries that it is computed
//! beside, so queries, heads and spans may be shared out in any way.

mod compute;
mod merge;
mod scores;
mod values;
mod view;
mod weigh;

use std::ops::Range;

use gogrid_units::{Bytes, Work};

use crate::buffer::Buffer;
use crate::cost::{pieces_per_point, times};
use crate::disjoint::Disjoint;
use crate::kv::{KV_TOKENS, KvBlock};
use crate::region::{Abandoned, Pauses};
use crate::simd::{Floats, LANES, Simd};
use compute::Compute;
use merge::{Merge, Running, finish};
use view::Partial;

/// Tiles in a span.
const SPAN_TILES: usize = 8;
/// Positions in a span.
const SPAN_TOKENS: usize = SPAN_TILES * KV_TOKENS;
/// Queries of one unit of work, so that a span's keys are used often while they are near.
const UNIT_QUERIES: usize = 32;
/// The same at least, where units would be too few for all members: no more are computed side by side.
const UNIT_QUERIES_MIN: usize = 8;
/// Units for each member, so that all end at about the same time.
const UNITS_EACH: usize = 4;

/// One layer's attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// The layer's index in the blocks' [`KvLayout`](crate::KvLayout).
    pub layer: usize,
    /// Query heads: a multiple of the layer's key and value heads.
    pub heads: usize,
    /// The factor of scores.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)` after scaling.
    pub softcap: Option<f32>,
    /// Positions a query sees, its own included; `None` sees all before it.
    pub window: Option<usize>,
}

/// Consecutive rows of one sequence.
pub struct AttentionRows<'a> {
    /// `[rows, heads * head_dim]`.
    pub q: &'a [f32],
    /// `[rows, heads * head_dim]`.
    pub out: &'a mut [f32],
    /// In position order: entry `i` holds positions `32 i .. 32 i + 32`. Every position that a row
    /// sees has its block, with its keys and values written.
    pub blocks: &'a [Option<&'a KvBlock>],
    /// Position of the first row.
    pub start: usize,
}

/// [`Attention`] with the shape that the blocks give it.
pub(crate) struct Heads {
    pub(crate) layer: usize,
    pub(crate) head_dim: usize,
    pub(crate) scale: f32,
    pub(crate) softcap: Option<f32>,
    heads: usize,
    kv_heads: usize,
    window: Option<usize>,
}

impl Heads {
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Floats of a partial: the sums, rounded up, and a vector that begins with the scale.
    fn partial_len(&self) -> usize {
        self.head_dim.next_multiple_of(LANES) + LANES
    }

    /// Positions that the row at `position` sees.
    fn sees(&self, position: usize) -> (usize, usize) {
        let end = position + 1;
        (
            self.window.map_or(0, |window| end.saturating_sub(window)),
            end,
        )
    }

    /// The work of the scores of some queries for some tokens. To add the tokens' values is as much.
    fn work(&self, tokens: usize, queries: usize) -> Work {
        let each = Work {
            bytes: 2,
            multiply_adds: queries as u64,
        };
        times(each, tokens * self.head_dim)
    }

    /// Spans that any row at `positions` sees, at least one.
    fn spans(&self, positions: Range<usize>) -> Range<usize> {
        let (first, _) = self.sees(positions.start);
        first / SPAN_TOKENS..positions.end.div_ceil(SPAN_TOKENS)
    }
}

/// A call of attention, checked and cut into units.
pub(crate) struct Plan<'a> {
    heads: Heads,
    rows: Vec<Rows<'a>>,
    units: Vec<Unit>,
    /// Partials for each unit begin here in the scratch, if units are single spans.
    scratch: Option<Disjoint<'a, f32>>,
}

struct Rows<'a> {
    q: &'a [f32],
    out: Disjoint<'a, f32>,
    blocks: &'a [Option<&'a KvBlock>],
    start: usize,
    count: usize,
    /// Where its partials begin in the scratch.
    partials: usize,
}

/// One key and value head, a few rows, and all their spans or one.
struct Unit {
    sequence: usize,
    kv_head: usize,
    rows: Range<usize>,
    span: Option<usize>,
}

impl<'a> Plan<'a> {
    /// `None` when there are no rows at all. Where rows are too few for `width` members, spans are units of
    /// their own if `scratch` has the room, and units have fewer rows.
    pub(crate) fn new(
        attention: &Attention,
        sequences: &'a mut [AttentionRows<'_>],
        (width, scratch): (usize, &'a mut [f32]),
    ) -> Option<Self> {
        let block = sequences
            .iter()
            .find_map(|s| s.blocks.iter().find_map(|b| *b))?;
        let shape = block.layout().layer(attention.layer);
        let heads = Heads {
            layer: attention.layer,
            head_dim: shape.head_dim,
            scale: attention.scale,
            softcap: attention.softcap,
            heads: attention.heads,
            kv_heads: shape.heads,
            window: attention.window,
        };
        let whole = heads.heads.is_multiple_of(heads.kv_heads) && heads.heads > 0;
        assert!(
            whole,
            "{} heads over {} of keys",
            heads.heads, heads.kv_heads
        );
        assert!(heads.window != Some(0), "a window of no positions");
        let mut partials = 0;
        let rows = sequences
            .iter_mut()
            .map(|rows| Rows::new(&heads, rows, &mut partials))
            .collect();
        let mut plan = Self {
            heads,
            rows,
            units: vec![],
            scratch: None,
        };
        let mut queries = UNIT_QUERIES;
        plan.cut(queries, false);
        let enough = match width {
            1 => 0,
            width => UNITS_EACH * width,
        };
        if plan.units.len() < enough && partials <= scratch.len() && plan.is_long() {
            plan.scratch = Some(Disjoint::new(scratch));
            plan.cut(queries, true);
        }
        while plan.units.len() < enough && queries > UNIT_QUERIES_MIN {
            queries /= 2;
            plan.cut(queries, plan.is_split());
        }
        Some(plan)
    }

    fn is_long(&self) -> bool {
        self.rows
            .iter()
            .any(|rows| self.heads.spans(rows.positions(0..rows.count)).len() > 1)
    }

    /// Makes the units, of so many queries or of one row; `by_span` gives each span its own.
    fn cut(&mut self, queries: usize, by_span: bool) {
        self.units.clear();
        let rows_each = (queries / self.heads.group()).max(1);
        for (sequence, rows) in self.rows.iter().enumerate() {
            for kv_head in 0..self.heads.kv_heads {
                for first in (0..rows.count).step_by(rows_each) {
                    let range = first..(first + rows_each).min(rows.count);
                    let unit = |span| Unit {
                        sequence,
                        kv_head,
                        rows: range.clone(),
                        span,
                    };
                    if by_span {
                        let spans = self.heads.spans(rows.positions(range.clone()));
                        self.units.extend(spans.map(|span| unit(Some(span))));
                    } else {
                        self.units.push(unit(None));
                    }
                }
            }
        }
    }

    /// How many units there are.
    pub(crate) fn units(&self) -> usize {
        self.units.len()
    }

    /// The work of the longest unit, between whose tiles are pause points.
    pub(crate) fn unit_work(&self) -> Work {
        let work = |unit: &Unit| {
            let rows = &self.rows[unit.sequence];
            let spans = self.heads.spans(rows.positions(unit.rows.clone()));
            let tokens = unit.span.map_or(spans.len(), |_| 1) * SPAN_TOKENS;
            let half = self
                .heads
                .work(tokens, unit.rows.len() * self.heads.group());
            times(half, 2)
        };
        let works = self.units.iter().map(work);
        works
            .max_by_key(|work| work.multiply_adds)
            .unwrap_or_default()
    }

    /// Computes unit `index`.
    ///
    /// # Safety
    /// Each unit is computed by one thread.
    pub(crate) unsafe fn unit(
        &self,
        simd: Simd,
        index: usize,
        pauses: &Pauses<'_>,
    ) -> Result<(), Abandoned> {
        let unit = &self.units[index];
        let rows = &self.rows[unit.sequence];
        let compute = Compute {
            plan: self,
            rows,
            unit,
            simd,
            pauses,
        };
        // SAFETY: the unit is this thread's, and so are its queries.
        unsafe { compute.run() }
    }

    /// Whether partials wait in the scratch, for [`join`](Self::join).
    pub(crate) fn is_split(&self) -> bool {
        self.scratch.is_some()
    }

    /// The number of query heads of all rows, for each of which [`join`](Self::join) is called, and the
    /// work of the longest.
    pub(crate) fn joins(&self) -> (usize, Work) {
        let rows = self.rows.iter().map(|rows| rows.count).sum::<usize>();
        let spans = self
            .rows
            .iter()
            .map(|rows| self.heads.spans(rows.positions(0..rows.count)).len());
        let work = times(self.merge_work(), spans.max().unwrap_or(0));
        (rows * self.heads.heads, work)
    }

    /// The work of joining one span to a query head.
    fn merge_work(&self) -> Work {
        let floats = self.heads.head_dim as u64;
        Work {
            bytes: 4 * floats,
            multiply_adds: 2 * floats,
        }
    }

    /// Joins the partials of one query head, counted over all rows.
    ///
    /// # Safety
    /// All units are done; each index is joined by one thread.
    pub(crate) unsafe fn join(
        &self,
        simd: Simd,
        index: usize,
        pauses: &Pauses<'_>,
    ) -> Result<(), Abandoned> {
        let (mut row, head) = (index / self.heads.heads, index % self.heads.heads);
        let mut sequences = self.rows.iter();
        let rows = loop {
            let rows = sequences.next().expect("an index below `joins`");
            if row < rows.count {
                break rows;
            }
            row -= rows.count;
        };
        // SAFETY: the query is this thread's.
        let out = unsafe { rows.out_of(&self.heads, row, head) };
        out.fill(0.0);
        let mut running = Running::EMPTY;
        let position = rows.start + row;
        let spans = self.heads.spans(position..position + 1);
        let (work, at_once) = (
            self.merge_work(),
            pieces_per_point(simd.isa(), self.merge_work()),
        );
        for (done, span) in spans.clone().enumerate() {
            if done.is_multiple_of(at_once) {
                pauses.point(times(work, at_once.min(spans.len() - done)))?;
            }
            // SAFETY: all units are done, and no other thread joins this query.
            let partial = unsafe { self.partial(rows, (row, head), span) };
            let scale = *partial.scale;
            simd.run(Merge {
                running: &mut running,
                out,
                values: partial.values,
                scale,
            });
        }
        finish(running, out);
        Ok(())
    }

    /// The partial of a query and a span in the scratch.
    ///
    /// # Safety
    /// No other thread uses it meanwhile.
    unsafe fn partial(
        &self,
        rows: &Rows<'_>,
        (row, head): (usize, usize),
        span: usize,
    ) -> Partial<'a> {
        let spans = self.heads.spans(rows.positions(0..rows.count));
        let index = (row * self.heads.heads + head) * spans.len() + (span - spans.start);
        let len = self.heads.partial_len();
        let start = rows.partials + index * len;
        let scratch = self.scratch.as_ref().expect("split plans have scratch");
        // SAFETY: the caller's.
        let all = unsafe { scratch.part(start..start + len) };
        split_partial(all)
    }
}

/// The parts of `partial_len` floats.
fn split_partial(all: &mut [f32]) -> Partial<'_> {
    let (values, rest) = all.split_at_mut(all.len() - LANES);
    let (scale, _) = rest.split_first_chunk_mut().expect("a vector holds two");
    Partial { values, scale }
}

impl<'a> Rows<'a> {
    fn new(heads: &Heads, rows: &'a mut AttentionRows<'_>, partials: &mut usize) -> Self {
        let width = heads.heads * heads.head_dim;
        assert_eq!(rows.q.len() % width, 0, "queries of {width}");
        assert_eq!(rows.q.len(), rows.out.len(), "queries and outputs");
        let count = rows.q.len() / width;
        let (start, blocks) = (rows.start, rows.blocks);
        if count > 0 {
            let (first, _) = heads.sees(start);
            let seen = first / KV_TOKENS..(start + count).div_ceil(KV_TOKENS);
            assert!(
                seen.end <= blocks.len(),
                "{} blocks of {}",
                blocks.len(),
                seen.end
            );
            for block in &blocks[seen] {
                let block = block.expect("a position that a row sees has its block");
                let shape = block.layout().layer(heads.layer);
                assert_eq!(
                    (shape.heads, shape.head_dim),
                    (heads.kv_heads, heads.head_dim),
                    "a block"
                );
            }
        }
        let out = Disjoint::new(&mut *rows.out);
        let this = Self {
            q: rows.q,
            out,
            blocks,
            start,
            count,
            partials: *partials,
        };
        let spans = if count > 0 {
            heads.spans(this.positions(0..count)).len()
        } else {
            0
        };
        *partials += count * heads.heads * spans * heads.partial_len();
        this
    }

    fn positions(&self, rows: Range<usize>) -> Range<usize> {
        self.start + rows.start..self.start + rows.end
    }

    /// The output of one query.
    ///
    /// # Safety
    /// No other thread uses it meanwhile.
    unsafe fn out_of(&self, heads: &Heads, row: usize, head: usize) -> &'a mut [f32] {
        let at = (row * heads.heads + head) * heads.head_dim;
        // SAFETY: the caller's.
        unsafe { self.out.part(at..at + heads.head_dim) }
    }
}

/// Evaluates an expression for a constant that is this count of queries computed side by side.
macro_rules! by_count {
    ($count:expr, $n:ident => $run:expr) => {
        by_count!(@ $count, $n => $run, 1 2 3 4 5 6 7 8)
    };
    (@ $count:expr, $n:ident => $run:expr, $($value:literal)+) => {
        match $count {
            $($value => {
                const $n: usize = $value;
                $run
            })+
            count => unreachable!("{count} queries"),
        }
    };
}
use by_count;

/// `B` vectors of halves. They are made before they are used, so that each factor that meets them is
/// made once, and no more of them than registers hold.
#[inline(always)]
fn halves<S: Floats, const B: usize>(s: S, from: &[[u16; LANES]]) -> [S::V; B] {
    let mut all = [s.splat(0.0); B];
    for b in 0..B {
        all[b] = s.load_half(&from[b]);
    }
    all
}

/// Bytes of scratch that let one row's attention over `positions` be shared out by spans.
pub fn attention_scratch(heads: usize, head_dim: usize, positions: usize) -> Bytes {
    let spans = positions.div_ceil(SPAN_TOKENS) + 1;
    let floats = heads * spans * (head_dim.next_multiple_of(LANES) + LANES);
    Buffer::<f32>::bytes_for(floats)
}
