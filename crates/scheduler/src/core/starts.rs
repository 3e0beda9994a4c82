use std::collections::VecDeque;

use gogrid_lease::Interval;
use gogrid_units::Moment;

use crate::limits::{CREDIT_NANOS, CREDITS_MAX};
use crate::resource_manager::{ResourceConfig, ResourceStats};

/// The starts of requests: at least the interval apart, counted once each.
#[derive(Debug)]
pub(crate) struct Starts {
    interval: Interval,
    interval_nanos: u64,
    throttling: bool,
    last: Option<Moment>,
    /// Callers that wait for a start to use later, by the moment it is theirs.
    tickets: VecDeque<Ticket>,
    /// Moments of starts that were taken and not used yet.
    credits: VecDeque<Moment>,
    total: u64,
    throttled: u64,
}

#[derive(Debug)]
struct Ticket {
    id: u64,
    asked: Moment,
    at: Moment,
}

/// A request's own turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    asked: Moment,
    at: Moment,
    /// Whether `throttle_if_needed` counted it already.
    counted: bool,
}

impl Starts {
    pub(crate) fn new(limits: &ResourceConfig) -> Self {
        let interval_nanos = limits.min_request_interval_ms.saturating_mul(1_000_000);
        Self {
            interval: Interval::new(interval_nanos),
            interval_nanos,
            throttling: limits.enable_auto_throttle,
            last: None,
            tickets: VecDeque::new(),
            credits: VecDeque::new(),
            total: 0,
            throttled: 0,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: &ResourceConfig) {
        self.interval_nanos = limits.min_request_interval_ms.saturating_mul(1_000_000);
        self.interval.set_min(self.interval_nanos);
        self.throttling = limits.enable_auto_throttle;
    }

    /// A caller asks for a start to use later.
    pub(crate) fn ask(&mut self, id: u64, asked: Moment) {
        let at = if self.throttling {
            self.interval.take(asked)
        } else {
            asked
        };
        self.tickets.push_back(Ticket { id, asked, at });
    }

    /// The callers whose start has come; each has a credit from then on.
    pub(crate) fn due(&mut self, now: Moment) -> Vec<u64> {
        let mut due = Vec::new();
        while let Some(ticket) = self.tickets.front()
            && (ticket.at <= now || !self.throttling)
        {
            let late = ticket.at > ticket.asked && self.throttling;
            due.push(ticket.id);
            self.tickets.pop_front();
            self.count(late);
            if self.credits.len() == CREDITS_MAX {
                self.credits.pop_front();
            }
            self.credits.push_back(now);
        }
        due
    }

    /// A request takes its turn: a credit if there is one, else the next start.
    pub(crate) fn turn(&mut self, now: Moment) -> Turn {
        while let Some(&credit) = self.credits.front()
            && now.0.saturating_sub(credit.0) > CREDIT_NANOS
        {
            self.credits.pop_front();
        }
        let counted = self.credits.pop_front().is_some();
        let at = match counted || !self.throttling {
            true => now,
            false => self.interval.take(now),
        };
        Turn {
            asked: now,
            at,
            counted,
        }
    }

    /// When `turn` may start. A credit may be used late, so its neighbours are kept off it too.
    pub(crate) fn opens(&self, turn: Turn) -> Moment {
        if !self.throttling {
            return turn.asked;
        }
        let apart = self
            .last
            .map_or(0, |last| last.0.saturating_add(self.interval_nanos));
        Moment(turn.at.0.max(apart))
    }

    /// Marks the start of `turn`.
    pub(crate) fn begin(&mut self, turn: Turn, now: Moment) {
        if !turn.counted {
            self.count(self.opens(turn) > turn.asked);
        }
        self.last = Some(now);
    }

    fn count(&mut self, late: bool) {
        self.total += 1;
        self.throttled += u64::from(late);
    }

    /// When the next caller's start comes.
    pub(crate) fn wake(&self) -> Option<Moment> {
        self.tickets.front().map(|ticket| ticket.at)
    }

    pub(crate) fn stats(&self) -> ResourceStats {
        let rate = if self.total == 0 {
            0.0
        } else {
            self.throttled as f64 / self.total as f64
        };
        ResourceStats {
            total_requests: self.total,
            throttled_requests: self.throttled,
            throttle_rate: rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn starts(interval_ms: u64, throttle: bool) -> Starts {
        Starts::new(&ResourceConfig {
            min_request_interval_ms: interval_ms,
            enable_auto_throttle: throttle,
            ..ResourceConfig::default()
        })
    }

    #[test]
    fn a_credit_saves_the_next_request_its_wait_and_its_count() {
        let mut starts = starts(100, true);
        starts.ask(1, Moment(0));
        starts.ask(2, Moment(0));
        assert_eq!(starts.due(Moment(0)), [1]);
        assert_eq!(starts.due(Moment(99 * MS)), Vec::<u64>::new());
        assert_eq!(starts.wake(), Some(Moment(100 * MS)));
        assert_eq!(starts.due(Moment(100 * MS)), [2]);
        let turn = starts.turn(Moment(100 * MS));
        assert_eq!(starts.opens(turn), Moment(100 * MS));
        starts.begin(turn, Moment(100 * MS));
        let stats = starts.stats();
        assert_eq!((stats.total_requests, stats.throttled_requests), (2, 1));
        assert_eq!(stats.throttle_rate, 0.5);
    }

    #[test]
    fn a_credit_is_good_for_a_second() {
        let mut starts = starts(100, true);
        starts.ask(1, Moment(0));
        starts.due(Moment(0));
        let late = Moment(CREDIT_NANOS + 1);
        let turn = starts.turn(late);
        starts.begin(turn, late);
        assert_eq!(starts.stats().total_requests, 2, "a start of its own");
    }

    #[test]
    fn two_credits_used_at_once_still_start_apart() {
        let mut starts = starts(100, true);
        for (id, at) in [(1, 0), (2, 100 * MS)] {
            starts.ask(id, Moment(at));
            assert_eq!(starts.due(Moment(at)), [id]);
        }
        let now = Moment(500 * MS);
        let (first, second) = (starts.turn(now), starts.turn(now));
        assert_eq!(starts.opens(first), now);
        starts.begin(first, now);
        assert_eq!(starts.opens(second), Moment(600 * MS));
    }

    #[test]
    fn without_throttling_nothing_waits() {
        let mut starts = starts(100, false);
        for id in 0..5 {
            starts.ask(id, Moment(0));
        }
        assert_eq!(starts.due(Moment(0)).len(), 5);
        assert_eq!(starts.stats().throttled_requests, 0);
    }
}
