use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use gogrid_units::Moment;

/// The fixed point of a rate: 32 fractional bits.
const RATE_ONE: f64 = 4_294_967_296.0;

/// A thread need not settle more often than this: reading its CPU time is a system call.
const SETTLE_NANOS_MIN: u64 = 250_000;
/// A thread settles at least this often, however far off a rest is.
const SETTLE_NANOS_MAX: u64 = 1_000_000;

/// No rest is longer, however small the share: a thread asks again after its rest, and then the debt
/// that is left counts. So a share that is raised, or an order to stop, is noticed in time.
const REST_NANOS_MAX: u64 = 50_000_000;

/// Credit is kept up to so much CPU time for each core: a device may use later the time that it earns
/// while it waits for another, or gives its cores to other programs. A share is passed by no more
/// than this in any stretch of time: 2.5 points in a tenth of a second.
const CREDIT_NANOS_A_CORE: i64 = Duty::CREDIT_PER_CORE.as_nanos() as i64;

/// Holds the CPU time of a device's threads to a share of wall time.
///
/// A thread settles the CPU time it has used at its pause points. The time that all have used, less
/// the time that the share has earned by then, is debt. The share is held by [`width`](Self::width) as far as whole threads
/// do it: with debt as many threads work as the share pays for at least, without debt one more. So a
/// core that is free stays free for long, and no thread sleeps only to wake again. Rests do the rest,
/// as with a share of less than one core: when debt reaches a limit, every thread rests until the
/// share has earned it back. Then a slice of work without credit takes at most `slice` of wall time;
/// it overruns by the time that threads use before they settle.
///
/// Credit, from a rest that took longer than it should, from cores given to other programs, or from
/// waiting for other devices, is kept up to 2.5 ms for each core. Over any stretch of time, use is
/// at most the share of it, plus that, plus one slice's debt and the time threads use before they
/// settle.
///
/// No locks: threads of the lowest priority and those that set limits share nothing but atomics.
#[derive(Debug)]
pub struct Duty {
    /// CPU nanoseconds earned in 2^32 wall nanoseconds: share times cores.
    rate: AtomicU64,
    /// Debt, in CPU nanoseconds, beyond which threads rest.
    limit: AtomicI64,
    /// CPU nanoseconds; negative is credit.
    debt: AtomicI64,
    /// Threads that the share pays for at least.
    threads_min: AtomicU64,
    /// The latest moment that anything was settled at.
    settled_at: AtomicU64,
    rest_until: AtomicU64,
    cores: u32,
    slice: Duration,
}

impl Duty {
    /// The most CPU time of each core that is kept as credit.
    pub const CREDIT_PER_CORE: Duration = Duration::from_micros(2_500);

    /// No debt and no credit, on a device of `cores` cores. `share` is in 0..=1; at 1 there is
    /// never a rest, and at 0 there is nothing else once a slice is used.
    ///
    /// # Panics
    /// When `slice` is under a millisecond, whose end threads that settle would not see in time.
    pub fn new(share: f64, cores: u32, slice: Duration) -> Self {
        let shortest = Duration::from_nanos(4 * SETTLE_NANOS_MIN);
        assert!(slice >= shortest, "a slice must be seen to end");
        let duty = Self {
            rate: AtomicU64::new(0),
            limit: AtomicI64::new(0),
            debt: AtomicI64::new(0),
            threads_min: AtomicU64::new(0),
            settled_at: AtomicU64::new(0),
            rest_until: AtomicU64::new(0),
            cores,
            slice,
        };
        duty.set_share(share);
        duty
    }

    /// Changes the share; in effect as each thread settles next. A rest that was worked out from the
    /// old share ends, and debt that is left is earned at the new one.
    pub fn set_share(&self, share: f64) {
        let (cores, share) = (f64::from(self.cores), share.clamp(0.0, 1.0));
        let slice = self.slice.as_nanos() as f64;
        let limit = match share < 1.0 {
            // Far below the integers' range, as is the rate: cores < 2^32, slices of milliseconds.
            true => (slice * cores * (1.0 - share)) as i64,
            false => i64::MAX,
        };
        self.limit.store(limit, Ordering::Relaxed);
        // Far below 2^53.
        self.threads_min
            .store((cores * share) as u64, Ordering::Relaxed);
        let rate = (cores * share * RATE_ONE) as u64;
        self.rate.store(rate, Ordering::Release);
        self.rest_until.store(0, Ordering::Release);
    }

    /// Settles `used` nanoseconds of CPU time of the calling thread at `now`. Answers the moment
    /// until which the thread rests, or `None` to go on. `now` of different threads may come out
    /// of order; time that runs backwards earns nothing.
    pub fn settle(&self, now: Moment, used: u64) -> Option<Moment> {
        let rate = self.rate.load(Ordering::Acquire);
        let limit = self.limit.load(Ordering::Relaxed);
        let before = self.settled_at.fetch_max(now.0, Ordering::AcqRel);
        if limit == i64::MAX {
            self.debt.store(0, Ordering::Release);
            return None;
        }
        let change =
            i64::try_from(used).unwrap_or(i64::MAX) - earned(now.0.saturating_sub(before), rate);
        let credit = CREDIT_NANOS_A_CORE * i64::from(self.cores);
        let settled = |debt: i64| debt.saturating_add(change).max(-credit);
        let update = self
            .debt
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |debt| {
                Some(settled(debt))
            });
        let debt = settled(update.unwrap_or_else(|unchanged| unchanged));
        if debt > limit {
            let rest = nanos_to_earn(debt, rate).min(REST_NANOS_MAX);
            self.rest_until
                .fetch_max(now.0.saturating_add(rest), Ordering::AcqRel);
        }
        self.resting(now)
    }

    /// Nanoseconds of wall time after which a thread settles again: the later the more room there is
    /// before a rest. Others' use is not settled meanwhile either, so that room counts a quarter.
    pub fn settle_after(&self) -> u64 {
        (self.slack() / 4).clamp(SETTLE_NANOS_MIN, SETTLE_NANOS_MAX)
    }

    /// Nanoseconds of wall time for which all cores may work before a rest is due, as far as use is
    /// settled.
    fn slack(&self) -> u64 {
        let room = self.limit.load(Ordering::Relaxed);
        let room = room.saturating_sub(self.debt.load(Ordering::Relaxed));
        let second = u64::from(self.cores) << 32;
        let spent = second.saturating_sub(self.rate.load(Ordering::Relaxed));
        let room = u128::try_from(room).unwrap_or(0);
        // At a share of 1 nothing is spent that is not earned.
        u64::try_from((room << 32) / u128::from(spent.max(1))).unwrap_or(u64::MAX)
    }

    /// Threads that may work now; at least one, whose rests hold a share of less than a core.
    pub fn width(&self) -> usize {
        let fewest = self.threads_min.load(Ordering::Relaxed) as usize;
        let has_debt = self.debt.load(Ordering::Relaxed) > 0;
        match has_debt {
            true => fewest.max(1),
            false => fewest + 1,
        }
    }

    /// The moment until which every thread rests, if that is after `now`. Cheaper than
    /// [`settle`](Self::settle), for the points between settlements.
    pub fn resting(&self, now: Moment) -> Option<Moment> {
        let until = self.rest_until.load(Ordering::Acquire);
        (until > now.0).then_some(Moment(until))
    }
}

/// CPU nanoseconds that `elapsed` wall nanoseconds earn, rounded down; never negative.
fn earned(elapsed: u64, rate: u64) -> i64 {
    let product = u128::from(elapsed) * u128::from(rate);
    i64::try_from(product >> 32).unwrap_or(i64::MAX)
}

/// Wall nanoseconds after which `debt`, more than none, is earned back.
fn nanos_to_earn(debt: i64, rate: u64) -> u64 {
    let debt = u128::from(debt.unsigned_abs());
    let nanos = (debt << 32).div_ceil(u128::from(rate).max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
