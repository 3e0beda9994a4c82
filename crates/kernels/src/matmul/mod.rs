//! Matrix products: out[token, row] = Σ weight[row, col] × input[token, col].
//!
//! One algorithm for each family of formats, written over the vector operations of [`Dots`]; each
//! instruction set implements those operations exactly, so all give equal bits. A lane is an output row and a sum is never split, so tiles, threads and the number of tokens
//! change nothing either.

mod blocks;
mod floats;
mod levels;
mod super_blocks;
#[cfg(test)]
mod tests;
mod tile;
mod unit;

use std::marker::PhantomData;
use std::ops::Range;

use gogrid_units::WeightType;

use crate::activations::{Activations, Forms};
use crate::packed::{Packed, TILE};
use crate::shared_out::SharedOut;
use crate::simd::{Dots, Simd};

use blocks::Blocks;
pub(crate) use floats::PARTIALS as COLUMNS;

use floats::{AsBf16, AsF16, AsF32, Floats};
use levels::{Coded, Even, Iq1, Iq2, Iq3S, Iq3Xxs, Iq4, Mxfp4};
use super_blocks::{GroupMins, NibbleMins, NoMins, SuperBlocks};
use tile::{Input, TileKernel, WholeTiles};

/// A part of a matrix product: some tokens by some tiles of 16 output rows.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) weights: &'a Packed,
    pub(crate) x: &'a Activations,
    /// `[rows of x, rows of weights]`.
    pub(crate) out: SharedOut<'a>,
    /// For a row that takes too long in one go, of a float type.
    pub(crate) pieces: Option<Pieces<'a>>,
}

/// Where a row is stopped at. No sum is split: it waits, and goes on.
#[derive(Clone, Copy)]
pub(crate) struct Pieces<'a> {
    /// Columns of a piece: whole groups of [`COLUMNS`].
    pub(crate) cols: usize,
    /// Asked before each piece, with the weights it reads; on false the outputs are never used.
    pub(crate) go_on: &'a dyn Fn(usize) -> bool,
}

/// Computes the tiles of 16 output rows `tiles` for `tokens`.
///
/// # Safety
/// No other thread reads or writes those tokens' outputs of those tiles meanwhile.
pub(crate) unsafe fn matmul_tiles(
    simd: Simd,
    product: &Product<'_>,
    tokens: Range<usize>,
    tiles: Range<usize>,
) {
    let Product {
        weights, x, out, ..
    } = *product;
    assert!(tiles.end <= weights.tiles(), "{tiles:?} of {weights:?}");
    assert!(tokens.end <= x.rows(), "tokens {tokens:?} of {}", x.rows());
    assert_eq!(x.cols(), weights.cols(), "columns of input and {weights:?}");
    let forms = Forms::of(weights.weight_type());
    assert_eq!(
        x.forms().and(forms),
        x.forms(),
        "input has the form {weights:?} reads"
    );
    let fits = tokens
        .end
        .checked_mul(weights.rows())
        .is_some_and(|end| end <= out.len());
    assert!(
        fits,
        "{} outputs for tokens {tokens:?} of {weights:?}",
        out.len()
    );
    let part = Part {
        product: *product,
        tokens,
        tiles,
    };
    match weights.weight_type() {
        WeightType::F32 => run::<Floats<AsF32>>(simd, &part),
        WeightType::F16 => run::<Floats<AsF16>>(simd, &part),
        WeightType::Bf16 => run::<Floats<AsBf16>>(simd, &part),
        WeightType::Q4_0 => run::<Blocks<Even<4, 8>, AsF16, false>>(simd, &part),
        WeightType::Q4_1 => run::<Blocks<Even<4, 0>, AsF16, true>>(simd, &part),
        WeightType::Q5_0 => run::<Blocks<Even<5, 16>, AsF16, false>>(simd, &part),
        WeightType::Q5_1 => run::<Blocks<Even<5, 0>, AsF16, true>>(simd, &part),
        WeightType::Q8_0 => run::<Blocks<Even<8, 128>, AsF16, false>>(simd, &part),
        WeightType::Q2K => run::<SuperBlocks<Even<2, 0>, 16, NibbleMins>>(simd, &part),
        WeightType::Q3K => run::<SuperBlocks<Even<3, 4>, 16, NoMins>>(simd, &part),
        WeightType::Q4K => run::<SuperBlocks<Even<4, 0>, 32, GroupMins>>(simd, &part),
        WeightType::Q5K => run::<SuperBlocks<Even<5, 0>, 32, GroupMins>>(simd, &part),
        WeightType::Q6K => run::<SuperBlocks<Even<6, 32>, 16, NoMins>>(simd, &part),
        WeightType::Iq4Nl => run::<Blocks<Coded<4, Iq4>, AsF16, false>>(simd, &part),
        WeightType::Iq4Xs => run::<SuperBlocks<Coded<4, Iq4>, 32, NoMins>>(simd, &part),
        WeightType::Mxfp4 => run::<Blocks<Coded<4, Mxfp4>, AsBf16, false>>(simd, &part),
        WeightType::Iq3Xxs => run::<SuperBlocks<Coded<4, Iq3Xxs>, 32, NoMins>>(simd, &part),
        WeightType::Iq3S => run::<SuperBlocks<Coded<4, Iq3S>, 32, NoMins>>(simd, &part),
        WeightType::Iq2Xxs => run::<SuperBlocks<Coded<3, Iq2>, 32, NoMins>>(simd, &part),
        WeightType::Iq2Xs | WeightType::Iq2S => {
            run::<SuperBlocks<Coded<3, Iq2>, 16, NoMins>>(simd, &part)
        }
        WeightType::Iq1S => run::<SuperBlocks<Coded<3, Iq1>, 32, NoMins>>(simd, &part),
        WeightType::Iq1M => run::<SuperBlocks<Coded<3, Iq1>, 16, NoMins>>(simd, &part),
        WeightType::Tq1_0 | WeightType::Tq2_0 => {
            run::<SuperBlocks<Even<2, 1>, 32, NoMins>>(simd, &part)
        }
    }
}

struct Part<'a> {
    product: Product<'a>,
    tokens: Range<usize>,
    tiles: Range<usize>,
}

/// Products of one family of formats on the instruction set that does them: see [`crate::simd`] for
/// where one would go that multiplies many tokens at once.
fn run<K: TileKernel>(simd: Simd, part: &Part<'_>) {
    match simd {
        Simd::Scalar(s) => run_on::<_, K>(s, part),
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2(s) => run_on::<_, K>(s, part),
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512(s) => run_on::<_, K>(s, part),
        #[cfg(target_arch = "aarch64")]
        Simd::Neon(s) => run_on::<_, K>(s, part),
        #[cfg(target_arch = "aarch64")]
        Simd::NeonDot(s) => run_on::<_, K>(s, part),
    }
}

/// Fewer tokens than this go by one tile.
const ABREAST_FROM: usize = 4;

/// A tile's weights, or those of two, stay in the first cache while all tokens pass, some at a time.
fn run_on<S: Dots, K: TileKernel>(s: S, part: &Part<'_>) {
    let mut tile = part.tiles.start;
    if S::ABREAST && K::ABREAST && part.tokens.len() >= ABREAST_FROM {
        while tile + 1 < part.tiles.end {
            part.tiles::<S, K, 2>(s, tile);
            tile += 2;
        }
    }
    while tile < part.tiles.end {
        part.tiles::<S, K, 1>(s, tile);
        tile += 1;
    }
}

impl Part<'_> {
    /// Computes and stores all tokens of `N` tiles from `tile` on.
    fn tiles<S: Dots, K: TileKernel, const N: usize>(&self, s: S, tile: usize) {
        let Product { weights, x, .. } = self.product;
        let mut tiles: [&[u8]; N] = [&[]; N];
        for (n, bytes) in tiles.iter_mut().enumerate() {
            *bytes = weights.tile(tile + n);
        }
        let mut input = Input {
            layout: weights.layout(),
            tiles,
            x,
            token: self.tokens.start,
            pieces: self.product.pieces,
            next: N * weights.tile_bytes(),
        };
        while input.token < self.tokens.end {
            let count = match self.tokens.end - input.token {
                4.. => self.some::<S, K, N, 4>(s, tile, input),
                2.. => self.some::<S, K, N, 2>(s, tile, input),
                _ => self.some::<S, K, N, 1>(s, tile, input),
            };
            input.token += count;
            input.next = 0;
        }
    }

    /// Computes and stores `T` tokens; says how many.
    fn some<S: Dots, K: TileKernel, const N: usize, const T: usize>(
        &self,
        s: S,
        tile: usize,
        input: Input<'_, N>,
    ) -> usize {
        let sums = s.enter(WholeTiles::<K, N, T> {
            input,
            kernel: PhantomData,
        });
        self.put(tile, input.token, &sums);
        T
    }

    /// Stores the outputs of tiles from `tile` on for tokens from `token` on.
    #[inline]
    fn put<const N: usize>(&self, tile: usize, token: usize, sums: &[[[f32; TILE]; N]]) {
        let rows = self.product.weights.rows();
        for (t, sums) in sums.iter().enumerate() {
            let first = tile * TILE;
            let live = (rows - first).min(N * TILE);
            let sums = &sums.as_flattened()[..live];
            // SAFETY: these outputs belong to the tokens and tiles that `matmul_tiles` was given,
            // whose caller keeps others away.
            unsafe { self.product.out.write((token + t) * rows + first, sums) }
        }
    }
}
