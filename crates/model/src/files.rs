//! The open files of a model, read at positions.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::error::ModelError;
use crate::tensors::{Content, Position};

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
        let metadata = file.metadata();
        let metadata = metadata.map_err(|source| io_error(path, "read the length", source))?;
        Ok(Self {
            bytes: metadata.len(),
            // Not every file system has it.
            written: metadata.modified().ok(),
        })
    }

    /// What is different in a later stamp of the same file.
    fn difference(&self, later: &Self) -> String {
        if self.bytes != later.bytes {
            return format!("it had {} bytes, and then {}", self.bytes, later.bytes);
        }
        format!(
            "it was written, and kept its length of {} bytes",
            self.bytes
        )
    }
}

/// Opens the file at `path` for reading: a regular file, or a link to one.
///
/// It is looked at before it is opened, because opening a pipe would wait for a writer, and again
/// afterwards, because the name may mean something else by then.
pub(crate) fn open_regular(path: &Path) -> Result<File, ModelError> {
    let io = |source| io_error(path, "open", source);
    if std::fs::metadata(path).map_err(io)?.is_file() {
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.is_file() {
            return Ok(file);
        }
    }
    Err(malformed(path, "file", "not a regular file".to_owned()))
}

/// The bytes of a regular file of at most `bytes_max`.
pub(crate) fn read_regular(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ModelError> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
    let len = read.map_err(|source| io_error(path, "read", source))?;
    if len as u64 > bytes_max {
        let what = format!("longer than the limit of {bytes_max} bytes");
        return Err(malformed(path, "length", what));
    }
    Ok(bytes)
}

/// The bytes of a regular file, or `None` where there is none.
pub(crate) fn read_optional(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, ModelError> {
    match read_regular(path, bytes_max) {
        Err(ModelError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn io_error(path: &Path, action: &str, source: io::Error) -> ModelError {
    ModelError::Io {
        file: path.to_owned(),
        action: action.to_owned(),
        source,
    }
}

/// That a file is not as it has to be, where no place in it can be named.
pub(crate) fn malformed(path: &Path, field: &str, what: String) -> ModelError {
    ModelError::Malformed {
        file: path.to_owned(),
        field: field.to_owned(),
        offset: None,
        what,
    }
}

impl Files {
    /// Opens the file at `path` and keeps it: its index, and a handle to read its header with.
    pub(crate) fn add(&mut self, path: &Path) -> Result<(usize, File), ModelError> {
        let file = open_regular(path)?;
        let header = file.try_clone();
        let header = header.map_err(|source| io_error(path, "open", source))?;
        self.0.push(OpenFile {
            path: path.to_owned(),
            stamp: Stamp::of(path, &file)?,
            file: Mutex::new(file),
        });
        Ok((self.0.len() - 1, header))
    }
}

impl Content for Files {
    /// Refuses a file that was written or cut since it was added.
    fn check_unchanged(&self) -> Result<(), ModelError> {
        for open in &self.0 {
            let file = open.file.lock().unwrap_or_else(PoisonError::into_inner);
            let stamp = Stamp::of(&open.path, &file)?;
            if stamp != open.stamp {
                return Err(ModelError::Changed {
                    file: open.path.clone(),
                    what: open.stamp.difference(&stamp),
                });
            }
        }
        Ok(())
    }

    fn read_at(&self, position: Position<'_>, out: &mut [u8]) -> Result<(), ModelError> {
        let Position {
            file,
            offset,
            field,
        } = position;
        let open = &self.0[file];
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
