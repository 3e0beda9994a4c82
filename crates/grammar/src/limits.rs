//! The largest of everything that a grammar may be or take. The sizes come first, so that little is
//! done for what is refused.

use llguidance::api::ParserLimits;

/// Bytes of a schema, an expression or a grammar. The largest published schemas that are asked of
/// models have some 100 KiB.
pub(crate) const SPEC_BYTES_MAX: usize = 256 << 10;
/// Values of a schema, keys included.
pub(crate) const VALUES_MAX: usize = 32 << 10;
/// The squares of how many properties each object of a schema names, together: 1,024 of one object.
/// Compiling compares each with each.
pub(crate) const PROPERTY_PAIRS_MAX: usize = 1 << 20;
/// Objects and lists of a schema within each other, and brackets of an expression or a grammar.
pub(crate) const NESTING_MAX: usize = 64;
/// How often a rule or a schema may lead into the next. Compiling one is a call within the call that
/// compiles the other.
pub(crate) const STEPS_DOWN_MAX: usize = 1024;
/// The stack on which a grammar is compiled: what [`NESTING_MAX`] and [`STEPS_DOWN_MAX`] allow fits
/// (the test `what_nests_as_deep_as_it_may_compiles_or_is_refused`). Memory that is not touched is
/// not taken.
pub(crate) const STACK_BYTES: usize = 256 << 20;
/// How often something is repeated at most where a schema or an expression says a number. A million
/// `a` in a row would be a million states.
pub(crate) const REPEATS_MAX: u64 = 1 << 14;
/// Bytes of one token that counts; longer ones are never allowed. `toktrie` holds no more levels.
pub(crate) const TOKEN_BYTES_MAX: usize = 1023;
/// Bytes of all tokens together: `toktrie` holds no more nodes, of which each byte makes at most one.
pub(crate) const VOCABULARY_BYTES_MAX: usize = (1 << 22) - 2;
/// Bytes of a message about a grammar.
pub(crate) const MESSAGE_BYTES_MAX: usize = 300;

/// What compiling and following a grammar may take.
pub(crate) fn parser_limits() -> ParserLimits {
    ParserLimits {
        // Alternatives at one place: four for each property that may be left out, so twice what
        // `PROPERTY_PAIRS_MAX` allows of one object. The work is bounded by `step_max_items`.
        max_items_in_row: 8192,
        // 50,000 are a millisecond: 10 ms for a compilation. The largest published schema (FHIR) takes
        // as many.
        initial_lexer_fuel: 500_000,
        // 14,000 are a millisecond: 7 ms for a mask. The mean mask takes a hundredth.
        step_lexer_fuel: 100_000,
        // 20,000 are a millisecond: 2.5 ms for a mask.
        step_max_items: 50_000,
        // 1 to 2 kB each, which no lease covers: 16 to 32 MiB at most of one request.
        max_lexer_states: 16_384,
        // Symbols of rules. FHIR's schema has 200,000 and is beyond `SPEC_BYTES_MAX`.
        max_grammar_size: 100_000,
        // Runs a few large expressions over the whole vocabulary, at a price that no fuel bounds.
        precompute_large_lexemes: false,
        // Would put the text so far into messages and logs.
        verbose_errors: false,
    }
}

const _: () = assert!(NESTING_MAX < STEPS_DOWN_MAX);
const _: () = assert!(STACK_BYTES / STEPS_DOWN_MAX >= 64 << 10);
