//! Which of the requests that wait is next, and which has waited too long.

use std::cmp::Reverse;
use std::time::Duration;

use gogrid_units::{Moment, Whose};

use super::moment::{Deadline, Urgency};
use super::queue::Waiting;
use super::sequence::Sequence;
use super::{Action, Core};
use crate::error::{GenerateError, Refusal};
use crate::limits::{CLASS_RISES_EVERY, RETRY_AFTER_MIN};
use crate::request::Priority;

/// The class that a request counts as after so long a wait. It rises without end, so that each is the
/// first at some time.
fn class(priority: Priority, waited: Duration) -> u64 {
    let risen = waited.as_secs() / CLASS_RISES_EVERY.as_secs();
    let own = match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    };
    own + risen
}

impl Waiting {
    /// By which those that wait stand in the queue.
    fn order(&self, now: Moment) -> (Whose, Reverse<u64>, u64) {
        let Urgency {
            whose, priority, ..
        } = self.urgency();
        let class = class(priority, now.since(self.since));
        // The owner's come before all others.
        (whose, Reverse(class), self.number)
    }
}

impl Core {
    /// Puts those that wait in the order in which they start. Only the first keeps its leases.
    pub(super) fn order_queue(&mut self, now: Moment) {
        let queue = self.queue.make_contiguous();
        if queue.is_sorted_by_key(|waiting| waiting.order(now)) {
            return;
        }
        let first = queue[0].id();
        queue.sort_by_cached_key(|waiting| waiting.order(now));
        if queue[0].id() != first {
            self.take_ready();
        }
    }

    /// Tells those that wait where they stand, if that is another place than they know.
    pub(super) fn tell_positions(&mut self) {
        for (position, waiting) in self.queue.iter_mut().enumerate() {
            if waiting.position != Some(position) {
                waiting.position = Some(position);
                let id = waiting.id();
                self.actions.push(Action::Queued { id, position });
            }
        }
    }

    /// Ends a sequence whose first token was to have come by `now`; says whether it did.
    pub(super) fn end_if_late(&mut self, id: u64, now: Moment) -> bool {
        let sequence = self.sequence(id);
        let (deadline, whose) = (sequence.deadline(), sequence.whose());
        let Some(missed) = deadline.filter(|deadline| deadline.at <= now) else {
            return false;
        };
        let refusal = self.missed(missed, whose, now);
        self.end(id, |_| Err(refusal));
        true
    }

    /// Ends what has waited for its first token until its deadline. What is in a step ends with it.
    pub(super) fn end_late(&mut self, now: Moment) {
        let is_late = |deadline: Option<Deadline>| deadline.filter(|deadline| deadline.at <= now);
        let waiting = self.queue.iter();
        let late = waiting.filter_map(|w| {
            let Urgency {
                whose, deadline, ..
            } = w.urgency();
            Some((w.id(), whose, is_late(deadline)?))
        });
        for (id, whose, deadline) in late.collect::<Vec<_>>() {
            let refusal = self.missed(deadline, whose, now);
            self.end_queued(id, Err(refusal));
        }
        let free = self.running.iter().filter(|sequence| !sequence.in_flight);
        let free: Vec<u64> = free.map(|sequence| sequence.id).collect();
        for id in free {
            self.end_if_late(id, now);
        }
    }

    /// When the next deadline comes that no step has to end for.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let waiting = self.queue.iter().filter_map(|w| w.urgency().deadline);
        let free = self.running.iter().filter(|sequence| !sequence.in_flight);
        let running = free.filter_map(Sequence::deadline);
        waiting.chain(running).map(|deadline| deadline.at).min()
    }

    fn missed(&self, deadline: Deadline, whose: Whose, now: Moment) -> GenerateError {
        let stop = self.stop(whose);
        let left = stop.as_ref().and_then(|stop| stop.left(now));
        let others = self
            .starts
            .interval()
            .saturating_mul(self.queue.len() as u32);
        GenerateError::Refused(Refusal::Deadline {
            deadline: deadline.after,
            why: stop.map(|stop| stop.reason),
            retry_after: left.unwrap_or(others).max(RETRY_AFTER_MIN),
        })
    }
}
