//! Every limit of this crate, in one place.

use std::time::Duration;

/// Connections at a time; the next one waits to be accepted.
pub(crate) const CONNECTIONS_MAX: usize = 2048;

/// A connection sends the head of its request within this time.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of a request's head, as the connection reads them.
pub(crate) const HEADER_BYTES_MAX: usize = 64 << 10;

/// A request's body arrives within this time.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a request's body: a prompt of the longest text, written as JSON.
pub(crate) const BODY_BYTES_MAX: usize = 32 << 20;

/// Bodies of more bytes than these have places of their own, so that all of them together stay bounded.
pub(crate) const SMALL_BODY_BYTES: u64 = 128 << 10;
pub(crate) const LARGE_BODIES_MAX: usize = 8;

/// A client that takes no byte for so long is cut off.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Events of a stream that wait for the client to take them.
pub(crate) const EVENTS_WAITING_MAX: usize = 16;

/// A stream's first byte goes out after this time, whether or not its request has been admitted.
pub(crate) const HEADERS_WITHIN: Duration = Duration::from_secs(3);

/// How often a stream that has nothing to say tells why.
pub(crate) const COMMENT_EVERY: Duration = Duration::from_secs(10);

/// How often it sends data that says nothing, for clients that count comments as silence.
pub(crate) const HEARTBEAT_EVERY: Duration = Duration::from_secs(45);

/// Choices of one request.
pub(crate) const CHOICES_MAX: usize = 16;

/// Texts of one request for vectors.
pub(crate) const TEXTS_MAX: usize = 256;

/// Threads that render, tokenise and compile for requests before the library has them.
pub(crate) const WORKERS_MAX: usize = 2;

/// Requests for such work that wait; the next is refused.
pub(crate) const WORK_WAITING_MAX: usize = 64;

/// Bytes of a text that is tokenised for its own sake, and tokens that are put together.
pub(crate) const TOKENIZED_BYTES_MAX: usize = 1 << 20;
pub(crate) const DETOKENIZED_MAX: usize = 1 << 18;

/// Texts of one request for vectors that are in the library's queue at a time.
pub(crate) const EMBEDDING_AT_ONCE: usize = 8;

/// How long a request with a large body waits for a place.
pub(crate) const LARGE_BODY_WAIT: Duration = Duration::from_secs(10);

/// Calls of tools in one answer.
pub(crate) const CALLS_MAX: usize = 128;

/// Prompts of one request for completions.
pub(crate) const PROMPTS_MAX: usize = 64;

/// Tokens of an answer where the client names no number.
pub(crate) const DEFAULT_TOKENS: usize = 4096;

/// Where memory is short, an answer whose length nobody named is asked for again with half, down to this.
pub(crate) const DEFAULT_TOKENS_MIN: usize = 256;

/// Beyond this many seconds clients that would wait for as long as they are told are told not to retry.
pub(crate) const RETRY_AFTER_PATIENCE: Duration = Duration::from_secs(60);

/// Keys of a file of keys, and bytes of it.
pub(crate) const KEYS_MAX: usize = 1024;
pub(crate) const KEY_FILE_BYTES_MAX: usize = 256 << 10;
pub(crate) const KEY_BYTES_MIN: usize = 8;

/// Models that are open at a time.
pub(crate) const MODELS_OPEN_MAX: usize = 16;

/// How old what is known of the shelf may be.
pub(crate) const SHELF_EVERY: Duration = Duration::from_secs(2);

/// How often models are looked at that may have been idle for long enough.
pub(crate) const IDLE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the server looks at itself, and how many looks are kept: an hour of them.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(2);
pub(crate) const HISTORY_MAX: usize = 1800;

/// The longest snooze: a week.
pub(crate) const SNOOZE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A server in which a request runs and no token comes for so long is not ready.
pub(crate) const TOKEN_LATELY: Duration = Duration::from_secs(300);
