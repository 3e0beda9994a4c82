use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gogrid_units::{Each, Whose};

use crate::core::Hold;

/// Whether work goes on, for threads that cannot wait to be told: those that compute look at it at
/// every pause point. Nothing but flags, so that a thread of the lowest priority keeps no other
/// waiting.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// By hand. Set by the caller that asks for a stop, so that it is in effect at once; cleared by
    /// the observer, which hears of it too.
    stopped: AtomicBool,
    /// By the policy; the observer's.
    shut: Each<AtomicBool>,
    /// Whether guests may take less than the owner, and so wait while requests of the owner run; the
    /// observer's.
    owner_first: AtomicBool,
    /// The owner's own requests that run, of all engines.
    owner_runs: AtomicUsize,
    /// Whether requests are refused; as `stopped`.
    refuses: AtomicBool,
    /// For good: nobody holds the limits any more.
    failed: AtomicBool,
}

impl Gate {
    /// Stops work at the next pause point, until the observer rules otherwise.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Refuses requests, until the observer rules otherwise.
    pub(crate) fn refuse(&self) {
        self.refuses.store(true, Ordering::SeqCst);
    }

    /// Stops work for good.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    /// What the observer rules: what stays of what was asked by hand, too.
    pub(crate) fn rule(
        &self,
        Rule {
            shut,
            owner_first,
            by_hand,
            admits,
        }: Rule,
    ) {
        self.shut.owner.store(shut.owner, Ordering::SeqCst);
        self.shut.guest.store(shut.guest, Ordering::SeqCst);
        self.owner_first.store(owner_first, Ordering::SeqCst);
        if !(shut.owner && by_hand) {
            self.stopped.store(false, Ordering::SeqCst);
        }
        self.refuses.store(!admits, Ordering::SeqCst);
    }

    /// Whether threads are to leave their work for requests of this class.
    pub(crate) fn is_shut(&self, whose: Whose) -> bool {
        self.stopped.load(Ordering::Relaxed)
            || self.failed.load(Ordering::Relaxed)
            || self.shut.its(whose).load(Ordering::Relaxed)
            || whose == Whose::Guest && self.is_owners()
    }

    /// Whether nothing is done for anybody: guests are shut out, and the owner is or has nothing running.
    pub(crate) fn is_shut_to_all(&self) -> bool {
        let owner_runs = self.owner_runs.load(Ordering::Relaxed) > 0;
        self.is_shut(Whose::Guest) && (self.is_shut(Whose::Owner) || !owner_runs)
    }

    /// Whether guests wait for requests of the owner.
    fn is_owners(&self) -> bool {
        self.owner_first.load(Ordering::Relaxed) && self.owner_runs.load(Ordering::Relaxed) > 0
    }

    /// The same, for the engines.
    pub(crate) fn hold(&self) -> Each<Hold> {
        let by_hand = self.stopped.load(Ordering::Relaxed);
        Each::of(|whose| match self.is_shut(whose) {
            _ if by_hand => Hold::ByHand,
            true if self.shut.its(whose).load(Ordering::Relaxed) => Hold::Other,
            true if self.failed.load(Ordering::Relaxed) => Hold::Other,
            true => Hold::OwnerFirst,
            false => Hold::Nothing,
        })
    }

    pub(crate) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }
}

/// What the observer rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) shut: Each<bool>,
    /// Whether guests may take less than the owner.
    pub(crate) owner_first: bool,
    /// Whether somebody has asked for a stop.
    pub(crate) by_hand: bool,
    /// Whether requests are accepted.
    pub(crate) admits: bool,
}

/// The owner's requests that run in one engine.
pub(crate) struct OwnerRuns {
    gate: Arc<Gate>,
    counted: usize,
    /// Called when guests that waited for them may go on.
    goes_on: Box<dyn Fn() + Send>,
}

impl OwnerRuns {
    pub(crate) fn none(gate: &Arc<Gate>, goes_on: impl Fn() + Send + 'static) -> Self {
        Self {
            gate: Arc::clone(gate),
            counted: 0,
            goes_on: Box::new(goes_on),
        }
    }

    /// Counts `running` from here on.
    pub(crate) fn set(&mut self, running: usize) {
        let waited = self.gate.is_owners();
        // First the new ones, so that the sum is at no moment less than it is to be.
        self.gate.owner_runs.fetch_add(running, Ordering::SeqCst);
        let before = std::mem::replace(&mut self.counted, running);
        self.gate.owner_runs.fetch_sub(before, Ordering::SeqCst);
        if waited && !self.gate.is_owners() {
            (self.goes_on)();
        }
    }
}

impl Drop for OwnerRuns {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(guest: bool, owner: bool, owner_first: bool) -> Rule {
        Rule {
            shut: Each { owner, guest },
            owner_first,
            by_hand: false,
            admits: true,
        }
    }

    fn is_shut(gate: &Gate) -> (bool, bool) {
        (gate.is_shut(Whose::Owner), gate.is_shut(Whose::Guest))
    }

    #[test]
    fn what_shuts_out_guests_is_open_to_the_owner_and_a_hand_stops_both() {
        let gate: Arc<Gate> = Arc::default();
        let mut runs = OwnerRuns::none(&gate, || ());
        gate.rule(rule(true, false, true));
        assert_eq!(is_shut(&gate), (false, true));
        assert!(gate.is_shut_to_all(), "nobody has work that may be done");
        runs.set(1);
        assert!(!gate.is_shut_to_all());
        gate.stop();
        assert_eq!(is_shut(&gate), (true, true));
        let by_hand = gate.hold();
        assert_eq!((by_hand.owner, by_hand.guest), (Hold::ByHand, Hold::ByHand));
        gate.rule(rule(true, false, true));
        assert_eq!(is_shut(&gate), (false, true));
        gate.fail();
        assert_eq!(gate.hold().owner, Hold::Other);
    }

    #[test]
    fn guests_wait_for_the_owner_where_they_may_take_less() {
        let gate: Arc<Gate> = Arc::default();
        let rung = Arc::new(AtomicUsize::new(0));
        let runs = || {
            let rung = Arc::clone(&rung);
            OwnerRuns::none(&gate, move || {
                rung.fetch_add(1, Ordering::SeqCst);
            })
        };
        let rings = || rung.load(Ordering::SeqCst);
        let (mut one, mut other) = (runs(), runs());
        gate.rule(rule(false, false, false));
        one.set(2);
        assert_eq!(is_shut(&gate), (false, false));
        gate.rule(rule(false, false, true));
        assert_eq!(is_shut(&gate), (false, true));
        assert_eq!(gate.hold().guest, Hold::OwnerFirst);
        other.set(1);
        one.set(0);
        assert_eq!(rings(), 0, "the other's runs");
        drop(other);
        assert_eq!((is_shut(&gate), rings()), ((false, false), 1));
        one.set(1);
        one.set(0);
        assert_eq!(rings(), 2, "guests may go on");
    }
}
