use std::fmt;
use std::time::Duration;

use crate::error::HostError;
use crate::imp;

/// A thread of this process, by the system's number, which another may have once it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadId(pub(crate) u64);

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The calling thread.
pub fn current_thread() -> ThreadId {
    imp::current_thread()
}

/// CPU time the calling thread has used.
pub fn thread_cpu_time() -> Result<Duration, HostError> {
    imp::thread_cpu_time()
}
