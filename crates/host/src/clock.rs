use std::time::Instant;

use gogrid_units::Moment;

use crate::imp;

/// The clock that moments are of: monotonic, and still while the machine sleeps on Linux and
/// macOS.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that begins here.
    #[expect(clippy::disallowed_methods, reason = "this is where time enters")]
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Nanoseconds since it began; five centuries fit.
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// CPU time the calling thread has used, in nanoseconds; `None` where the system does not tell.
pub fn thread_cpu_nanos() -> Option<u64> {
    imp::thread_cpu_nanos()
}

/// CPU time all threads of this process have used, in nanoseconds; `None` where the system does
/// not tell.
pub fn process_cpu_nanos() -> Option<u64> {
    imp::process_cpu_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_do_not_run_backwards() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second);
        if let (Some(before), Some(after)) = (process_cpu_nanos(), process_cpu_nanos()) {
            assert!(before <= after);
        }
    }
}
