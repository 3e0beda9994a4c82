//! What pieces of models were found to take, kept from one run to the next.

use std::path::{Path, PathBuf};
use std::{fs, io};

use corpgrid_scheduler::CostBook;
use gogrid_host::{read_regular, replace_own};
use gogrid_hub::Cache;

use crate::out;

/// The file's name, in the folder of the models.
const NAME: &str = "known-costs.json";
/// Bytes that are read of it; a book has fewer.
const BYTES_MAX: usize = 8 << 20;

/// The file and what it said when it was read.
pub(crate) struct CostsFile {
    /// `None` where the user has no cache folder: then nothing is kept.
    path: Option<PathBuf>,
    said: CostBook,
}

impl CostsFile {
    /// Reads the user's file. One that cannot be used is ignored, with a warning.
    pub(crate) fn of_user() -> Self {
        let cache = Cache::of_user().ok();
        let path = cache.map(|cache| cache.folder().join(NAME));
        let said = path.as_deref().map_or_else(CostBook::default, |path| {
            read(path).unwrap_or_else(|problem| {
                warn(path, "ignored", &problem);
                CostBook::default()
            })
        });
        Self { path, said }
    }

    /// What it said.
    pub(crate) fn book(&self) -> &CostBook {
        &self.said
    }

    /// Keeps what is known, where that is not what the file said.
    pub(crate) fn keep(&self, known: &CostBook) {
        let Some(path) = &self.path else { return };
        if *known != self.said
            && let Err(error) = write(path, &known.to_text())
        {
            warn(path, "not kept", &error.to_string());
        }
    }
}

fn warn(path: &Path, done: &str, problem: &str) {
    let path = path.display();
    out::note(format!(
        "warning: the known costs in {path} are {done}: {problem}"
    ));
}

fn read(path: &Path) -> Result<CostBook, String> {
    match text(path) {
        Ok(text) => CostBook::from_text(&text).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(CostBook::default()),
        Err(error) => Err(error.to_string()),
    }
}

fn text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_regular(path, BYTES_MAX)?).map_err(io::Error::other)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    replace_own(path, text.as_bytes())
}
