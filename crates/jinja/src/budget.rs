use std::cell::Cell;
use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::limits::{
    BYTES_BASE, BYTES_PER_BYTE, BYTES_PER_STEP, PIECE_BYTES, STEPS_BASE, STEPS_PER_QUESTION,
    STEPS_PER_VALUE, VALUE_BYTES,
};

/// What a rendering may still do. Work and memory are taken from it before they happen.
pub(crate) struct Budget<'a> {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    /// Bytes gone through that are no whole step yet.
    passed: Cell<usize>,
    granted: Spent,
    goes_on: &'a dyn Fn() -> bool,
    /// Steps left when `goes_on` is asked the next time.
    asks_at: Cell<u64>,
}

/// Steps and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Nodes of the tree gone through, and bytes gone through in units of 32.
    pub steps: u64,
    /// Bytes that values took, all together.
    pub bytes: u64,
}

impl<'a> Budget<'a> {
    /// What a conversation of `values` values with `bytes` bytes of text may need. `goes_on` is
    /// asked before the first step and every [`STEPS_PER_QUESTION`] steps.
    pub(crate) fn of_given(values: usize, bytes: usize, goes_on: &'a dyn Fn() -> bool) -> Self {
        let (values, bytes) = (values as u64, (bytes + values * VALUE_BYTES) as u64);
        let granted = Spent {
            steps: STEPS_BASE
                + values * STEPS_PER_VALUE
                + bytes * BYTES_PER_BYTE / BYTES_PER_STEP as u64,
            bytes: BYTES_BASE + bytes * BYTES_PER_BYTE,
        };
        Self {
            steps: Cell::new(granted.steps),
            bytes: Cell::new(granted.bytes),
            passed: Cell::new(0),
            granted,
            goes_on,
            asks_at: Cell::new(granted.steps),
        }
    }

    pub(crate) fn steps(&self, count: u64) -> Result<(), Error> {
        match self.steps.get().checked_sub(count) {
            Some(left) => {
                self.steps.set(left);
                self.ask(left)
            }
            None => {
                self.steps.set(0);
                let most = self.granted.steps;
                Err(Error::limit(format!(
                    "the template does more work than its conversation can need: over {most} steps"
                )))
            }
        }
    }

    /// Asks the caller whether the rendering goes on, where it is time to; `left` is the steps left.
    fn ask(&self, left: u64) -> Result<(), Error> {
        if left > self.asks_at.get() {
            return Ok(());
        }
        self.asks_at.set(left.saturating_sub(STEPS_PER_QUESTION));
        match (self.goes_on)() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Stopped,
                "the rendering was stopped by its caller",
            )),
        }
    }

    /// Pays for going through `bytes` bytes.
    pub(crate) fn work(&self, bytes: usize) -> Result<(), Error> {
        self.steps(1 + (bytes / BYTES_PER_STEP) as u64)
    }

    /// Pays for `bytes` bytes of memory and for filling them.
    pub(crate) fn memory(&self, bytes: usize) -> Result<(), Error> {
        match self.bytes.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes.set(left);
                self.pass(bytes)
            }
            None => {
                let most = self.granted.bytes;
                Err(Error::limit(format!(
                    "the template takes more memory than its conversation can need: over {most} bytes"
                )))
            }
        }
    }

    /// Pays for a piece of `bytes` bytes that is added to a text.
    pub(crate) fn piece(&self, bytes: usize) -> Result<(), Error> {
        self.memory(bytes)?;
        self.pass(PIECE_BYTES)
    }

    /// Pays for going through `bytes` bytes; what is less than a step is paid with what follows.
    fn pass(&self, bytes: usize) -> Result<(), Error> {
        let all = self.passed.get().saturating_add(bytes);
        self.passed.set(all % BYTES_PER_STEP);
        self.steps((all / BYTES_PER_STEP) as u64)
    }

    pub(crate) fn spent(&self) -> Spent {
        Spent {
            steps: self.granted.steps - self.steps.get(),
            bytes: self.granted.bytes - self.bytes.get(),
        }
    }

    pub(crate) fn granted(&self) -> Spent {
        self.granted
    }
}

impl fmt::Debug for Budget<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Budget")
            .field("steps", &self.steps)
            .field("bytes", &self.bytes)
            .field("granted", &self.granted)
            .finish_non_exhaustive()
    }
}
