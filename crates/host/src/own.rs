//! What this process has of the system beside memory, and how its allocator gives memory back.

use std::io;

use gogrid_units::Bytes;

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

/// Bytes of this process that are in use, by its allocator's own account: blocks that were asked for and
/// not freed, and where [`threads_keep_blocks`] the few of each small size that each thread keeps for
/// itself once they are. `None` where the allocator does not tell.
pub fn heap_in_use() -> Option<Bytes> {
    imp::heap_in_use()
}

/// Whether threads keep blocks that they freed, as far as is known.
pub fn threads_keep_blocks() -> bool {
    imp::threads_keep_blocks()
}

/// Runs this program again, in its process and with its arguments, so that no thread keeps blocks that it
/// freed: such caches fill for an hour, and a leak hides among them. Returns where it is so already, and
/// where the allocator has no such switch. For a program to call when it has nothing open yet.
///
/// # Errors
/// When the program cannot be run again; it can go on as it is.
pub fn run_again_without_kept_blocks() -> io::Result<()> {
    imp::run_again_without_kept_blocks()
}

/// Gives back to the system what the allocator keeps of freed blocks, where it can be told to. Takes
/// milliseconds: for when something large was closed.
pub fn return_freed_blocks() {
    imp::return_freed_blocks();
}

/// Has this process be allowed to have as many files and sockets open as the system lets it: many systems
/// begin with 1,024, for the sake of programs that could not count further. For a server to call when it
/// begins. Says how many; `None` where the system has no such limit, or does not tell.
pub fn raise_open_files() -> Option<u64> {
    imp::raise_open_files()
}

/// Has the allocator serve all threads from two arenas. By itself glibc makes eight for each core, and the
/// few blocks that stay in each hold whole pages. For a program to call when it begins, before it starts
/// threads. False where the allocator has no such switch.
pub fn keep_arenas_few() -> bool {
    imp::keep_arenas_few()
}

/// Has the allocator give every block of 128 KiB or more back to the system when it is freed. By
/// itself glibc keeps freed blocks of up to 32 MiB, and more the larger they were. For a program to
/// call when it begins, not for a library: it is the allocator of all its parts. False where the
/// allocator has no such switch.
pub fn unmap_freed_blocks() -> bool {
    imp::unmap_freed_blocks()
}
