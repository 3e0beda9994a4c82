//! The queue: requests that wait for a place among the running, for room, and for their start.

use std::collections::VecDeque;

use gogrid_lease::Permit;
use gogrid_units::{Moment, Whose};

use super::moment::Urgency;
use super::sequence::{Beginning, Held, Sequence};
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
    /// Its number among all that were submitted.
    pub(super) number: u64,
    pub(super) since: Moment,
    /// The place in the queue that its owner was told.
    pub(super) position: Option<usize>,
}

/// What a request that waits only for its start holds.
pub(super) struct Ready {
    held: Held,
    since: Moment,
}

impl Waiting {
    fn turn(&self) -> Option<Turn> {
        let Ready { since, .. } = *self.ready.as_ref()?;
        Some(Turn {
            since,
            counted: self.credit.is_some(),
            is_owners: self.urgency().whose == Whose::Owner,
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.beginning.id
    }

    pub(super) fn urgency(&self) -> Urgency {
        self.beginning.urgency
    }

    /// The clock went back to `now`.
    pub(super) fn went_back(&mut self, now: Moment) {
        self.since = self.since.min(now);
        self.beginning.urgency.went_back(now);
    }

    /// Whether only its start is missing.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// The blocks that it would have begun with.
    #[cfg(test)]
    pub(super) fn tables(&self) -> &[Vec<Option<gogrid_pipeline::BlockId>>] {
        let ready = self.ready.as_ref();
        ready.map_or(&[], |ready| &ready.held.hit.tables)
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
            number: self.submitted,
            since: self.ticked,
            position: None,
        });
        self.submitted += 1;
        self.shed();
        self.end_failed();
    }

    /// The turn of the first of the queue, if nothing but its start is missing.
    pub(super) fn head(&self) -> Option<Turn> {
        let first = self.queue.front()?;
        first.turn().filter(|_| self.has_place(first))
    }

    /// Whether there is a place among the running for one that waits, and its class is not stopped. Guests
    /// that run take no place from the owner's requests.
    pub(super) fn has_place(&self, waiting: &Waiting) -> bool {
        let whose = waiting.urgency().whose;
        let running = match whose {
            Whose::Owner => self.owners_running(),
            Whose::Guest => self.running.len(),
        };
        // Guests that were parked go on before others start.
        let goes_before = |s: &Sequence| whose == Whose::Guest && s.is_parked;
        running < self.running_max()
            && !self.is_stopped(whose)
            && !self.running.iter().any(goes_before)
    }

    /// Starts the first of the queue if all it needs is there; says whether it went.
    pub(super) fn start_next(&mut self, now: Moment) -> bool {
        if !self
            .queue
            .front()
            .is_some_and(|first| self.has_place(first))
        {
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
        let Ready { held, .. } = ready.expect("it had a turn");
        let whose = beginning.urgency.whose;
        let at = self.stopped_until(now).instance(whose, &[]);
        let started = Sequence::begin(beginning, held, (at, self.steps_begun));
        self.tell_start(&started);
        self.running.push(started);
        true
    }

    fn tell_start(&mut self, started: &Sequence) {
        let (id, cached_tokens) = (started.id, started.cached);
        self.actions.push(Action::Started { id, cached_tokens });
        if started.mask.is_constrained() {
            self.actions.push(Action::Match { id, token: None });
        }
    }

    /// Leases what the first of the queue needs if there is room for it.
    fn make_ready(&mut self, now: Moment) -> Result<(), Refusal> {
        let waits = |first: &&Waiting| first.ready.is_none();
        let Some(first) = self.queue.front().filter(waits) else {
            return Ok(());
        };
        let (rows, chain) = (
            first.beginning.rows_at_most(),
            self.chain_of(&first.beginning),
        );
        self.layout.room.refuse_what_never_fits(rows)?;
        let whose = first.beginning.urgency.whose;
        let mut held = self.admit(rows, &chain);
        while held.is_none() && whose == Whose::Owner && self.park_one(rows) {
            held = self.admit(rows, &chain);
        }
        let ready = held.map(|held| Ready { held, since: now });
        let first = self.queue.front_mut();
        first.expect("it was looked at").ready = ready;
        Ok(())
    }

    /// Takes the leases of a guest's sequence for a request of the owner of so many rows: of the one that started
    /// last. It begins again from its rows once there is room. Says whether there was one, and all of them have
    /// enough.
    fn park_one(&mut self, rows: usize) -> bool {
        let is_free = |s: &Sequence| s.whose() == Whose::Guest && !s.in_flight && !s.is_parked;
        let free = self.running.iter().filter(|s| is_free(s));
        let theirs = free.map(Sequence::rows_at_most);
        if !self.layout.room.fits_without(rows, theirs) {
            return false;
        }
        let mut running = self.running.iter_mut().rev();
        let Some(sequence) = running.find(|s| is_free(s)) else {
            return false;
        };
        sequence.is_parked = true;
        let blocks = sequence.begin_again();
        self.let_go(blocks);
        true
    }

    /// Leases those again that were parked, in the order they started, as far as there is room and nothing of
    /// the owner's waits for it.
    pub(super) fn unpark(&mut self) {
        let is_owners = |first: &Waiting| first.urgency().whose == Whose::Owner;
        if self.is_stopped(Whose::Guest) || self.queue.front().is_some_and(is_owners) {
            return;
        }
        let parked = self.running.iter().filter(|s| s.is_parked);
        for id in parked.map(|s| s.id).collect::<Vec<_>>() {
            let rows = self.sequence(id).rows_at_most();
            // A cap may have fallen meanwhile.
            if let Err(refusal) = self.layout.room.refuse_what_never_fits(rows) {
                self.end(id, |_| Err(refusal.into()));
                continue;
            }
            let Some(held) = self.admit(rows, &[]) else {
                return;
            };
            let sequence = self.sequence(id);
            (sequence.leases, sequence.is_parked) = (held.leases, false);
        }
    }

    /// Takes back what requests that wait hold; they take it again when their turn comes again.
    pub(super) fn take_ready(&mut self) {
        let ready: Vec<_> = self
            .queue
            .iter_mut()
            .filter_map(|waiting| waiting.ready.take())
            .collect();
        ready.into_iter().for_each(|ready| self.give_up(ready));
    }

    fn give_up(&mut self, ready: Ready) {
        let Held { leases, hit } = ready.held;
        drop(leases);
        self.let_go(hit.into_blocks());
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

    /// Ends one of the queue, which did not start.
    pub(super) fn end_queued(&mut self, id: u64, end: End) {
        let place = self.queue.iter().position(|waiting| waiting.id() == id);
        let waiting = place.and_then(|place| self.queue.remove(place));
        self.end_waiting(waiting.expect("it waits"), end);
    }

    fn end_waiting(&mut self, waiting: Waiting, end: End) {
        if let Some(credit) = waiting.credit {
            self.starts.give_back(credit);
        }
        let id = waiting.beginning.id;
        self.actions.push(Action::End { id, end });
        if let Some(ready) = waiting.ready {
            self.give_up(ready);
        }
    }

    /// Gives the next caller its start if it has come; says whether one got it.
    pub(super) fn grant_next(&mut self, now: Moment) -> bool {
        // Callers that ask for one are guests.
        if self.is_stopped(Whose::Guest) {
            return false;
        }
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
                values: Vec::new(),
            };
            self.end_waiting(waiting, Ok(ending));
        }
        for sequence in self.running.iter_mut().filter(|s| is_meant(s.id)) {
            sequence.cancelled = true;
        }
        self.end_cancelled();
    }
}
