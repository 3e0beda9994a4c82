use std::time::{Duration, Instant};

use gogrid_units::Moment;

use crate::error::HostError;
use crate::imp;

/// A monotonic clock that begins when it is made. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that begins at this moment.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Nanoseconds since the clock began.
    pub fn now(self) -> Moment {
        // 2^64 nanoseconds are 584 years.
        Moment(self.began.elapsed().as_nanos() as u64)
    }
}

/// CPU time all threads of this process have used, ended ones too.
pub fn process_cpu_time() -> Result<Duration, HostError> {
    imp::process_cpu_time()
}
