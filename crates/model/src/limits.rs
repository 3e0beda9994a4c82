//! The largest of everything a model file may claim. Real models stay far below; what is above is
//! damage or malice, and is refused before anything is allocated for it.

/// Bytes of a GGUF header: keys, values and tensor descriptions. Vocabularies of a quarter of a
/// million tokens take 6 to 20 MiB.
pub(crate) const HEADER_BYTES_MAX: u64 = 256 << 20;
/// Key-value pairs in a GGUF header.
pub(crate) const PAIRS_MAX: u64 = 65_536;
/// Tensors in one file.
pub(crate) const TENSORS_MAX: u64 = 65_536;
/// Bytes of a GGUF key, by the format's own rule.
pub(crate) const KEY_BYTES_MAX: u64 = 65_535;
/// Bytes of a tensor's name; GGML itself stops at 63.
pub(crate) const TENSOR_NAME_BYTES_MAX: u64 = 255;
/// Dimensions of a tensor, as in GGML.
pub(crate) const DIMENSIONS_MAX: u32 = 4;
/// Arrays within arrays in a GGUF value.
pub(crate) const ARRAY_DEPTH_MAX: usize = 4;
/// Alignment of tensor data; files use 32.
pub(crate) const ALIGNMENT_MAX: u64 = 1 << 20;

// Offsets into a header are kept in 32 bits.
const _: () = assert!(HEADER_BYTES_MAX < u32::MAX as u64);
