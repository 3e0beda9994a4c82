use std::collections::VecDeque;
use std::time::Duration;

use gogrid_units::Moment;

use crate::limits::{CREDIT_LASTS, CREDITS_MAX};
use crate::resource_manager::{ResourceConfig, ResourceStats};

/// The starts of requests: at least the interval apart, counted once each. Nobody's start has a
/// moment before it comes, so a caller that goes away leaves no gap and a changed interval counts at once.
#[derive(Debug)]
pub(crate) struct Starts {
    interval: Duration,
    throttling: bool,
    /// The last start that was counted.
    counted: Option<Moment>,
    /// The last start of a request. A credit is counted before its request starts.
    begun: Option<Moment>,
    /// Callers that wait for a start to use later, in the order they asked.
    tickets: VecDeque<Ticket>,
    /// Moments of starts that were counted and not used yet, in order.
    credits: VecDeque<Credit>,
    total: u64,
    throttled: u64,
}

#[derive(Debug)]
struct Ticket {
    id: u64,
    asked: Moment,
}

/// A start that `throttle_if_needed` counted, for one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit(Moment);

/// The turn of the request that starts next, once nothing but its start is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) since: Moment,
    /// Whether it has a [`Credit`].
    pub(crate) counted: bool,
    /// Whether it is the owner's, which waits for no caller that asks for a start to use later.
    pub(crate) is_owners: bool,
}

impl Starts {
    pub(crate) fn new(limits: &ResourceConfig) -> Self {
        Self {
            interval: Duration::from_millis(limits.min_request_interval_ms),
            throttling: limits.enable_auto_throttle,
            counted: None,
            begun: None,
            tickets: VecDeque::new(),
            credits: VecDeque::new(),
            total: 0,
            throttled: 0,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: &ResourceConfig) {
        self.interval = Duration::from_millis(limits.min_request_interval_ms);
        self.throttling = limits.enable_auto_throttle;
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// The clock went back to `now`: what was, was no later than that, so that nobody waits for a
    /// moment to come twice.
    pub(crate) fn went_back(&mut self, now: Moment) {
        let past = |moment: Moment| moment.min(now);
        self.counted = self.counted.map(past);
        self.begun = self.begun.map(past);
        for ticket in &mut self.tickets {
            ticket.asked = past(ticket.asked);
        }
        for credit in &mut self.credits {
            credit.0 = past(credit.0);
        }
    }

    /// A caller asks for a start to use later.
    pub(crate) fn ask(&mut self, id: u64, asked: Moment) {
        self.tickets.push_back(Ticket { id, asked });
    }

    /// The caller does not wait any more.
    pub(crate) fn take_back(&mut self, id: u64) {
        self.tickets.retain(|ticket| ticket.id != id);
    }

    /// The next caller whose start has come; it has a credit from then on. `head` is the turn of
    /// the request that could start too; the one that waited longer goes first.
    pub(crate) fn grant(&mut self, now: Moment, head: Option<Turn>) -> Option<u64> {
        let opens = self.ask_opens(head).filter(|&opens| opens <= now)?;
        let Ticket { id, asked } = self.tickets.pop_front()?;
        self.count(now, opens > asked);
        if self.credits.len() == CREDITS_MAX {
            self.credits.pop_front();
        }
        self.credits.push_back(Credit(now));
        Some(id)
    }

    /// When the next caller's start comes; `None` while it is the turn of `head`.
    pub(crate) fn ask_opens(&self, head: Option<Turn>) -> Option<Moment> {
        let ticket = self.tickets.front()?;
        let goes_first =
            |turn: Turn| !turn.counted && (turn.is_owners || turn.since < ticket.asked);
        (!head.is_some_and(goes_first)).then(|| self.after(self.counted, ticket.asked))
    }

    /// The oldest credit that is still good, for a request submitted at `now`.
    pub(crate) fn credit(&mut self, now: Moment) -> Option<Credit> {
        let lapsed = |credit: &mut Credit| now.since(credit.0) > CREDIT_LASTS;
        while self.credits.pop_front_if(lapsed).is_some() {}
        self.credits.pop_front()
    }

    /// A credit whose request did not start goes back for another, if it is still good then.
    pub(crate) fn give_back(&mut self, credit: Credit) {
        let place = self.credits.partition_point(|other| other.0 <= credit.0);
        self.credits.insert(place, credit);
        if self.credits.len() > CREDITS_MAX {
            self.credits.pop_front();
        }
    }

    /// When `turn` may start; `None` while it is a caller's turn. A credit may be used late, so its
    /// neighbours are kept off it too.
    pub(crate) fn opens(&self, turn: Turn) -> Option<Moment> {
        let begun = self.after(self.begun, turn.since);
        if turn.counted {
            return Some(begun);
        }
        let goes_first = |ticket: &Ticket| !turn.is_owners && ticket.asked <= turn.since;
        let behind = self.tickets.front().is_some_and(goes_first);
        (!behind).then(|| begun.max(self.after(self.counted, turn.since)))
    }

    /// Marks the start of `turn`, which opened at `opened`.
    pub(crate) fn begin(&mut self, turn: Turn, opened: Moment, now: Moment) {
        if !turn.counted {
            self.count(now, opened > turn.since);
        }
        self.begun = Some(now);
    }

    /// `since`, or as much later as it takes to be the interval after `last`.
    fn after(&self, last: Option<Moment>, since: Moment) -> Moment {
        match last.filter(|_| self.throttling) {
            Some(last) => since.max(last.after(self.interval)),
            None => since,
        }
    }

    fn count(&mut self, now: Moment, late: bool) {
        self.counted = Some(now);
        self.total += 1;
        self.throttled += u64::from(late);
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

    fn limits(interval_ms: u64, throttle: bool) -> ResourceConfig {
        ResourceConfig {
            min_request_interval_ms: interval_ms,
            enable_auto_throttle: throttle,
            ..ResourceConfig::default()
        }
    }

    fn starts(interval_ms: u64, throttle: bool) -> Starts {
        Starts::new(&limits(interval_ms, throttle))
    }

    fn turn(since: u64, credit: Option<Credit>) -> Turn {
        Turn {
            since: Moment(since),
            counted: credit.is_some(),
            is_owners: false,
        }
    }

    #[test]
    fn a_request_of_the_owner_waits_for_no_caller_that_asked_before() {
        let mut starts = starts(100, true);
        starts.ask(1, Moment(0));
        assert_eq!(starts.grant(Moment(0), None), Some(1));
        starts.ask(2, Moment(10));
        let owners = Turn {
            is_owners: true,
            ..turn(20, None)
        };
        assert_eq!(starts.ask_opens(Some(owners)), None);
        assert_eq!(starts.opens(owners), Some(Moment(100 * MS)));
    }

    #[test]
    fn a_credit_saves_the_next_request_its_wait_and_its_count() {
        let mut starts = starts(100, true);
        starts.ask(1, Moment(0));
        starts.ask(2, Moment(0));
        assert_eq!(starts.grant(Moment(0), None), Some(1));
        assert_eq!(starts.grant(Moment(99 * MS), None), None);
        assert_eq!(starts.ask_opens(None), Some(Moment(100 * MS)));
        let now = Moment(100 * MS);
        assert_eq!(starts.grant(now, None), Some(2));
        let turn = turn(now.0, starts.credit(now));
        assert_eq!(starts.opens(turn), Some(now));
        starts.begin(turn, now, now);
        let stats = starts.stats();
        assert_eq!((stats.total_requests, stats.throttled_requests), (2, 1));
        assert_eq!(stats.throttle_rate, 0.5);
    }

    #[test]
    fn a_credit_is_good_for_a_second() {
        let mut starts = starts(100, true);
        starts.ask(1, Moment(0));
        starts.grant(Moment(0), None);
        let credit = starts
            .credit(Moment::default().after(CREDIT_LASTS))
            .expect("still good");
        starts.give_back(credit);
        assert!(starts.credit(Moment(1).after(CREDIT_LASTS)).is_none());
    }

    #[test]
    fn two_credits_used_at_once_still_start_apart() {
        let mut starts = starts(100, true);
        for (id, at) in [(1, 0), (2, 100 * MS)] {
            starts.ask(id, Moment(at));
            assert_eq!(starts.grant(Moment(at), None), Some(id));
        }
        let now = Moment(500 * MS);
        let first = turn(now.0, starts.credit(now));
        let second = turn(now.0, starts.credit(now));
        assert_eq!(starts.opens(first), Some(now));
        starts.begin(first, now, now);
        assert_eq!(starts.opens(second), Some(Moment(600 * MS)));
    }

    #[test]
    fn a_caller_who_goes_away_leaves_no_gap() {
        let mut starts = starts(100, true);
        (1..=3).for_each(|id| starts.ask(id, Moment(0)));
        assert_eq!(starts.grant(Moment(0), None), Some(1));
        starts.take_back(2);
        assert_eq!(starts.grant(Moment(100 * MS), None), Some(3));
        assert_eq!(starts.stats().total_requests, 2);
    }

    #[test]
    fn who_waited_longer_goes_first() {
        let mut starts = starts(100, true);
        starts.ask(1, Moment(0));
        assert_eq!(starts.grant(Moment(0), None), Some(1));
        starts.ask(2, Moment(10));
        for (since, asker_first) in [(9, false), (10, true)] {
            let head = turn(since, None);
            assert_eq!(starts.ask_opens(Some(head)).is_some(), asker_first);
            assert_eq!(starts.opens(head).is_none(), asker_first);
        }
    }

    #[test]
    fn a_changed_interval_counts_at_once() {
        let mut starts = starts(1000, true);
        (1..=3).for_each(|id| starts.ask(id, Moment(0)));
        assert_eq!(starts.grant(Moment(0), None), Some(1));
        assert_eq!(starts.ask_opens(None), Some(Moment(1000 * MS)));
        starts.set_limits(&limits(20, true));
        assert_eq!(starts.ask_opens(None), Some(Moment(20 * MS)));
        starts.set_limits(&limits(20, false));
        assert_eq!(starts.ask_opens(None), Some(Moment(0)));
    }

    /// Callers come at random, and the clock jumps now and then by an hour, forth and back.
    fn check_crowd(callers: u64, interval_ms: u64) {
        const HOUR: u64 = 3600 * 1000 * MS;
        let mut starts = starts(interval_ms, true);
        // Every moment is well after the clock's begin, so that it can go back.
        let (mut now, mut dice, mut asked) = (100 * HOUR, 7_u64, 0);
        let mut granted = Vec::new();
        let mut last: Option<u64> = None;
        for _ in 0..40 * callers {
            dice = dice
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let roll = dice >> 33;
            if roll % 1009 == 0 {
                now += HOUR;
            } else if roll % 1013 == 0 {
                now -= HOUR;
                starts.went_back(Moment(now));
                last = last.map(|last| last.min(now));
            }
            now += roll % (interval_ms * MS / 4);
            if asked < callers && roll % 3 == 0 {
                asked += 1;
                // A clock that was read before others had their turn.
                starts.ask(asked, Moment(now - roll % MS));
            }
            while let Some(id) = starts.grant(Moment(now), None) {
                let apart = last.is_none_or(|last| now - last >= interval_ms * MS);
                assert!(apart, "{id} starts too soon");
                last = Some(now);
                granted.push(id);
            }
        }
        let in_order: Vec<u64> = (1..=callers).collect();
        assert_eq!(
            granted, in_order,
            "each starts once, in the order they came"
        );
    }

    #[test]
    fn starts_of_a_crowd_are_apart_and_nobody_starves_whatever_the_clock_does() {
        check_crowd(100, 100);
        check_crowd(10_000, 50);
    }

    #[test]
    fn without_throttling_nothing_waits() {
        let mut starts = starts(100, false);
        (0..5).for_each(|id| starts.ask(id, Moment(0)));
        while starts.grant(Moment(0), None).is_some() {}
        let stats = starts.stats();
        assert_eq!((stats.total_requests, stats.throttled_requests), (5, 0));
    }
}
