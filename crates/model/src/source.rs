use std::fmt;
use std::path::{Path, PathBuf};

use crate::synthetic::SyntheticShape;

/// What a model is opened from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A GGUF file, or a Hugging Face directory.
    Path(PathBuf),
    /// No file: weights that are made as they are read.
    Synthetic(SyntheticShape),
}

impl<P: AsRef<Path>> From<P> for ModelSource {
    fn from(path: P) -> Self {
        Self::Path(path.as_ref().to_owned())
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Synthetic(shape) => shape.fmt(f),
        }
    }
}

impl From<SyntheticShape> for ModelSource {
    fn from(shape: SyntheticShape) -> Self {
        Self::Synthetic(shape)
    }
}
