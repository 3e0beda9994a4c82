//! What the hub says of a repository: its files, with their lengths and hashes.

use serde::Deserialize;

use crate::error::SourceError;
use crate::limits::{DEPTH_MAX, FILES_MAX};
use crate::name::is_part;
use crate::quant::Listed;
use crate::sink::is_sha256;

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
        // A file that could not be fetched and checked is none that can be chosen.
        let files: Vec<_> = gguf.filter_map(Sibling::listed).take(FILES_MAX).collect();
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
    /// The file, if it has a plain path, a length and a SHA-256.
    fn listed(self) -> Option<Listed> {
        let path = self.rfilename;
        let is_plain = path.split('/').all(is_part) && path.split('/').count() <= DEPTH_MAX;
        let large = self.lfs?;
        let sha256 = large.sha256?.to_ascii_lowercase();
        (is_plain && is_sha256(&sha256)).then_some(Listed {
            bytes: large.size.or(self.size)?,
            label: None,
            sha256,
            path,
        })
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
                label: None,
            }],
        };
        assert_eq!(Repository::read(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_list_that_is_none_is_refused() {
        for (text, words) in [("<html>", "line 1"), (r#"{"sha": "../x"}"#, "no commit")] {
            let error = Repository::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_file_that_could_not_be_checked_or_would_leave_its_folder_is_left_out() {
        let lfs = format!(r#""lfs": {{"sha256": "{HASH}", "size": 11}}"#);
        let mut odd: Vec<_> = [
            "../m",
            "/m",
            "a//m",
            "a/.m",
            "a\\\\m",
            "",
            "a b",
            "a/b/c/d/e/f/g",
        ]
        .map(|path| format!(r#"{{"rfilename": "{path}.gguf", {lfs}}}"#))
        .to_vec();
        odd.push(r#"{"rfilename": "small.gguf", "size": 3}"#.to_owned());
        odd.push(format!(
            r#"{{"rfilename": "long.gguf", "lfs": {{"sha256": "{HASH}"}}}}"#
        ));
        let short = r#"{"rfilename": "short.gguf", "lfs": {"sha256": "b94d", "size": 11}}"#;
        odd.push(short.to_owned());
        let right = format!(r#"{{"rfilename": "right.gguf", {lfs}}}"#);
        let text = answer(&format!("{}, {right}", odd.join(", ")));
        let files = Repository::read(text.as_bytes()).unwrap().files;
        let paths: Vec<_> = files.into_iter().map(|file| file.path).collect();
        assert_eq!(paths, ["right.gguf"]);
    }
}
