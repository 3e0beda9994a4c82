//! The files that `--model` and `--text` name.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use gogrid_host::open_regular;
use gogrid_hub::{Cache, Entry, catalogue, find};

use crate::bar::Bar;
use crate::exit::BadInput;
use crate::interrupt::Interrupt;
use crate::out;

/// The path of a model given by path or by a name of the catalogue, fetched if it is not here.
/// A catalogue name wins over a file of the same name; `./name` is always the file.
pub(crate) fn resolve(model: &str, interrupt: &Interrupt) -> anyhow::Result<PathBuf> {
    match find(model) {
        Ok(entry) => {
            let cache = Cache::of_user()?;
            let watch = interrupt.watch();
            match cache.find_verified(entry, &mut Bar::new(&watch))? {
                Some(path) => Ok(path),
                None => {
                    let path = cache.folder().join(entry.file);
                    if path.exists() {
                        out::note(format!(
                            "{} is damaged, or another file: it is fetched again",
                            path.display()
                        ));
                    }
                    fetch(&cache, entry, interrupt)
                }
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
    out::note(format!(
        "{}: {}, {}, licence: {}",
        entry.name, entry.file, entry.bytes, entry.licence
    ));
    if let Some(notice) = entry.notice {
        out::note(notice);
    }
    let watch = interrupt.watch();
    Ok(cache.pull(entry, &mut Bar::new(&watch))?)
}

/// The catalogue, for the help text.
pub(crate) fn catalogue_help() -> String {
    let lines = catalogue().iter().map(|entry| {
        format!(
            "  {:<14} {:>10}  {}\n",
            entry.name, entry.bytes, entry.licence
        )
    });
    format!("Catalogue:\n{}", lines.collect::<String>())
}

/// Bytes of a text at most: the longest context of any supported model is far below.
pub(crate) const TEXT_BYTES_MAX: u64 = 16 << 20;

/// The name by which standard input stands for a file.
pub(crate) const STANDARD_INPUT: &str = "-";

/// All of standard input, as text. A person who sits there is told how it ends.
pub(crate) fn read_standard_input() -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        out::note("reading standard input; end it with Ctrl-D");
    }
    read_bounded(io::stdin().lock(), "standard input")
}

/// The text in the file at `path`, exactly as it is there, or that of standard input.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new(STANDARD_INPUT) {
        return read_standard_input();
    }
    let name = path.display().to_string();
    let file = open_regular(path);
    let file = file.map_err(|error| {
        BadInput(format!(
            "cannot read {name}: {error}; give the path of a text file"
        ))
    })?;
    read_bounded(file, &name)
}

/// All that `source` gives, as text; an error that calls it `name` when it cannot be read, is too
/// long, or is not UTF-8.
pub(crate) fn read_bounded(source: impl Read, name: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = source.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| BadInput(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        let problem = format!("{name} is over {TEXT_BYTES_MAX} bytes, the most that is taken");
        return Err(BadInput(problem).into());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        BadInput(format!(
            "{name} is not UTF-8 at byte {offset}; only UTF-8 text is taken, so convert it first"
        ))
    })?;
    Ok(text)
}
