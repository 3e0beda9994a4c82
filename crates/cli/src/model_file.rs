//! What `--model` names, and what `--text` holds.

use std::fs;
use std::path::{Path, PathBuf};

use gogrid_hub::{Cache, Entry, find};

use crate::bar::Bar;
use crate::failure::BadInput;
use crate::interrupt::Interrupt;

/// The path of a model given by path or by a name of the catalogue, fetched if it is not here.
/// A catalogue name wins over a file of the same name; `./name` is always the file.
pub(crate) fn resolve(model: &str, interrupt: &Interrupt) -> anyhow::Result<PathBuf> {
    match find(model) {
        Ok(entry) => {
            let cache = Cache::of_user()?;
            match cache.find(entry) {
                Some(path) => Ok(path),
                None => fetch(&cache, entry, interrupt),
            }
        }
        Err(_) if Path::new(model).exists() => Ok(PathBuf::from(model)),
        Err(unknown) => {
            let problem = format!("no file or folder {model:?}, and {unknown}");
            Err(BadInput(problem).into())
        }
    }
}

/// Fetches `entry`, showing how far it is.
pub(crate) fn fetch(
    cache: &Cache,
    entry: &'static Entry,
    interrupt: &Interrupt,
) -> anyhow::Result<PathBuf> {
    eprintln!(
        "{}: {}, {}, licence: {}",
        entry.name, entry.file, entry.bytes, entry.licence
    );
    if let Some(notice) = entry.notice {
        eprintln!("{notice}");
    }
    let watch = interrupt.watch();
    Ok(cache.pull(entry, &mut Bar::new(&watch))?)
}

/// The text in the file at `path`, exactly as it is there.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path)
        .map_err(|error| BadInput(format!("cannot read the text {}: {error}", path.display())))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        BadInput(format!("{}: not UTF-8 at byte {offset}", path.display()))
    })?;
    Ok(text)
}
