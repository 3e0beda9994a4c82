//! A weight matrix in the order the kernels read it.

mod layout;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use gogrid_units::{Bytes, OutOfMemory, WeightType};

use crate::buffer::{Buffer, Region, held};
use crate::quant::{Block, CannotKeep, can_keep, kept_row, read_floats};

use layout::Place;

pub(crate) use layout::{Layout, TILE, UNITS, VECTOR, stretch_bytes};

/// About as many bytes are asked of the reader at a time.
const READ_BYTES: usize = 1 << 20;

/// Reads the stored bytes of a range of rows into a buffer that they fill.
pub type ReadRows<'a, E> = dyn FnMut(Range<usize>, &mut [u8]) -> Result<(), E> + 'a;

/// A weight matrix to pack.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    /// The type of the stored bytes, which are GGUF's.
    pub stored: WeightType,
    /// The type it is kept in: quantised if it is another than the stored one.
    pub kept: WeightType,
    /// Output rows.
    pub rows: usize,
    /// Columns: a whole number of blocks.
    pub cols: usize,
}

/// Why a matrix was not packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError<E> {
    /// Its rows could not be read.
    #[error(transparent)]
    Read(E),
    /// The system has no memory for it.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// A weight matrix `[rows, cols]`, packed for the kernels: tiles of 16 output rows, interleaved so
/// that a SIMD lane is an output row. Rows are padded with zeros to whole tiles.
pub struct Packed {
    ty: WeightType,
    rows: usize,
    cols: usize,
    layout: Layout,
    tiles: Buffer<u8>,
}

impl Packed {
    /// The bytes a matrix holds once packed, whole pages where it is large; `None` when `cols` is no
    /// whole number of blocks, or the size passes the address space.
    pub fn bytes_for(ty: WeightType, rows: usize, cols: usize) -> Option<Bytes> {
        let layout = Layout::of(ty, cols)?;
        let tiles = rows.div_ceil(TILE);
        let bytes = held(layout.tile_bytes.checked_mul(tiles)?)?;
        // The most that an allocation may have.
        (bytes <= isize::MAX as usize - VECTOR).then_some(Bytes::of(bytes))
    }

    /// Whether weights stored in one type can be kept in another: in their own always, and the
    /// float types in some quantised ones.
    pub fn can_keep(stored: WeightType, kept: WeightType) -> Result<(), CannotKeep> {
        can_keep(stored, kept)
    }

    /// Packs the matrix that `read` gives row by row: it is asked for consecutive ranges of rows,
    /// about 1 MiB at a time, and fills the whole buffer.
    ///
    /// # Errors
    /// The error of `read`, or that the system has no memory.
    ///
    /// # Panics
    /// When [`Packed::bytes_for`] or [`Packed::can_keep`] refuse, which the caller asks first.
    pub fn pack<E>(packing: Packing, read: &mut ReadRows<'_, E>) -> Result<Self, PackError<E>> {
        Self::pack_in(None, packing, read)
    }

    /// The same in a part of `region`, which has room for it.
    ///
    /// # Errors
    /// As [`Packed::pack`].
    ///
    /// # Panics
    /// As [`Packed::pack`].
    pub fn pack_in<E>(
        region: Option<&mut Region>,
        packing: Packing,
        read: &mut ReadRows<'_, E>,
    ) -> Result<Self, PackError<E>> {
        let Packing {
            stored,
            kept,
            rows,
            cols,
        } = packing;
        if let Err(refusal) = can_keep(stored, kept) {
            panic!("{refusal}");
        }
        let mut packed = Self::empty(region, (kept, rows, cols))?;
        let row_bytes = stored
            .row_bytes(cols)
            .expect("whole blocks of the stored type");
        let rows_at_once = (READ_BYTES / row_bytes.max(1) / TILE * TILE).max(TILE);
        let mut buffer = Buffer::zeroed(rows_at_once.min(rows) * row_bytes)?;
        for first in (0..rows).step_by(rows_at_once) {
            let range = first..rows.min(first + rows_at_once);
            let bytes = &mut buffer[..range.len() * row_bytes];
            read(range.clone(), bytes).map_err(PackError::Read)?;
            for (row, stored_row) in range.zip(bytes.chunks_exact(row_bytes.max(1))) {
                packed.put_row(row, stored, stored_row);
            }
        }
        Ok(packed)
    }

    fn empty(
        region: Option<&mut Region>,
        (ty, rows, cols): (WeightType, usize, usize),
    ) -> Result<Self, OutOfMemory> {
        let bytes = Self::bytes_for(ty, rows, cols);
        assert!(bytes.is_some(), "no {ty} matrix of {rows} x {cols}");
        let layout = Layout::of(ty, cols).expect("bytes_for found one");
        let bytes = layout.tile_bytes * rows.div_ceil(TILE);
        Ok(Self {
            ty,
            rows,
            cols,
            layout,
            tiles: Buffer::for_weights(region, bytes)?,
        })
    }

    fn put_row(&mut self, row: usize, stored: WeightType, bytes: &[u8]) {
        self.put_kept_row(row, &kept_row(self.ty, stored, bytes));
    }

    fn put_kept_row(&mut self, row: usize, bytes: &[u8]) {
        let (ty, layout) = (self.ty, self.layout);
        let tile = &mut self.tiles[row / TILE * layout.tile_bytes..][..layout.tile_bytes];
        let row = row % TILE;
        let blocks = bytes.chunks_exact(ty.block_bytes()).enumerate();
        match layout.format {
            Some(format) => {
                let mut apart = Block::EMPTY;
                for (block, bytes) in blocks {
                    apart.read_into(ty, bytes);
                    layout.put(tile, Place { block, row }, (format, &apart));
                }
            }
            None => {
                let width = ty.block_bytes();
                for (col, bytes) in blocks {
                    tile[(col * TILE + row) * width..][..width].copy_from_slice(bytes);
                }
            }
        }
    }

    /// The values of one row; `out` has as many as there are columns.
    pub fn dequantise_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "as many values as columns");
        let (tile, row) = (self.tile(row / TILE), row % TILE);
        match self.layout.format {
            Some(format) => {
                for (block, out) in out.chunks_exact_mut(format.block_len()).enumerate() {
                    let block = self.layout.get(tile, Place { block, row }, format);
                    block.dequantise(format, out);
                }
            }
            None => {
                let width = self.ty.block_bytes();
                for (col, out) in out.iter_mut().enumerate() {
                    let at = (col * TILE + row) * width;
                    read_floats(self.ty, &tile[at..at + width], std::slice::from_mut(out));
                }
            }
        }
    }

    /// The type the weights are kept in.
    pub fn weight_type(&self) -> WeightType {
        self.ty
    }

    /// Output rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the length of an input row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes it holds.
    pub fn bytes(&self) -> Bytes {
        Buffer::<u8>::bytes_for(self.tiles.len())
    }

    /// Tiles of 16 rows, the last perhaps padded.
    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// The bytes of one tile.
    pub(crate) fn tile_bytes(&self) -> usize {
        self.layout.tile_bytes
    }

    pub(crate) fn tile(&self, tile: usize) -> &[u8] {
        &self.tiles[tile * self.layout.tile_bytes..][..self.layout.tile_bytes]
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed {} [{}, {}]", self.ty, self.rows, self.cols)
    }
}
