use std::marker::PhantomData;

use super::round::{Plain, Sixteen, block32, block256};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};
use super::{Activations, Forms, SuperBlock};
use crate::isa::Isa;

/// Fills rows of [`Activations`], from several threads at once if each has its own rows.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    forms: Forms,
    rows: usize,
    cols: usize,
    floats: Rows<'a, f32>,
    words32: Rows<'a, u8>,
    scales: Rows<'a, [f32; 2]>,
    sums: Rows<'a, i32>,
    words256: Rows<'a, u8>,
    blocks: Rows<'a, SuperBlock>,
}

/// A mutable borrow of rows that is lent row by row.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    start: *mut T,
    stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable borrow of plain numbers handed around; lending a row is an unsafe call
// whose caller answers for the row being its own.
unsafe impl<T: Send> Send for Rows<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Rows<'_, T> {}

impl<'a, T> Rows<'a, T> {
    fn new(all: &'a mut [T], rows: usize) -> Self {
        Self {
            start: all.as_mut_ptr(),
            stride: all.len() / rows.max(1),
            borrow: PhantomData,
        }
    }

    /// # Safety
    /// `row` is below the number of rows given to `new`, and nobody else has it.
    unsafe fn row(&self, row: usize) -> &'a mut [T] {
        // SAFETY: rows × stride elements are borrowed for 'a, and the caller has this row alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.stride) }
    }
}

/// One row of every form, empty where the form is not there.
struct Row<'a> {
    floats: &'a mut [f32],
    words32: &'a mut [u8],
    scales: &'a mut [[f32; 2]],
    sums: &'a mut [i32],
    words256: &'a mut [u8],
    blocks: &'a mut [SuperBlock],
}

impl<'a> Writer<'a> {
    pub(super) fn new(to: &'a mut Activations) -> Self {
        let Activations {
            forms, rows, cols, ..
        } = *to;
        Self {
            forms,
            rows,
            cols,
            floats: Rows::new(&mut to.floats, rows),
            words32: Rows::new(&mut to.blocks32.words.bytes, rows),
            scales: Rows::new(&mut to.blocks32.scales, rows),
            sums: Rows::new(&mut to.blocks32.sums, rows),
            words256: Rows::new(&mut to.blocks256.words.bytes, rows),
            blocks: Rows::new(&mut to.blocks256.blocks, rows),
        }
    }

    /// Rounds one row.
    ///
    /// # Safety
    /// No other thread reads or fills this row meanwhile.
    pub(crate) unsafe fn fill_row(&self, isa: Isa, row: usize, x: &[f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(x.len(), self.cols, "as many values as columns");
        // SAFETY: the row is in range, and the caller's alone; the fields are separate buffers.
        let to = unsafe {
            Row {
                floats: self.floats.row(row),
                words32: self.words32.row(row),
                scales: self.scales.row(row),
                sums: self.sums.row(row),
                words256: self.words256.row(row),
                blocks: self.blocks.row(row),
            }
        };
        if self.forms.floats {
            to.floats.copy_from_slice(x);
        }
        match isa {
            Isa::Scalar => fill(Plain, x, to),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                let avx2 = Avx2::new().expect("this machine has avx2");
                // SAFETY: an `Avx2` exists only where the instructions do.
                unsafe { fill_avx2(avx2, x, to) }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => {
                let avx512 = Avx512::new().expect("this machine has avx-512");
                // SAFETY: an `Avx512` exists only where the instructions do.
                unsafe { fill_avx512(avx512, x, to) }
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("this machine has no {isa}"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fill_avx2(v: Avx2, x: &[f32], to: Row<'_>) {
    fill(v, x, to);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn fill_avx512(v: Avx512, x: &[f32], to: Row<'_>) {
    fill(v, x, to);
}

#[inline(always)]
fn fill<V: Sixteen>(v: V, x: &[f32], to: Row<'_>) {
    let x = x.as_chunks().0;
    let scales = to.scales.iter_mut().zip(to.sums);
    let words = to.words32.as_chunks_mut().0.as_chunks_mut().0;
    for ((x, words), (scale, sum)) in x.as_chunks().0.iter().zip(words).zip(scales) {
        (*scale, *sum) = block32(v, x, words);
    }
    let words = to.words256.as_chunks_mut().0.as_chunks_mut().0;
    for ((x, words), block) in x.as_chunks().0.iter().zip(words).zip(to.blocks) {
        *block = block256(v, x, words);
    }
}
