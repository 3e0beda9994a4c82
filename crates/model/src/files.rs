//! The open files of a model, read at positions.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::error::ModelError;

/// A model's files, held open, so that they stay what they are when a name is reused.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<OpenFile>);

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// What it was like before anything of it was read.
    stamp: Stamp,
    /// A read at a position is a seek and a read, which must not come apart. The system's calls
    /// that do both at once differ by platform, and only the host crate may know platforms.
    file: Mutex<File>,
}

/// What changes with a file's content, as far as the system says: its length, and the moment it was
/// last written, to the nanosecond where the file system keeps it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    bytes: u64,
    written: Option<SystemTime>,
}

impl Stamp {
    /// The stamp of an open file.
    fn of(path: &Path, file: &File) -> Result<Self, ModelError> {
        let metadata = file.metadata().map_err(|source| ModelError::Io {
            file: path.to_owned(),
            action: "read the length".to_owned(),
            source,
        })?;
        Ok(Self {
            bytes: metadata.len(),
            // Not every file system has it.
            written: metadata.modified().ok(),
        })
    }
}

impl Files {
    /// Opens the file at `path` for reading.
    pub(crate) fn open(path: &Path) -> Result<File, ModelError> {
        let io = |source| ModelError::Io {
            file: path.to_owned(),
            action: "open".to_owned(),
            source,
        };
        // Asked before it is opened: opening a pipe would wait for a writer.
        if std::fs::metadata(path).map_err(io)?.is_file() {
            return File::open(path).map_err(io);
        }
        Err(ModelError::Malformed {
            file: path.to_owned(),
            field: "file".to_owned(),
            offset: None,
            what: "not a regular file".to_owned(),
        })
    }

    /// Opens the file at `path` and keeps it: its index, and a handle to read its header with.
    pub(crate) fn add(&mut self, path: &Path) -> Result<(usize, File), ModelError> {
        let file = Self::open(path)?;
        let header = file.try_clone().map_err(|source| ModelError::Io {
            file: path.to_owned(),
            action: "open".to_owned(),
            source,
        })?;
        self.0.push(OpenFile {
            path: path.to_owned(),
            stamp: Stamp::of(path, &file)?,
            file: Mutex::new(file),
        });
        Ok((self.0.len() - 1, header))
    }

    /// Refuses a file that was written or cut since it was added: what was read of it may be of two
    /// files.
    pub(crate) fn check_unchanged(&self) -> Result<(), ModelError> {
        for open in &self.0 {
            let file = open.file.lock().unwrap_or_else(PoisonError::into_inner);
            let stamp = Stamp::of(&open.path, &file)?;
            if stamp != open.stamp {
                return Err(ModelError::Changed {
                    file: open.path.clone(),
                    before: open.stamp.bytes,
                    after: stamp.bytes,
                });
            }
        }
        Ok(())
    }

    /// Fills `out` from `offset` on. `field` is what is read, for messages.
    pub(crate) fn read_at(
        &self,
        index: usize,
        (field, offset): (&str, u64),
        out: &mut [u8],
    ) -> Result<(), ModelError> {
        let open = &self.0[index];
        // A panic while it was held leaves the file at some other position, which is set here.
        let mut file = open.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(out));
        read.map_err(|source| ModelError::Io {
            file: open.path.clone(),
            action: format!("read {} bytes of {field} at byte {offset}", out.len()),
            source,
        })
    }
}
