//! Files, opened so that nothing that stands at their path can hold the process up: a pipe is not
//! waited for, a device is not touched, and where a file is the program's own, a link is not
//! followed.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use gogrid_units::Bytes;

use crate::imp;

/// Opens a file for reading. Anything but a regular file, or a link to one, is refused.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Opening some devices does something, so the path is looked at before as well.
    check_regular(&fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    imp::open_to_read(&mut options);
    let file = options.open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// What tells a file from another of its length and times, as far as the system says: its number, and
/// when the system last noted a change, which no program can set.
pub fn change_mark(found: &Metadata) -> String {
    imp::change_mark(found)
}

/// The bytes that this user may still write on the disk of `folder`; `None` where the system does not say.
pub fn free_space(folder: &Path) -> Option<Bytes> {
    imp::free_space(folder).map(Bytes)
}

/// All of a regular file; an error where it has more than `bytes_max`.
pub fn read_regular(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = (bytes_max as u64).saturating_add(1);
    open_regular(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        let problem = format!("it has more than {bytes_max} bytes, the most that is taken");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// Opens a file of the program's own for reading and writing, and makes it if it is not there. What
/// it holds stays; a link in its place is refused, so that no other file is written to.
pub fn open_own(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(found) => check_regular(&found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    imp::open_to_own(&mut options);
    let file = options.open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// Puts a whole file of the program's own at `path`, so that nobody reads a part of one. A link or a
/// pipe there is replaced, and what the link named stays as it was.
pub fn replace_own(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let aside = path.with_file_name(name);
    let written = write_new(&aside, bytes).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // A file that cannot be removed costs its bytes, and harms nothing.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Writes a file that is made here: what stood at its path, left by a process of the same number,
/// is taken away and never written to.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(path)?;
    file.write_all(bytes)
}

fn check_regular(found: &Metadata) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let kind = imp::kind_of(found.file_type());
    let problem = format!("it is {kind} and not a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}
