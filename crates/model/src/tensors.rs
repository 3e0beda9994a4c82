//! What a tensor is, whichever kind of file it is in.

use std::fmt;

use gogrid_units::WeightType;

use crate::error::ModelError;

/// A tensor in a file, its extent checked against the file's length.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) ty: WeightType,
    /// Outermost first: a matrix is `[rows, cols]`.
    pub(crate) shape: Vec<usize>,
    /// Index of the file in the model.
    pub(crate) file: usize,
    /// Offset of its first byte in that file.
    pub(crate) offset: u64,
    /// Offset of its description in that file, for messages.
    pub(crate) described_at: Option<u64>,
}

/// Finds tensors by name: a GGUF file, or the safetensors files of a folder.
pub(crate) trait TensorSource {
    /// The tensor with this name, or `None`.
    fn find(&self, name: &str) -> Option<Tensor>;

    /// Calls `visit` with every tensor's name.
    fn names(&self, visit: &mut dyn FnMut(&str));

    /// The error that says that a tensor must be there and is not.
    fn missing(&self, name: &str) -> ModelError;

    /// The error that says what is wrong with a tensor.
    fn refuse(&self, tensor: &Tensor, what: String) -> ModelError;
}

/// Where bytes of a model begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position<'a> {
    /// Index of the file in the model.
    pub(crate) file: usize,
    /// Offset in that file.
    pub(crate) offset: u64,
    /// What is read there, for messages.
    pub(crate) field: &'a str,
}

/// What a model's tensors are read from: open files, or a layout of tensors that are made as they are
/// read.
pub(crate) trait Content: fmt::Debug + Send + Sync {
    /// Fills `out` from a position on.
    fn read_at(&self, position: Position<'_>, out: &mut [u8]) -> Result<(), ModelError>;

    /// Refuses content that is no longer what it was when it was opened: what was read of it may be of
    /// two models.
    fn check_unchanged(&self) -> Result<(), ModelError>;
}

/// The names of all weight types, for messages.
pub(crate) fn weight_type_names() -> String {
    WeightType::ALL.map(WeightType::name).join(", ")
}
