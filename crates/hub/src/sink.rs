use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use gogrid_units::Bytes;
use sha2::{Digest, Sha256};

use crate::error::SourceError;
use crate::progress::Progress;

const CHUNK_BYTES: usize = 256 << 10;

/// The file being fetched: counts, hashes and bounds the bytes written to it.
pub(crate) struct Sink<'a> {
    file: File,
    hash: Sha256,
    written: u64,
    expected: u64,
    pub(crate) progress: &'a mut dyn Progress,
}

/// Why a fetch stopped.
#[derive(Debug)]
pub(crate) enum Fault {
    /// This source will not give the file; another may.
    Source(SourceError),
    /// Writing here failed; no source can help.
    Local(io::Error),
    /// The user said stop.
    Cancelled,
}

impl From<SourceError> for Fault {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl<'a> Sink<'a> {
    /// An empty file at `path`, which is to become `expected` bytes.
    pub(crate) fn create(
        path: &Path,
        expected: Bytes,
        progress: &'a mut dyn Progress,
    ) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self {
            file,
            hash: Sha256::new(),
            written: 0,
            expected: expected.0,
            progress,
        })
    }

    /// The bytes the whole file has.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Takes all of `from`. Reading errors become `on_read`'s; more bytes than the file should
    /// have end it at once.
    pub(crate) fn take_all(
        &mut self,
        from: &mut dyn Read,
        on_read: &dyn Fn(Bytes, io::Error) -> SourceError,
    ) -> Result<(), Fault> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if !self.progress.keep_going() {
                return Err(Fault::Cancelled);
            }
            let read = match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(on_read(Bytes(self.written), error).into()),
            };
            self.put(&chunk[..read])?;
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let found = self.written + Bytes::of(bytes.len()).0;
        if found > self.expected {
            return Err(SourceError::WrongLength {
                expected: self.expected,
                found,
            }
            .into());
        }
        self.file.write_all(bytes).map_err(Fault::Local)?;
        self.hash.update(bytes);
        self.written = found;
        self.progress.advance(Bytes(found));
        Ok(())
    }

    /// Checks length and hash, and waits until the bytes are on the disk.
    pub(crate) fn finish(self, sha256: &'static str) -> Result<(), Fault> {
        if self.written != self.expected {
            let (expected, found) = (self.expected, self.written);
            return Err(SourceError::WrongLength { expected, found }.into());
        }
        let found = hex(&self.hash.finalize());
        if found != sha256 {
            return Err(SourceError::WrongHash {
                expected: sha256,
                found,
            }
            .into());
        }
        self.file.sync_all().map_err(Fault::Local)
    }
}

/// The SHA-256 of the file at `path`, in lower-case hexadecimal, or `None` when told to stop.
pub(crate) fn sha256_of(path: &Path, progress: &mut dyn Progress) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = Bytes::ZERO;
    while progress.keep_going() {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(Some(hex(&hash.finalize())));
        }
        hash.update(&chunk[..read]);
        done += Bytes::of(read);
        progress.advance(done);
    }
    Ok(None)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
