//! What this process has of the system beside memory, and how its allocator gives memory back.

use crate::imp;

/// What this process has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnCounts {
    /// File descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

/// What this process has open now; `None` where the system does not tell.
pub fn own_counts() -> Option<OwnCounts> {
    imp::own_counts()
}

/// Gives back to the system what the allocator keeps of freed blocks, where it can be told to. Takes
/// milliseconds: for when something large was closed.
pub fn return_freed_blocks() {
    imp::return_freed_blocks();
}

/// Has the allocator give every block of 128 KiB or more back to the system when it is freed. By
/// itself glibc keeps freed blocks of up to 32 MiB, and more the larger they were. For a program to
/// call when it begins, not for a library: it is the allocator of all its parts. False where the
/// allocator has no such switch.
pub fn unmap_freed_blocks() -> bool {
    imp::unmap_freed_blocks()
}
