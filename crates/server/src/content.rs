//! What a message says, as OpenAI's two protocols have it.

use corpgrid_scheduler::{Content, Part};
use serde::Deserialize;

use crate::by_name::by_name;
use crate::error::ApiError;

/// One text, or parts.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "must be a text or a list of parts, each with a type"
)]
pub(crate) enum ContentBody {
    Text(String),
    Parts(Vec<PartBody>),
}

/// A part: of some kind, which must be text.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self")]
pub(crate) struct PartBody {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

by_name!(PartBody);

impl ContentBody {
    /// The content of the message at `field`.
    pub(crate) fn read(self, field: &str) -> Result<Content, ApiError> {
        let parts = match self {
            Self::Text(text) => return Ok(Content::Text(text)),
            Self::Parts(parts) => parts.into_iter().enumerate(),
        };
        let parts = parts.map(|(at, part)| part.read(&format!("{field}.content[{at}]")));
        Ok(Content::Parts(parts.collect::<Result<_, _>>()?))
    }
}

impl PartBody {
    fn read(self, field: &str) -> Result<Part, ApiError> {
        match (self.kind.as_str(), self.text) {
            ("text" | "input_text" | "output_text" | "refusal", Some(text)) => Ok(Part::Text(text)),
            ("text" | "input_text" | "output_text", None) => {
                Err(ApiError::bad(field, "has no text"))
            }
            (kind, _) => {
                let what = format!("content of type {kind:?}");
                Err(ApiError::unsupported(field, &what))
            }
        }
    }
}
