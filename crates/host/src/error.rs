use std::io;

/// What the operating system, or a name of its things, could not give.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// This platform has no such ability, or none that is built in.
    #[error("{ability} is absent on {}", std::env::consts::OS)]
    Absent {
        /// The ability.
        ability: &'static str,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of the system's could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of the system's lacks a field.
    #[error("{path}: no field {field} with a number of kB")]
    Field {
        /// The file.
        path: &'static str,
        /// The field.
        field: &'static str,
    },
    /// Text that names no cores.
    #[error("{text:?} names no cores: {expected} expected")]
    BadCores {
        /// The text.
        text: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// Cores that this process may not use, or that are not there.
    #[error("no core {core} here; this process may use {allowed}")]
    NoSuchCore {
        /// The first such core.
        core: usize,
        /// Those it may use.
        allowed: String,
    },
    /// A number that no running thread of this process has.
    #[error("no thread {thread} runs in this process")]
    NoSuchThread {
        /// The number.
        thread: u64,
    },
    /// Two core sets that should be apart.
    #[error("core sets {one} and {other} both have core {core}")]
    Overlap {
        /// The first.
        one: String,
        /// The second.
        other: String,
        /// A core in both.
        core: usize,
    },
}
