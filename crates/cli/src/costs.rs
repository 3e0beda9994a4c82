//! What pieces of models were found to take, kept from one run to the next.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use corpgrid_scheduler::CostBook;
use gogrid_hub::Cache;

/// The file's name, in the folder of the models.
const NAME: &str = "known-costs.json";
/// Bytes that are read of it; a book has fewer.
const BYTES_MAX: u64 = (8 << 20) + 1;

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
    eprintln!("warning: the known costs in {path} are {done}: {problem}");
}

fn read(path: &Path) -> Result<CostBook, String> {
    match text(path) {
        Ok(text) => CostBook::from_text(&text).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(CostBook::default()),
        Err(error) => Err(error.to_string()),
    }
}

fn text(path: &Path) -> io::Result<String> {
    // Reading a pipe would wait for whoever writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?
        .take(BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Puts a whole file in its place, so that no other process reads a part of one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension(format!("json.{}", std::process::id()));
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // What cannot be removed costs some kilobytes.
        let _ = fs::remove_file(&aside);
    }
    written
}
