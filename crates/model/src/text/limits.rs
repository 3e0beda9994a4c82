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
/// Lists and objects inside each other in a tool or in the arguments of a template or a call.
pub(super) const JSON_DEPTH_MAX: usize = 32;
/// Bytes of `tokenizer.json`; the largest in use have 35 MB.
pub(super) const TOKENIZER_JSON_BYTES_MAX: u64 = 256 << 20;
/// Values in `tokenizer.json` besides its vocabulary and merges: seven for each added token, of
/// which the largest in use have 6,400.
pub(super) const TOKENIZER_JSON_VALUES_MAX: usize = 1 << 19;
/// Bytes of `tokenizer_config.json`, which may repeat the added tokens; the largest in use have
/// 1.2 MB.
pub(super) const TOKENIZER_CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Values in it.
pub(super) const TOKENIZER_CONFIG_VALUES_MAX: usize = TOKENIZER_JSON_VALUES_MAX;
/// Bytes of the other JSON files beside it.
pub(super) const CONFIG_BYTES_MAX: u64 = crate::limits::CONFIG_BYTES_MAX;
/// Values in each.
pub(super) const CONFIG_VALUES_MAX: usize = crate::limits::CONFIG_VALUES_MAX;
/// Bytes of `chat_template.jinja`. One longer than [`TEMPLATE_BYTES_MAX`] leaves the model usable.
pub(super) const TEMPLATE_FILE_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a token's text as `tokenizer.json` writes it; the longest in use have 512.
pub(super) const TOKEN_BYTES_MAX: usize = 4096;
/// Bytes of the text of a token that is found before anything else; those in use stay below 64.
pub(super) const ADDED_TOKEN_BYTES_MAX: usize = 1024;
/// Merges of a `tokenizer.json`; the largest in use have 600,000.
pub(super) const MERGES_MAX: usize = 1 << 22;
/// Steps of a normaliser; published ones have up to six.
pub(super) const STEPS_MAX: usize = 32;
/// Steps of cutting words, each with an expression; published ones have up to six.
pub(super) const CUTTING_STEPS_MAX: usize = 8;
/// Bytes of what a `tokenizer.json` puts in place of something or before a text.
pub(super) const CONTENT_BYTES_MAX: usize = 1024;
/// By which factor a normaliser may make a text longer: SentencePiece's mark is three bytes, and
/// compatibility forms can take eleven for one.
pub(super) const GROWTH_MAX: usize = 64;
/// Bytes of a text when it is normalised.
pub(super) const NORMALISED_BYTES_MAX: usize = 256 << 20;
/// Bytes of a regular expression; the longest in use have 900.
pub(super) const PATTERN_BYTES_MAX: usize = 4096;
/// Bytes of a regular expression's automaton before it runs.
pub(super) const PATTERN_NFA_BYTES_MAX: usize = 4 << 20;
/// Bytes of the states it has found while it runs.
pub(super) const PATTERN_CACHE_BYTES: usize = 8 << 20;
/// How often a regular expression may read each byte of a text.
pub(super) const PATTERN_EFFORT: usize = 16;
/// Bytes of a tokenizer's expressions, their automata and the states that these have found.
const CUTTING_BYTES_MAX: usize = 100 << 20;
/// How often each byte of a text may be held against the tokens that are found before anything else.
pub(super) const SPECIALS_EFFORT: usize = 32;
/// Bytes of text between two questions whether encoding goes on.
pub(super) const ASKED_BYTES: usize = 64 << 10;
/// Bytes of an error message of a library.
pub(super) const MESSAGE_CHARS_MAX: usize = 300;

// Positions in a text and ids are kept in 32 bits, and the highest means none.
const _: () = assert!(3 * TEXT_BYTES_MAX < (u32::MAX / 4) as usize);
const _: () = assert!(NORMALISED_BYTES_MAX < (u32::MAX / 4) as usize);
const _: () = assert!(TEXT_BYTES_MAX < NORMALISED_BYTES_MAX);
const _: () = assert!(TOKENS_MAX < (1 << 31));
const _: () = assert!(
    CUTTING_STEPS_MAX * (PATTERN_BYTES_MAX + PATTERN_NFA_BYTES_MAX + PATTERN_CACHE_BYTES)
        < CUTTING_BYTES_MAX
);
