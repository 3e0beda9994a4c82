//! One tile's outputs for a few tokens.

use std::marker::PhantomData;

use crate::activations::Activations;
use crate::packed::{Layout, TILE};
use crate::simd::{Call, Dots};

use super::Pieces;

/// Up to this many tokens at a time, arithmetic waits for the stream of weights.
pub(super) const STREAMING: usize = 2;

/// The inputs of a [`TileKernel`].
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) layout: &'a Layout,
    pub(super) tile: &'a [u8],
    pub(super) x: &'a Activations,
    /// The first token.
    pub(super) token: usize,
    pub(super) pieces: Option<Pieces<'a>>,
}

/// The algorithm of one family of formats.
pub(super) trait TileKernel {
    /// The outputs of rows `half × LANES ..` of a tile, for `T` tokens.
    fn outputs<S: Dots, const T: usize>(s: S, input: Input<'_>, half: usize) -> [S::Floats; T];
}

/// The outputs of a whole tile for `T` tokens.
pub(super) struct WholeTile<'a, K, const T: usize> {
    pub(super) input: &'a Input<'a>,
    pub(super) kernel: PhantomData<K>,
}

impl<S: Dots, K: TileKernel, const T: usize> Call<S> for WholeTile<'_, K, T> {
    type Out = [[f32; TILE]; T];

    #[inline(always)]
    fn call(self, s: S) -> Self::Out {
        let mut out = [[0.0; TILE]; T];
        for half in 0..TILE / S::LANES {
            let sums = K::outputs::<S, T>(s, *self.input, half);
            for (out, sum) in out.iter_mut().zip(sums) {
                s.store(sum, &mut out[half * S::LANES..][..S::LANES]);
            }
        }
        out
    }
}
