//! Real time, which a benchmark measures.

use std::thread;
use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark passes real time between what it measures"
)]
pub(crate) fn sleep(time: Duration) {
    thread::sleep(time);
}

/// Sleeps until a moment that does not depend on how late the last sleep was.
pub(crate) fn sleep_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        sleep(left);
    }
}
