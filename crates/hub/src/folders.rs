//! Files in folders and the folders below, within bounds.

use std::fs;
use std::path::{Path, PathBuf};

use crate::limits::{DEPTH_MAX, ENTRIES_MAX};

/// The files in a folder and the folders below it, in order of their paths; hidden ones are left out. A link to a
/// file counts as one, a link to a folder is not followed. A folder that cannot be read has none.
pub(crate) fn files_under(folder: &Path) -> Vec<PathBuf> {
    files_named(folder, &|name| !name.starts_with('.'))
}

/// Those of the files below a folder, hidden ones too, whose names are wanted; nothing in hidden folders.
pub(crate) fn files_named(folder: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let (mut files, mut seen) = (Vec::new(), 0);
    let mut folders = vec![(folder.to_owned(), DEPTH_MAX)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                break;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let is_hidden = name.starts_with('.');
            if (is_folder && is_hidden) || (!is_folder && !is_wanted(&name)) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth > 0 => folders.push((entry.path(), depth - 1)),
                Ok(kind) if !kind.is_dir() && entry.path().is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// The names of the folders in a folder, in order; hidden ones, and those that are no text, are left out.
pub(crate) fn folders_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries
        .take(ENTRIES_MAX)
        .filter(|entry| entry.path().is_dir());
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}
