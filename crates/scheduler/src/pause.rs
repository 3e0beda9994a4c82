//! That nothing may be taken of the machine: why, for how long, and how long it was so.

use std::time::Duration;

use gogrid_governor::{Decision, Reason, Verdict};
use gogrid_units::{Each, Moment, Whose};

/// Ends of stops that are no further apart count as one.
const ENDS_ALIKE: Duration = Duration::from_secs(61);

/// Why all work is stopped, and until when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stop {
    pub(crate) reason: Reason,
    /// When work goes on if nothing else happens, where that is known.
    pub(crate) until: Option<Moment>,
}

impl Stop {
    /// By hand, before the observer has said how long it lasts.
    pub(crate) fn by_hand() -> Self {
        Self {
            reason: Reason::Paused,
            until: None,
        }
    }

    /// For guests, while requests of the owner run that may take more.
    pub(crate) fn owner_first() -> Self {
        Self {
            reason: Reason::OwnerFirst,
            until: None,
        }
    }

    /// What a decision stops, if it does. Only of a snooze and of the schedule, whose windows change next
    /// at `window`, is the end known: other reasons end by what the machine is seen to do.
    fn of(decision: &Decision, whose: Whose, window: Option<Moment>) -> Option<Self> {
        let verdict = match whose {
            Whose::Owner => &decision.owner,
            Whose::Guest => &decision.verdict,
        };
        let Verdict::Shut(reason) = verdict else {
            return None;
        };
        let until = match reason {
            Reason::Snoozed { .. } => decision.until,
            Reason::Schedule => window,
            _ => None,
        };
        Some(Self {
            reason: reason.clone(),
            until,
        })
    }

    /// Whether it is the same to a caller: the figures in a reason change all the time, and the end of
    /// a schedule's stop is known to a minute.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let ends_alike = match (self.until, other.until) {
            (Some(one), Some(other)) => one.since(other).max(other.since(one)) <= ENDS_ALIKE,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.reason.name() == other.reason.name() && ends_alike
    }

    pub(crate) fn left(&self, now: Moment) -> Option<Duration> {
        self.until.map(|until| until.since(now))
    }
}

/// Who is stopped, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stops {
    pub(crate) each: Each<Option<Stop>>,
    /// Whether guests may take less than the owner, and so wait while requests of the owner run.
    pub(crate) owner_first: bool,
}

impl Stops {
    /// Those of a decision, where the schedule's windows change next at `window`.
    pub(crate) fn of(decision: &Decision, window: Option<Moment>) -> Self {
        Self {
            each: Each::of(|whose| Stop::of(decision, whose, window)),
            // Any share will do to compare them by: of what is below the cap there is the share itself.
            owner_first: decision.owner.share(1.0) > decision.verdict.share(1.0),
        }
    }

    /// Whether both are the same to callers.
    pub(crate) fn are_as(&self, other: &Self) -> bool {
        let (its, others) = (&self.each, &other.each);
        self.owner_first == other.owner_first
            && are_alike(its.owner.as_ref(), others.owner.as_ref())
            && are_alike(its.guest.as_ref(), others.guest.as_ref())
    }
}

/// Whether two are the same to a caller.
pub(crate) fn are_alike(one: Option<&Stop>, other: Option<&Stop>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_as(other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The time in which work was stopped.
#[derive(Debug, Default)]
pub(crate) struct StoppedTime {
    since: Option<Moment>,
    before: Duration,
}

impl StoppedTime {
    /// Whether work is stopped from `now` on.
    pub(crate) fn set(&mut self, is_stopped: bool, now: Moment) {
        match (is_stopped, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(since)) => {
                self.before += now.since(since);
                self.since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// All of it up to `now`.
    pub(crate) fn total(&self, now: Moment) -> Duration {
        let current = self.since.map(|since| now.since(since));
        self.before + current.unwrap_or_default()
    }

    /// The clock went back to `now`.
    pub(crate) fn went_back(&mut self, now: Moment) {
        self.since = self.since.map(|since| since.min(now));
    }
}

#[cfg(test)]
mod tests {
    use gogrid_governor::Profile;

    use super::*;

    #[test]
    fn only_a_snooze_and_a_schedule_say_when_they_end() {
        let until = |reason| {
            let decision = Decision {
                profile: Profile::Present,
                verdict: Verdict::Shut(reason),
                owner: Verdict::Open,
                admits: true,
                until: Some(Moment(7)),
            };
            let stops = Stops::of(&decision, Some(Moment(9)));
            assert_eq!(stops.each.owner, None);
            assert!(stops.owner_first);
            stops.each.guest.expect("it is shut").until
        };
        assert_eq!(until(Reason::Snoozed { left_s: 1 }), Some(Moment(7)));
        assert_eq!(until(Reason::Schedule), Some(Moment(9)));
        assert_eq!(until(Reason::Battery), None);
    }

    #[test]
    fn a_stop_is_another_by_its_kind_or_its_end_and_not_by_its_figures() {
        let until = |seconds: u64| Some(Moment::default().after(Duration::from_secs(seconds)));
        let others = |others| Stop {
            reason: Reason::OthersCpu { others },
            until: None,
        };
        let schedule = |seconds| Stop {
            reason: Reason::Schedule,
            until: until(seconds),
        };
        assert!(others(0.5).is_as(&others(0.6)));
        assert!(schedule(3600).is_as(&schedule(3640)));
        assert!(!schedule(3600).is_as(&schedule(7200)));
        assert!(!schedule(3600).is_as(&others(0.5)));
        assert!(!are_alike(Some(&others(0.5)), None) && are_alike(None, None));
    }

    #[test]
    fn stopped_time_adds_up_and_goes_on_while_it_lasts() {
        let mut stopped = StoppedTime::default();
        stopped.set(true, Moment(10));
        stopped.set(true, Moment(15));
        assert_eq!(stopped.total(Moment(30)), Duration::from_nanos(20));
        stopped.set(false, Moment(40));
        stopped.set(false, Moment(45));
        assert_eq!(stopped.total(Moment(90)), Duration::from_nanos(30));
        stopped.set(true, Moment(100));
        stopped.went_back(Moment(50));
        assert_eq!(stopped.total(Moment(60)), Duration::from_nanos(40));
    }
}
