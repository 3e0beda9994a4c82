use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Folders that are removed by a process that ends at once. A lock: it removes all of them, whoever
/// owns them.
static SCRATCH: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn scratch() -> MutexGuard<'static, Vec<PathBuf>> {
    // Every write leaves it sound.
    SCRATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn remove_scratch() {
    for folder in scratch().drain(..) {
        // One that stays costs room, and harms nothing.
        let _ = fs::remove_dir_all(folder);
    }
}

/// While it is held, [`tidy_up`](crate::tidy_up) removes a folder with all that is in it. Otherwise
/// the folder is its owner's to remove.
#[derive(Debug)]
pub struct ScratchNote(PathBuf);

impl ScratchNote {
    /// For the folder at `path`.
    pub fn new(path: &Path) -> Self {
        scratch().push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for ScratchNote {
    fn drop(&mut self) {
        scratch().retain(|path| *path != self.0);
    }
}
