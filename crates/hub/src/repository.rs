//! What the hub says of a repository: its files, with their lengths and hashes.

use serde::Deserialize;

use crate::error::SourceError;
use crate::limits::{DEPTH_MAX, FILES_MAX};
use crate::name::is_part;
use crate::quant::Listed;

/// A repository as the hub lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    /// The commit that the list is of.
    pub(crate) revision: String,
    /// The licence as its page names it.
    pub(crate) licence: Option<String>,
    /// Its GGUF files.
    pub(crate) files: Vec<Listed>,
}

/// The path below the hub's address that answers with the list of a repository
/// (<https://huggingface.co/docs/hub/api>).
pub(crate) fn listing_path(repository: &str) -> String {
    format!("api/models/{repository}/revision/main?blobs=true")
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Repository {
    /// Reads the hub's answer.
    pub(crate) fn read(answer: &[u8]) -> Result<Self, SourceError> {
        let odd = |detail: String| SourceError::Odd { detail };
        let answer: Answer =
            serde_json::from_slice(answer).map_err(|error| odd(error.to_string()))?;
        if !is_part(&answer.sha) {
            return Err(odd(format!("no commit is called {:?}", answer.sha)));
        }
        let gguf = answer.siblings.into_iter().filter(|file| {
            let name = file.rfilename.to_ascii_lowercase();
            name.ends_with(".gguf")
        });
        let files: Result<Vec<_>, _> = gguf.take(FILES_MAX + 1).map(Sibling::listed).collect();
        let files = files?;
        if files.len() > FILES_MAX {
            return Err(odd(format!("it lists more than {FILES_MAX} GGUF files")));
        }
        let licence = answer.tags.iter().find_map(|tag| {
            let licence = tag.strip_prefix("license:")?;
            is_part(licence).then(|| licence.to_owned())
        });
        Ok(Self {
            revision: answer.sha,
            licence,
            files,
        })
    }
}

impl Sibling {
    fn listed(self) -> Result<Listed, SourceError> {
        let path = self.rfilename;
        let odd = |what: &str| SourceError::Odd {
            detail: format!("{what} of {path:?}"),
        };
        if !path.split('/').all(is_part) || path.split('/').count() > DEPTH_MAX {
            let detail = format!("it lists {path:?}, which is no plain path");
            return Err(SourceError::Odd { detail });
        }
        let large = self.lfs.ok_or_else(|| odd("it names no SHA-256"))?;
        let sha256 = large.sha256.ok_or_else(|| odd("it names no SHA-256"))?;
        let bytes = large.size.or(self.size);
        let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (bytes, is_hash) {
            (Some(bytes), true) => Ok(Listed {
                bytes,
                sha256: sha256.to_ascii_lowercase(),
                path,
            }),
            (None, _) => Err(odd("it names no length")),
            (_, false) => Err(odd("it names no SHA-256 that is one")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "B94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

    fn answer(file: &str) -> String {
        format!(r#"{{"sha": "c0ffee", "private": false, "siblings": [{file}]}}"#)
    }

    #[test]
    fn the_hubs_list_is_read() {
        let text = format!(
            r#"{{"sha": "c0ffee", "gated": false, "tags": ["gguf", "license:apache-2.0"], "siblings": [
                {{"rfilename": "README.md", "size": 5, "blobId": "x"}},
                {{"rfilename": "q/m-Q4_0.gguf", "size": 130, "lfs": {{"sha256": "{HASH}", "size": 11, "pointerSize": 130}}}}]}}"#
        );
        let expected = Repository {
            revision: "c0ffee".into(),
            licence: Some("apache-2.0".into()),
            files: vec![Listed {
                path: "q/m-Q4_0.gguf".into(),
                bytes: 11,
                sha256: HASH.to_ascii_lowercase(),
            }],
        };
        assert_eq!(Repository::read(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_list_that_lacks_something_or_leaves_the_folder_is_refused() {
        let check = |text: &str, words: &str| {
            let error = Repository::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check("<html>", "line 1");
        check(r#"{"sha": "../x"}"#, "no commit");
        let lfs = format!(r#""lfs": {{"sha256": "{HASH}", "size": 11}}"#);
        for path in [
            "../m.gguf",
            "/m.gguf",
            "a//m.gguf",
            "a/.m.gguf",
            "a\\\\m.gguf",
            ".gguf",
        ] {
            let file = format!(r#"{{"rfilename": "{path}", {lfs}}}"#);
            check(&answer(&file), "no plain path");
        }
        check(
            &answer(r#"{"rfilename": "m.gguf", "size": 3}"#),
            "no SHA-256",
        );
        let no_length = format!(r#"{{"rfilename": "m.gguf", "lfs": {{"sha256": "{HASH}"}}}}"#);
        check(&answer(&no_length), "no length");
        let short = r#"{"rfilename": "m.gguf", "lfs": {"sha256": "b94d", "size": 11}}"#;
        check(&answer(short), "that is one");
    }
}
