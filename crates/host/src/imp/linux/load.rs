use std::time::Duration;

use super::kept::KeptFile;
use crate::cores::CoreSet;
use crate::error::HostError;
use crate::load::Pressure;

/// The time in which cores did nothing.
#[derive(Debug)]
pub(crate) struct IdleClock {
    stat: KeptFile,
    cores: CoreSet,
    tick: Duration,
}

/// A line of `/proc/stat` for a core is shorter: ten numbers of up to 20 digits.
const LINE_MAX: usize = 224;

impl IdleClock {
    pub(crate) fn open(cores: &CoreSet) -> Result<Self, HostError> {
        let mut stat = KeptFile::open("/proc/stat")?;
        let last = cores.cores().last().copied().unwrap_or(0);
        stat.reserve((last + 2) * LINE_MAX);
        let tick = Duration::from_secs(1) / rustix::param::clock_ticks_per_second().max(1) as u32;
        Ok(Self {
            stat,
            cores: cores.clone(),
            tick,
        })
    }

    /// Summed over the cores, and counted by the kernel to the microsecond where it stops its
    /// ticks, whereas work is counted by whole ticks. Time that a hypervisor gave to others is in
    /// it: that is nobody's work here, and our going away would not give it back.
    pub(crate) fn idle(&mut self) -> Result<Duration, HostError> {
        let path = self.stat.path();
        let (ticks, cores) = idle_ticks(self.stat.read_front()?, &self.cores);
        if cores == 0 {
            return Err(HostError::Field { path, field: "cpu" });
        }
        // 2^32 ticks of 10 ms are over a year of one core.
        Ok(Duration::from_nanos(
            ticks.saturating_mul(self.tick.as_nanos() as u64),
        ))
    }
}

/// Ticks of idleness, of waiting for a disk and of steal, and how many of the cores are there: one
/// that is off line has no line.
fn idle_ticks(stat: &str, cores: &CoreSet) -> (u64, usize) {
    let lines = stat.lines().skip(1);
    let of_cores = lines.map_while(|line| line.strip_prefix("cpu"));
    let ours = of_cores.filter_map(|line| {
        let (core, counts) = line.split_once(' ')?;
        cores.contains(core.parse().ok()?).then_some(counts)
    });
    ours.fold((0, 0), |(ticks, cores), counts| {
        // user nice system idle iowait irq softirq steal, by proc(5).
        let field = |(index, text): (usize, &str)| match index {
            3 | 4 | 7 => text.parse().unwrap_or(0),
            _ => 0_u64,
        };
        let idle = counts.split(' ').take(8).enumerate().map(field);
        (idle.fold(ticks, u64::saturating_add), cores + 1)
    })
}

/// The files of `/proc/pressure`, kept open. Each is there or not for itself.
#[derive(Debug)]
pub(crate) struct PressureFiles {
    cpu: Option<KeptFile>,
    memory: Option<KeptFile>,
    io: Option<KeptFile>,
}

impl PressureFiles {
    /// An error where no file tells anything: a kernel may have the files and refuse to read them.
    pub(crate) fn open() -> Result<Self, HostError> {
        let [cpu, memory, io] = [
            "/proc/pressure/cpu",
            "/proc/pressure/memory",
            "/proc/pressure/io",
        ]
        .map(|path| {
            let mut file = KeptFile::open(path)?;
            average(&mut file, "some")?;
            Ok(file)
        });
        match (cpu, memory, io) {
            (Err(error), Err(_), Err(_)) => Err(error),
            (cpu, memory, io) => Ok(Self {
                cpu: cpu.ok(),
                memory: memory.ok(),
                io: io.ok(),
            }),
        }
    }

    pub(crate) fn read(&mut self) -> Result<Pressure, HostError> {
        let share = |file: &mut Option<KeptFile>, field| average(file.as_mut()?, field).ok();
        Ok(Pressure {
            cpu_some: share(&mut self.cpu, "some"),
            memory_some: share(&mut self.memory, "some"),
            memory_full: share(&mut self.memory, "full"),
            io_some: share(&mut self.io, "some"),
        })
    }
}

fn average(file: &mut KeptFile, field: &'static str) -> Result<f64, HostError> {
    let path = file.path();
    let found = average_in(file.read()?, field);
    found.ok_or(HostError::Field { path, field })
}

/// The share of the last ten seconds, from `some avg10=1.25 avg60=...`.
fn average_in(text: &str, field: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, averages) = lines.find(|(name, _)| *name == field)?;
    let percent = averages.strip_prefix("avg10=")?.split(' ').next()?;
    let percent = percent.parse::<f64>().ok();
    let sound = percent.filter(|percent| (0.0..=100.0).contains(percent));
    sound.map(|percent| percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idleness_waiting_and_steal_of_the_allowed_cores_count() {
        let stat = "cpu  100 0 0 9999 99 0 0 9 0 0\n\
                    cpu0 10 1 2 1000 30 5 6 4 7 8\n\
                    cpu1 10 1 2 50 1 5 6 0 7 8\n\
                    cpu10 10 1 2 7 1 5 6 0 0 0\n\
                    intr 12345 0 9 9 9\n\
                    cpu0 no more cores after the first other line\n";
        let check = |cores: &str, expected| {
            assert_eq!(
                idle_ticks(stat, &cores.parse().unwrap()),
                expected,
                "{cores}"
            );
        };
        check("0", (1034, 1));
        check("0-1", (1085, 2));
        check("1,10", (59, 2));
        // Off line, or cut off by the end of the buffer.
        check("1-2", (51, 1));
        check("5", (0, 0));
        assert_eq!(idle_ticks("", &"0".parse().unwrap()), (0, 0));
    }

    #[test]
    fn pressure_is_a_share_of_the_last_ten_seconds() {
        let text = "some avg10=2.50 avg60=6.05 avg300=2.83 total=5865811903\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(average_in(text, "some"), Some(0.025));
        assert_eq!(average_in(text, "full"), Some(0.0));
        assert_eq!(average_in("some avg60=1 avg10=2\n", "some"), None);
        assert_eq!(average_in("", "some"), None);
        for rubbish in ["nan", "-1", "1e9", "inf", ""] {
            let text = format!("some avg10={rubbish} avg60=1\n");
            assert_eq!(average_in(&text, "some"), None, "{rubbish}");
        }
    }
}
