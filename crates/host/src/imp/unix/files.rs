use std::fs::{FileType, Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Opening a pipe is not to wait for its other end, nor a terminal to become the process's.
pub(crate) fn open_to_read(options: &mut OpenOptions) {
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
}

/// The same, and opening a link is an error.
pub(crate) fn open_to_own(options: &mut OpenOptions) {
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW);
}

pub(crate) fn change_mark(found: &Metadata) -> String {
    let (device, inode) = (found.dev(), found.ino());
    let (seconds, nanos) = (found.ctime(), found.ctime_nsec());
    format!("{device}:{inode} {seconds}.{nanos}")
}

pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// What a file is, in words.
pub(crate) fn kind_of(found: FileType) -> &'static str {
    match found {
        found if found.is_dir() => "a folder",
        found if found.is_symlink() => "a link",
        found if found.is_fifo() => "a pipe",
        found if found.is_socket() => "a socket",
        found if found.is_char_device() || found.is_block_device() => "a device",
        found if found.is_file() => "a regular file",
        _ => "something else",
    }
}
