use std::array::{from_mut, from_ref};
use std::ops::Range;

use super::view::{Keys, Partial, Scores, View};
use super::{by_count, halves};
use crate::kv::KV_TOKENS;
use crate::simd::{Floats, Kernel, LANES};

/// Adds the weighted values of some tiles to the partials, key after key: those that all queries see for
/// all at once, those before and after for each alone.
pub(super) struct AddValues<'a, 'p> {
    pub(super) view: View<'a>,
    /// Tiles of the span that some query sees.
    pub(super) tiles: Range<usize>,
    /// Of the span's keys, one row for each query.
    pub(super) weights: &'a [Scores],
    /// One for each query.
    pub(super) partials: &'a mut [Partial<'p>],
}

/// Of one query, for a tile.
type Weights = [f32; KV_TOKENS];

/// Values of a tile that are added to sums.
#[derive(Clone, Copy)]
struct Values<'a> {
    /// `[32][head_dim]`, and a vector more.
    all: &'a [u16],
    /// Those of the tile after this, or these.
    next: &'a [u16],
    head_dim: usize,
    /// Those that are added.
    keys: Keys,
}

impl Kernel for AddValues<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        by_count!(self.partials.len(), N => self.run_for::<S, N>(s));
    }
}

impl AddValues<'_, '_> {
    /// For `N` queries.
    #[inline(always)]
    fn run_for<S: Floats, const N: usize>(self, s: S) {
        let view = self.view;
        let rows: &[Scores; N] = self.weights.try_into().expect("a row for each");
        let partials: &mut [Partial<'_>; N] = self.partials.try_into().expect("a partial for each");
        for tile in self.tiles.clone() {
            let all = view.tile(tile).1;
            let next = view.tile((tile + 1).min(self.tiles.end - 1)).1;
            let mut seen = [None; N];
            let mut weights = [&[0.0; KV_TOKENS]; N];
            for n in 0..N {
                seen[n] = view.in_tile(tile, &view.queries[n]);
                weights[n] = &rows[n].as_chunks().0[tile];
            }
            let head_dim = view.heads.head_dim;
            let values = |keys| Values {
                all,
                next,
                head_dim,
                keys,
            };
            let shared = shared_by(seen);
            for n in 0..N {
                if let Some(Keys { low, end }) = seen[n].filter(|seen| seen.low < shared.low) {
                    let end = end.min(shared.low);
                    let (weights, partial) = (from_ref(&weights[n]), from_mut(&mut partials[n]));
                    add::<S, 1>(s, values(Keys { low, end }), (weights, partial));
                }
            }
            if shared.low < shared.end {
                add::<S, N>(s, values(shared), (&weights, partials));
            }
            for n in 0..N {
                if let Some(Keys { low, end }) = seen[n].filter(|seen| seen.end > shared.end) {
                    let low = low.max(shared.end);
                    let (weights, partial) = (from_ref(&weights[n]), from_mut(&mut partials[n]));
                    add::<S, 1>(s, values(Keys { low, end }), (weights, partial));
                }
            }
        }
    }
}

/// The keys that all see; an empty range at the end of the tile where there are none.
fn shared_by<const N: usize>(seen: [Option<Keys>; N]) -> Keys {
    const NONE: Keys = Keys {
        low: KV_TOKENS,
        end: KV_TOKENS,
    };
    let (low, end) = (0, KV_TOKENS);
    let join = |a: Keys, b: Keys| Keys {
        low: a.low.max(b.low),
        end: a.end.min(b.end),
    };
    let all = seen.iter().try_fold(Keys { low, end }, |shared, seen| {
        seen.map(|seen| join(shared, seen))
    });
    all.filter(|all| all.low < all.end).unwrap_or(NONE)
}

/// Adds values for queries that see the same keys.
#[inline(always)]
fn add<S: Floats, const N: usize>(
    s: S,
    values: Values<'_>,
    (weights, partials): (&[&Weights], &mut [Partial<'_>]),
) {
    let weights: &[&Weights; N] = weights.try_into().expect("weights for each");
    let partials: &mut [Partial<'_>; N] = partials.try_into().expect("a partial for each");
    let vectors = values.head_dim.div_ceil(LANES);
    for partial in &*partials {
        assert_eq!(partial.values.len(), vectors * LANES, "sums of a head");
    }
    // As many vectors at once as registers hold: a sum waits for the one before it, and a weight serves
    // all vectors.
    let mut from = 0;
    while 4 * (N + 1) <= S::VECTORS_AT_ONCE && from + 4 <= vectors {
        Vectors::<4> { values, from }.add(s, weights, partials);
        from += 4;
    }
    while 2 * (N + 1) <= S::VECTORS_AT_ONCE && from + 2 <= vectors {
        Vectors::<2> { values, from }.add(s, weights, partials);
        from += 2;
    }
    while from < vectors {
        Vectors::<1> { values, from }.add(s, weights, partials);
        from += 1;
    }
}

/// `B` vectors of each value, from this one on.
struct Vectors<'a, const B: usize> {
    values: Values<'a>,
    from: usize,
}

impl<const B: usize> Vectors<'_, B> {
    #[inline(always)]
    fn add<S: Floats, const N: usize>(
        self,
        s: S,
        weights: &[&Weights; N],
        partials: &mut [Partial<'_>; N],
    ) {
        let vectors = self.from..self.from + B;
        let mut sums = [[s.splat(0.0); B]; N];
        for n in 0..N {
            let from = &partials[n].values.as_chunks().0[vectors.clone()];
            for b in 0..B {
                sums[n][b] = s.load(&from[b]);
            }
        }
        let Values {
            all,
            next,
            head_dim,
            keys,
        } = self.values;
        // The last vector of a head of 20, 24, … reads halves past it: the next key's, or those spare
        // at the end. They fill lanes that are never read.
        let start = |key: usize| key * head_dim + self.from * LANES;
        assert!(keys.low < keys.end && keys.end <= KV_TOKENS);
        assert!(start(keys.end - 1) + B * LANES <= all.len().min(next.len()));
        for key in keys.low..keys.end {
            let vectors = start(key)..start(key) + B * LANES;
            // SAFETY: no key begins later than the last one, whose vectors were just found to fit in both.
            let (from, next) = unsafe {
                (
                    all.get_unchecked(vectors.clone()),
                    next.get_unchecked(vectors),
                )
            };
            let (from, next) = (from.as_chunks().0, next.as_chunks::<LANES>().0);
            // Two vectors of halves are a line.
            for line in next.iter().step_by(2) {
                s.fetch(line);
            }
            let values = halves::<S, B>(s, from);
            for (sums, weights) in sums.iter_mut().zip(weights) {
                let weight = s.splat(weights[key]);
                for b in 0..B {
                    sums[b] = s.fma(weight, values[b], sums[b]);
                }
            }
        }
        for n in 0..N {
            let to = &mut partials[n].values.as_chunks_mut().0[vectors.clone()];
            for b in 0..B {
                s.store(sums[n][b], &mut to[b]);
            }
        }
    }
}
