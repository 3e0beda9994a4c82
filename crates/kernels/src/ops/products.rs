//! Operations on packed weights: embedding, rounding inputs, matrix products.

use std::cell::Cell;
use std::ops::Range;

use gogrid_units::{WeightType, Work};

use super::Ops;
use crate::activations::Activations;
use crate::cost::{CHUNK_NANOS_MAX, POINT_NANOS_MAX, chunk_nanos, product_nanos, times};
use crate::disjoint::Disjoint;
use crate::matmul::{COLUMNS, Pieces, Product, matmul_tiles};
use crate::packed::Packed;
use crate::region::{Abandoned, Pauses};
use crate::shared_out::SharedOut;
use crate::simd::{Isa, Simd};

/// Output rows in a tile.
const TILE_ROWS: u64 = 16;
/// Bytes of rounded inputs that stay near while tile after tile reads them.
const NEAR_BYTES: usize = 256 << 10;
/// Inputs that share a tile at least, while a pause point comes in time: the fewer there are, the
/// more often its weights are read and unpacked.
const TOKENS_SHARING: usize = 16;

/// Rows to take from an embedding table.
#[derive(Clone, Copy)]
pub struct Embed<'a> {
    /// `[vocab, width]`.
    pub table: &'a Packed,
    /// A row of the table each, below its number of rows.
    pub ids: &'a [u32],
    /// The factor of each row.
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
        self.units((ids.len(), each), &|row| {
            // SAFETY: each row is one unit's.
            let out = unsafe { out.part(row * width..(row + 1) * width) };
            // A u32 fits a usize on every platform this runs on.
            table.dequantise_row(ids[row] as usize, out);
            out.iter_mut().for_each(|x| *x *= scale);
        })
    }

    /// Rounds `x`, `[rows, cols]`, into the first rows of `out`, for the matrices that read it.
    pub fn quantise(&mut self, x: &[f32], out: &mut Activations) -> Result<(), Abandoned> {
        let (simd, cols) = (self.simd, out.cols());
        let rows = x.len().checked_div(cols).unwrap_or(0);
        assert_eq!(rows * cols, x.len(), "{} values in rows of {cols}", x.len());
        assert!(rows <= out.rows(), "{rows} rows where {} fit", out.rows());
        let writer = out.writer();
        let each = Work {
            bytes: 6 * cols as u64,
            multiply_adds: 4 * cols as u64,
        };
        self.units((rows, each), &|row| {
            // SAFETY: each row is one unit's.
            unsafe { writer.fill_row(simd, row, &x[row * cols..(row + 1) * cols]) };
        })
    }

    /// Products of the first rows of `x` with several matrices, in one go: each `out` is
    /// `[rows, matrix rows]`, and all have the same rows.
    ///
    /// The least that is done in one go is one row of `x` by 16 of a matrix, and of the float types
    /// less where that would take half a millisecond. With quantised types it stays within it up
    /// to 31,250 columns on [`Isa::Scalar`] and, since it reads as many bytes, 58,000 elsewhere.
    pub fn matmul(
        &mut self,
        x: &Activations,
        out: &mut [(&Packed, &mut [f32])],
    ) -> Result<(), Abandoned> {
        let tokens = tokens_of(out);
        let whole = |(weights, _): &(&Packed, &mut [f32])| {
            let work = times(tile_work(weights, tokens), weights.tiles());
            product_nanos(self.simd.isa(), weights.weight_type(), work)
        };
        let nanos = out.iter().map(whole).sum();
        let nanos = chunk_nanos(nanos, self.width());
        let simd = self.simd;
        let products = out.iter_mut().map(|(weights, out)| CutProduct {
            cut: Cut::new(simd.isa(), weights, (tokens, nanos)),
            weights,
            x,
            out: SharedOut::new(out),
        });
        let products: Vec<_> = products.collect();
        let chunks = products.iter().map(|product| product.cut.chunks()).sum();
        let work = products.iter().map(|product| product.cut.work);
        let work = work.fold(Work::default(), most);
        self.chunks((chunks, work), &|mut index, pauses| {
            for product in &products {
                if index < product.cut.chunks() {
                    // SAFETY: each chunk is computed once.
                    return unsafe { product.chunk(simd, index, pauses) };
                }
                index -= product.cut.chunks();
            }
            Ok(())
        })
    }
}

/// What no chunk passes: of two matrices one may be read for longer, the other multiplied.
fn most(a: Work, b: Work) -> Work {
    Work {
        bytes: a.bytes.max(b.bytes),
        multiply_adds: a.multiply_adds.max(b.multiply_adds),
    }
}

/// The rows of all `out`, which have the same.
fn tokens_of(out: &[(&Packed, &mut [f32])]) -> usize {
    let tokens = out
        .iter()
        .map(|(weights, out)| out.len().checked_div(weights.rows()).unwrap_or(0));
    let tokens = tokens.max().unwrap_or(0);
    for (weights, out) in out {
        let rows = weights.rows();
        assert_eq!(out.len(), tokens * rows, "{tokens} rows of {rows}");
    }
    tokens
}

/// One matrix's product, and how it is cut.
struct CutProduct<'a> {
    cut: Cut,
    weights: &'a Packed,
    x: &'a Activations,
    out: SharedOut<'a>,
}

impl CutProduct<'_> {
    /// Computes one chunk, with the pause points inside it.
    ///
    /// # Safety
    /// Each chunk is computed by one thread.
    unsafe fn chunk(&self, simd: Simd, index: usize, pauses: &Pauses<'_>) -> Result<(), Abandoned> {
        let (tokens, tiles) = self.cut.part(index);
        let asks = AsksInRow::new(self.weights.weight_type(), pauses);
        let go_on = |weights| asks.ask(weights);
        let pieces = self.cut.piece.map(|cols| Pieces {
            cols,
            go_on: &go_on,
        });
        let product = Product {
            weights: self.weights,
            x: self.x,
            out: self.out,
            pieces,
        };
        // SAFETY: each chunk has tokens and tiles that no other has.
        unsafe { matmul_tiles(simd, &product, tokens, tiles) };
        asks.abandoned.into_inner().map_or(Ok(()), Err)
    }
}

/// The pause points inside a row.
struct AsksInRow<'a> {
    weights: WeightType,
    pauses: &'a Pauses<'a>,
    abandoned: Cell<Option<Abandoned>>,
}

impl<'a> AsksInRow<'a> {
    fn new(weights: WeightType, pauses: &'a Pauses<'a>) -> Self {
        Self {
            weights,
            pauses,
            abandoned: Cell::new(None),
        }
    }

    /// Asks before so many weights are read and multiplied by one input.
    fn ask(&self, weights: usize) -> bool {
        let each = Work {
            bytes: self.weights.block_bytes() as u64,
            multiply_adds: 1,
        };
        if self.abandoned.get().is_none() {
            let went_on = self.pauses.point(times(each, weights));
            self.abandoned.set(went_on.err());
        }
        self.abandoned.get().is_none()
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

/// Tokens that one tile can be done for in `nanos`, in whole groups of [`TOKENS_SHARING`]; at least
/// one group, or what halving leaves of it before the pause point is due.
fn quick_tokens(isa: Isa, weights: &Packed, nanos: u64) -> usize {
    let ty = weights.weight_type();
    let time = |tokens| product_nanos(isa, ty, tile_work(weights, tokens)).max(1);
    let groups = nanos / time(TOKENS_SHARING);
    if groups > 0 {
        let groups = usize::try_from(groups).unwrap_or(usize::MAX);
        return groups.saturating_mul(TOKENS_SHARING);
    }
    let mut tokens = TOKENS_SHARING;
    while tokens > 1 && time(tokens) > POINT_NANOS_MAX {
        tokens /= 2;
    }
    tokens
}

/// How many columns of a tile that takes `tile_nanos` for one input go between two pause points;
/// `None` where its type has none inside a row.
fn piece(weights: &Packed, tile_nanos: u64) -> Option<usize> {
    let pieces = usize::try_from(tile_nanos.div_ceil(CHUNK_NANOS_MAX)).ok()?;
    let cols = weights.cols().div_ceil(pieces);
    (weights.weight_type().block_len() == 1).then(|| cols.next_multiple_of(COLUMNS))
}

/// How a product is cut: blocks of tokens by runs of tiles.
struct Cut {
    tokens: usize,
    tiles: usize,
    tokens_each: usize,
    tiles_each: usize,
    /// Of a chunk, told before it; none is when there are pieces.
    work: Work,
    /// Columns between pause points, where a single row takes too long.
    piece: Option<usize>,
}

impl Cut {
    /// Chunks of about `nanos` on a slow core; longer ones only where fewer tokens would share a
    /// tile than should, and none longer than may pass between two pause points.
    fn new(isa: Isa, weights: &Packed, (tokens, nanos): (usize, u64)) -> Self {
        let near = (NEAR_BYTES / weights.cols().max(1)).max(TOKENS_SHARING);
        let tokens_each = quick_tokens(isa, weights, nanos).min(near).min(tokens);
        let tokens_each = tokens_each.max(1);
        let tile = tile_work(weights, tokens_each);
        let tile_nanos = product_nanos(isa, weights.weight_type(), tile).max(1);
        let tiles_each = (nanos / tile_nanos).clamp(1, weights.tiles().max(1) as u64);
        // Clamped to a usize just now.
        let tiles_each = tiles_each as usize;
        let piece = (tile_nanos > POINT_NANOS_MAX)
            .then(|| piece(weights, tile_nanos))
            .flatten();
        let work = match piece {
            Some(_) => Work::default(),
            None => times(tile, tiles_each),
        };
        Self {
            tokens,
            tiles: weights.tiles(),
            tokens_each,
            tiles_each,
            work,
            piece,
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
