use std::fs::File;
use std::io;
use std::path::Path;

use crate::imp;

/// Opens a file to read. What is no regular file is an error: a pipe would wait for its writer, and a device
/// need not end.
pub fn open_regular(path: &Path) -> io::Result<File> {
    imp::open_to_read(path).and_then(regular)
}

/// Opens a file to lock, made if it is not there and never changed. What is no regular file is an error, and
/// so is a link, whose target may be anybody's.
pub fn open_lock(path: &Path) -> io::Result<File> {
    imp::open_to_lock(path).and_then(regular)
}

fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    }
}
