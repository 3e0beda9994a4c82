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

/// Files that a GGUF model may be split into; all together are held to the limits of one.
pub(crate) const PARTS_MAX: usize = 1024;

/// Layers of a decoder.
pub(crate) const LAYERS_MAX: usize = 1024;
/// Rows of an embedding table.
pub(crate) const VOCAB_MAX: usize = 1 << 22;
/// Width of the residual stream.
pub(crate) const WIDTH_MAX: usize = 1 << 17;
/// Width of a feed-forward's inside.
pub(crate) const HIDDEN_MAX: usize = 1 << 20;
/// Query heads of a layer.
pub(crate) const HEADS_MAX: usize = 4096;
/// Width of one head.
pub(crate) const HEAD_DIM_MAX: usize = 4096;
/// Tokens in the longest sequence, and in a window.
pub(crate) const CONTEXT_MAX: usize = 1 << 28;
/// Files that the weights are spread over.
pub(crate) const SHARDS_MAX: usize = 4096;
/// Bytes of config.json; those in use have a few thousand.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Values in config.json, which may take hundreds of bytes each.
pub(crate) const CONFIG_VALUES_MAX: usize = 1 << 16;
/// Bytes of a shard index.
pub(crate) const INDEX_BYTES_MAX: u64 = 16 << 20;
/// Values in a shard index: one for each tensor.
pub(crate) const INDEX_VALUES_MAX: usize = 1 << 17;
/// Bytes of a safetensors header. The format allows 100 MB, but parsed JSON takes several times its
/// text, and real shards stay below 1 MiB.
pub(crate) const SAFETENSORS_HEADER_BYTES_MAX: u64 = 16 << 20;
/// Values in a safetensors header: eight for each matrix.
pub(crate) const SAFETENSORS_HEADER_VALUES_MAX: usize = 1 << 20;

const _: () = assert!(TENSORS_MAX < INDEX_VALUES_MAX as u64);
const _: () = assert!(8 * TENSORS_MAX < SAFETENSORS_HEADER_VALUES_MAX as u64);

// A matrix of the largest extents has fewer bytes than an address can count.
const _: () = assert!((HEADS_MAX * HEAD_DIM_MAX) as u128 * WIDTH_MAX as u128 * 4 < 1 << 62);
const _: () = assert!(VOCAB_MAX as u128 * WIDTH_MAX as u128 * 4 < 1 << 62);
