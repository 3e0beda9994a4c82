use gogrid_units::Moment;

use crate::sync::{Mutex, PoisonError};

/// Hands out moments that are at least a given time apart: the generic cell rate algorithm with a
/// burst of one (ITU-T I.371).
///
/// A start that nobody took is never made up for, so a clock that jumps ahead brings no burst. A
/// caller whose `now` is old, by up to ten seconds, gets a moment as far from its
/// neighbours' as any other. A `now` older than that is a clock that was set back: the moments
/// handed out from then on follow it, with what was queued still queued, so nobody waits out the
/// difference.
#[derive(Debug)]
pub struct Interval {
    /// A lock, because two moments change as one. It is held for a few instructions by those who
    /// begin requests, never by threads that compute.
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    min_nanos: u64,
    /// The earliest moment of the next start.
    next: u64,
    /// The latest `now` seen since the clock was last set back.
    latest: u64,
}

/// Ten seconds: longer than a thread is kept from running between reading the clock and asking.
const REWIND_NANOS: u64 = 10_000_000_000;

impl Interval {
    /// Starts at least `min_nanos` apart, the first at once.
    pub fn new(min_nanos: u64) -> Self {
        Self {
            times: Mutex::new(Times {
                min_nanos,
                next: 0,
                latest: 0,
            }),
        }
    }

    /// Takes the next start: the moment it may go, `now` or later. Read the clock just before;
    /// what was taken cannot be given back.
    pub fn take(&self, now: Moment) -> Moment {
        // Every write leaves the times sound, so a panic elsewhere does not matter.
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = times.latest.saturating_sub(now.0);
        if behind > REWIND_NANOS {
            times.next = times.next.saturating_sub(behind);
            times.latest = now.0;
        }
        let start = times.next.max(now.0);
        times.next = start.saturating_add(times.min_nanos);
        times.latest = times.latest.max(now.0);
        Moment(start)
    }

    /// Changes the time between starts. The start after the last one taken moves with it.
    pub fn set_min(&self, min_nanos: u64) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let last_start = times.next.saturating_sub(times.min_nanos);
        if times.next > 0 {
            times.next = last_start.saturating_add(min_nanos);
        }
        times.min_nanos = min_nanos;
    }
}
