//! One file that is to be here, and where it can be had.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gogrid_units::Bytes;

use crate::catalogue::{Entry, Source};
use crate::error::HubError;
use crate::name::HubName;
use crate::quant::Listed;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// What the user calls the model.
    pub(crate) name: String,
    /// Its place below the cache's folder.
    pub(crate) place: PathBuf,
    pub(crate) bytes: Bytes,
    /// In lower-case hexadecimal.
    pub(crate) sha256: String,
    /// What tells the model from others of its repository.
    pub(crate) label: String,
    /// In the order to try.
    pub(crate) sources: Vec<Source>,
}

/// The label of a file that is alone.
const NO_LABEL: &str = "-";

/// Digits of a hash that tell versions of a file apart.
const VERSION_DIGITS: usize = 12;

impl Item {
    /// The file of an entry, where that is known to the last bit.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let known = entry.known_file()?;
        Some(Self {
            name: entry.name.to_owned(),
            place: known.file.into(),
            bytes: entry.bytes,
            sha256: known.sha256.to_owned(),
            label: NO_LABEL.to_owned(),
            sources: known.sources.to_vec(),
        })
    }

    /// A file of the hub's repository, from a commit of it if it is to be fetched.
    pub(crate) fn listed(
        name: &HubName,
        label: &str,
        file: Listed,
        revision: Option<&str>,
    ) -> Self {
        let source = |revision: &str| Source::Hub {
            repo: name.repository().into(),
            revision: Cow::Owned(revision.to_owned()),
            file: file.path.clone().into(),
        };
        let mut place = name.folder();
        place.extend(file.path.split('/'));
        Self {
            name: name.to_string(),
            sources: revision.map(source).into_iter().collect(),
            place,
            bytes: Bytes(file.bytes),
            sha256: file.sha256,
            label: label.to_owned(),
        }
    }

    /// The name of what came of it, while that is not all.
    pub(crate) fn partial(&self) -> String {
        let version: String = self.sha256.chars().take(VERSION_DIGITS).collect();
        format!(".{}.{version}.part", self.file())
    }

    /// Whether a file of this name is what came of a version of it.
    pub(crate) fn is_partial(&self, name: &str) -> bool {
        partial_of(name).is_some_and(|(file, _)| file == self.file())
    }

    /// How the folders for what is unpacked on its way are called.
    pub(crate) fn scratch_prefix(&self) -> String {
        format!(".{}.part-", self.file())
    }

    pub(crate) fn cancelled(&self) -> HubError {
        HubError::Cancelled {
            name: self.name.clone(),
        }
    }

    fn file(&self) -> String {
        let name = self.place.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// The file that a file of this name is a beginning of, and the first digits of the hash that it is to have.
pub(crate) fn partial_of(name: &str) -> Option<(&str, &str)> {
    let (file, version) = name
        .strip_prefix('.')?
        .strip_suffix(".part")?
        .rsplit_once('.')?;
    let is_version =
        version.len() == VERSION_DIGITS && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_version.then_some((file, version))
}

/// The hidden file beside the one at `path` that has its name and this ending.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}
