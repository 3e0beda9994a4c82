use std::time::{Duration, Instant};

use gogrid_units::Moment;

/// The engine's clock: nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the engine's thread drives the core, which takes time as an argument"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Moment {
        // 2^64 nanoseconds are 584 years.
        Moment(self.0.elapsed().as_nanos() as u64)
    }

    /// How long it is until `moment`.
    pub(crate) fn until(self, moment: Moment) -> Duration {
        Duration::from_nanos(moment.0.saturating_sub(self.now().0))
    }
}
