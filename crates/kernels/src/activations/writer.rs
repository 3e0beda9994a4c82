use std::marker::PhantomData;

use super::round::{round32, round256};
use super::{Activations, Forms, SmallBlock, SuperBlock};
use crate::simd::{Floats, Kernel, Simd};

/// Fills rows of [`Activations`], from several threads at once if each has its own rows.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    forms: Forms,
    rows: usize,
    cols: usize,
    floats: Rows<'a, f32>,
    blocks32: Rows<'a, SmallBlock>,
    blocks256: Rows<'a, SuperBlock>,
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
    /// `row` is below the number of rows given to `new`, and no other thread has it.
    unsafe fn row(&self, row: usize) -> &'a mut [T] {
        // SAFETY: rows × stride elements are borrowed for 'a, and the caller has this row alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.stride) }
    }
}

/// One row of every form, empty where the form is not there.
struct Row<'a> {
    floats: &'a mut [f32],
    blocks32: &'a mut [SmallBlock],
    blocks256: &'a mut [SuperBlock],
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
            blocks32: Rows::new(&mut to.blocks32, rows),
            blocks256: Rows::new(&mut to.blocks256, rows),
        }
    }

    /// Rounds one row.
    ///
    /// # Safety
    /// No other thread reads or fills this row meanwhile.
    pub(crate) unsafe fn fill_row(&self, simd: Simd, row: usize, x: &[f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(x.len(), self.cols, "as many values as columns");
        // SAFETY: the row is in range, and the caller's alone; the fields are separate buffers.
        let to = unsafe {
            Row {
                floats: self.floats.row(row),
                blocks32: self.blocks32.row(row),
                blocks256: self.blocks256.row(row),
            }
        };
        if self.forms.floats {
            to.floats.copy_from_slice(x);
        }
        simd.run(Round { x, to });
    }
}

/// Rounds `x` to one row.
struct Round<'a> {
    x: &'a [f32],
    to: Row<'a>,
}

impl Kernel for Round<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Floats>(self, s: S) {
        let Self { x, to } = self;
        let x = x.as_chunks().0;
        for (x, block) in x.as_chunks().0.iter().zip(to.blocks32) {
            round32(s, x, block);
        }
        for (x, block) in x.as_chunks().0.iter().zip(to.blocks256) {
            round256(s, x, block);
        }
    }
}
