//! What is remembered of a file whose hash was right, so that it is hashed again only after a change.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gogrid_host::{change_mark, read_regular, replace_own};

use crate::item::beside;

/// Bytes of a record, more than any has.
const RECORD_BYTES_MAX: usize = 4096;

/// A small file beside the model's: the hash that was right, and what the file was like then.
pub(crate) struct Record {
    path: PathBuf,
}

/// What a file is like: a change of content changes it, as far as the system says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(String);

impl Stamp {
    /// That of the file at `path`.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let nanos = |time: io::Result<SystemTime>| {
            // Not every file system has both; a time before 1970 is none either.
            let since = time.ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(since.as_nanos())
        };
        let written = nanos(metadata.modified());
        // A file that takes another's place keeps its time of writing where it is copied with it.
        let made = nanos(Metadata::created(&metadata));
        // A program can set its times as it likes, and these not.
        let mark = change_mark(&metadata);
        let length = metadata.len();
        Ok(Self(format!("{length} {written:?} {made:?} {mark}")))
    }
}

impl Record {
    /// That of the file at `path`.
    pub(crate) fn of(path: &Path) -> Self {
        Self {
            path: beside(path, ".verified"),
        }
    }

    /// Whether a file with this hash and stamp was found right before.
    pub(crate) fn holds(&self, sha256: &str, stamp: &Stamp) -> bool {
        read_regular(&self.path, RECORD_BYTES_MAX)
            .is_ok_and(|bytes| bytes == line(sha256, stamp).as_bytes())
    }

    /// The hash that was right.
    pub(crate) fn sha256(&self) -> Option<String> {
        let bytes = read_regular(&self.path, RECORD_BYTES_MAX).ok()?;
        let (sha256, _) = std::str::from_utf8(&bytes).ok()?.split_once(' ')?;
        let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| sha256.to_owned())
    }

    /// Remembers nothing.
    pub(crate) fn forget(&self) {
        // A record of a file that is not there says nothing.
        let _ = fs::remove_file(&self.path);
    }

    /// Remembers that a file with this stamp is right. Where that fails, it is hashed each time.
    pub(crate) fn write(&self, sha256: &str, stamp: &Stamp) {
        let _ = replace_own(&self.path, line(sha256, stamp).as_bytes());
    }
}

fn line(sha256: &str, stamp: &Stamp) -> String {
    format!("{sha256} {}\n", stamp.0)
}
