#[cfg(target_env = "gnu")]
use std::env;
use std::fs;
use std::io;
#[cfg(target_env = "gnu")]
use std::os::unix::process::CommandExt;
#[cfg(target_env = "gnu")]
use std::process::Command;

use gogrid_units::Bytes;

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

/// The main one, and one beside it.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: libc::c_int = 2;

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no safe wrapper sets the allocator's options")]
pub(crate) fn keep_arenas_few() -> bool {
    // SAFETY: mallopt takes two numbers and locks what it changes.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) == 1 }
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn keep_arenas_few() -> bool {
    false
}

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

/// What glibc reads when a program begins, and the switch of the blocks that threads keep.
#[cfg(target_env = "gnu")]
const TUNABLES: &str = "GLIBC_TUNABLES";
#[cfg(target_env = "gnu")]
const NO_KEPT_BLOCKS: &str = "glibc.malloc.tcache_count=0";

#[cfg(target_env = "gnu")]
pub(crate) fn threads_keep_blocks() -> bool {
    let tuned = env::var(TUNABLES).unwrap_or_default();
    !tuned.split(':').any(|switch| switch == NO_KEPT_BLOCKS)
}

#[cfg(target_env = "gnu")]
pub(crate) fn run_again_without_kept_blocks() -> io::Result<()> {
    if !threads_keep_blocks() {
        return Ok(());
    }
    let tuned = match env::var(TUNABLES) {
        // Where a switch is named twice, the last holds.
        Ok(others) if !others.is_empty() => format!("{others}:{NO_KEPT_BLOCKS}"),
        _ => NO_KEPT_BLOCKS.to_owned(),
    };
    let mut again = Command::new(env::current_exe()?);
    again.args(env::args_os().skip(1)).env(TUNABLES, tuned);
    // Returns only where it fails.
    Err(again.exec())
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn threads_keep_blocks() -> bool {
    true
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn run_again_without_kept_blocks() -> io::Result<()> {
    Ok(())
}

/// The newer `mallinfo2` is not in every C library that can be linked.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no safe wrapper asks the allocator for it")]
pub(crate) fn heap_in_use() -> Option<Bytes> {
    // SAFETY: mallinfo takes nothing and locks what it reads.
    let told = unsafe { libc::mallinfo() };
    // Counts of bytes that are cut off to 32 bits. Blocks in arenas do not come near; those that are mapped
    // begin again at 0 with every 4 GiB, so of a process that maps more this tells too little.
    let (in_arenas, mapped) = (told.uordblks as u32, told.hblkhd as u32);
    Some(Bytes(u64::from(in_arenas) + u64::from(mapped)))
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn heap_in_use() -> Option<Bytes> {
    None
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn return_freed_blocks() {}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn unmap_freed_blocks() -> bool {
    false
}

/// The layer asks a Wayland display which GPU is its own, and its library complains without a folder for sockets.
#[expect(unsafe_code, reason = "the environment can be set in no safe way")]
pub(crate) fn quiet_drivers() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the caller has no other thread yet, so nobody reads the environment meanwhile. There is no
        // safe way to set it, and the layer reads nothing else.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
