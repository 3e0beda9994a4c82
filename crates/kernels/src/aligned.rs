use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

/// Alignment of the bytes: a cache line, and the widest SIMD load.
const ALIGN: usize = 64;

/// Zeroed bytes of a fixed length that begin on a cache line.
///
/// The allocator is asked for a small alignment and a little more room, because only then does a
/// large request come from fresh zero pages of the system that were never touched.
pub(crate) struct AlignedBytes {
    block: NonNull<u8>,
    layout: Layout,
    start: usize,
    len: usize,
}

// SAFETY: it owns its allocation alone, like a boxed slice of bytes.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared references only read.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `len` zero bytes. Panics when the length passes half the address space, aborts when the
    /// system has no memory: the caller holds a lease for them.
    pub(crate) fn zeroed(len: usize) -> Self {
        let padded = len
            .checked_add(ALIGN)
            .expect("length fits the address space");
        let layout = Layout::from_size_align(padded, 8).expect("length fits the address space");
        // SAFETY: the layout's size is at least ALIGN, so not zero.
        let block = unsafe { alloc_zeroed(layout) };
        let Some(block) = NonNull::new(block) else {
            handle_alloc_error(layout)
        };
        let start = block.as_ptr().addr().wrapping_neg() % ALIGN;
        Self {
            block,
            layout,
            start,
            len,
        }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: start < ALIGN, and the allocation holds ALIGN + len initialised bytes, owned by
        // self for as long as the borrow lasts.
        unsafe { slice::from_raw_parts(self.block.as_ptr().add(self.start), self.len) }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref, and self is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.block.as_ptr().add(self.start), self.len) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and freed once.
        unsafe { dealloc(self.block.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_zero_aligned_and_writable() {
        for len in [0, 1, 63, 64, 1 << 20] {
            let mut bytes = AlignedBytes::zeroed(len);
            assert_eq!(bytes.len(), len);
            assert_eq!(bytes.as_ptr().addr() % ALIGN, 0);
            assert!(bytes.iter().all(|&b| b == 0));
            bytes.fill(7);
            assert!(bytes.iter().all(|&b| b == 7));
        }
    }
}
