use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What is given to a thread after a refusal until the refusal is forgotten. An abort for want of
/// memory says so first, and reads a variable or two for that; code that goes on needs more.
const GIVEN_MAX: u8 = 100;

thread_local! {
    /// The most bytes that this thread was refused; 0 if it was not, or got over it. What follows on a
    /// refusal, such as saying so, may be refused too, and is smaller.
    static REFUSED: Cell<usize> = const { Cell::new(0) };
    /// How often it was given any since.
    static GIVEN: Cell<u8> = const { Cell::new(0) };
}

/// The system's allocator, which remembers what it was asked for when there was no memory. Code that
/// can go on without gets its error as ever; where none can, the process aborts, and
/// [`exit_when_out_of_memory`](crate::exit_when_out_of_memory) makes an exit of that.
#[derive(Debug)]
pub struct RememberingAllocator;

/// The most that the calling thread was refused and did not get over. An abort is an exit on Unix only.
#[cfg(any(test, target_os = "linux", target_os = "macos"))]
pub(super) fn refused() -> usize {
    REFUSED.get()
}

fn noted(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        // Writing to a cell that is made with the thread allocates nothing.
        REFUSED.set(bytes.max(REFUSED.get()));
        GIVEN.set(0);
    } else if REFUSED.get() != 0 {
        GIVEN.set(GIVEN.get() + 1);
        if GIVEN.get() == GIVEN_MAX {
            REFUSED.set(0);
        }
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
        let (some, none) = (ptr::dangling_mut(), ptr::null_mut());
        let given = |times: u8| {
            (0..times).for_each(|_| {
                let _ = noted(some, 9);
            })
        };
        let refuse = |bytes: usize| assert!(noted(none, bytes).is_null());
        assert_eq!(refused(), 0);
        refuse(100);
        refuse(7);
        given(GIVEN_MAX / 2);
        assert_eq!(refused(), 100, "the larger one, until it is got over");
        given(GIVEN_MAX);
        assert_eq!(refused(), 0);
        refuse(7);
        assert_eq!(refused(), 7, "not the one of before");
        given(GIVEN_MAX);
        assert_eq!(refused(), 0);
    }
}
