use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::gate::Gate;

/// A thread that ended by a panic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadFailure {
    /// What it did.
    pub thread: String,
    /// What its panic said.
    pub problem: String,
}

impl fmt::Display for ThreadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, problem } = self;
        write!(f, "the thread `{thread}` has ended: {problem}")
    }
}

/// Which threads ended by a panic. The failure of the one that holds the limits is everybody's:
/// work stops for good.
#[derive(Debug)]
pub(crate) struct Health {
    gate: Arc<Gate>,
    /// Of the thread that holds the limits.
    governing: OnceLock<ThreadFailure>,
    failures: ArcSwap<Vec<ThreadFailure>>,
}

/// Failures that are kept; a device whose driver ends again and again must not fill the memory.
const FAILURES_MAX: usize = 64;

impl Health {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self {
            gate,
            governing: OnceLock::new(),
            failures: ArcSwap::default(),
        }
    }

    /// Notes that a thread has ended. An operator is told of it by the caller, once all that must
    /// happen then has happened.
    pub(crate) fn note(&self, thread: &str, problem: &str) -> ThreadFailure {
        let failure = ThreadFailure {
            thread: thread.to_owned(),
            problem: problem.to_owned(),
        };
        self.failures.rcu(|failures| {
            let mut failures = Vec::clone(failures);
            if failures.len() < FAILURES_MAX {
                failures.push(failure.clone());
            }
            failures
        });
        failure
    }

    /// Notes that the limits are held no more, and stops all work.
    pub(crate) fn note_governing(&self, thread: &str, problem: &str) -> ThreadFailure {
        self.gate.fail();
        let failure = ThreadFailure {
            thread: thread.to_owned(),
            problem: problem.to_owned(),
        };
        // Before it is among the failures, where others see it: what they then ask says so too.
        let first = self.governing.get_or_init(|| failure).clone();
        self.note(thread, problem);
        first
    }

    /// Why the limits are held no more.
    pub(crate) fn governing(&self) -> Option<&ThreadFailure> {
        self.governing.get()
    }

    pub(crate) fn failures(&self) -> Vec<ThreadFailure> {
        Vec::clone(&self.failures.load())
    }
}
