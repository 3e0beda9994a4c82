//! Files of systems where opening never waits.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    File::open(path)
}

pub(crate) fn open_to_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}
