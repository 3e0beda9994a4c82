use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gogrid_governor::Duty;
use gogrid_host::{Clock, thread_cpu_time};
use gogrid_units::{Each, Go, Moment, Pace, Sparing, TeamPace, Whose, Work};

use super::gate::Gate;
use crate::limits::{POINTS_MAX, SLICE};

/// The pace of a device: holds the time it is busy to a share of wall time times its cores. For a CPU
/// that is the CPU time of its threads; a GPU reports its own. Shared by all its stages.
///
/// Each thread settles the CPU time it has used since it last did, so what it spends between
/// pause points, waiting for others too, counts at its next one. What a thread used before its
/// first pause point, or to [load](Self::forget_thread), does not count.
#[derive(Debug)]
pub(crate) struct DutyPace {
    clock: Clock,
    duty: Duty,
    quota_share: f64,
    charged: Charged,
    gate: Arc<Gate>,
    /// The shares of each class, as the bits of an `f64`, and whether the device works for the owner now.
    shares: Each<AtomicU64>,
    serves_owner: AtomicBool,
    busy_nanos: AtomicU64,
    rest_nanos: AtomicU64,
    gave_way_nanos: AtomicU64,
}

/// What all paces of a machine go by.
pub(crate) struct PaceRule {
    /// The share of its cores' time that each device may take, for whom it works.
    pub(crate) shares: Each<f64>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Clock,
}

/// What a pace counts as busy time.
#[derive(Debug)]
pub(crate) enum Charged {
    /// The CPU time of the threads that ask it.
    Threads,
    /// What its device reports. The CPU time of threads that ask it is none of the device's: they are charged
    /// to these, in equal parts.
    ItsReports { threads: Vec<Arc<DutyPace>> },
}

/// The time of cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CoreTime {
    pub(crate) cores: usize,
    /// The part of it that the system lets this process have: 1 but in a container with a quota.
    pub(crate) quota_share: f64,
}

thread_local! {
    /// This thread's CPU time when it last settled. A thread settles with one pace all its life, or with
    /// all of its pipeline's devices at once, in equal parts.
    static SETTLED: Cell<Option<Duration>> = const { Cell::new(None) };
    /// When it settles next, on its pace's clock.
    static DUE: Cell<Moment> = const { Cell::new(Moment(0)) };
    /// Most points need no clock.
    static SPARING: Cell<Sparing> = const { Cell::new(Sparing::NEW) };
}

impl DutyPace {
    /// A pace by the machine's rule, for a device of these cores.
    pub(crate) fn new(rule: &PaceRule, cores: CoreTime, charged: Charged) -> Self {
        let CoreTime { cores, quota_share } = cores;
        let cores = u32::try_from(cores).expect("no machine has 2^32 cores");
        Self {
            clock: rule.clock,
            duty: Duty::new(rule.shares.guest * quota_share, cores, SLICE),
            shares: Each::of(|whose| AtomicU64::new(rule.shares.its(whose).to_bits())),
            serves_owner: AtomicBool::new(false),
            quota_share,
            charged,
            gate: Arc::clone(&rule.gate),
            busy_nanos: AtomicU64::new(0),
            rest_nanos: AtomicU64::new(0),
            gave_way_nanos: AtomicU64::new(0),
        }
    }

    /// Changes the shares; in effect as each thread settles next, in a millisecond or so.
    pub(crate) fn set_shares(&self, shares: Each<f64>) {
        for whose in [Whose::Owner, Whose::Guest] {
            let bits = shares.its(whose).to_bits();
            self.shares.its(whose).store(bits, Ordering::SeqCst);
        }
        self.set_duty();
    }

    /// From here on the device works on a step of this class: its share holds, and what shuts it out ends
    /// the step.
    pub(crate) fn serve(&self, whose: Whose) {
        let serves_owner = whose == Whose::Owner;
        let served_owner = self.serves_owner.swap(serves_owner, Ordering::SeqCst);
        // A share that stays the same ends no rest.
        let [owner, guest] = [&self.shares.owner, &self.shares.guest];
        let share_differs = owner.load(Ordering::SeqCst) != guest.load(Ordering::SeqCst);
        if served_owner != serves_owner && share_differs {
            self.set_duty();
        }
    }

    /// Whose step the device works on.
    fn serves(&self) -> Whose {
        match self.serves_owner.load(Ordering::SeqCst) {
            true => Whose::Owner,
            false => Whose::Guest,
        }
    }

    /// Has the duty go by the share of the class that is served. Whoever changes either calls this
    /// afterwards: of two at once, the later to look sees what both have changed.
    fn set_duty(&self) {
        let share = || self.shares.its(self.serves()).load(Ordering::SeqCst);
        loop {
            let bits = share();
            self.duty.set_share(f64::from_bits(bits) * self.quota_share);
            if share() == bits {
                return;
            }
        }
    }

    /// Settles what the calling thread used, for a thread without pause points that works for all
    /// the devices of `paces`: others rest for it.
    pub(crate) fn charge_thread(paces: &[Arc<Self>]) {
        let Some(first) = paces.first() else { return };
        let now = first.clock.now();
        if now < DUE.get() {
            return;
        }
        if let Some(used) = used() {
            for pace in paces {
                pace.count(now, used / paces.len() as u64);
            }
        }
        let after = paces.iter().map(|pace| pace.duty.settle_after());
        let after = after.fold(first.duty.settle_after(), u64::min);
        DUE.set(Moment(now.0.saturating_add(after)));
    }

    /// What the calling thread has used since it last settled, loading weights, does not count with any
    /// pace: no share of time holds loading back, and others would rest for it afterwards.
    pub(crate) fn forget_thread() {
        SETTLED.set(thread_cpu_time().ok());
    }

    /// Sleeps the calling thread for so long, which counts as a rest.
    pub(crate) fn rest_for(&self, time: Duration) {
        self.rest(self.clock.now().after(time));
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

    /// Nanoseconds the device was busy, as far as they are settled.
    pub(crate) fn busy_nanos(&self) -> u64 {
        self.busy_nanos.load(Ordering::Relaxed)
    }

    /// Whether work of this class is stopped.
    pub(crate) fn is_shut(&self, whose: Whose) -> bool {
        self.gate.is_shut(whose)
    }

    /// A pause point of a thread that works for all CPUs together, for a request of this class.
    pub(crate) fn point_of(&self, whose: Whose) -> Go {
        match self.gate.is_shut(whose) {
            true => Go::Abandon,
            false => self.thread_point(),
        }
    }

    /// A pause point of a thread whose CPU time counts.
    fn thread_point(&self) -> Go {
        let mut sparing = SPARING.get();
        // A rest that another thread has found to be due since ends after the last look.
        let rests = self.duty.resting(Moment(sparing.read_at())).is_some();
        if !rests && sparing.passes() {
            SPARING.set(sparing);
            return Go::Go;
        }
        let now = self.clock.now();
        let rest = match now >= DUE.get() {
            true => self.settle(now),
            false => self.duty.resting(now),
        };
        sparing.read(now.0, DUE.get().0, POINTS_MAX);
        SPARING.set(sparing);
        rest.map_or(Go::Go, Go::Rest)
    }

    fn settle(&self, now: Moment) -> Option<Moment> {
        let rest = used().and_then(|used| self.count(now, used));
        DUE.set(Moment(now.0.saturating_add(self.duty.settle_after())));
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
    fn point(&self, _work: Work) -> Go {
        if self.is_over() {
            return Go::Abandon;
        }
        match &self.charged {
            Charged::Threads => self.thread_point(),
            Charged::ItsReports { threads } => {
                Self::charge_thread(threads);
                // Its thread asks before each submission, and what it reported since may be paid off.
                let rest = self.duty.settle(self.clock.now(), 0);
                rest.map_or(Go::Go, Go::Rest)
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a thread that computes rests here"
    )]
    fn rest(&self, until: Moment) {
        let began = self.clock.now();
        std::thread::sleep(until.since(began));
        let rested = self.clock.now().0.saturating_sub(began.0);
        self.rest_nanos.fetch_add(rested, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.gate.is_shut(self.serves())
    }

    fn charge(&self, busy_nanos: u64) {
        // The rest that this makes due, if any, is taken at the next pause point.
        self.count(self.clock.now(), busy_nanos);
    }
}

impl TeamPace for DutyPace {
    fn width(&self) -> usize {
        self.duty.width()
    }

    /// The owner's steps: somebody waits for them.
    fn insists(&self) -> bool {
        self.serves() == Whose::Owner
    }

    fn gave_way(&self, nanos: u64) {
        self.gave_way_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::gate::Rule;
    use super::*;

    const ONE: CoreTime = CoreTime {
        cores: 1,
        quota_share: 1.0,
    };

    fn rule(share: f64, gate: Arc<Gate>) -> PaceRule {
        PaceRule {
            shares: Each::of(|_| share),
            gate,
            clock: Clock::start(),
        }
    }

    /// The pace of a CPU of one core.
    fn of_cpu(share: f64, gate: Arc<Gate>) -> DutyPace {
        DutyPace::new(&rule(share, gate), ONE, Charged::Threads)
    }

    /// The pace of a GPU, and that of a CPU of one core beside it.
    fn of_gpu(share: f64) -> (DutyPace, Arc<DutyPace>) {
        let rule = rule(share, Arc::default());
        let cpu = Arc::new(DutyPace::new(&rule, ONE, Charged::Threads));
        let threads = vec![Arc::clone(&cpu)];
        let gpu = DutyPace::new(&rule, ONE, Charged::ItsReports { threads });
        (gpu, cpu)
    }

    /// Uses CPU time at pause points until `counted` has counted `busy` seconds.
    fn work(pace: &DutyPace, counted: &DutyPace, busy: f64) {
        while counted.busy_seconds() < busy {
            match pace.point(Work::default()) {
                Go::Go => (0..1000).for_each(|_| std::hint::spin_loop()),
                Go::Rest(until) => pace.rest(until),
                Go::Abandon => panic!("nobody stopped it"),
            }
        }
    }

    #[test]
    fn work_never_takes_more_than_the_share() {
        let pace = of_cpu(0.5, Arc::default());
        work(&pace, &pace, 0.05);
        let wall = Duration::from_nanos(pace.clock.now().0).as_secs_f64();
        // However busy the machine is: 50 ms of CPU time are not earned sooner, but for a slice's
        // debt, and what is used before it is settled.
        assert!(wall >= 0.1 - 0.003, "{wall} s");
    }

    #[test]
    fn busy_time_that_a_device_reports_counts_once_and_makes_its_next_points_rest() {
        let (gpu, cpu) = of_gpu(0.5);
        assert_eq!(gpu.point(Work::default()), Go::Go);
        gpu.charge(100_000_000);
        assert_eq!((gpu.busy_nanos(), cpu.busy_nanos()), (100_000_000, 0));
        let Go::Rest(until) = gpu.point(Work::default()) else {
            panic!("100 ms of debt make no rest due");
        };
        // They are earned back after 200 ms; no single rest is longer than 50 ms.
        assert!(until >= Moment(50_000_000), "{until:?}");
        let mut rests = 0;
        while let Go::Rest(until) = gpu.point(Work::default()) {
            gpu.rest(until);
            rests += 1;
        }
        assert!(
            rests > 2,
            "{rests}: what is left of the debt after a rest counts"
        );
        let wall = Duration::from_nanos(gpu.clock.now().0).as_secs_f64();
        assert!(wall >= 0.2 - 0.003, "{wall} s");
        assert_eq!(gpu.busy_nanos(), 100_000_000);
    }

    #[test]
    fn what_a_thread_uses_to_submit_to_a_device_is_charged_to_the_cpu_and_not_to_the_device() {
        let (gpu, cpu) = of_gpu(1.0);
        work(&gpu, &cpu, 0.02);
        assert_eq!(gpu.busy_nanos(), 0);
    }

    #[test]
    fn what_a_thread_loads_between_two_points_does_not_count() {
        let pace = of_cpu(1.0, Arc::default());
        let load = || {
            let used = || thread_cpu_time().expect("this system tells");
            let until = used() + Duration::from_millis(60);
            while used() < until {
                std::hint::spin_loop();
            }
        };
        work(&pace, &pace, 0.002);
        load();
        DutyPace::forget_thread();
        work(&pace, &pace, 0.004);
        assert!(pace.busy_seconds() < 0.03, "{}", pace.busy_seconds());
        // What is not said to be a load counts, however late.
        load();
        work(&pace, &pace, 0.034);
        assert!(pace.busy_seconds() >= 0.06, "{}", pace.busy_seconds());
    }

    #[test]
    fn work_is_abandoned_while_the_gate_is_shut() {
        let gate: Arc<Gate> = Arc::default();
        let pace = of_cpu(1e-9, Arc::clone(&gate));
        assert_eq!(pace.point(Work::default()), Go::Go);
        gate.stop();
        assert_eq!(pace.point(Work::default()), Go::Abandon);
        let (gpu, _cpu) = of_gpu(0.5);
        gpu.gate.stop();
        assert_eq!(gpu.point(Work::default()), Go::Abandon);
    }

    #[test]
    fn a_step_of_the_owner_goes_by_the_owners_share_and_gate() {
        let gate: Arc<Gate> = Arc::default();
        let pace = of_cpu(1.0, Arc::clone(&gate));
        let width = |guest: f64, owner: f64, whose| {
            pace.set_shares(Each { owner, guest });
            pace.serve(whose);
            pace.duty.width()
        };
        assert_eq!(width(0.4, 1.0, Whose::Guest), 1);
        assert_eq!(width(0.4, 1.0, Whose::Owner), 2);
        assert_eq!(width(0.4, 0.4, Whose::Owner), 1);
        // What is changed while it serves holds for whom it serves.
        pace.set_shares(Each {
            owner: 1.0,
            guest: 0.1,
        });
        assert_eq!(pace.duty.width(), 2);
        gate.rule(Rule {
            shut: Each {
                owner: false,
                guest: true,
            },
            owner_first: true,
            by_hand: false,
            admits: true,
        });
        assert!(!pace.is_over());
        pace.serve(Whose::Guest);
        assert!(pace.is_over());
        assert_eq!(pace.point_of(Whose::Guest), Go::Abandon);
        assert_ne!(pace.point_of(Whose::Owner), Go::Abandon);
    }
}
