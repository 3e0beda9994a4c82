use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gogrid_governor::Duty;
use gogrid_host::{Clock, thread_cpu_time};
use gogrid_units::{Go, Moment, Pace, Work};

use crate::gate::Gate;
use crate::limits::SLICE;

/// The pace of a CPU device: holds the CPU time of its threads to a share of wall time times the
/// device's cores. Shared by all its stages.
///
/// Each thread settles the CPU time it has used since it last did, so what it spends between
/// pause points, waiting for others too, counts at its next one. What a thread used before its
/// first pause point, loading or measuring, does not count.
#[derive(Debug)]
pub(crate) struct DutyPace {
    clock: Clock,
    duty: Duty,
    stopped: AtomicBool,
    gate: Arc<Gate>,
    busy_nanos: AtomicU64,
    rest_nanos: AtomicU64,
    gave_way_nanos: AtomicU64,
}

thread_local! {
    /// This thread's CPU time when it last settled. A thread works at one pace all its life.
    static SETTLED: Cell<Option<Duration>> = const { Cell::new(None) };
    /// When it settles next, on its pace's clock.
    static DUE: Cell<Moment> = const { Cell::new(Moment(0)) };
    static LOOK: Cell<Look> = const { Cell::new(Look::NONE) };
}

/// When a thread last read the clock at a pause point, and what it may do until it reads it again:
/// a chunk of work is short beside the time until the thread settles next, so most points need no
/// clock.
#[derive(Clone, Copy)]
struct Look {
    at: Moment,
    /// What it was to do since then, and what of it is left, as of [`units`].
    whole: u64,
    left: u64,
}

impl Look {
    const NONE: Self = Self {
        at: Moment(0),
        whole: 0,
        left: 0,
    };

    /// Goes on without a look, if `work` is within what is left.
    fn spend(&mut self, work: u64) -> bool {
        let rest = self.left.checked_sub(work);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }

    /// A look at `now`, before `work`: the next is due halfway to `until` at the latest, at the speed
    /// since the last look. What waits in between, or is slow, brings it forward.
    fn renew(&mut self, now: Moment, until: Moment, work: u64) {
        let elapsed = now.0.saturating_sub(self.at.0);
        let ahead = until.0.saturating_sub(now.0) / 2;
        let done = u128::from(self.whole - self.left);
        let whole = match elapsed {
            0 => 0,
            _ => u64::try_from(done * u128::from(ahead) / u128::from(elapsed)).unwrap_or(0),
        };
        // This work is done in any case.
        *self = Self {
            at: now,
            whole: whole.max(work),
            left: whole.saturating_sub(work),
        };
    }
}

/// Work as one number: the speeds of its two kinds are near enough for a guess.
fn units(work: Work) -> u64 {
    1 + work.bytes + work.multiply_adds
}

impl DutyPace {
    /// A pace for `cores` cores, of which threads may take `share`.
    pub(crate) fn new(share: f64, cores: usize, gate: Arc<Gate>) -> Self {
        let cores = u32::try_from(cores).expect("no machine has 2^32 cores");
        Self {
            clock: Clock::start(),
            duty: Duty::new(share, cores, SLICE),
            stopped: AtomicBool::new(false),
            gate,
            busy_nanos: AtomicU64::new(0),
            rest_nanos: AtomicU64::new(0),
            gave_way_nanos: AtomicU64::new(0),
        }
    }

    /// What stops work, for this pace and those of the same pipeline.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Changes the share; in effect at the next pause point.
    pub(crate) fn set_share(&self, share: f64) {
        self.duty.set_share(share);
    }

    /// Settles what the calling thread used, for a thread without pause points that works for all
    /// the devices of `paces`: others rest for it.
    pub(crate) fn charge(paces: &[Arc<Self>]) {
        let now = paces[0].clock.now();
        if now < DUE.get() {
            return;
        }
        DUE.set(Moment(now.0 + paces[0].duty.settle_after()));
        let Some(used) = used() else { return };
        for pace in paces {
            // Each has its own clock.
            pace.count(pace.clock.now(), used / paces.len() as u64);
        }
    }

    /// Makes every pause point abandon from here on, so that who waits for a step's end does not
    /// wait out its rests.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// CPU seconds that threads have used, as far as they are settled.
    pub(crate) fn busy_seconds(&self) -> f64 {
        Duration::from_nanos(self.busy_nanos.load(Ordering::Relaxed)).as_secs_f64()
    }

    /// Seconds that threads have rested, added up.
    pub(crate) fn rest_seconds(&self) -> f64 {
        Duration::from_nanos(self.rest_nanos.load(Ordering::Relaxed)).as_secs_f64()
    }

    /// Seconds that threads have given their cores to other programs, added up.
    pub(crate) fn yield_seconds(&self) -> f64 {
        Duration::from_nanos(self.gave_way_nanos.load(Ordering::Relaxed)).as_secs_f64()
    }

    fn settle(&self, now: Moment) -> Option<Moment> {
        let rest = used().and_then(|used| self.count(now, used));
        DUE.set(Moment(now.0 + self.duty.settle_after()));
        rest
    }

    fn count(&self, now: Moment, used: u64) -> Option<Moment> {
        self.busy_nanos.fetch_add(used, Ordering::Relaxed);
        self.duty.settle(now, used)
    }
}

/// CPU nanoseconds that the calling thread used since it last settled. Without the clock there is
/// nothing to settle; the status says so.
fn used() -> Option<u64> {
    let cpu = thread_cpu_time().ok()?;
    let before = SETTLED.replace(Some(cpu));
    let used = before.map_or(Duration::ZERO, |before| cpu.saturating_sub(before));
    // 2^64 nanoseconds are 584 years.
    Some(used.as_nanos() as u64)
}

impl Pace for DutyPace {
    fn point(&self, work: Work) -> Go {
        if self.is_over() {
            return Go::Abandon;
        }
        let (mut look, work) = (LOOK.get(), units(work));
        // Whatever rest another thread has found to be due since ends after the last look.
        if self.duty.resting(look.at).is_none() && look.spend(work) {
            LOOK.set(look);
            return Go::Go;
        }
        let now = self.clock.now();
        let rest = match now >= DUE.get() {
            true => self.settle(now),
            false => self.duty.resting(now),
        };
        look.renew(now, DUE.get(), work);
        LOOK.set(look);
        rest.map_or(Go::Go, Go::Rest)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a thread that computes rests here"
    )]
    fn rest(&self, until: Moment) {
        let began = self.clock.now();
        std::thread::sleep(Duration::from_nanos(until.0.saturating_sub(began.0)));
        let rested = self.clock.now().0 - began.0;
        self.rest_nanos.fetch_add(rested, Ordering::Relaxed);
    }

    fn width(&self) -> usize {
        self.duty.width()
    }

    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Acquire) || self.gate.is_shut()
    }

    fn gave_way(&self, nanos: u64) {
        self.gave_way_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses CPU time at pause points until the pace has counted `busy` seconds.
    fn work(pace: &DutyPace, busy: f64) {
        while pace.busy_seconds() < busy {
            match pace.point(Work::default()) {
                Go::Go => (0..1000).for_each(|_| std::hint::spin_loop()),
                Go::Rest(until) => pace.rest(until),
                Go::Abandon => panic!("nobody stopped it"),
            }
        }
    }

    #[test]
    fn work_never_takes_more_than_the_share() {
        let pace = DutyPace::new(0.5, 1, Arc::default());
        work(&pace, 0.05);
        let wall = Duration::from_nanos(pace.clock.now().0).as_secs_f64();
        // However busy the machine is: 50 ms of CPU time are not earned sooner, but for a slice's
        // debt, and what is used before it is settled.
        assert!(wall >= 0.1 - 0.003, "{wall} s");
    }

    const DUE_EVERY: u64 = 250_000;

    /// Goes through chunks of `units` that take `nanos` each until `until`. Says how often it looked
    /// and what passed at most after a moment was due.
    fn looks(look: &mut Look, (units, nanos): (u64, u64), until: u64) -> (u64, u64) {
        let (mut now, mut looks, mut late) = (look.at.0, 0, 0);
        let mut due = now + DUE_EVERY;
        while now < until {
            if !look.spend(units) {
                looks += 1;
                if now >= due {
                    late = late.max(now - due);
                    due = now + DUE_EVERY;
                }
                look.renew(Moment(now), Moment(due), units);
            }
            now += nanos;
        }
        (looks, late)
    }

    #[test]
    fn short_chunks_need_few_looks_and_settle_in_time() {
        for nanos in [100, 1_000, 10_000, 100_000, 400_000] {
            let mut look = Look::NONE;
            let length = 100 * DUE_EVERY;
            let (looks, late) = looks(&mut look, (1000, nanos), length);
            // Half of what is left each time, down to a chunk.
            let most = (length / nanos + 1).min(100 * 14);
            assert!(looks <= most, "{looks} looks of chunks of {nanos} ns");
            assert!(late <= nanos, "{late} ns late with chunks of {nanos} ns");
        }
    }

    #[test]
    fn work_that_turns_out_slower_is_noticed_within_a_slice() {
        let mut look = Look::NONE;
        let fast = 10 * DUE_EVERY;
        looks(&mut look, (1000, 1_000), fast);
        let (_, late) = looks(&mut look, (1000, 8_000), 20 * DUE_EVERY);
        assert!(u128::from(late) < SLICE.as_nanos() / 2, "{late}");
    }

    #[test]
    fn a_pace_that_stopped_abandons() {
        let pace = DutyPace::new(1e-9, 1, Arc::default());
        assert_eq!(pace.point(Work::default()), Go::Go);
        pace.stop();
        assert_eq!(pace.point(Work::default()), Go::Abandon);
    }
}
