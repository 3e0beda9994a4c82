use std::marker::PhantomData;

/// A borrowed buffer that several threads fill, each its own parts.
///
/// It lends no references, only writes, so that two threads may write two columns of one row.
#[derive(Clone, Copy)]
pub(crate) struct SharedOut<'a> {
    start: *mut f32,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a mutable borrow handed around; every write is an unsafe call whose caller
// answers for the part being its own.
unsafe impl Send for SharedOut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedOut<'_> {}

impl<'a> SharedOut<'a> {
    pub(crate) fn new(out: &'a mut [f32]) -> Self {
        Self {
            start: out.as_mut_ptr(),
            len: out.len(),
            borrow: PhantomData,
        }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Copies `values` to `at..at + values.len()`; panics when that passes the end.
    ///
    /// # Safety
    /// No other thread reads or writes that range meanwhile.
    #[inline]
    pub(crate) unsafe fn write(self, at: usize, values: &[f32]) {
        let fits = at
            .checked_add(values.len())
            .is_some_and(|end| end <= self.len);
        assert!(fits, "{} values at {at} of {}", values.len(), self.len);
        // SAFETY: the range lies in the borrowed buffer (just checked), `values` is a shared
        // borrow and so cannot overlap it, and the caller keeps other threads away.
        unsafe {
            let to = self.start.add(at);
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len());
        }
    }
}
