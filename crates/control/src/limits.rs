//! Every limit of this crate, in one place.

use std::time::Duration;

/// Bytes of a request. A file of settings has as many at most, and says as much.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Bytes of an answer: a thousand threads' status is a tenth of it.
pub(crate) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How long a request may take to come in, and an answer to be taken.
pub(crate) const TRANSFER_MAX: Duration = Duration::from_secs(2);

/// How long a caller waits for an answer: it may take threads that are started anew.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The same for stages that move: weights may come from a slow disk.
pub(crate) const MOVED_MAX: Duration = Duration::from_secs(10 * 60);

/// Callers that are talked with at once; the next one is told to come back.
pub(crate) const CALLERS_MAX: usize = 4;

/// After a caller that could not be let in, before the next: an error that comes again and again
/// must not keep a core busy.
pub(crate) const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A thread whose turn panicked waits so long before the next, and ends after so many in a row.
pub(crate) const AFTER_PANIC: Duration = Duration::from_millis(100);
pub(crate) const PANICS_MAX: usize = 5;

/// Characters of a message about settings or a request: it may quote what came in.
pub(crate) const MESSAGE_CHARS_MAX: usize = 2000;

/// Stages that a move may name: more than any model has pieces for devices.
pub(crate) const STAGES_MAX: usize = 1024;

/// How long a process is waited for that may be no gogrid at all, before it is asked anything.
pub(crate) const HELLO_MAX: Duration = Duration::from_millis(500);

/// Seconds of a snooze: a week.
pub(crate) const SNOOZE_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// A file that has not changed for so long is read: a program may write it in several steps.
pub(crate) const QUIET: Duration = Duration::from_millis(50);

/// A file that never is quiet is read after so many changes.
pub(crate) const UNREST_MAX: usize = 100;

/// A file whose folder the system does not watch any more is looked at so often, and the folder asked
/// for again.
pub(crate) const UNWATCHED_LOOK_EVERY: Duration = Duration::from_secs(5);

/// Links that may lead to a file: as many as Linux follows.
pub(crate) const LINKS_MAX: usize = 40;

/// How often the links that lead to a file are looked at again, where they changed before they were watched.
pub(crate) const LINK_CHANGES_MAX: usize = 8;

/// Callers in a row that could not be let in, after which that is noted.
pub(crate) const REFUSED_IN_A_ROW: usize = 5;

/// Other processes that are asked what they take; more than these are named as unknown.
pub(crate) const PEERS_MAX: usize = 16;

/// Bytes of such an answer: a hundred memories are a tenth of it.
pub(crate) const USAGE_BYTES_MAX: usize = 64 << 10;

/// How long one of them is waited for, and all of them together.
pub(crate) const USAGE_MAX: Duration = Duration::from_millis(200);
pub(crate) const ROUND_MAX: Duration = Duration::from_secs(1);

/// Between two rounds of asking: with no other process there, and beside one.
pub(crate) const ROUND_EVERY_IDLE: Duration = Duration::from_secs(5);
pub(crate) const ROUND_EVERY_IDLE_BESIDE: Duration = Duration::from_secs(2);
/// The same while this process has requests.
pub(crate) const ROUND_EVERY_BUSY: Duration = Duration::from_secs(1);
pub(crate) const ROUND_EVERY_BUSY_BESIDE: Duration = Duration::from_millis(250);

/// Letters of the reason why a process is unknown: it may be text of that process's.
pub(crate) const REASON_MAX: usize = 200;

// A thread is back, or has said that it has ended, within a second.
const _: () = assert!(AFTER_PANIC.as_millis() * (PANICS_MAX as u128) < 1000);
// What is said of a request, with every character escaped, fits into an answer.
const _: () = assert!(MESSAGE_CHARS_MAX * 12 < ANSWER_BYTES_MAX);
// All callers at once hold less than a mebibyte.
const _: () = assert!(CALLERS_MAX * REQUEST_BYTES_MAX < 1 << 20);
// The caller waits longer for an answer than the process for a request.
const _: () = assert!(TRANSFER_MAX.as_nanos() < ANSWER_MAX.as_nanos());
const _: () = assert!(USAGE_MAX.as_nanos() < ROUND_MAX.as_nanos());
const _: () = assert!(USAGE_BYTES_MAX < ANSWER_BYTES_MAX);
