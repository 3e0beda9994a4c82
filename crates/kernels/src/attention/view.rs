//! A few queries and the keys of one span that they see.

use std::ops::Range;

use super::{Heads, SPAN_TILES, SPAN_TOKENS};
use crate::kv::{KV_TOKENS, KvBlock};

/// A query and the positions it sees.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    /// `[head_dim]`.
    pub(super) q: &'a [f32],
    /// Not empty.
    pub(super) sees: (usize, usize),
}

impl Query<'_> {
    /// The keys of a span that it sees.
    pub(super) fn in_span(&self, span: usize) -> Option<Keys> {
        Keys::seen(self.sees, span * SPAN_TOKENS, SPAN_TOKENS)
    }
}

/// The sums of one query over the keys of a span.
pub(super) struct Partial<'a> {
    /// `[head_dim]`, rounded up to whole vectors: the weighted sum of values.
    pub(super) values: &'a mut [f32],
    /// The greatest score, then the sum of the weights `e^(score - greatest)`.
    pub(super) scale: &'a mut [f32; 2],
}

impl Partial<'_> {
    /// The sums over no keys.
    pub(super) fn clear(&mut self) {
        self.values.fill(0.0);
        *self.scale = [f32::NEG_INFINITY, 0.0];
    }
}

/// The score of each key of a span, and later its weight. Those of keys that are not seen mean nothing.
pub(super) type Scores = [f32; SPAN_TOKENS];

/// Keys by their numbers in a tile or a span: from `low` on, before `end`.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) low: usize,
    pub(super) end: usize,
}

impl Keys {
    /// Those of `sees` among the `count` from position `first` on; `None` where there are none.
    fn seen((from, end): (usize, usize), first: usize, count: usize) -> Option<Self> {
        let low = from.saturating_sub(first);
        let end = end.saturating_sub(first).min(count);
        (low < end).then_some(Self { low, end })
    }
}

/// A few queries of neighbouring rows, side by side, so that a key is converted once for all of them, and
/// a span.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) heads: &'a Heads,
    pub(super) kv_head: usize,
    /// From position 0 on.
    pub(super) blocks: &'a [Option<&'a KvBlock>],
    pub(super) queries: &'a [Query<'a>],
    pub(super) span: usize,
}

impl<'a> View<'a> {
    /// The tiles that any query sees, by their numbers in the span. They have no gap, for each row sees its
    /// own position.
    pub(super) fn tiles(&self) -> Range<usize> {
        let seen = self
            .queries
            .iter()
            .filter_map(|query| query.in_span(self.span));
        let all = seen.reduce(|a, b| Keys {
            low: a.low.min(b.low),
            end: a.end.max(b.end),
        });
        all.map_or(0..0, |Keys { low, end }| {
            low / KV_TOKENS..end.div_ceil(KV_TOKENS)
        })
    }

    /// The keys of a tile of the span that a query sees.
    pub(super) fn in_tile(&self, tile: usize, query: &Query<'_>) -> Option<Keys> {
        let first = (self.span * SPAN_TILES + tile) * KV_TOKENS;
        Keys::seen(query.sees, first, KV_TOKENS)
    }

    /// Keys `[head_dim][32]` of a tile of the span, and values `[32][head_dim]` with a vector more.
    pub(super) fn tile(&self, tile: usize) -> (&'a [u16], &'a [u16]) {
        let block = self.blocks[self.span * SPAN_TILES + tile];
        let block = block.expect("a tile that a query sees has its block");
        block.head(self.heads.layer, self.kv_head)
    }
}
