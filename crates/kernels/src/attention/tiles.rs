//! Attention of a few queries over a few tiles of keys, online (Milakov and Gimelshein 2018).
//!
//! The operations on one query depend on that query and the keys it sees, in the order of their
//! positions, and on nothing else: not on the queries it is computed beside.

use std::array::{from_mut, from_ref};
use std::ops::Range;

use super::Heads;
use crate::exp::{exp, tanh};
use crate::kv::{KV_TOKENS, KvBlock};
use crate::lanes::{Kernel, LANES, Lanes};

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
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller has `L`.
        unsafe {
            match self.queries.len() {
                1 => self.run_for::<L, 1>(),
                2 => self.run_for::<L, 2>(),
                3 => self.run_for::<L, 3>(),
                4 => self.run_for::<L, 4>(),
                5 => self.run_for::<L, 5>(),
                6 => self.run_for::<L, 6>(),
                7 => self.run_for::<L, 7>(),
                QUERIES_MAX => self.run_for::<L, QUERIES_MAX>(),
                n => unreachable!("{n} queries"),
            }
        }
    }
}

/// The keys of a tile that a query sees.
type Seen = Option<(usize, usize)>;

impl Tiles<'_, '_> {
    /// # Safety
    /// As for [`Lanes`]; there are `N` queries.
    #[inline(always)]
    unsafe fn run_for<L: Lanes, const N: usize>(self) {
        let queries: &[Query<'_>; N] = self.queries.try_into().expect("N queries");
        let partials: &mut [Partial<'_>; N] = self.partials.try_into().expect("N partials");
        for query in queries {
            assert_eq!(query.q.len(), self.heads.head_dim, "a query");
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
            let (keys, values) = block.head(self.heads.layer, self.kv_head);
            let mut weights = [[0.0; KV_TOKENS]; N];
            let mut old = [0.0; N];
            // SAFETY: the caller has `L`; keys are `[head_dim][32]`, values `[32][head_dim]` and
            // eight more, queries `[head_dim]` (just asserted, the others by `KvBlock::head`).
            unsafe {
                scores::<L, N>(keys, queries, &mut weights);
                for n in 0..N {
                    if let Some(seen) = seen[n] {
                        old[n] = weigh::<L>(self.heads, seen, &mut weights[n], partials[n].scale);
                    }
                }
                add_values::<L, N>((values, seen), &weights, old, partials);
            }
        }
    }
}

/// Which keys of `tile` lie in `sees`.
fn seen_of(tile: usize, (first, end): (usize, usize)) -> Seen {
    let base = tile * KV_TOKENS;
    let low = first.saturating_sub(base);
    let high = end.saturating_sub(base).min(KV_TOKENS);
    (low < high).then_some((low, high))
}

/// The products of the queries with 32 keys, summed over the elements of a head in order.
///
/// # Safety
/// As for [`Lanes`]; `keys` is `[head_dim][32]`.
#[inline(always)]
unsafe fn scores<L: Lanes, const N: usize>(
    keys: &[u16],
    queries: &[Query<'_>; N],
    out: &mut [[f32; KV_TOKENS]; N],
) {
    let head_dim = queries[0].q.len();
    assert!(keys.len() >= head_dim * KV_TOKENS);
    let mut q = [queries[0].q.as_ptr(); N];
    for n in 0..N {
        q[n] = queries[n].q.as_ptr();
    }
    for half in [0, LANES] {
        // SAFETY: `d < head_dim`, so all reads lie in `keys` and the queries.
        unsafe {
            let mut sums = [L::splat(0.0); N];
            for d in 0..head_dim {
                let key = L::load_half(keys.as_ptr().add(d * KV_TOKENS + half));
                for n in 0..N {
                    sums[n] = L::fma(L::splat(*q[n].add(d)), key, sums[n]);
                }
            }
            for n in 0..N {
                L::store(out[n].as_mut_ptr().add(half), sums[n]);
            }
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

/// Makes weights of scores, and gives what the sums so far must be multiplied by. Keys that are
/// not seen get exactly zero.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn weigh<L: Lanes>(
    heads: &Heads,
    seen: (usize, usize),
    scores: &mut [f32; KV_TOKENS],
    scale: &mut [f32; 2],
) -> f32 {
    // SAFETY: the caller has `L`; both halves lie in arrays of 32.
    unsafe {
        let a = seen_scores::<L>(heads, seen, scores, 0);
        let b = seen_scores::<L>(heads, seen, scores, LANES);
        let [before, sum] = *scale;
        let tile = L::greatest(L::max(a, b));
        let greatest = if before > tile { before } else { tile };
        let top = L::splat(greatest);
        let (a, b) = (exp::<L>(L::sub(a, top)), exp::<L>(L::sub(b, top)));
        L::store(scores.as_mut_ptr(), a);
        L::store(scores.as_mut_ptr().add(LANES), b);
        let old = exp_one::<L>(before - greatest);
        *scale = [greatest, sum * old + L::sum(L::add(a, b))];
        old
    }
}

/// The scores from `half`, scaled and capped; negative infinity where a key is not seen.
///
/// # Safety
/// As for [`Lanes`]; `half` is 0 or 16.
#[inline(always)]
unsafe fn seen_scores<L: Lanes>(
    heads: &Heads,
    (low, high): (usize, usize),
    scores: &[f32; KV_TOKENS],
    half: usize,
) -> L::V {
    // SAFETY: the caller has `L`; a vector from `half` lies in arrays of 32.
    unsafe {
        let mut s = L::mul(L::load(scores.as_ptr().add(half)), L::splat(heads.scale));
        if let Some(cap) = heads.softcap {
            s = L::mul(L::splat(cap), tanh::<L>(L::div(s, L::splat(cap))));
        }
        // Whole numbers up to 32 are exact.
        let (low, high) = (L::splat(low as f32), L::splat(high as f32));
        let unseen = L::splat(f32::NEG_INFINITY);
        let index = L::load(INDEX.as_ptr().add(half));
        L::if_less(index, low, unseen, L::if_less(index, high, s, unseen))
    }
}

/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn exp_one<L: Lanes>(x: f32) -> f32 {
    let mut all = [0.0; LANES];
    // SAFETY: the caller has `L`; the array holds a vector.
    unsafe { L::store(all.as_mut_ptr(), exp::<L>(L::splat(x))) };
    all[0]
}

/// Adds the weighted values of a tile to the partials, key after key: those that all queries see
/// for all at once, those before and after for each alone.
///
/// # Safety
/// As for [`Lanes`]; `values` is `[32][head_dim]` and eight more.
#[inline(always)]
unsafe fn add_values<L: Lanes, const N: usize>(
    (values, seen): (&[u16], [Seen; N]),
    weights: &[[f32; KV_TOKENS]; N],
    mut old: [f32; N],
    partials: &mut [Partial<'_>; N],
) {
    let head_dim = (values.len() - 8) / KV_TOKENS;
    let (first, last) = shared_by(seen);
    // SAFETY: the caller has `L`.
    unsafe {
        for n in 0..N {
            if let Some((low, high)) = seen[n].filter(|(low, _)| *low < first) {
                let part = (values, head_dim, (low, high.min(first)));
                add_seen::<L, 1>(
                    part,
                    from_ref(&weights[n]),
                    [old[n]],
                    from_mut(&mut partials[n]),
                );
                old[n] = 1.0;
            }
        }
        if first < last {
            add_seen::<L, N>((values, head_dim, (first, last)), weights, old, partials);
            old = [1.0; N];
        }
        for n in 0..N {
            if let Some((low, high)) = seen[n].filter(|(_, high)| *high > last) {
                let part = (values, head_dim, (low.max(last), high));
                add_seen::<L, 1>(
                    part,
                    from_ref(&weights[n]),
                    [old[n]],
                    from_mut(&mut partials[n]),
                );
            }
        }
    }
}

/// The keys that all see; an empty range at the end of the tile where there are none.
fn shared_by<const N: usize>(seen: [Seen; N]) -> (usize, usize) {
    const NONE: (usize, usize) = (KV_TOKENS, KV_TOKENS);
    let join = |a: (usize, usize), b: (usize, usize)| (a.0.max(b.0), a.1.min(b.1));
    let all = seen.iter().try_fold((0, KV_TOKENS), |shared, seen| {
        seen.map(|seen| join(shared, seen))
    });
    all.filter(|(low, high)| low < high).unwrap_or(NONE)
}

/// [`add_values`] for queries that see the same keys.
///
/// # Safety
/// As for [`add_values`].
#[inline(always)]
unsafe fn add_seen<L: Lanes, const N: usize>(
    values: (&[u16], usize, (usize, usize)),
    weights: &[[f32; KV_TOKENS]; N],
    old: [f32; N],
    partials: &mut [Partial<'_>; N],
) {
    let padded = values.1.next_multiple_of(LANES);
    let mut into = [std::ptr::null_mut(); N];
    for n in 0..N {
        assert_eq!(partials[n].values.len(), padded, "sums of a head");
        into[n] = partials[n].values.as_mut_ptr();
    }
    // A sum waits for the one before it, so few queries need several vectors in flight.
    let mut at = 0;
    // SAFETY: the caller has `L`; `at` and the vectors after it stay below `padded`.
    unsafe {
        while N == 1 && at + 4 * LANES <= padded {
            add_at::<L, N, 4>(values, (weights, old), into, at);
            at += 4 * LANES;
        }
        while N <= 3 && at + 2 * LANES <= padded {
            add_at::<L, N, 2>(values, (weights, old), into, at);
            at += 2 * LANES;
        }
        while at < padded {
            add_at::<L, N, 1>(values, (weights, old), into, at);
            at += LANES;
        }
    }
}

/// [`add_seen`] for `B` vectors of a head from element `at`.
///
/// # Safety
/// As for [`Lanes`]; the vectors lie in the sums, which are `head_dim` rounded up.
#[inline(always)]
unsafe fn add_at<L: Lanes, const N: usize, const B: usize>(
    (values, head_dim, (low, high)): (&[u16], usize, (usize, usize)),
    (weights, old): (&[[f32; KV_TOKENS]; N], [f32; N]),
    into: [*mut f32; N],
    at: usize,
) {
    // The last vector of a head of 8, 24, … reads eight halves past it: the next key's, or those
    // spare at the end. They fill lanes that nobody reads.
    debug_assert!(high <= KV_TOKENS && (high - 1) * head_dim + at + B * LANES <= values.len());
    // SAFETY: see above; weights are 32 for each query and `high <= 32`.
    unsafe {
        let mut sums = [[L::splat(0.0); B]; N];
        for n in 0..N {
            for (b, sum) in sums[n].iter_mut().enumerate() {
                *sum = L::mul(L::load(into[n].add(at + b * LANES)), L::splat(old[n]));
            }
        }
        for key in low..high {
            let from = values.as_ptr().add(key * head_dim + at);
            for b in 0..B {
                let value = L::load_half(from.add(b * LANES));
                for (weights, sums) in weights.iter().zip(&mut sums) {
                    sums[b] = L::fma(L::splat(*weights.as_ptr().add(key)), value, sums[b]);
                }
            }
        }
        for n in 0..N {
            for (b, sum) in sums[n].iter().enumerate() {
                L::store(into[n].add(at + b * LANES), *sum);
            }
        }
    }
}
