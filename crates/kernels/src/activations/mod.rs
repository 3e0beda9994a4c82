//! The inputs of matrix products, rounded once for every matrix that reads them.

mod round;
#[cfg(test)]
mod tests;
mod writer;

use gogrid_units::{Bytes, OutOfMemory, WeightType};

use crate::buffer::{Buffer, Plain};
use crate::quant::{Format, ScaleOf};
use crate::simd::{Isa, Simd, Word};

pub(crate) use writer::Writer;

/// The forms of an input that a set of matrices reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    floats: bool,
    blocks32: bool,
    blocks256: bool,
}

impl Forms {
    /// The form that matrices of type `ty` read: f32 itself, int8 with a scale per 32 values, or
    /// int8 with a scale per 256.
    pub const fn of(ty: WeightType) -> Self {
        let format = Format::of(ty);
        Self {
            floats: format.is_none(),
            blocks32: matches!(format, Some(f) if matches!(f.scale_of, ScaleOf::Block)),
            blocks256: matches!(format, Some(f) if matches!(f.scale_of, ScaleOf::Group(_))),
        }
    }

    /// The forms of both.
    pub const fn and(self, other: Self) -> Self {
        Self {
            floats: self.floats || other.floats,
            blocks32: self.blocks32 || other.blocks32,
            blocks256: self.blocks256 || other.blocks256,
        }
    }
}

/// Input rows `[rows, cols]` in the forms that some matrices read.
///
/// Int8 forms: scale = greatest magnitude / 127, value = x × (1 / scale) rounded to nearest, ties
/// to even, in that order of f32 operations. A block with a NaN or an infinity becomes zeros with
/// a NaN scale, so that whatever reads it gives NaN; one with magnitudes below 127 × 2^-126
/// becomes zeros.
#[derive(Debug)]
pub struct Activations {
    forms: Forms,
    rows: usize,
    cols: usize,
    floats: Buffer<f32>,
    blocks32: Small,
    blocks256: Super,
}

/// Int8 rows with a scale per 32 values.
#[derive(Debug, Default)]
pub(crate) struct Small {
    words: Words,
    /// Per block: the scale, and the scale times the sum of the int8 values.
    scales: Buffer<[f32; 2]>,
    /// Per block: the sum of the int8 values.
    sums: Buffer<i32>,
    blocks: usize,
}

/// Int8 rows with a scale per 256 values.
#[derive(Debug, Default)]
pub(crate) struct Super {
    words: Words,
    blocks: Buffer<SuperBlock>,
    blocks_per_row: usize,
}

/// The scale and sums of 256 int8 values.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct SuperBlock {
    /// The scale.
    pub(crate) scale: f32,
    /// Sums of 16 values: two 16-bit sums in a word, the earlier one low.
    pub(crate) sums16: [i32; 8],
    /// Sums of 32 values, likewise.
    pub(crate) sums32: [i32; 4],
}

// SAFETY: floats and integers of one size, in the order they stand, so nothing lies between them.
unsafe impl Plain for SuperBlock {}

/// Rows of int8 values, as bytes.
#[derive(Debug, Default)]
struct Words {
    bytes: Buffer<u8>,
    stride: usize,
}

impl Words {
    /// Rows begin an odd number of cache lines apart, so that the same column of several rows
    /// does not meet in one set of the first-level cache.
    const fn stride_for(cols: usize) -> usize {
        (cols.div_ceil(64) | 1) * 64
    }

    fn new(rows: usize, cols: usize) -> Result<Self, OutOfMemory> {
        let stride = Self::stride_for(cols);
        let bytes = Buffer::zeroed(rows * stride)?;
        Ok(Self { bytes, stride })
    }

    const fn bytes_for(rows: usize, cols: usize) -> Bytes {
        Buffer::<u8>::bytes_for(rows * Self::stride_for(cols))
    }

    #[inline]
    fn row(&self, row: usize) -> &[Word] {
        self.bytes[row * self.stride..][..self.stride].as_chunks().0
    }
}

/// One row of the 32-value form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmallRow<'a> {
    pub(crate) words: &'a [[Word; 8]],
    pub(crate) scales: &'a [[f32; 2]],
    pub(crate) sums: &'a [i32],
}

/// One row of the 256-value form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SuperRow<'a> {
    pub(crate) words: &'a [[Word; 64]],
    pub(crate) blocks: &'a [SuperBlock],
}

impl Activations {
    /// Room for `rows` rows of `cols` values; the rows are zeros until they are filled. `cols` is
    /// a whole number of the blocks that the forms have, which a packed matrix's columns are.
    ///
    /// # Errors
    /// When the system has no memory for them.
    pub fn new(forms: Forms, rows: usize, cols: usize) -> Result<Self, OutOfMemory> {
        assert!(
            !forms.blocks32 || cols.is_multiple_of(32),
            "{cols} columns in blocks of 32"
        );
        assert!(
            !forms.blocks256 || cols.is_multiple_of(256),
            "{cols} columns in blocks of 256"
        );
        let mut new = Self {
            forms,
            rows,
            cols,
            floats: Buffer::default(),
            blocks32: Small::default(),
            blocks256: Super::default(),
        };
        if forms.floats {
            new.floats = Buffer::zeroed(rows * cols)?;
        }
        if forms.blocks32 {
            let blocks = cols / 32;
            new.blocks32 = Small {
                words: Words::new(rows, cols)?,
                scales: Buffer::zeroed(rows * blocks)?,
                sums: Buffer::zeroed(rows * blocks)?,
                blocks,
            };
        }
        if forms.blocks256 {
            let blocks_per_row = cols / 256;
            new.blocks256 = Super {
                words: Words::new(rows, cols)?,
                blocks: Buffer::zeroed(rows * blocks_per_row)?,
                blocks_per_row,
            };
        }
        Ok(new)
    }

    /// The bytes that [`Activations::new`] takes.
    pub fn bytes_for(forms: Forms, rows: usize, cols: usize) -> Bytes {
        let words = Words::bytes_for(rows, cols);
        let mut bytes = Bytes::ZERO;
        if forms.floats {
            bytes += Buffer::<f32>::bytes_for(rows * cols);
        }
        if forms.blocks32 {
            let blocks = rows * (cols / 32);
            let scales = Buffer::<[f32; 2]>::bytes_for(blocks);
            bytes += words + scales + Buffer::<i32>::bytes_for(blocks);
        }
        if forms.blocks256 {
            bytes += words + Buffer::<SuperBlock>::bytes_for(rows * (cols / 256));
        }
        bytes
    }

    /// Rounds `x`, `[rows, cols]`, into the first rows.
    ///
    /// # Panics
    /// When this machine has not got `isa`.
    pub fn fill(&mut self, isa: Isa, x: &[f32]) {
        assert!(
            x.len() <= self.rows * self.cols,
            "at most {} rows",
            self.rows
        );
        let cols = self.cols.max(1);
        assert!(x.len().is_multiple_of(cols), "whole rows of {cols}");
        let (simd, writer) = (Simd::expect(isa), self.writer());
        for (row, x) in x.chunks_exact(cols).enumerate() {
            // SAFETY: this thread alone has the writer, so no two calls meet.
            unsafe { writer.fill_row(simd, row, x) }
        }
    }

    /// Several threads may fill rows through this at once, each its own.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        Writer::new(self)
    }

    /// Rows there is room for.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The forms its rows are in.
    pub fn forms(&self) -> Forms {
        self.forms
    }

    #[inline]
    pub(crate) fn floats(&self, row: usize) -> &[f32] {
        &self.floats[row * self.cols..][..self.cols]
    }

    #[inline]
    pub(crate) fn small(&self, row: usize) -> SmallRow<'_> {
        let Small {
            words,
            scales,
            sums,
            blocks,
        } = &self.blocks32;
        SmallRow {
            words: &words.row(row).as_chunks().0[..*blocks],
            scales: &scales[row * blocks..][..*blocks],
            sums: &sums[row * blocks..][..*blocks],
        }
    }

    #[inline]
    pub(crate) fn super_row(&self, row: usize) -> SuperRow<'_> {
        let Super {
            words,
            blocks,
            blocks_per_row: n,
        } = &self.blocks256;
        SuperRow {
            words: &words.row(row).as_chunks().0[..*n],
            blocks: &blocks[row * n..][..*n],
        }
    }
}
