//! What a moment means to a request: how long work was stopped, and whether it is too late.

use std::time::Duration;

use gogrid_units::{Each, Moment, Whose};

use crate::request::Priority;

/// A moment, and what the core knows that matters to a sequence then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instance<'a> {
    pub(crate) now: Moment,
    /// The time in which work was stopped so far.
    pub(crate) stopped: Duration,
    /// Tokens that end a generation, in order.
    pub(crate) ends: &'a [u32],
}

/// A moment, and how long work of each class was stopped so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoppedUntil {
    pub(crate) now: Moment,
    pub(crate) times: Each<Duration>,
}

impl StoppedUntil {
    /// What it is to a request of this class.
    pub(crate) fn instance(self, whose: Whose, ends: &[u32]) -> Instance<'_> {
        Instance {
            now: self.now,
            stopped: *self.times.its(whose),
            ends,
        }
    }
}

/// How much of a hurry a request is in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Urgency {
    pub(crate) whose: Whose,
    pub(crate) priority: Priority,
    pub(crate) deadline: Option<Deadline>,
}

impl Urgency {
    /// The clock went back to `now`: a deadline stays no further away than it was at first.
    pub(crate) fn went_back(&mut self, now: Moment) {
        if let Some(deadline) = &mut self.deadline {
            deadline.at = deadline.at.min(now.after(deadline.after));
        }
    }
}

/// When a request's first token must have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// The time it was given.
    pub(crate) after: Duration,
    pub(crate) at: Moment,
}
