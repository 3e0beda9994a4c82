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
    blocks32: Buffer<SmallBlock>,
    blocks256: Buffer<SuperBlock>,
}

/// Int8 values of 32 columns, their scale and their sum, side by side: a kernel that does several rows
/// at once has one place to read from in each.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct SmallBlock {
    /// The int8 values.
    pub(crate) words: [Word; 8],
    /// The scale.
    pub(crate) scale: f32,
    /// The scale times the sum of the int8 values.
    pub(crate) scaled_sum: f32,
    /// The sum of the int8 values.
    pub(crate) sum: i32,
}

// SAFETY: bytes, floats and integers, in the order they stand with nothing between them.
unsafe impl Plain for SmallBlock {}

const _: () = assert!(size_of::<SmallBlock>() == 32 + 3 * 4);

/// Int8 values of 256 columns, their scale and their sums.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct SuperBlock {
    /// The int8 values.
    pub(crate) words: [Word; 64],
    /// The scale.
    pub(crate) scale: f32,
    /// Sums of 16 values: two 16-bit sums in a word, the earlier one low.
    pub(crate) sums16: [i32; 8],
    /// Sums of 32 values, likewise.
    pub(crate) sums32: [i32; 4],
}

// SAFETY: bytes, floats and integers, in the order they stand with nothing between them.
unsafe impl Plain for SuperBlock {}

const _: () = assert!(size_of::<SuperBlock>() == 256 + 13 * 4);

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
            blocks32: Buffer::default(),
            blocks256: Buffer::default(),
        };
        if forms.floats {
            new.floats = Buffer::zeroed(rows * cols)?;
        }
        if forms.blocks32 {
            new.blocks32 = Buffer::zeroed(rows * (cols / 32))?;
        }
        if forms.blocks256 {
            new.blocks256 = Buffer::zeroed(rows * (cols / 256))?;
        }
        Ok(new)
    }

    /// The bytes that [`Activations::new`] takes.
    pub fn bytes_for(forms: Forms, rows: usize, cols: usize) -> Bytes {
        let mut bytes = Bytes::ZERO;
        if forms.floats {
            bytes += Buffer::<f32>::bytes_for(rows * cols);
        }
        if forms.blocks32 {
            bytes += Buffer::<SmallBlock>::bytes_for(rows * (cols / 32));
        }
        if forms.blocks256 {
            bytes += Buffer::<SuperBlock>::bytes_for(rows * (cols / 256));
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

    /// A row of the 32-value form.
    #[inline]
    pub(crate) fn small(&self, row: usize) -> &[SmallBlock] {
        let blocks = self.cols / 32;
        &self.blocks32[row * blocks..][..blocks]
    }

    /// A row of the 256-value form.
    #[inline]
    pub(crate) fn super_row(&self, row: usize) -> &[SuperBlock] {
        let blocks = self.cols / 256;
        &self.blocks256[row * blocks..][..blocks]
    }
}
