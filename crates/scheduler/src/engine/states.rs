//! What a caller is told of how its request stands: the newest, and no more often than it listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use gogrid_units::Moment;

use crate::generation::Event;
use crate::pause::{Stop, are_alike};

/// The place of a request's channel for an event about how it stands. The engine puts one in, the
/// caller takes it out, and the engine hears of that if it has a newer one.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatePlace(Arc<AtomicU8>);

const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// Taken, while a newer event waits for it.
const WANTED: u8 = 2;

impl StatePlace {
    /// Takes the place, or asks to hear when it is free; says whether it was taken.
    fn take(&self) -> bool {
        let freed_meanwhile =
            self.0
                .compare_exchange(TAKEN, WANTED, Ordering::SeqCst, Ordering::SeqCst);
        match freed_meanwhile {
            Ok(_) | Err(WANTED) => false,
            // The engine alone takes it.
            Err(_) => {
                self.0.store(TAKEN, Ordering::SeqCst);
                true
            }
        }
    }

    /// The caller has taken an event; says whether a newer one waits if it was one of these.
    pub(crate) fn free(&self, taken: &Event) -> bool {
        let is_state = matches!(
            taken,
            Event::Queued { .. } | Event::Paused { .. } | Event::Resumed
        );
        is_state && self.0.swap(FREE, Ordering::SeqCst) == WANTED
    }
}

/// How one request stands, and what of that its caller knows.
#[derive(Debug, Default)]
pub(super) struct States {
    place: StatePlace,
    /// The place in the queue, and what is known of it.
    queued: Option<usize>,
    told_queued: Option<usize>,
    stop: Option<Stop>,
    told_stop: Option<Stop>,
    /// Whether that stop was seen to end, by events of work: then the next one is news, though it be alike.
    worked_since: bool,
}

impl States {
    pub(super) fn new(place: StatePlace) -> Self {
        Self {
            place,
            ..Self::default()
        }
    }

    /// It waits in this place of the queue, or has started.
    pub(super) fn stands(&mut self, queued: Option<usize>) {
        self.queued = queued;
    }

    /// Work is stopped, or goes on.
    pub(super) fn stops(&mut self, stop: Option<&Stop>) {
        if !are_alike(self.stop.as_ref(), stop) {
            self.stop = stop.cloned();
        }
    }

    /// The caller is told of work. Some of it may have begun before a stop that holds.
    pub(super) fn works(&mut self) {
        self.worked_since |= self.stop.is_none();
    }

    /// The event to tell, if there is one and a place for it.
    pub(super) fn next(&mut self, now: Moment) -> Option<Event> {
        let is_news = self.queued.is_some() && self.queued != self.told_queued;
        let is_another = self.worked_since && self.stop.is_some();
        let stop_is_news = is_another || !are_alike(self.stop.as_ref(), self.told_stop.as_ref());
        if !(is_news || stop_is_news) || !self.place.take() {
            return None;
        }
        if let Some(position) = self.queued.filter(|_| is_news) {
            self.told_queued = self.queued;
            if stop_is_news {
                // Finds the place taken, and asks to hear when it is free.
                self.place.take();
            }
            return Some(Event::Queued { position });
        }
        self.told_stop = self.stop.clone();
        self.worked_since = false;
        Some(match &self.stop {
            None => Event::Resumed,
            Some(stop) => Event::Paused {
                reason: stop.reason.clone(),
                left: stop.left(now),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gogrid_governor::Reason;

    use super::*;

    fn paused(reason: Reason) -> Stop {
        Stop {
            reason,
            until: Some(Moment(3_000_000_000)),
        }
    }

    #[test]
    fn the_newest_is_told_when_the_last_was_taken() {
        let place = StatePlace::default();
        let mut states = States::new(place.clone());
        let now = Moment(1_000_000_000);
        states.stands(Some(5));
        let first = states.next(now).expect("it is news");
        assert_eq!(first, Event::Queued { position: 5 });
        for position in [4, 3, 2] {
            states.stands(Some(position));
            assert_eq!(states.next(now), None, "the place is taken");
        }
        assert!(place.free(&first), "a newer one waits");
        let second = states.next(now).expect("it is news");
        assert_eq!(second, Event::Queued { position: 2 });
        assert!(!place.free(&second), "the caller knows the newest");
        assert_eq!(states.next(now), None);
    }

    #[test]
    fn what_waits_behind_the_place_in_the_queue_is_told_once_that_is_taken() {
        let place = StatePlace::default();
        let mut states = States::new(place.clone());
        let now = Moment(1_000_000_000);
        states.stands(Some(0));
        states.stops(Some(&paused(Reason::Schedule)));
        let first = states.next(now).expect("it is news");
        assert_eq!(first, Event::Queued { position: 0 });
        assert!(
            place.free(&first),
            "a stop waits, and nothing else wakes the engine"
        );
        let second = states.next(now).expect("it is news");
        assert!(matches!(second, Event::Paused { .. }), "{second:?}");
        assert!(!place.free(&second));
    }

    #[test]
    fn a_stop_that_was_over_before_it_was_told_is_not_told() {
        let place = StatePlace::default();
        let mut states = States::new(place.clone());
        let now = Moment(1_000_000_000);
        states.stops(Some(&paused(Reason::Schedule)));
        let first = states.next(now).expect("it is news");
        let left = Some(Duration::from_secs(2));
        let reason = Reason::Schedule;
        assert_eq!(first, Event::Paused { reason, left });
        states.stops(None);
        states.stops(Some(&paused(Reason::Schedule)));
        assert!(!place.free(&first));
        assert_eq!(states.next(now), None);
        states.stops(None);
        assert_eq!(states.next(now), Some(Event::Resumed));
    }

    #[test]
    fn a_stop_after_work_is_told_though_the_one_before_was_alike() {
        let place = StatePlace::default();
        let mut states = States::new(place.clone());
        let now = Moment(1_000_000_000);
        states.stops(Some(&paused(Reason::Schedule)));
        let first = states.next(now).expect("it is news");
        states.works();
        assert_eq!(states.next(now), None);
        assert!(!place.free(&first), "what was under way ends within a stop");
        states.stops(None);
        let resumed = states.next(now).expect("it is news");
        assert_eq!(resumed, Event::Resumed);
        states.works();
        states.stops(Some(&paused(Reason::Schedule)));
        assert_eq!(states.next(now), None, "the place is taken");
        assert!(place.free(&resumed));
        let second = states.next(now).expect("it is news");
        assert!(matches!(second, Event::Paused { .. }), "{second:?}");
        // The word that work goes on finds the place taken; the work itself is told, and stops again.
        states.stops(None);
        assert_eq!(states.next(now), None);
        states.works();
        states.stops(Some(&paused(Reason::Schedule)));
        assert_eq!(states.next(now), None, "the place is taken");
        assert!(place.free(&second), "a newer one waits");
        let third = states.next(now).expect("it is news");
        assert!(matches!(third, Event::Paused { .. }), "{third:?}");
        assert!(!place.free(&third));
        assert_eq!(states.next(now), None);
    }

    #[test]
    fn other_events_free_no_place() {
        let place = StatePlace::default();
        let mut states = States::new(place.clone());
        states.stands(Some(0));
        assert!(states.next(Moment(0)).is_some());
        states.stops(Some(&Stop::by_hand()));
        assert_eq!(states.next(Moment(0)), None);
        assert!(!place.free(&Event::Started { cached_tokens: 0 }));
        assert_eq!(states.next(Moment(0)), None);
        assert!(place.free(&Event::Queued { position: 0 }));
    }
}
