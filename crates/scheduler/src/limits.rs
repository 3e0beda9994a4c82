//! Every limit of this crate, in one place.

use std::time::Duration;

use gogrid_units::Bytes;

/// Rows in one step, decodes and prefill chunk together. Stages size their scratch by it.
pub(crate) const ROWS_IN_STEP_MAX: usize = 128;

/// Wall time that work on all of a device's cores goes on for at most before it rests, where less
/// than all of it may be taken.
pub(crate) const SLICE: Duration = Duration::from_millis(2);

/// Pause points in a row that pass without a look at the clock, at most: work between two of them is
/// at most 0.5 ms and mostly some microseconds.
pub(crate) const POINTS_MAX: u32 = 8;

/// Sequences in one step: the most that `max_batch_size` may be.
pub(crate) const SEQUENCES_IN_STEP_MAX: usize = 64;

/// Requests that wait for a start or for memory; the next one is refused.
pub(crate) const QUEUED_MAX: usize = 1024 + OWNER_PLACES as usize;
/// So many of them are left to the owner by guests, of places in the queue and of matchers.
pub(crate) const OWNER_PLACES: u32 = 32;

/// Callers in `throttle_if_needed` that have a place in the order of starts; others wait for one.
pub(crate) const ASKS_MAX: usize = 256;

/// Callers that ask or tell the engine something else; others wait until it has listened.
pub(crate) const TELLS_MAX: usize = 64;

/// Messages on their way to the engine.
pub(crate) const EVENTS_MAX: usize = 2048;

/// Threads that wait to be started; a caller that asks for another waits.
pub(crate) const SPAWNS_MAX: usize = 16;

/// How long a start taken by `throttle_if_needed` is good for.
pub(crate) const CREDIT_LASTS: Duration = Duration::from_secs(1);

/// Starts taken by `throttle_if_needed` and not used yet; the oldest goes first.
pub(crate) const CREDITS_MAX: usize = 256;

/// Stop strings of one request.
pub(crate) const STOP_STRINGS_MAX: usize = 16;

/// Bytes of one stop string.
pub(crate) const STOP_STRING_BYTES_MAX: usize = 256;

/// Tokens that the repetition penalties may look back.
pub(crate) const LAST_N_MAX: usize = 4096;

/// Entries of one logit bias, and the most that one adds to a logit or takes from it.
pub(crate) const LOGIT_BIAS_MAX: usize = 1024;
pub(crate) const BIAS_MAX: f32 = 100.0;

/// Likeliest tokens that are told beside each, at most.
pub(crate) const TOP_LOG_PROBS_MAX: usize = 20;

/// Log-probabilities that are told of one prompt: each of its tokens has its own and those of the
/// likeliest in its place. They are kept until the prompt has been read, 8 bytes each.
pub(crate) const PROMPT_LOG_PROBS_MAX: usize = 1 << 20;

/// Rows of a prompt in one step, where the logits of each are wanted: those of 16 rows are some 10 MB.
pub(crate) const LOGIT_ROWS_IN_CHUNK_MAX: usize = 16;

/// Tokens that are drafted for a sequence in one step.
pub(crate) const DRAFT_TOKENS_MAX: usize = 8;

/// Rows of a step with drafts. Each gives logits.
pub(crate) const DRAFTED_ROWS_MAX: usize = LOGIT_ROWS_IN_CHUNK_MAX;

/// How far back a sequence's last tokens are looked for: little work beside a step.
pub(crate) const DRAFT_LOOK_BACK: usize = 16_384;

/// A request that waits counts as one class higher after each such time.
pub(crate) const CLASS_RISES_EVERY: Duration = Duration::from_secs(60);

/// The least time after which a caller who is refused may come back.
pub(crate) const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// The longest deadline: years, so that a moment after it exists.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(1 << 27);

/// Matchers of one pipeline's requests, those that wait and those that run.
pub(crate) const MATCHERS_MAX: usize = 512;

/// Threads of one pipeline that run matchers at a time.
pub(crate) const MATCHER_THREADS_MAX: usize = 2;

/// Messages of one chat; [`PROMPT_BYTES_MAX`] bounds their bytes together.
pub(crate) const MESSAGES_MAX: usize = 4096;

/// Parts of one message.
pub(crate) const PARTS_MAX: usize = 1024;

/// Tools that a chat's model may call; OpenAI's protocol allows 128.
pub(crate) const TOOLS_MAX: usize = 512;

/// Tools that one message calls.
pub(crate) const TOOL_CALLS_MAX: usize = 128;

/// Texts, names, numbers, lists and objects of a chat: of its messages, their calls, its tools and its
/// arguments. A template's own bound is eight times as high.
pub(crate) const CHAT_VALUES_MAX: usize = 1 << 17;

/// Lists and objects inside each other in a tool or in arguments.
pub(crate) const JSON_DEPTH_MAX: usize = 32;

/// Bytes of one prompt's text.
pub(crate) const PROMPT_BYTES_MAX: usize = 16 << 20;

/// Bytes of text that are tokenised on the caller's own thread: some milliseconds. Longer texts have
/// a thread of their own.
pub(crate) const TEXT_INLINE_BYTES_MAX: usize = 8 << 10;

/// Bytes of memory that tokenising takes at most for each byte of a text: for one long word.
pub(crate) const TEXT_MEMORY_PER_BYTE: u64 = 40;

/// Bytes of memory that a chat takes for each byte of its texts while its template writes it.
pub(crate) const CHAT_MEMORY_PER_BYTE: u64 = 24;

/// Bytes that a value of a chat counts as, beyond its text.
pub(crate) const CHAT_VALUE_BYTES: usize = 64;

/// When a caller may come back for whose text there was no memory: texts take seconds at most.
pub(crate) const TEXT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often a template that renders on the caller's own thread may ask whether it goes on, which it
/// does every few thousand steps. One that asks more often has a thread of its own.
pub(crate) const RENDER_INLINE_ASKS_MAX: u32 = 8;

/// Threads of one pipeline that tokenise at a time; a caller with another long text waits.
pub(crate) const TEXT_WORKERS_MAX: usize = 2;

/// Control tokens that one request wants to see by name: the marks of one way to call tools.
pub(crate) const SHOWN_TOKENS_MAX: usize = 64;

/// Entries of a model's prefix cache, which are of a block of tokens each: some MiB beside the keys and values.
pub(crate) const PREFIX_ENTRIES_MAX: usize = 8192;

/// The part that prefix caches leave of a memory's cap beside weights and buffers, so that what they hold is
/// never all that others could still ask for.
pub(crate) const PREFIX_LEAVES_PART: u64 = 4;

/// Runs of rows with embeddings in one prompt: each is looked at in every step.
pub(crate) const EMBEDDED_RUNS_MAX: usize = 4096;

/// Bytes of a file of settings.
pub(crate) const SETTINGS_BYTES_MAX: usize = 64 << 10;

/// Memory that there must be to open a model; headers and tokenizers of real ones take less.
pub(crate) const OPENING_BYTES: usize = 64 << 20;

/// Tokens whose keys and values a placement leaves room for, where the context has more. Longer
/// requests are admitted or refused by what is free then.
pub(crate) const PLANNED_TOKENS_MAX: usize = 4096;

/// Seconds for a row to cross from a device's driver to another's: waking a thread, measured at 34
/// to 38 us; the row itself stays where it is.
pub(crate) const CROSSING_SECONDS: f64 = 40e-6;

/// How long after it was lost a device is tried again, at first and at most.
pub(crate) const RETRY_LOST_AFTER_MIN: Duration = Duration::from_secs(1);
pub(crate) const RETRY_LOST_AFTER_MAX: Duration = Duration::from_secs(300);

/// Weights that one thread of a CPU, and a GPU, reads in a second, where it cannot be timed: what a desktop's
/// memory gives a thread easily, and what an integrated GPU's gives it.
pub(crate) const GUESSED_CPU_BYTES_PER_S: f64 = 2e9;
pub(crate) const GUESSED_GPU_BYTES_PER_S: f64 = 50e9;

/// What is left to others of a GPU's own memory, whatever the limits allow: to its driver, and to the
/// programs that draw on the screen. This part of it, and no less than so many bytes.
pub(crate) const GPU_MEMORY_OF_OTHERS_PART: u64 = 6;
pub(crate) const GPU_MEMORY_OF_OTHERS_MIN: Bytes = Bytes::mib(512);

const _: () = assert!(TEXT_INLINE_BYTES_MAX < PROMPT_BYTES_MAX);
// A chat of as many messages as may be, each of a role and a text.
const _: () = assert!(MESSAGES_MAX * 5 < CHAT_VALUES_MAX);
const _: () = assert!(
    SEQUENCES_IN_STEP_MAX < ROWS_IN_STEP_MAX,
    "a prefill must find rows"
);
const _: () = assert!(
    // What the observer is told it tells the engine; it has an order of its own besides, and so has one
    // that opens a model.
    QUEUED_MAX + ASKS_MAX + 2 * TELLS_MAX + 2 < EVENTS_MAX,
    "there must be room for everybody who has a place, and for the word to stop"
);
