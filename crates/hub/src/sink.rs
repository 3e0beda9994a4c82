use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use gogrid_host::{open_own, open_regular};
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
    sha256: &'a str,
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
    /// The file at `path`, which is to become `expected` bytes with this SHA-256. What is there is its beginning,
    /// as an earlier fetch left it.
    pub(crate) fn open(
        path: &Path,
        (expected, sha256): (Bytes, &'a str),
        progress: &'a mut dyn Progress,
    ) -> Result<Self, Fault> {
        let mut sink = Self {
            file: open_own(path).map_err(Fault::Local)?,
            hash: Sha256::new(),
            written: 0,
            expected: expected.0,
            sha256,
            progress,
        };
        sink.read_beginning()?;
        Ok(sink)
    }

    /// Takes up what is in the file; more than it is to have is thrown away with the rest.
    fn read_beginning(&mut self) -> Result<(), Fault> {
        let there = self.file.metadata().map_err(Fault::Local)?.len();
        if there > self.expected {
            return self.restart().map_err(Fault::Local);
        }
        if there > 0 {
            let label = "checking what came before";
            self.progress.phase(label, Some(Bytes(there)));
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if !self.progress.keep_going() {
                return Err(Fault::Cancelled);
            }
            let read = self.file.read(&mut chunk).map_err(Fault::Local)?;
            if read == 0 {
                return Ok(());
            }
            self.hash.update(&chunk[..read]);
            self.written += Bytes::of(read).0;
            self.progress.advance(Bytes(self.written));
        }
    }

    /// The bytes the whole file has.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// The bytes it has.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Makes it empty again.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.hash, self.written) = (Sha256::new(), 0);
        Ok(())
    }

    /// Whether it is the file that it is to become.
    pub(crate) fn is_right(&self) -> bool {
        self.written == self.expected && self.found() == self.sha256
    }

    /// That it is another file.
    pub(crate) fn wrong_hash(&self) -> SourceError {
        SourceError::WrongHash {
            expected: self.sha256.to_owned(),
            found: self.found(),
        }
    }

    fn found(&self) -> String {
        hex(&self.hash.clone().finalize())
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
    pub(crate) fn finish(self) -> Result<(), Fault> {
        if self.written != self.expected {
            let (expected, found) = (self.expected, self.written);
            return Err(SourceError::WrongLength { expected, found }.into());
        }
        if !self.is_right() {
            return Err(self.wrong_hash().into());
        }
        self.file.sync_all().map_err(Fault::Local)
    }
}

/// The SHA-256 of the file at `path`, in lower-case hexadecimal, or `None` when told to stop.
pub(crate) fn sha256_of(path: &Path, progress: &mut dyn Progress) -> io::Result<Option<String>> {
    let mut file = open_regular(path)?;
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

/// Whether a text is a SHA-256 in hexadecimal.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    const SHA256: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

    #[test]
    fn a_full_disk_is_this_machines_fault_and_no_sources() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return eprintln!("skipped: this system has no disk that is always full");
        }
        let mut silent = Silent;
        let mut sink = Sink {
            file: File::create(full).unwrap(),
            hash: Sha256::new(),
            written: 0,
            expected: 11,
            sha256: "",
            progress: &mut silent,
        };
        let taken = sink.take_all(&mut &b"hello world"[..], &|_, error| {
            panic!("reading was said to fail: {error}")
        });
        let is_full =
            matches!(&taken, Err(Fault::Local(e)) if e.kind() == io::ErrorKind::StorageFull);
        assert!(is_full, "{taken:?}");
    }

    #[test]
    fn what_is_begun_anew_has_nothing_of_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut silent = Silent;
        let mut sink = Sink::open(&path, (Bytes(11), SHA256), &mut silent).unwrap();
        let fails = |_, error: io::Error| panic!("{error}");
        sink.take_all(&mut &b"rubbish"[..], &fails).unwrap();
        assert!(!sink.is_right());
        sink.restart().unwrap();
        sink.take_all(&mut &b"hello world"[..], &fails).unwrap();
        assert!(sink.is_right());
        sink.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello world");
    }

    #[test]
    fn what_came_before_is_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let fails = |_, error: io::Error| panic!("{error}");
        let check = |before: &[u8], written: u64| {
            std::fs::write(&path, before).unwrap();
            let mut silent = Silent;
            let mut sink = Sink::open(&path, (Bytes(11), SHA256), &mut silent).unwrap();
            assert_eq!(sink.written(), written);
            sink.take_all(&mut &b"hello world"[written as usize..], &fails)
                .unwrap();
            sink.finish().unwrap();
        };
        check(b"", 0);
        check(b"hello ", 6);
        check(b"hello world", 11);
        check(b"hello world and more", 0);
    }
}
