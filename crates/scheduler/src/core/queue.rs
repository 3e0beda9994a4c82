//! The queue: requests that wait for a place among the running, for room, and for their start.

use std::collections::VecDeque;

use gogrid_lease::{Lease, Permit};
use gogrid_units::Moment;

use super::sequence::{Beginning, Sequence};
use super::starts::{Credit, Turn};
use super::{Action, Core, End, Ending};
use crate::error::Refusal;
use crate::generation::{Figures, Finish};

/// A request in the queue. Only the first holds leases.
pub(super) struct Waiting {
    beginning: Beginning,
    _place: Permit,
    /// The start it already has, since it was submitted.
    credit: Option<Credit>,
    ready: Option<Ready>,
}

/// What a request that waits only for its start holds.
struct Ready {
    leases: Vec<Lease>,
    since: Moment,
}

impl Waiting {
    fn turn(&self) -> Option<Turn> {
        let Ready { since, .. } = *self.ready.as_ref()?;
        let counted = self.credit.is_some();
        Some(Turn { since, counted })
    }

    /// Gives its leases back; it takes others when its turn comes again.
    pub(super) fn give_up_leases(&mut self) {
        self.ready = None;
    }

    /// Rows that the leases it holds are for.
    #[cfg(test)]
    pub(super) fn rows_leased(&self) -> usize {
        let leased = self.ready.is_some();
        if leased {
            self.beginning.rows_at_most()
        } else {
            0
        }
    }
}

impl Core {
    pub(super) fn submit(&mut self, beginning: Beginning, place: Permit) {
        let credit = self.starts.credit(beginning.asked);
        self.queue.push_back(Waiting {
            beginning,
            _place: place,
            credit,
            ready: None,
        });
        self.shed();
        self.end_failed();
    }

    /// The turn of the first of the queue, if nothing but its start is missing.
    pub(super) fn head(&self) -> Option<Turn> {
        let first = self.queue.front()?;
        first
            .turn()
            .filter(|_| self.running.len() < self.running_max())
    }

    /// Starts the first of the queue if all it needs is there; says whether it went.
    pub(super) fn start_next(&mut self, now: Moment) -> bool {
        if self.running.len() >= self.running_max() {
            return false;
        }
        if let Err(refusal) = self.make_ready(now) {
            self.end_first(Err(refusal.into()));
            return true;
        }
        let Some(turn) = self.head() else {
            return false;
        };
        let Some(opened) = self.starts.opens(turn).filter(|&opens| opens <= now) else {
            return false;
        };
        self.starts.begin(turn, opened, now);
        let Waiting {
            beginning, ready, ..
        } = self.queue.pop_front().expect("it was looked at");
        let Ready { leases, .. } = ready.expect("it had a turn");
        let groups = self.numbers.len();
        let started = Sequence::begin(beginning, leases, groups, (now, self.steps_begun));
        self.running.push(started);
        true
    }

    /// Leases what the first of the queue needs if there is room for it.
    fn make_ready(&mut self, now: Moment) -> Result<(), Refusal> {
        let waits = |first: &&mut Waiting| first.ready.is_none();
        let Some(first) = self.queue.front_mut().filter(waits) else {
            return Ok(());
        };
        let (room, rows) = (&self.layout.room, first.beginning.rows_at_most());
        room.refuse_what_never_fits(rows)?;
        let leases = room.lease(rows).ok();
        first.ready = leases.map(|leases| Ready { leases, since: now });
        Ok(())
    }

    /// Refuses all that wait while more is held than a lowered cap allows: it takes what runs to end
    /// before there is room again, and a caller that is told so may fare better elsewhere.
    pub(super) fn shed(&mut self) {
        while !self.queue.is_empty()
            && let Err(refusal) = self.layout.room.refuse_while_over()
        {
            self.end_first(Err(refusal.into()));
        }
    }

    /// Ends the first of the queue, which did not start.
    pub(super) fn end_first(&mut self, end: End) {
        let first = self.queue.pop_front().expect("it was looked at");
        self.end_waiting(first, end);
    }

    fn end_waiting(&mut self, waiting: Waiting, end: End) {
        if let Some(credit) = waiting.credit {
            self.starts.give_back(credit);
        }
        let id = waiting.beginning.id;
        self.actions.push(Action::End { id, end });
    }

    /// Gives the next caller its start if it has come; says whether one got it.
    pub(super) fn grant_next(&mut self, now: Moment) -> bool {
        let granted = self.starts.grant(now, self.head());
        self.actions.extend(granted.map(Action::Start));
        granted.is_some()
    }

    pub(super) fn cancel(&mut self, is_meant: impl Fn(u64) -> bool) {
        let (gone, kept): (VecDeque<_>, _) = self
            .queue
            .drain(..)
            .partition(|waiting| is_meant(waiting.beginning.id));
        self.queue = kept;
        for waiting in gone {
            let figures = Figures {
                prompt_tokens: waiting.beginning.prompt.rows.len(),
                ..Figures::default()
            };
            let ending = Ending {
                reason: Finish::Cancelled,
                figures,
                scores: Vec::new(),
            };
            self.end_waiting(waiting, Ok(ending));
        }
        for sequence in self.running.iter_mut().filter(|s| is_meant(s.id)) {
            sequence.cancelled = true;
        }
        self.end_cancelled();
    }
}
