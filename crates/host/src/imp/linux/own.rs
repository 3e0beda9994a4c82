use std::fs;

use crate::own::OwnCounts;

pub(crate) fn own_counts() -> Option<OwnCounts> {
    let entries = |folder| Some(fs::read_dir(folder).ok()?.count());
    Some(OwnCounts {
        // Without the one that reads the folder.
        descriptors: entries("/proc/self/fd")?.saturating_sub(1),
        threads: entries("/proc/self/task")?,
    })
}

/// The threshold that glibc begins with; once it is set, it stays.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 128 << 10;

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no safe wrapper sets the allocator's options")]
pub(crate) fn unmap_freed_blocks() -> bool {
    // SAFETY: mallopt takes two numbers and locks what it changes.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM) == 1 }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no safe wrapper asks the allocator for it")]
pub(crate) fn return_freed_blocks() {
    // SAFETY: malloc_trim takes a number and locks what it changes. Whether there was anything to give
    // back makes no difference.
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn return_freed_blocks() {}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn unmap_freed_blocks() -> bool {
    false
}
