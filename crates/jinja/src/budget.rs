use std::cell::Cell;

use crate::error::Error;
use crate::limits::{
    BYTES_BASE, BYTES_PER_BYTE, BYTES_PER_STEP, STEPS_BASE, STEPS_PER_VALUE, VALUE_BYTES,
};

/// What a rendering may still do. Work and memory are taken from it before they happen.
#[derive(Debug)]
pub(crate) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    granted: Spent,
}

/// Steps and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Nodes of the tree gone through, and bytes gone through in units of 32.
    pub steps: u64,
    /// Bytes that values took, all together.
    pub bytes: u64,
}

impl Budget {
    /// What a conversation of `values` values with `bytes` bytes of text may need.
    pub(crate) fn of_given(values: usize, bytes: usize) -> Self {
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
            granted,
        }
    }

    pub(crate) fn steps(&self, count: u64) -> Result<(), Error> {
        match self.steps.get().checked_sub(count) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
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

    /// Pays for going through `bytes` bytes.
    pub(crate) fn work(&self, bytes: usize) -> Result<(), Error> {
        self.steps(1 + (bytes / BYTES_PER_STEP) as u64)
    }

    /// Pays for `bytes` bytes of memory and for filling them.
    pub(crate) fn memory(&self, bytes: usize) -> Result<(), Error> {
        match self.bytes.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes.set(left);
                self.steps((bytes / BYTES_PER_STEP) as u64)
            }
            None => {
                let most = self.granted.bytes;
                Err(Error::limit(format!(
                    "the template takes more memory than its conversation can need: over {most} bytes"
                )))
            }
        }
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
