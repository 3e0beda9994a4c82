//! What a tensor is, whichever kind of file it is in.

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

/// The names of all weight types, for messages.
pub(crate) fn weight_type_names() -> String {
    WeightType::ALL.map(WeightType::name).join(", ")
}
