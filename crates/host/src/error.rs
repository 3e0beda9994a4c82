use std::io;

/// The operating system failed, or a name stands for nothing it has.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// This platform has no such ability, or none that is built in.
    #[error("{ability} is absent on {}", std::env::consts::OS)]
    Absent {
        /// The ability.
        ability: &'static str,
    },
    /// The system tells, and there is no such thing on this machine at present.
    #[error("{what}: this machine has none")]
    NoneHere {
        /// What there is none of.
        what: &'static str,
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
    #[error("{path}: no field {field} with a number")]
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
        /// The form that would have been right.
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
    /// A name that no local socket can have.
    #[error("{name:?} names no local socket: up to 24 lower-case letters, digits and - expected")]
    BadSocketName {
        /// The name.
        name: String,
    },
    /// A local socket, or its folder, failed.
    #[error("{path}: {source}")]
    Socket {
        /// Where it is.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder for sockets that others could reach into.
    #[error("{path} is no place for a socket of this user's alone: {fault}")]
    UnsafeFolder {
        /// The folder.
        path: String,
        /// Its fault.
        fault: String,
    },
    /// Nothing tells whether somebody is at the machine.
    #[error("nothing tells who is at the machine: {reasons}")]
    NoPresence {
        /// Why, for each source.
        reasons: String,
    },
    /// Something that a machine may have, and this one has not or does not show.
    #[error("{what}: {reason}")]
    Unread {
        /// The thing.
        what: &'static str,
        /// Why it cannot be read.
        reason: String,
    },
    /// No GPU whose use can be measured.
    #[error("no GPU's use can be measured: {reasons}")]
    NoGpu {
        /// Why, for each maker.
        reasons: String,
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
