use super::tile::{Input, TileKernel};
use crate::activations::Activations;
use crate::packed::TILE;
use crate::simd::Dots;

/// Partial sums: column c goes to partial c mod 4, so that one multiply-add need not wait for the
/// last. They are added as (0 + 1) + (2 + 3).
pub(crate) const PARTIALS: usize = 4;

/// Float formats, against the inputs as they are.
pub(super) struct Floats<W>(W);

/// How a float format is read.
pub(super) trait FloatFormat {
    const BYTES: usize;
    fn load<S: Dots>(s: S, from: &[u8]) -> S::Floats;
}

pub(super) struct AsF32;
pub(super) struct AsF16;
pub(super) struct AsBf16;

impl FloatFormat for AsF32 {
    const BYTES: usize = 4;
    #[inline(always)]
    fn load<S: Dots>(s: S, from: &[u8]) -> S::Floats {
        s.f32s(from)
    }
}

impl FloatFormat for AsF16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Dots>(s: S, from: &[u8]) -> S::Floats {
        s.f16s(from)
    }
}

impl FloatFormat for AsBf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Dots>(s: S, from: &[u8]) -> S::Floats {
        s.bf16s(from)
    }
}

impl<W: FloatFormat> TileKernel for Floats<W> {
    // Its sums are in parts, which take the registers of four tiles.
    const ABREAST: bool = false;

    #[inline(always)]
    fn outputs<S: Dots, const N: usize, const T: usize>(
        s: S,
        input: Input<'_, N>,
        half: usize,
    ) -> [[S::Floats; T]; N] {
        let mut outputs = [[s.floats(0.0); T]; N];
        for (outputs, tile) in outputs.iter_mut().zip(input.tiles) {
            *outputs = Self::of_tile(s, &input, tile, half);
        }
        outputs
    }
}

impl<W: FloatFormat> Floats<W> {
    #[inline(always)]
    fn of_tile<S: Dots, const N: usize, const T: usize>(
        s: S,
        input: &Input<'_, N>,
        tile: &[u8],
        half: usize,
    ) -> [S::Floats; T] {
        let values = &tile[..input.layout.blocks * TILE * W::BYTES];
        let mut rows = input.rows::<_, T>(Activations::floats);
        let mut sums = [[s.floats(0.0); PARTIALS]; T];
        // Sums stay in registers only where nothing is called between.
        let Some(pieces) = input.pieces else {
            let columns = Columns { values, half };
            let sums = add_columns::<S, W, T>(s, columns, &rows, sums);
            return joined(s, &sums);
        };
        let width = TILE * W::BYTES;
        for values in values.chunks(pieces.cols * width) {
            if !(pieces.go_on)(values.len() / width * S::LANES) {
                break;
            }
            sums = add_columns::<S, W, T>(s, Columns { values, half }, &rows, sums);
            for row in &mut rows {
                *row = &row[values.len() / width..];
            }
        }
        joined(s, &sums)
    }
}

/// The sums of the partial ones.
#[inline(always)]
fn joined<S: Dots, const T: usize>(s: S, sums: &[[S::Floats; PARTIALS]; T]) -> [S::Floats; T] {
    let mut out = [s.floats(0.0); T];
    for (out, p) in out.iter_mut().zip(sums) {
        *out = s.add(s.add(p[0], p[1]), s.add(p[2], p[3]));
    }
    out
}

/// Columns of a tile, or the half of each that a vector holds.
#[derive(Clone, Copy)]
struct Columns<'a> {
    values: &'a [u8],
    half: usize,
}

/// Adds columns to the partial sums: whole groups of [`PARTIALS`], but for the last of a row.
#[inline(always)]
fn add_columns<S: Dots, W: FloatFormat, const T: usize>(
    s: S,
    columns: Columns<'_>,
    rows: &[&[f32]; T],
    mut sums: [[S::Floats; PARTIALS]; T],
) -> [[S::Floats; PARTIALS]; T] {
    let Columns { values, half } = columns;
    let width = TILE * W::BYTES;
    let mut groups = values.chunks_exact(PARTIALS * width);
    for (group, values) in groups.by_ref().enumerate() {
        for p in 0..PARTIALS {
            let at = p * width + half * S::LANES * W::BYTES;
            let weights = W::load(s, &values[at..][..S::LANES * W::BYTES]);
            for (sums, row) in sums.iter_mut().zip(rows) {
                let x = s.floats(row[group * PARTIALS + p]);
                sums[p] = s.mul_add(weights, x, sums[p]);
            }
        }
    }
    let done = values.len() / width / PARTIALS * PARTIALS;
    for (p, values) in groups.remainder().chunks_exact(width).enumerate() {
        let weights = W::load(
            s,
            &values[half * S::LANES * W::BYTES..][..S::LANES * W::BYTES],
        );
        for (sums, row) in sums.iter_mut().zip(rows) {
            sums[p] = s.mul_add(weights, s.floats(row[done + p]), sums[p]);
        }
    }
    sums
}
