//! Attention of a few queries over a few tiles of keys, online (Milakov and Gimelshein 2018).
//!
//! The operations on one query depend on that query and the keys it sees, in the order of their
//! positions, and on nothing else: not on the queries it is computed beside.

use std::array::{from_mut, from_ref};
use std::ops::Range;

use super::Heads;
use crate::exp::{exp, exp_one, tanh};
use crate::kv::{KV_TOKENS, KvBlock};
use crate::simd::{Floats, Kernel, LANES};

/// Elements of a head between two checks of bounds: most heads' widths are multiples.
const STEP: usize = 8;

/// Queries computed side by side, so that a key is converted once for all of them.
pub(crate) const QUERIES_MAX: usize = 8;

/// A query and the positions it sees.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    /// `[head_dim]`.
    pub(crate) q: &'a [f32],
    /// Not empty.
    pub(crate) sees: (usize, usize),
}

/// The sums of one query over some keys.
pub(crate) struct Partial<'a> {
    /// `[head_dim]`, rounded up to whole vectors: the weighted sum of values.
    pub(crate) values: &'a mut [f32],
    /// The greatest score, then the sum of the weights `e^(score - greatest)`.
    pub(crate) scale: &'a mut [f32; 2],
}

impl Partial<'_> {
    /// The sums over no keys.
    pub(crate) fn clear(&mut self) {
        self.values.fill(0.0);
        *self.scale = [f32::NEG_INFINITY, 0.0];
    }
}

// Loops over the queries are written out, since a closure given to `map` is not compiled for the
// instructions of its caller.

/// Adds the tiles of `tiles` to the partials, in order.
pub(crate) struct Tiles<'a, 'p> {
    pub(crate) heads: &'a Heads,
    pub(crate) kv_head: usize,
    pub(crate) blocks: &'a [Option<&'a KvBlock>],
    pub(crate) tiles: Range<usize>,
    pub(crate) queries: &'a [Query<'a>],
    /// One for each query.
    pub(crate) partials: &'a mut [Partial<'p>],
}

impl Kernel for Tiles<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        match self.queries.len() {
            1 => self.run_for::<S, 1>(s),
            2 => self.run_for::<S, 2>(s),
            3 => self.run_for::<S, 3>(s),
            4 => self.run_for::<S, 4>(s),
            5 => self.run_for::<S, 5>(s),
            6 => self.run_for::<S, 6>(s),
            7 => self.run_for::<S, 7>(s),
            QUERIES_MAX => self.run_for::<S, QUERIES_MAX>(s),
            n => unreachable!("{n} queries"),
        }
    }
}

/// Keys of a tile, by their numbers in it: from `low` on, before `end`.
#[derive(Clone, Copy)]
struct Keys {
    low: usize,
    end: usize,
}

/// The keys of a tile that a query sees.
type Seen = Option<Keys>;

/// How a query sees a tile.
#[derive(Clone, Copy)]
struct View<'a> {
    heads: &'a Heads,
    seen: Keys,
}

/// The weights that `N` queries give a tile's keys.
#[derive(Clone, Copy)]
struct Weights<'a, const N: usize> {
    /// The weight of each key, for each query.
    keys: &'a [[f32; KV_TOKENS]; N],
    /// The factor of each query's sums so far.
    sums: [f32; N],
    /// The keys that each query sees.
    seen: [Seen; N],
}

/// Values of a tile that are added to sums.
#[derive(Clone, Copy)]
struct Values<'a> {
    /// `[32][head_dim]`, and a vector more.
    all: &'a [u16],
    head_dim: usize,
    /// Those that are added.
    keys: Keys,
}

impl<'a, const N: usize> Weights<'a, N> {
    /// One query's.
    #[inline(always)]
    fn of(self, n: usize) -> Weights<'a, 1> {
        Weights {
            keys: from_ref(&self.keys[n]),
            sums: [self.sums[n]],
            seen: [self.seen[n]],
        }
    }
}

impl Values<'_> {
    /// Those of these keys.
    #[inline(always)]
    fn of(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }
}

impl Tiles<'_, '_> {
    /// For `N` queries.
    #[inline(always)]
    fn run_for<S: Floats, const N: usize>(self, s: S) {
        let queries: &[Query<'_>; N] = self.queries.try_into().expect("N queries");
        let partials: &mut [Partial<'_>; N] = self.partials.try_into().expect("N partials");
        let head_dim = self.heads.head_dim;
        for query in queries {
            assert_eq!(query.q.len(), head_dim, "a query");
        }
        for tile in self.tiles {
            let mut seen = [None; N];
            for n in 0..N {
                seen[n] = seen_of(tile, queries[n].sees);
            }
            if seen.iter().all(Option::is_none) {
                continue;
            }
            let block = self.blocks[tile].expect("a tile that a query sees has its block");
            let (keys, all) = block.head(self.heads.layer, self.kv_head);
            let mut weights = [[0.0; KV_TOKENS]; N];
            let mut sums = [0.0; N];
            scores(s, keys, queries, &mut weights);
            for n in 0..N {
                if let Some(seen) = seen[n] {
                    let heads = self.heads;
                    let view = View { heads, seen };
                    sums[n] = weigh(s, view, &mut weights[n], partials[n].scale);
                }
            }
            let keys = &weights;
            let weights = Weights { keys, sums, seen };
            let (low, end) = (0, KV_TOKENS);
            let values = Values {
                all,
                head_dim,
                keys: Keys { low, end },
            };
            add_values(s, values, weights, partials);
        }
    }
}

/// Which keys of `tile` lie in `sees`.
fn seen_of(tile: usize, (first, end): (usize, usize)) -> Seen {
    let base = tile * KV_TOKENS;
    let low = first.saturating_sub(base);
    let end = end.saturating_sub(base).min(KV_TOKENS);
    (low < end).then_some(Keys { low, end })
}

/// The products of the queries with 32 keys, summed over the elements of a head in order. `keys` is
/// `[head_dim][32]`.
#[inline(always)]
fn scores<S: Floats, const N: usize>(
    s: S,
    keys: &[u16],
    queries: &[Query<'_>; N],
    out: &mut [[f32; KV_TOKENS]; N],
) {
    let (keys, last_keys) = keys.as_chunks().0.as_chunks::<STEP>();
    let (mut q, mut last_q) = ([[].as_slice(); N], [[].as_slice(); N]);
    for n in 0..N {
        (q[n], last_q[n]) = queries[n].q.as_chunks::<STEP>();
    }
    let keys = &keys[..q[0].len()];
    for half in 0..KV_TOKENS / LANES {
        let mut sums = [s.splat(0.0); N];
        for (at, keys) in keys.iter().enumerate() {
            for (d, keys) in keys.iter().enumerate() {
                let keys: &[u16; KV_TOKENS] = keys;
                let key = s.load_half(&keys.as_chunks().0[half]);
                for n in 0..N {
                    sums[n] = s.fma(s.splat(q[n][at][d]), key, sums[n]);
                }
            }
        }
        // The last elements of a head of 20, 100, …
        for (d, keys) in last_keys.iter().enumerate() {
            let keys: &[u16; KV_TOKENS] = keys;
            let key = s.load_half(&keys.as_chunks().0[half]);
            for n in 0..N {
                sums[n] = s.fma(s.splat(last_q[n][d]), key, sums[n]);
            }
        }
        for n in 0..N {
            s.store(sums[n], &mut out[n].as_chunks_mut().0[half]);
        }
    }
}

/// The number of each key in a tile.
const INDEX: [f32; KV_TOKENS] = {
    let mut index = [0.0; KV_TOKENS];
    let mut i = 0;
    while i < KV_TOKENS {
        index[i] = i as f32;
        i += 1;
    }
    index
};

/// Makes weights of scores, and gives the factor of the sums so far. Keys that are not
/// seen get exactly zero. `scale` is as in [`Partial`].
#[inline(always)]
fn weigh<S: Floats>(
    s: S,
    view: View<'_>,
    scores: &mut [f32; KV_TOKENS],
    scale: &mut [f32; 2],
) -> f32 {
    let [first, last] = scores.as_chunks_mut::<LANES>().0 else {
        unreachable!("two vectors hold a tile's scores")
    };
    let [first_index, last_index] = INDEX.as_chunks().0 else {
        unreachable!("two vectors hold a tile's numbers")
    };
    let a = seen_scores(s, view, first, first_index);
    let b = seen_scores(s, view, last, last_index);
    let [before, sum] = *scale;
    let tile = s.greatest(s.max(a, b));
    let greatest = if before > tile { before } else { tile };
    let top = s.splat(greatest);
    let (a, b) = (exp(s, s.sub(a, top)), exp(s, s.sub(b, top)));
    s.store(a, first);
    s.store(b, last);
    let old = exp_one(s, before - greatest);
    *scale = [greatest, sum * old + s.sum(s.add(a, b))];
    old
}

/// The scores of the keys with these numbers, scaled and capped; negative infinity where a key is not
/// seen.
#[inline(always)]
fn seen_scores<S: Floats>(
    s: S,
    view: View<'_>,
    scores: &[f32; LANES],
    index: &[f32; LANES],
) -> S::V {
    let View { heads, seen } = view;
    let mut v = s.mul(s.load(scores), s.splat(heads.scale));
    if let Some(cap) = heads.softcap {
        let cap = s.splat(cap);
        v = s.mul(cap, tanh(s, s.div(v, cap)));
    }
    // Whole numbers up to 32 are exact.
    let (low, end) = (s.splat(seen.low as f32), s.splat(seen.end as f32));
    let unseen = s.splat(f32::NEG_INFINITY);
    let index = s.load(index);
    let before_end = s.if_less([index, end], v, unseen);
    s.if_less([index, low], unseen, before_end)
}

/// Adds the weighted values of a tile to the partials, key after key: those that all queries see
/// for all at once, those before and after for each alone.
#[inline(always)]
fn add_values<S: Floats, const N: usize>(
    s: S,
    values: Values<'_>,
    mut weights: Weights<'_, N>,
    partials: &mut [Partial<'_>; N],
) {
    let seen = weights.seen;
    let shared = shared_by(seen);
    for n in 0..N {
        if let Some(Keys { low, end }) = seen[n].filter(|seen| seen.low < shared.low) {
            let end = end.min(shared.low);
            let values = values.of(Keys { low, end });
            add_seen(s, values, weights.of(n), from_mut(&mut partials[n]));
            weights.sums[n] = 1.0;
        }
    }
    if shared.low < shared.end {
        add_seen(s, values.of(shared), weights, partials);
        weights.sums = [1.0; N];
    }
    for n in 0..N {
        if let Some(Keys { low, end }) = seen[n].filter(|seen| seen.end > shared.end) {
            let low = low.max(shared.end);
            let values = values.of(Keys { low, end });
            add_seen(s, values, weights.of(n), from_mut(&mut partials[n]));
        }
    }
}

/// The keys that all see; an empty range at the end of the tile where there are none.
fn shared_by<const N: usize>(seen: [Seen; N]) -> Keys {
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

/// [`add_values`] for queries that see the same keys.
#[inline(always)]
fn add_seen<S: Floats, const N: usize>(
    s: S,
    values: Values<'_>,
    weights: Weights<'_, N>,
    partials: &mut [Partial<'_>; N],
) {
    let vectors = values.head_dim.div_ceil(LANES);
    for partial in &*partials {
        assert_eq!(partial.values.len(), vectors * LANES, "sums of a head");
    }
    // A sum waits for the one before it, so few queries need several vectors in flight.
    let mut from = 0;
    while N == 1 && from + 4 <= vectors {
        Vectors::<4> { values, from }.add(s, weights, partials);
        from += 4;
    }
    while N <= 3 && from + 2 <= vectors {
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
    /// [`add_seen`] for these vectors.
    #[inline(always)]
    fn add<S: Floats, const N: usize>(
        self,
        s: S,
        weights: Weights<'_, N>,
        partials: &mut [Partial<'_>; N],
    ) {
        let vectors = self.from..self.from + B;
        let mut sums = [[s.splat(0.0); B]; N];
        for n in 0..N {
            let from = &partials[n].values.as_chunks().0[vectors.clone()];
            for (sum, from) in sums[n].iter_mut().zip(from) {
                *sum = s.mul(s.load(from), s.splat(weights.sums[n]));
            }
        }
        let Values {
            all,
            head_dim,
            keys,
        } = self.values;
        // The last vector of a head of 20, 24, … reads halves past it: the next key's, or those spare
        // at the end. They fill lanes that are never read.
        let start = |key: usize| key * head_dim + self.from * LANES;
        assert!(keys.low < keys.end && keys.end <= KV_TOKENS);
        assert!(start(keys.end - 1) + B * LANES <= all.len());
        for key in keys.low..keys.end {
            // SAFETY: no key begins later than the last one, whose vectors were just found to fit.
            let from = unsafe { all.get_unchecked(start(key)..start(key) + B * LANES) };
            let from = from.as_chunks().0;
            for b in 0..B {
                let value = s.load_half(&from[b]);
                for (weights, sums) in weights.keys.iter().zip(&mut sums) {
                    sums[b] = s.fma(s.splat(weights[key]), value, sums[b]);
                }
            }
        }
        for n in 0..N {
            let to = &mut partials[n].values.as_chunks_mut().0[vectors.clone()];
            for (sum, to) in sums[n].iter().zip(to) {
                s.store(*sum, to);
            }
        }
    }
}
