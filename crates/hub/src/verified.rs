//! What is remembered of a file whose hash was right, so that it is hashed again only after a change.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gogrid_host::{change_mark, read_regular, replace_own};

use crate::item::{Item, beside};
use crate::name::is_part;
use crate::sink::is_sha256;

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

    /// Whether this item's file was found right before, when it had this stamp.
    pub(crate) fn holds(&self, item: &Item, stamp: &Stamp) -> bool {
        read_regular(&self.path, RECORD_BYTES_MAX)
            .is_ok_and(|bytes| bytes == line(item, stamp).as_bytes())
    }

    /// What was right: the length of the file, its hash, and what tells its model from others.
    pub(crate) fn right(&self) -> Option<(u64, String, String)> {
        let bytes = read_regular(&self.path, RECORD_BYTES_MAX).ok()?;
        let mut words = std::str::from_utf8(&bytes).ok()?.split(' ');
        let (sha256, label, length) = (words.next()?, words.next()?, words.next()?);
        let is_right = is_sha256(sha256) && is_part(label);
        let length = length.parse().ok().filter(|_| is_right)?;
        Some((length, sha256.to_owned(), label.to_owned()))
    }

    /// Remembers nothing.
    pub(crate) fn forget(&self) {
        // A record of a file that is not there says nothing.
        let _ = fs::remove_file(&self.path);
    }

    /// Remembers that this item's file, with this stamp, is right.
    pub(crate) fn write(&self, item: &Item, stamp: &Stamp) -> io::Result<()> {
        replace_own(&self.path, line(item, stamp).as_bytes())
    }
}

fn line(item: &Item, stamp: &Stamp) -> String {
    format!("{} {} {}\n", item.sha256, item.label, stamp.0)
}
