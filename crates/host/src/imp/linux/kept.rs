use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::HostError;

/// A file of `/proc` that is kept open and read again from its beginning: about half the cost of
/// opening it each time.
#[derive(Debug)]
pub(super) struct KeptFile {
    file: File,
    path: &'static str,
    buffer: Vec<u8>,
}

/// More than any file read here has; `/proc/stat` is read only as far as its cores go.
const LENGTH_MAX: usize = 1 << 20;

impl KeptFile {
    pub(super) fn open(path: &'static str) -> Result<Self, HostError> {
        let file = File::open(path).map_err(|source| HostError::Read { path, source })?;
        Ok(Self {
            file,
            path,
            buffer: vec![0; 4096],
        })
    }

    /// All of it; a longer file than was ever seen is read again into more room.
    pub(super) fn read(&mut self) -> Result<&str, HostError> {
        let mut length = self.read_front()?.len();
        while length == self.buffer.len() && length < LENGTH_MAX {
            self.buffer.resize(length * 2, 0);
            length = self.read_front()?.len();
        }
        self.text(length)
    }

    /// As much as one read gives: the kernel makes the whole text for it either way.
    pub(super) fn read_front(&mut self) -> Result<&str, HostError> {
        let path = self.path;
        let failed = |source| HostError::Read { path, source };
        let length = self.file.read_at(&mut self.buffer, 0).map_err(failed)?;
        self.text(length)
    }

    /// Makes room for so many bytes at the front.
    pub(super) fn reserve(&mut self, length: usize) {
        self.buffer.resize(length.min(LENGTH_MAX), 0);
    }

    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    fn text(&self, length: usize) -> Result<&str, HostError> {
        // A cut may fall into a character, were there any beyond ASCII.
        let text = std::str::from_utf8(&self.buffer[..length]);
        text.map_err(|error| HostError::Read {
            path: self.path,
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
        })
    }
}
