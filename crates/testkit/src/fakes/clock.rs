use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gogrid_units::Moment;

/// A clock that moves only when it is told to. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at its beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it shows.
    pub fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::Acquire))
    }

    /// Moves it on by `nanos`.
    pub fn advance(&self, nanos: u64) {
        self.0.fetch_add(nanos, Ordering::AcqRel);
    }

    /// Moves it on to `moment`; it never goes back.
    pub fn advance_to(&self, moment: Moment) {
        self.0.fetch_max(moment.0, Ordering::AcqRel);
    }
}
