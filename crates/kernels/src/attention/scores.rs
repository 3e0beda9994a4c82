use std::ops::Range;

use super::view::{Scores, View};
use super::{by_count, halves};
use crate::kv::KV_TOKENS;
use crate::simd::{Floats, Kernel, LANES};

/// Elements of a head between two checks of bounds: most heads' widths are multiples.
const STEP: usize = 8;
/// Vectors of a tile's keys.
const VECTORS: usize = KV_TOKENS / LANES;

/// The products of queries with the keys of some tiles, each summed over the elements of a head in order.
pub(super) struct Score<'a> {
    pub(super) view: View<'a>,
    /// Tiles of the span that some query sees.
    pub(super) tiles: Range<usize>,
    /// One row for each query.
    pub(super) scores: &'a mut [Scores],
}

impl Kernel for Score<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        by_count!(self.scores.len(), N => self.run_for::<S, N>(s));
    }
}

impl Score<'_> {
    /// For `N` queries.
    #[inline(always)]
    fn run_for<S: Floats, const N: usize>(self, s: S) {
        let view = self.view;
        let scores: &mut [Scores; N] = self.scores.try_into().expect("a row for each");
        let mut q = [[].as_slice(); N];
        for (q, query) in q.iter_mut().zip(view.queries) {
            *q = query.q;
            assert_eq!(q.len(), view.heads.head_dim, "a query");
        }
        for tile in self.tiles.clone() {
            let keys = view.tile(tile).0;
            // After the keys of the last of these tiles come, if they are all of the span, the values of the
            // first.
            let next = match tile + 1 < self.tiles.end {
                true => view.tile(tile + 1).0,
                false => view.tile(self.tiles.start).1,
            };
            let (keys, next) = (keys.as_chunks().0, next.as_chunks().0);
            let products = Products { q, keys, next };
            let at = tile * VECTORS;
            if (N + 1) * VECTORS <= S::VECTORS_AT_ONCE {
                products.add::<S, VECTORS>(s, 0, (scores, at));
            } else {
                for vector in 0..VECTORS {
                    products.add::<S, 1>(s, vector, (scores, at + vector));
                }
            }
        }
    }
}

/// Queries and the keys of a tile.
struct Products<'a, const N: usize> {
    /// `[head_dim]` each.
    q: [&'a [f32]; N],
    /// `[head_dim][32]`.
    keys: &'a [[u16; KV_TOKENS]],
    /// What is read after this tile.
    next: &'a [[u16; KV_TOKENS]],
}

impl<const N: usize> Products<'_, N> {
    /// The scores of `B` vectors of keys from this one on, into as many of each row.
    // Loops over queries and vectors are written out, since a closure given to `map` is not compiled for
    // the instructions of its caller.
    #[inline(always)]
    fn add<S: Floats, const B: usize>(
        &self,
        s: S,
        from: usize,
        (scores, at): (&mut [Scores; N], usize),
    ) {
        let (keys, last_keys) = self.keys.as_chunks::<STEP>();
        let next = &self.next.as_chunks::<STEP>().0[..keys.len()];
        let (mut q, mut last_q) = ([[].as_slice(); N], [[].as_slice(); N]);
        for n in 0..N {
            (q[n], last_q[n]) = self.q[n].as_chunks::<STEP>();
            q[n] = &q[n][..keys.len()];
            last_q[n] = &last_q[n][..last_keys.len()];
        }
        let mut sums = [[s.splat(0.0); B]; N];
        for (at, keys) in keys.iter().enumerate() {
            for d in 0..STEP {
                s.fetch(&next[at][d]);
                let keys = halves::<S, B>(s, &keys[d].as_chunks().0[from..from + B]);
                for n in 0..N {
                    let q = s.splat(q[n][at][d]);
                    for b in 0..B {
                        sums[n][b] = s.fma(q, keys[b], sums[n][b]);
                    }
                }
            }
        }
        // The last elements of a head of 20, 100, …
        for (d, keys) in last_keys.iter().enumerate() {
            let keys = halves::<S, B>(s, &keys.as_chunks().0[from..from + B]);
            for n in 0..N {
                let q = s.splat(last_q[n][d]);
                for b in 0..B {
                    sums[n][b] = s.fma(q, keys[b], sums[n][b]);
                }
            }
        }
        for n in 0..N {
            let to = &mut scores[n].as_chunks_mut::<LANES>().0[at..at + B];
            for b in 0..B {
                s.store(sums[n][b], &mut to[b]);
            }
        }
    }
}
