//! The largest of everything that a model's text may hold back.

/// Bytes of a call before its name is known and its arguments begin: those of arguments that come
/// before the name are held until then. What is longer is text.
pub(crate) const HELD_BYTES_MAX: usize = 1 << 20;
/// Bytes of a tool's name; OpenAI's protocol allows 64.
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// Bytes of what Mistral's format has between `[TOOL_CALLS]` and the arguments: name, id, marks.
pub(crate) const HEADER_BYTES_MAX: usize = NAME_BYTES_MAX + 64;
/// Calls of one reply; OpenAI's protocol allows 128 tools.
pub(crate) const CALLS_MAX: usize = 128;
/// White space in a row that is held until it is known what follows. What is longer is given away
/// in pieces.
pub(crate) const BLANK_BYTES_MAX: usize = 4096;

const _: () = assert!(HEADER_BYTES_MAX < HELD_BYTES_MAX);
