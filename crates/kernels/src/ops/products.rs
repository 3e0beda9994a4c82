//! Operations on packed weights: embedding, rounding inputs, matrix products.

use std::ops::Range;

use gogrid_units::Work;

use super::Ops;
use crate::activations::Activations;
use crate::cost::{chunk_nanos, slow_nanos, times};
use crate::disjoint::Disjoint;
use crate::isa::Isa;
use crate::matmul::{Job, matmul_tiles};
use crate::packed::Packed;
use crate::region::Abandoned;
use crate::shared_out::SharedOut;

/// Output rows in a tile.
const TILE_ROWS: u64 = 16;
/// Bytes of rounded inputs that stay near while tile after tile reads them.
const NEAR_BYTES: usize = 256 << 10;

/// Rows to take from an embedding table.
#[derive(Clone, Copy)]
pub struct Embed<'a> {
    /// `[vocab, width]`.
    pub table: &'a Packed,
    /// A row of the table each, below its number of rows.
    pub ids: &'a [u32],
    /// What a row is multiplied by.
    pub scale: f32,
}

impl Ops<'_> {
    /// `out = table[id] * scale` for each id: `[ids, width]`.
    ///
    /// # Errors
    /// [`Abandoned`] at a pause point, as in all operations.
    pub fn embed(&mut self, embed: Embed<'_>, out: &mut [f32]) -> Result<(), Abandoned> {
        let Embed { table, ids, scale } = embed;
        let width = table.cols();
        assert_eq!(
            out.len(),
            ids.len() * width,
            "{} rows of {width}",
            ids.len()
        );
        let each = Work {
            bytes: 8 * width as u64,
            multiply_adds: 4 * width as u64,
        };
        let out = Disjoint::new(out);
        self.units((ids.len(), each), &|row, _| {
            // SAFETY: each row is one unit's.
            let out = unsafe { out.part(row * width..(row + 1) * width) };
            // A u32 fits a usize on every platform this runs on.
            table.dequantise_row(ids[row] as usize, out);
            out.iter_mut().for_each(|x| *x *= scale);
            Ok(())
        })
    }

    /// Rounds `x`, `[rows, cols]`, into the first rows of `out`, for the matrices that read it.
    pub fn quantise(&mut self, x: &[f32], out: &mut Activations) -> Result<(), Abandoned> {
        let (isa, cols) = (self.isa, out.cols());
        let rows = x.len().checked_div(cols).unwrap_or(0);
        assert_eq!(rows * cols, x.len(), "{} values in rows of {cols}", x.len());
        assert!(rows <= out.rows(), "{rows} rows where {} fit", out.rows());
        let writer = out.writer();
        let each = Work {
            bytes: 6 * cols as u64,
            multiply_adds: 4 * cols as u64,
        };
        self.units((rows, each), &|row, _| {
            // SAFETY: each row is one unit's.
            unsafe { writer.fill_row(isa, row, &x[row * cols..(row + 1) * cols]) };
            Ok(())
        })
    }

    /// Products of the first rows of `x` with several matrices, in one go: each `out` is
    /// `[rows, matrix rows]`, and all have the same rows.
    pub fn matmul(
        &mut self,
        x: &Activations,
        out: &mut [(&Packed, &mut [f32])],
    ) -> Result<(), Abandoned> {
        let isa = self.isa;
        let tokens = out
            .iter()
            .map(|(weights, out)| out.len().checked_div(weights.rows()).unwrap_or(0));
        let tokens = tokens.max().unwrap_or(0);
        let job = |(weights, out): &mut (&Packed, &mut [f32])| {
            assert_eq!(
                out.len(),
                tokens * weights.rows(),
                "{tokens} rows of {}",
                weights.rows()
            );
        };
        out.iter_mut().for_each(job);
        let products: Vec<_> = out
            .iter_mut()
            .map(|(weights, out)| (*weights, SharedOut::new(out)))
            .collect();
        let nanos = products.iter().map(|(weights, _)| {
            slow_nanos(isa, times(tile_work(weights, tokens), weights.tiles()))
        });
        let nanos = chunk_nanos(nanos.sum(), self.width());
        let cuts: Vec<_> = products
            .iter()
            .map(|(weights, _)| Cut::new(isa, weights, (tokens, nanos)))
            .collect();
        let chunks = cuts.iter().map(Cut::chunks).sum();
        let work = cuts
            .iter()
            .map(|cut| cut.work)
            .max_by_key(|work| work.multiply_adds);
        self.chunks((chunks, work.unwrap_or_default()), &|mut index, _| {
            for (cut, (weights, out)) in cuts.iter().zip(&products) {
                if index < cut.chunks() {
                    let (tokens, tiles) = cut.part(index);
                    let job = Job {
                        weights,
                        x,
                        out: *out,
                    };
                    // SAFETY: each chunk has tokens and tiles that no other has.
                    unsafe { matmul_tiles(isa, &job, tokens, tiles) };
                    break;
                }
                index -= cut.chunks();
            }
            Ok(())
        })
    }
}

/// One tile for `tokens` inputs.
fn tile_work(weights: &Packed, tokens: usize) -> Work {
    let (tokens, cols) = (tokens as u64, weights.cols() as u64);
    Work {
        bytes: weights.tile_bytes() as u64,
        multiply_adds: TILE_ROWS * cols * tokens,
    }
}

/// How a product is cut: blocks of tokens by runs of tiles.
struct Cut {
    tokens: usize,
    tiles: usize,
    tokens_each: usize,
    tiles_each: usize,
    /// Of a chunk.
    work: Work,
}

impl Cut {
    /// Chunks of about `nanos` on a slow core, and not much more.
    fn new(isa: Isa, weights: &Packed, (tokens, nanos): (usize, u64)) -> Self {
        let near = (NEAR_BYTES / weights.cols().max(1)).max(16);
        let one = slow_nanos(isa, tile_work(weights, 16)).max(1);
        // A single tile must not take longer than a chunk may.
        let quick = usize::try_from(nanos / one)
            .unwrap_or(usize::MAX)
            .saturating_mul(16)
            .max(16);
        let tokens_each = near.min(quick).min(tokens).max(1);
        let tile = tile_work(weights, tokens_each);
        let tiles_each =
            (nanos / slow_nanos(isa, tile).max(1)).clamp(1, weights.tiles().max(1) as u64);
        // Clamped to a usize just now.
        let tiles_each = tiles_each as usize;
        let work = times(tile, tiles_each);
        Self {
            tokens,
            tiles: weights.tiles(),
            tokens_each,
            tiles_each,
            work,
        }
    }

    fn chunks(&self) -> usize {
        self.tokens.div_ceil(self.tokens_each) * self.tiles.div_ceil(self.tiles_each)
    }

    fn part(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let runs = self.tiles.div_ceil(self.tiles_each);
        let (block, run) = (index / runs, index % runs);
        let range =
            |index: usize, each: usize, all: usize| index * each..((index + 1) * each).min(all);
        (
            range(block, self.tokens_each, self.tokens),
            range(run, self.tiles_each, self.tiles),
        )
    }
}
