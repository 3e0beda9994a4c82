use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// The most bytes that this thread was refused; 0 if it never was. What follows on a refusal, such
    /// as saying so, may be refused too, and is smaller.
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which remembers what it was asked for when there was no memory. Code that
/// can go on without gets its error as ever; where none can, the process aborts, and
/// [`exit_when_out_of_memory`](crate::exit_when_out_of_memory) makes an exit of that.
#[derive(Debug)]
pub struct RememberingAllocator;

/// The most that the calling thread was refused.
pub(super) fn refused() -> usize {
    REFUSED.get()
}

fn noted(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        // Writing to a cell that is made with the thread allocates nothing.
        REFUSED.set(bytes.max(REFUSED.get()));
    }
    pointer
}

// SAFETY: every call is the system's own, with the arguments as they came, and its result is given
// back as it is; what is noted besides touches no memory of the allocator's.
unsafe impl GlobalAlloc for RememberingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same contract.
        noted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same contract.
        noted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the same contract.
        noted(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}
