//! The open files of a model, read at positions.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::ModelError;

/// A model's files, held open, so that they stay what they are when a name is reused.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<OpenFile>);

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// A read at a position is a seek and a read, which must not come apart. The system's calls
    /// that do both at once differ by platform, and only the host crate may know platforms.
    file: Mutex<File>,
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

    /// Keeps `file` and returns its index.
    pub(crate) fn add(&mut self, path: &Path, file: File) -> usize {
        self.0.push(OpenFile {
            path: path.to_owned(),
            file: Mutex::new(file),
        });
        self.0.len() - 1
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
