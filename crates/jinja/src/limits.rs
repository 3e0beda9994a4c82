//! The largest of everything a template may be or do.

/// Bytes of a template's source; the longest in use have 20 KiB.
pub(crate) const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Tokens and pieces of text of a source.
pub(crate) const TOKENS_MAX: usize = 100_000;
/// Nodes of the tree that a source is read into.
pub(crate) const NODES_MAX: usize = 100_000;
/// Brackets and conditions inside each other in an expression.
pub(crate) const EXPRESSION_DEPTH_MAX: usize = 32;
/// Statements inside each other.
pub(crate) const STATEMENT_DEPTH_MAX: usize = 32;
/// Statements and expressions inside each other while rendering, through macros and recursive
/// loops too: what the thread's stack must hold.
pub(crate) const RENDER_DEPTH_MAX: usize = 160;

/// Lists and dicts inside each other, in what the caller gives or a namespace keeps.
pub(crate) const KEPT_DEPTH_MAX: u16 = 40;
/// Lists, dicts and namespaces inside each other, in any value.
pub(crate) const VALUE_DEPTH_MAX: u16 = 90;
/// Bytes of what the caller gives.
pub(crate) const GIVEN_BYTES_MAX: usize = 64 << 20;
/// Lists, dicts, texts and numbers that the caller gives.
pub(crate) const GIVEN_VALUES_MAX: usize = 1 << 20;

/// Steps of a rendering beyond what its values are granted: a step is a node of the tree, or
/// [`BYTES_PER_STEP`] gone through.
pub(crate) const STEPS_BASE: u64 = 250_000;
/// Steps for each value given.
pub(crate) const STEPS_PER_VALUE: u64 = 600;
/// Bytes gone through or copied that count as a step.
pub(crate) const BYTES_PER_STEP: usize = 32;
/// Bytes that adding a piece to a text counts as, beyond its own: pieces may have a byte.
pub(crate) const PIECE_BYTES: usize = 8;
/// Steps between two questions whether the rendering goes on: a few hundred microseconds.
pub(crate) const STEPS_PER_QUESTION: u64 = 4096;
/// Bytes that values made by a rendering may take, all together, beyond what is granted for what
/// was given.
pub(crate) const BYTES_BASE: u64 = 14 << 20;
/// Bytes for each byte given; also how often each may be gone through.
pub(crate) const BYTES_PER_BYTE: u64 = 24;
/// Bytes that a value given counts as, beyond its text.
pub(crate) const VALUE_BYTES: usize = 64;

/// Items of a `range`, as in the sandbox of Jinja.
pub(crate) const RANGE_MAX: u64 = 100_000;
/// Arguments of a call.
pub(crate) const ARGUMENTS_MAX: usize = 1_000;
/// Width and precision of a formatted number or text.
pub(crate) const WIDTH_MAX: usize = 10_000;
/// Digits of a float that writing or reading it goes through one by one; the rest are zeros, or do
/// not count.
pub(crate) const FLOAT_DIGITS_MAX: usize = 1_100;
/// Characters of an error message.
pub(crate) const MESSAGE_CHARS_MAX: usize = 400;

// What a namespace keeps may stand in a list beside others.
const _: () = assert!(2 * KEPT_DEPTH_MAX + 2 <= VALUE_DEPTH_MAX);
// A template that nests as deep as it may can be run.
const _: () = assert!(EXPRESSION_DEPTH_MAX + STATEMENT_DEPTH_MAX <= RENDER_DEPTH_MAX);
// Offsets in texts are kept in 32 bits.
const _: () = assert!(
    (u32::MAX as u64)
        > BYTES_BASE + BYTES_PER_BYTE * (GIVEN_BYTES_MAX + GIVEN_VALUES_MAX * VALUE_BYTES) as u64
);
const _: () = assert!(SOURCE_BYTES_MAX < u32::MAX as usize);
// A growing text holds its old bytes, and twice as many new ones, while it moves: with a small
// conversation that stays below 64 MiB.
const _: () = assert!(BYTES_BASE * 3 + (16 << 20) <= 64 << 20);
const _: () = assert!(WIDTH_MAX < BYTES_BASE as usize);
// The smallest float has 1,074 digits after its point.
const _: () = assert!(FLOAT_DIGITS_MAX > 1_074);
