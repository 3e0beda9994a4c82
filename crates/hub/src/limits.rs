//! Bounds on what comes from outside, and on how long it is waited for.

use std::time::Duration;

/// How a server is waited for and how often it is asked again, after curl's options of the same meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// To find the server's address and to connect, TLS included.
    pub(crate) connect: Duration,
    /// From the question to the answer's first byte.
    pub(crate) first_byte: Duration,
    /// Without a byte of the file.
    pub(crate) silence: Duration,
    /// Fewer bytes than `bytes_min` in this time are a transfer that has stalled.
    pub(crate) window: Duration,
    /// See `window`.
    pub(crate) bytes_min: u64,
    /// Tries one after the other of which none brought [`PROGRESS_MIN`].
    pub(crate) tries: u32,
    /// The same, of a server that cannot be reached at all: there may be other sources.
    pub(crate) tries_to_reach: u32,
    /// Before the second try; doubled before each further one.
    pub(crate) pause: Duration,
    /// The longest of those pauses.
    pub(crate) pause_max: Duration,
    /// A server that asks for a longer pause is not waited for.
    pub(crate) asked_pause_max: Duration,
}

impl Patience {
    /// For the hub.
    pub(crate) const HUB: Self = Self {
        connect: Duration::from_secs(10),
        first_byte: Duration::from_secs(30),
        silence: Duration::from_secs(30),
        window: Duration::from_secs(30),
        bytes_min: 30_000,
        tries: 5,
        tries_to_reach: 2,
        pause: Duration::from_secs(1),
        pause_max: Duration::from_secs(16),
        asked_pause_max: Duration::from_secs(60),
    };
}

/// A try that brought so many bytes makes up for those that failed before.
pub(crate) const PROGRESS_MIN: u64 = 1 << 20;
/// Tries of one file, however much each brings: a server may begin anew each time.
pub(crate) const TRIES_MAX: u32 = 100;
/// Redirections one after the other.
pub(crate) const REDIRECTS_MAX: u32 = 5;
/// Bytes of a URL.
pub(crate) const URL_MAX: usize = 8 << 10;
/// Bytes of what a server calls a version of a file.
pub(crate) const ETAG_MAX: usize = 256;
/// Bytes of a part of a model's name: an owner, a repository, a quantisation. The hub's own bound is 96.
pub(crate) const NAME_MAX: usize = 128;
/// Bytes of the hub's list of a repository's files.
pub(crate) const LISTING_MAX: usize = 16 << 20;
/// GGUF files of one repository: a few dozen are usual.
pub(crate) const FILES_MAX: usize = 4096;
/// Bytes of a file that another program keeps beside its models: a token, a manifest.
pub(crate) const NOTE_MAX: usize = 256 << 10;
/// Entries of the folders of one program's models that are looked at.
pub(crate) const ENTRIES_MAX: usize = 100_000;
/// Folders within folders of one program's models.
pub(crate) const DEPTH_MAX: usize = 6;
/// How often a wait is interrupted to ask whether to go on.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes kept of pip's messages, from their end.
pub(crate) const PIP_TEXT_MAX: usize = 2000;
/// Looks at a pip that brings no byte before it is given up: five minutes.
pub(crate) const PIP_LOOKS_MAX: u32 = 3000;
/// Looks for the last messages of a pip that has ended.
pub(crate) const PIP_LAST_LOOKS: u32 = 10;

const _: () = {
    assert!(Patience::HUB.tries_to_reach <= Patience::HUB.tries);
    assert!(Patience::HUB.tries < TRIES_MAX);
};
