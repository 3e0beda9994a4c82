use std::time::Duration;

use gogrid_units::Moment;

use crate::clock::{Clock, process_cpu_time};
use crate::cores::{CoreSet, allowed_cores};
use crate::error::HostError;
use crate::imp;

/// Measures the use that this process and others make of the cores it may use.
#[derive(Debug)]
pub struct CpuProbe {
    clock: Clock,
    idle: imp::IdleClock,
    cores: usize,
    before: Reading,
    last: Option<CpuSample>,
}

/// Use of the cores from one sample to the next, as shares of all of them together, in 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuSample {
    /// Everybody's, interrupts too. Time that a hypervisor took away is nobody's.
    pub total: f64,
    /// This process's.
    pub ours: f64,
    /// The rest.
    pub others: f64,
    /// How many cores.
    pub cores: usize,
}

/// The clocks at a moment, summed over the cores.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Moment,
    idle: Duration,
    ours: Duration,
}

/// Systems count in ticks of 10 or 16 ms: over less time than this, shares would be noise.
const NANOS_MIN: u64 = 50_000_000;

impl CpuProbe {
    /// Begins to measure, on the cores that the calling thread may use now.
    pub fn start() -> Result<Self, HostError> {
        Self::start_on(&allowed_cores()?)
    }

    /// Begins to measure on these cores.
    pub fn start_on(cores: &CoreSet) -> Result<Self, HostError> {
        let clock = Clock::start();
        let mut idle = imp::IdleClock::open(cores)?;
        let before = read(clock, &mut idle)?;
        Ok(Self {
            clock,
            idle,
            cores: cores.cores().len(),
            before,
            last: None,
        })
    }

    /// Use since the last sample. Asked again within 50 ms it repeats the last one, and `None` so
    /// soon after the start.
    pub fn sample(&mut self) -> Result<Option<CpuSample>, HostError> {
        if self.clock.now().0 - self.before.at.0 >= NANOS_MIN {
            let now = read(self.clock, &mut self.idle)?;
            self.last = Some(between(&self.before, &now, self.cores));
            self.before = now;
        }
        Ok(self.last)
    }
}

fn read(clock: Clock, idle: &mut imp::IdleClock) -> Result<Reading, HostError> {
    let idle = idle.idle()?;
    Ok(Reading {
        at: clock.now(),
        idle,
        ours: process_cpu_time()?,
    })
}

fn between(before: &Reading, now: &Reading, cores: usize) -> CpuSample {
    let all = (now.at.0 - before.at.0) as f64 / 1e9 * cores as f64;
    // Idle time that goes backwards, as waiting for disks may, is none.
    let share = |now: Duration, before: Duration| {
        (now.saturating_sub(before).as_secs_f64() / all).clamp(0.0, 1.0)
    };
    let total = 1.0 - share(now.idle, before.idle);
    let ours = share(now.ours, before.ours);
    CpuSample {
        total,
        ours,
        others: (total - ours).max(0.0),
        cores,
    }
}

/// How much of the last ten seconds some or all tasks waited for something, in 0..=1; `None` where the
/// system does not tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// Some task waited for a core.
    pub cpu_some: Option<f64>,
    /// Some task waited for memory.
    pub memory_some: Option<f64>,
    /// All tasks that could have run waited for memory.
    pub memory_full: Option<f64>,
    /// Some task waited for a disk.
    pub io_some: Option<f64>,
}

/// Measures how long tasks wait for the processor and for memory.
#[derive(Debug)]
pub struct PressureProbe(imp::PressureFiles);

impl PressureProbe {
    /// Finds the system's figures; Linux has them.
    pub fn open() -> Result<Self, HostError> {
        imp::PressureFiles::open().map(Self)
    }

    /// The waits now.
    pub fn sample(&mut self) -> Result<Pressure, HostError> {
        self.0.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_idle_nor_ours_is_others() {
        let reading = |ms: u64, idle: u64, ours: u64| Reading {
            at: Moment(ms * 1_000_000),
            idle: Duration::from_millis(idle),
            ours: Duration::from_millis(ours),
        };
        let check = |now, expected: [f64; 3]| {
            let sample = between(&reading(1000, 500, 100), &now, 4);
            let got = [sample.total, sample.ours, sample.others];
            let near = got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(near, "{got:?} and not {expected:?}");
        };
        check(reading(1250, 1250, 100), [0.25, 0.0, 0.25]);
        check(reading(1250, 1000, 350), [0.5, 0.25, 0.25]);
        check(reading(1250, 500, 1100), [1.0, 1.0, 0.0]);
        // Clocks that do not agree never make others less than none.
        check(reading(1250, 1400, 200), [0.1, 0.1, 0.0]);
        check(reading(1250, 1400, 300), [0.1, 0.2, 0.0]);
        check(reading(1250, 400, 50), [1.0, 0.0, 1.0]);
        check(reading(1250, 9500, 9000), [0.0, 1.0, 0.0]);
    }
}
