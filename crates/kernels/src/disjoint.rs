use std::marker::PhantomData;
use std::ops::Range;

/// A borrowed slice that several threads change, each its own parts.
#[derive(Clone, Copy)]
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable borrow handed around; every use is an unsafe call whose caller answers
// for the part being its own.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above; no two threads ever reach the same element, so `T: Send` is enough.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(all: &'a mut [T]) -> Self {
        Self {
            start: all.as_mut_ptr(),
            len: all.len(),
            borrow: PhantomData,
        }
    }

    /// The elements of `range`; panics when that passes the end.
    ///
    /// # Safety
    /// While the result lives, no other thread uses an element of `range`.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        let Range { start, end } = range;
        assert!(
            start <= end && end <= self.len,
            "{start}..{end} of {}",
            self.len
        );
        // SAFETY: the range lies in the borrowed slice, and the caller keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), end - start) }
    }
}
