use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// The most bytes that this thread was refused since it last was given any; 0 if it was not refused.
    /// What follows on a refusal, such as saying so, may be refused too, and is smaller. Code that can go
    /// on without soon allocates something else, and the refusal explains no later abort.
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which remembers what it was asked for when there was no memory. Code that
/// can go on without gets its error as ever; where none can, the process aborts, and
/// [`exit_when_out_of_memory`](crate::exit_when_out_of_memory) makes an exit of that.
#[derive(Debug)]
pub struct RememberingAllocator;

/// The most that the calling thread was refused, if it was given nothing since.
pub(super) fn refused() -> usize {
    REFUSED.get()
}

fn noted(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        // Writing to a cell that is made with the thread allocates nothing.
        REFUSED.set(bytes.max(REFUSED.get()));
    } else if REFUSED.get() != 0 {
        REFUSED.set(0);
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

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn a_refusal_that_was_got_over_is_forgotten() {
        let some = ptr::dangling_mut();
        let after = |asked: &[(*mut u8, usize)]| {
            for (given, bytes) in asked {
                assert_eq!(noted(*given, *bytes), *given);
            }
            refused()
        };
        let none = ptr::null_mut();
        assert_eq!(after(&[(some, 9)]), 0);
        assert_eq!(after(&[(none, 100), (none, 7)]), 100, "the larger one");
        assert_eq!(after(&[(some, 1)]), 0);
        assert_eq!(after(&[(none, 7)]), 7, "not the one of before");
        assert_eq!(after(&[(some, 1)]), 0);
    }
}
