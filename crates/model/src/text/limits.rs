//! The largest of everything a tokenizer or a template may take.

/// Tokens of a vocabulary; the largest in use has about 262,000.
pub(super) const TOKENS_MAX: usize = 1 << 22;
/// Slots looked at before a hash table counts as attacked; by chance it is below 100.
pub(super) const PROBES_MAX: usize = 1024;
/// Bytes of one text given to a tokenizer.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 20;
/// Bytes of a chat template's source; the longest in use have 20 KiB.
pub(super) const TEMPLATE_BYTES_MAX: usize = 1 << 20;
/// Bytes a chat template may render to.
pub(super) const RENDERED_BYTES_MAX: usize = 16 << 20;
/// Fuel of a rendering beyond what its messages cost: an instruction, or 64 bytes made.
pub(super) const TEMPLATE_FUEL: u64 = 200_000;
/// Bytes of `tokenizer.json`; the largest in use have 35 MB.
pub(super) const TOKENIZER_JSON_BYTES_MAX: u64 = 256 << 20;
/// Bytes of the small JSON files beside it.
pub(super) const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// White space in a row that a `tokenizer.json` is given.
pub(super) const SPACES_MAX: usize = 100_000;

// Positions in a text and ids are kept in 32 bits, and the highest means none.
const _: () = assert!(TEXT_BYTES_MAX < (u32::MAX / 4) as usize);
const _: () = assert!(TOKENS_MAX < (1 << 31));
