//! Outputs of one tile, or of two abreast, for a few tokens.

use std::marker::PhantomData;

use crate::activations::Activations;
use crate::packed::{Layout, TILE};
use crate::simd::{Call, Dots};

use super::Pieces;

/// Up to this many tokens at a time, arithmetic waits for the stream of weights.
const STREAMING: usize = 2;

/// The inputs of a [`TileKernel`].
#[derive(Clone, Copy)]
pub(super) struct Input<'a, const N: usize> {
    pub(super) layout: &'a Layout,
    pub(super) tiles: [&'a [u8]; N],
    pub(super) x: &'a Activations,
    /// The first token.
    pub(super) token: usize,
    pub(super) pieces: Option<Pieces<'a>>,
    /// How far behind these tiles those lie that are read next, where they should be on their way by
    /// then; 0 where that was seen to.
    pub(super) next: usize,
}

impl<'a, const N: usize> Input<'a, N> {
    /// The rows of `T` tokens, each of the layout's blocks, in the form that `row` gives.
    #[inline(always)]
    pub(super) fn rows<B, const T: usize>(
        &self,
        row: impl Fn(&'a Activations, usize) -> &'a [B],
    ) -> [&'a [B]; T] {
        let mut rows = [row(self.x, self.token); T];
        for (t, to) in rows.iter_mut().enumerate() {
            *to = &row(self.x, self.token + t)[..self.layout.blocks];
        }
        rows
    }
}

/// Asks for the weights that are read after those at `from`: a little later where few tokens read them,
/// else those of the next tiles, once.
#[inline(always)]
pub(super) fn fetch<S: Dots, const T: usize>(s: S, from: &[u8], next: usize) {
    if T <= STREAMING {
        s.fetch_ahead(from);
    } else if next != 0 {
        s.fetch_next(from, next);
    }
}

/// Block `block` of each token's row. A loop, as all of these are: arrays made by closures were not kept
/// in registers.
#[inline(always)]
pub(super) fn column<'a, B, const T: usize>(rows: &[&'a [B]; T], block: usize) -> [&'a B; T] {
    let mut blocks = [&rows[0][block]; T];
    for (to, row) in blocks.iter_mut().zip(rows) {
        *to = &row[block];
    }
    blocks
}

/// The algorithm of one family of formats. Sums are of `N` tiles abreast by `T` tokens.
pub(super) trait TileKernel {
    /// Whether two tiles go abreast where the instruction set has registers for them.
    const ABREAST: bool;

    /// The outputs of rows `half × LANES ..` of each tile.
    fn outputs<S: Dots, const N: usize, const T: usize>(
        s: S,
        input: Input<'_, N>,
        half: usize,
    ) -> [[S::Floats; T]; N];
}

/// The outputs of whole tiles for `T` tokens.
pub(super) struct WholeTiles<'a, K, const N: usize, const T: usize> {
    pub(super) input: Input<'a, N>,
    pub(super) kernel: PhantomData<K>,
}

impl<S: Dots, K: TileKernel, const N: usize, const T: usize> Call<S> for WholeTiles<'_, K, N, T> {
    type Out = [[[f32; TILE]; N]; T];

    #[inline(always)]
    fn call(self, s: S) -> Self::Out {
        let mut out = [[[0.0; TILE]; N]; T];
        for half in 0..TILE / S::LANES {
            let sums = K::outputs::<S, N, T>(s, self.input, half);
            for n in 0..N {
                for t in 0..T {
                    s.store(sums[n][t], &mut out[t][n][half * S::LANES..][..S::LANES]);
                }
            }
        }
        out
    }
}
