use std::error::Error;
use std::fmt;

use crate::bytes::Bytes;

/// The operating system has refused memory, whatever the limits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// What was asked for at once.
    pub asked: Bytes,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the system refuses {} of memory", self.asked)
    }
}

impl Error for OutOfMemory {}
