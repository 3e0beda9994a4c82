//! What people call a model that can be fetched.

use std::fmt;
use std::path::PathBuf;

use crate::catalogue::{Entry, Origin, find};
use crate::error::UnknownModel;
use crate::limits::NAME_MAX;

/// A model that can be fetched, by the name that somebody gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// An entry of the catalogue whose one file is known.
    Entry(&'static Entry),
    /// A repository of the Hugging Face hub, named as such or by the catalogue.
    Hub(HubName),
}

/// A model in a repository of the Hugging Face hub: `OWNER/REPOSITORY[:QUANTISATION]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    owner: String,
    repository: String,
    /// A quantisation, such as `Q4_K_M`, or a file's name.
    quant: Option<String>,
}

impl Name {
    /// Reads a name of the catalogue, or `[hf.co/]OWNER/REPOSITORY[:QUANTISATION]`, as an address of the hub's too.
    ///
    /// # Errors
    /// [`UnknownModel`] for what is neither.
    pub fn parse(text: &str) -> Result<Self, UnknownModel> {
        match HubName::parse(text) {
            Some(name) => Ok(Self::Hub(name)),
            None => find(text).map(Self::of),
        }
    }

    /// That of an entry of the catalogue.
    pub fn of(entry: &'static Entry) -> Self {
        match &entry.origin {
            Origin::File(_) => Self::Entry(entry),
            Origin::Hub {
                owner,
                repository,
                quant,
            } => Self::Hub(HubName {
                owner: (*owner).to_owned(),
                repository: (*repository).to_owned(),
                quant: Some((*quant).to_owned()),
            }),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(entry) => f.write_str(entry.name),
            Self::Hub(name) => name.fmt(f),
        }
    }
}

impl HubName {
    /// The parts of `[hf.co/]OWNER/REPOSITORY[:QUANTISATION]`; `None` for a text of another shape.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("https://").unwrap_or(text);
        let hosts = ["hf.co/", "huggingface.co/", "hf:"];
        let text = hosts
            .iter()
            .find_map(|host| text.strip_prefix(host))
            .unwrap_or(text);
        let (path, quant) = match text.split_once(':') {
            Some((path, quant)) => (path, Some(quant)),
            None => (text, None),
        };
        let (owner, repository) = path.split_once('/')?;
        // A file that is not there is no repository.
        let is_file = repository.to_ascii_lowercase().ends_with(".gguf");
        let is_well_formed =
            !is_file && is_part(owner) && is_part(repository) && quant.is_none_or(is_part);
        is_well_formed.then(|| Self {
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            quant: quant.map(str::to_owned),
        })
    }

    /// The same repository's model of another quantisation.
    pub fn with_quant(&self, quant: Option<&str>) -> Self {
        Self {
            quant: quant.map(str::to_owned),
            ..self.clone()
        }
    }

    /// `OWNER/REPOSITORY`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.repository)
    }

    /// The quantisation asked for, or the file's name.
    pub fn quant(&self) -> Option<&str> {
        self.quant.as_deref()
    }

    /// Where the repository's files lie below the cache's folder.
    pub(crate) fn folder(&self) -> PathBuf {
        [HUB_FOLDER, &self.owner, &self.repository].iter().collect()
    }
}

/// The folder of the cache that has the hub's repositories, by owner and name.
pub(crate) const HUB_FOLDER: &str = "hf.co";

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.repository)?;
        match &self.quant {
            Some(quant) => write!(f, ":{quant}"),
            None => Ok(()),
        }
    }
}

/// Whether a text can be a part of a name, and of a path below a folder: it begins with a letter or a digit.
pub(crate) fn is_part(text: &str) -> bool {
    text.len() <= NAME_MAX
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_named_in_each_way_people_know() {
        let check = |text: &str, expected: Option<(&str, Option<&str>)>| {
            let name = HubName::parse(text);
            let found = name.as_ref().map(|name| (name.repository(), name.quant()));
            let expected = expected.map(|(repository, quant)| (repository.to_owned(), quant));
            assert_eq!(found, expected, "{text}");
        };
        let plain = Some(("someone/Model-1B-GGUF", None));
        check("someone/Model-1B-GGUF", plain);
        check("hf.co/someone/Model-1B-GGUF", plain);
        check("hf:someone/Model-1B-GGUF", plain);
        check("https://huggingface.co/someone/Model-1B-GGUF", plain);
        check(
            "hf.co/someone/Model:q4_k_m",
            Some(("someone/Model", Some("q4_k_m"))),
        );
        for no_name in [
            "smollm2-135m",
            "./model",
            "../model",
            "/etc/passwd",
            "a/b/c",
            "a/..",
            "a/.git",
            "a/b:",
            "a/b:../c",
            "a/b c",
            "a/b.",
            "models/smol.gguf",
            "https://example.org/a/b",
        ] {
            check(no_name, None);
        }
        check(&format!("a/{}", "b".repeat(NAME_MAX + 1)), None);
    }

    #[test]
    fn an_entry_without_a_known_file_is_the_hubs() {
        let name = Name::parse("qwen2.5:0.5b").unwrap();
        assert_eq!(name.to_string(), "Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M");
        assert!(Name::parse("no-such-model").is_err());
    }
}
