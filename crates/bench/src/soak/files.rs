//! Files that are made from a good model and are bad.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::plan::Plan;

/// Bytes that a broken file has of the model's.
const BROKEN_BYTES: u64 = 256 << 10;
/// Bytes of a file in which its template is looked for: vocabularies come before it.
const HEADER_BYTES: u64 = 32 << 20;
/// The key of the template in a GGUF file, and the type of its value, a string.
const TEMPLATE_KEY: &[u8] = b"tokenizer.chat_template\x08\x00\x00\x00";

/// Templates that do not parse, do not end, or ask for more memory than there is.
const HOSTILE: [&str; 6] = [
    "{% if x %}",
    "{{ 'a' * 1000000000000 }}",
    "{% for a in range(1000000000) %}{{ a }}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1",
];

/// A file that goes away with its name.
pub(super) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn named(what: &str) -> Self {
        let name = format!("gogrid-soak-{what}-{}.gguf", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = fs::remove_file(&self.0);
    }
}

/// The model's first bytes, a few of them others.
pub(super) fn broken(plan: &mut Plan, path: &Path) -> io::Result<TemporaryFile> {
    let copy = TemporaryFile::named("broken");
    let mut bytes = beginning(path, BROKEN_BYTES)?;
    plan.spoil(&mut bytes);
    fs::write(copy.path(), bytes)?;
    Ok(copy)
}

/// The whole model, with another template of the same length.
pub(super) fn with_hostile_template(plan: &mut Plan, path: &Path) -> io::Result<TemporaryFile> {
    let header = beginning(path, HEADER_BYTES)?;
    let template = template_in(&header).ok_or(io::ErrorKind::NotFound)?;
    let text = *plan.one_of::<&str>(&HOSTILE);
    let text = hostile(text, template.bytes);
    let copy = TemporaryFile::named("hostile");
    fs::copy(path, copy.path())?;
    let mut file = OpenOptions::new().write(true).open(copy.path())?;
    file.seek(SeekFrom::Start(template.at))?;
    file.write_all(&text)?;
    Ok(copy)
}

fn beginning(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where a template's text is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Template {
    at: u64,
    bytes: usize,
}

fn template_in(header: &[u8]) -> Option<Template> {
    let mut windows = header.windows(TEMPLATE_KEY.len());
    let length_at = windows.position(|window| window == TEMPLATE_KEY)? + TEMPLATE_KEY.len();
    let length = header.get(length_at..length_at + 8)?;
    let bytes = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let at = length_at + 8;
    (at.checked_add(bytes)? <= header.len()).then_some(Template {
        at: at as u64,
        bytes,
    })
}

/// The text, filled with spaces; cut where it is longer.
fn hostile(text: &str, bytes: usize) -> Vec<u8> {
    let mut text = text.as_bytes().to_vec();
    text.resize(bytes, b' ');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_found_and_keeps_its_length() {
        let mut header = b"GGUF and keys before it ".to_vec();
        header.extend(TEMPLATE_KEY);
        header.extend(12_u64.to_le_bytes());
        let at = header.len() as u64;
        header.extend(b"{{ message }}");
        assert_eq!(template_in(&header), Some(Template { at, bytes: 12 }));
        assert_eq!(hostile("{% if x %}", 12), b"{% if x %}  ");
        assert_eq!(hostile("{% if x %}", 3), b"{% ");
    }

    #[test]
    fn a_template_that_is_not_there_or_cut_off_is_not_found() {
        assert_eq!(template_in(b"GGUF without it"), None);
        let mut cut = TEMPLATE_KEY.to_vec();
        cut.extend(12_u64.to_le_bytes());
        cut.extend(b"{{");
        assert_eq!(template_in(&cut), None);
    }
}
