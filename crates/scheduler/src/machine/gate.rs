use std::sync::atomic::{AtomicBool, Ordering};

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
    shut: AtomicBool,
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

    /// What the observer rules: whether the policy shuts, and what stays of what was asked by hand.
    pub(crate) fn rule(&self, shut: bool, by_hand: bool, admits: bool) {
        self.shut.store(shut, Ordering::SeqCst);
        if !(shut && by_hand) {
            self.stopped.store(false, Ordering::SeqCst);
        }
        self.refuses.store(!admits, Ordering::SeqCst);
    }

    /// Whether threads are to leave their work.
    pub(crate) fn is_shut(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
            || self.shut.load(Ordering::Relaxed)
            || self.failed.load(Ordering::Relaxed)
    }

    /// The same, for the engines.
    pub(crate) fn hold(&self) -> Hold {
        match (self.is_shut(), self.stopped.load(Ordering::Relaxed)) {
            (_, true) => Hold::ByHand,
            (true, false) => Hold::Other,
            (false, false) => Hold::Nothing,
        }
    }

    pub(crate) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }
}
