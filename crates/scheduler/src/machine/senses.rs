//! What the policy is told of the machine: the host's probes, each asked as often as it is worth.

mod gpus;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gogrid_governor::{Battery, LocalTime, Observation, Policy, Presence, Weekday};
use gogrid_host::{
    CpuProbe, GpuProbe, GpuSample, HostError, MemoryProbe, PresenceProbe, PressureProbe,
    TemperatureProbe,
};
use gogrid_units::contain;

use self::gpus::OwnGpus;
use super::hardware::Hardware;
use super::threads::Threads;
use crate::log;

/// Something that observes a machine, or stands for it.
pub(crate) trait Senses: Send {
    /// Looks at what `policy` asks for; at the load of others and at presence only if `heeds_load`.
    /// Called a few times a second at most.
    fn observe(&mut self, policy: &Policy, heeds_load: bool) -> Observation;

    /// The next look is at everything.
    fn look_anew(&mut self);

    /// What this machine does not tell, or does not tell any more, each with the reason.
    fn absent(&self) -> Vec<String>;
}

/// One observation in so many looks at what changes slowly or costs more to see.
const SLOW_EVERY: u32 = 4;

/// This machine's probes, each opened when it is first asked for.
pub(crate) struct Probes {
    threads: Threads,
    own_gpus: OwnGpus,
    cpu: Probe<CpuProbe>,
    memory: Probe<MemoryProbe>,
    pressure: Probe<PressureProbe>,
    presence: Probe<PresenceProbe>,
    temperature: Probe<TemperatureProbe>,
    battery: Probe<()>,
    gpu: Probe<GpuSampler>,
    programs: Probe<()>,
    absent: Vec<String>,
    /// What was told before and is not at present, by name, with the reason.
    failing: BTreeMap<&'static str, Failing>,
    /// Probes that panicked: what is left of them is not to be trusted.
    broken: BTreeSet<&'static str>,
    looks: u32,
    /// What changes slowly, as it was when it was last looked at.
    slow: Observation,
    /// What was last told of the load of others.
    fast: Observation,
}

/// Tells how busy each GPU is.
type GpuSampler = Box<dyn FnMut() -> Vec<GpuSample> + Send>;

/// A figure, or why there is none.
type Reading<T> = Result<Option<T>, String>;

/// A figure that is not told at present.
struct Failing {
    problem: String,
    /// For how many looks.
    looks: u32,
}

/// What counts where a probe fails.
struct Instead<T> {
    /// What it told last, for some looks.
    last: Option<T>,
    /// The cautious answer, after that.
    aged: Option<T>,
}

impl<T> Instead<T> {
    /// A figure without which its rule has no say, as on a machine that does not tell it.
    fn last(last: Option<T>) -> Self {
        Self { last, aged: None }
    }
}

enum Probe<T> {
    Unopened,
    Open {
        probe: T,
        /// Readings in a row that failed.
        failures: u32,
    },
    Absent {
        /// Looks until it is opened anew: what is not there may come, and what failed once need not again.
        retry_in: u32,
        /// Whether it was closed for readings that failed, so that what it read is likely to be there.
        has_failed: bool,
    },
}

/// What a probe's absence is noted under, and where.
struct Notes<'a> {
    name: &'static str,
    absent: &'a mut Vec<String>,
}

const RETRY_AFTER: u32 = 60;

/// Readings in a row that may fail before what was told last counts no more, and the probe is closed.
const FAILURES_MAX: u32 = 8;

impl<T> Probe<T> {
    /// The probe, opened at the first call and, while there is none, anew after a while; notes why there is none.
    fn get<E: std::fmt::Display>(
        &mut self,
        notes: &mut Notes<'_>,
        open: impl FnOnce() -> Result<T, E>,
    ) -> Option<&mut T> {
        if let Self::Absent { retry_in, .. } = self {
            *retry_in = retry_in.saturating_sub(1);
        }
        if let Self::Unopened | Self::Absent { retry_in: 0, .. } = self {
            match open() {
                Ok(probe) => {
                    note(notes.absent, notes.name, &[]);
                    *self = Self::Open { probe, failures: 0 };
                }
                Err(error) => {
                    let has_failed = self.has_failed();
                    self.close(notes, &error.to_string(), has_failed);
                }
            }
        }
        match self {
            Self::Open { probe, .. } => Some(probe),
            Self::Unopened | Self::Absent { .. } => None,
        }
    }

    /// What it reads. Closes it where too many readings in a row have failed: what it told last is
    /// too old then, and a probe that is opened anew may do better.
    fn read<R, E: std::fmt::Display>(
        &mut self,
        mut notes: Notes<'_>,
        open: impl FnOnce() -> Result<T, E>,
        sample: impl FnOnce(&mut T) -> Result<Option<R>, E>,
    ) -> Reading<R> {
        let Some(probe) = self.get(&mut notes, open) else {
            return Ok(None);
        };
        let read = sample(probe).map_err(in_words);
        let Self::Open { failures, .. } = self else {
            unreachable!("it was read just now")
        };
        match &read {
            Ok(_) => *failures = 0,
            Err(_) if *failures + 1 < FAILURES_MAX => *failures += 1,
            Err(problem) => {
                let why = format!("{FAILURES_MAX} readings in a row failed: {problem}");
                self.close(&mut notes, &why, true);
                return Ok(None);
            }
        }
        read
    }

    /// There is none for this reason, for a while.
    fn close(&mut self, notes: &mut Notes<'_>, problem: &str, has_failed: bool) {
        note(notes.absent, notes.name, &[problem.to_owned()]);
        *self = Self::Absent {
            retry_in: RETRY_AFTER,
            has_failed,
        };
    }

    fn has_failed(&self) -> bool {
        matches!(
            self,
            Self::Absent {
                has_failed: true,
                ..
            }
        )
    }
}

impl Probes {
    /// What `hardware` is a part of. Threads that the probes need are among its threads.
    pub(crate) fn new(hardware: &Hardware) -> Self {
        Self {
            threads: hardware.threads.clone(),
            own_gpus: OwnGpus::of(hardware),
            cpu: Probe::Unopened,
            memory: Probe::Unopened,
            pressure: Probe::Unopened,
            presence: Probe::Unopened,
            temperature: Probe::Unopened,
            battery: Probe::Unopened,
            gpu: Probe::Unopened,
            programs: Probe::Unopened,
            absent: Vec::new(),
            failing: BTreeMap::new(),
            broken: BTreeSet::new(),
            looks: 0,
            slow: Observation::default(),
            fast: Observation::default(),
        }
    }

    /// The one border to a probe: what it tells, or `instead` where it fails. What a rule held back
    /// for is held back for a few looks more, and the status says so. A probe that panics is not asked
    /// again.
    fn told<T>(
        &mut self,
        name: &'static str,
        instead: Instead<T>,
        read: impl FnOnce(&mut Self) -> Reading<T>,
    ) -> Option<T> {
        if self.broken.contains(name) {
            return self.instead(name, instead, None);
        }
        let read = contain(|| read(self)).unwrap_or_else(|problem| {
            self.broken.insert(name);
            Err(format!(
                "its probe panicked, and is not asked again: {problem}"
            ))
        });
        match read {
            Ok(told) => {
                self.failing.remove(name);
                told
            }
            Err(problem) => self.instead(name, instead, Some(problem)),
        }
    }

    /// What counts in one more look at which a figure is not told, for this problem or the same as
    /// before.
    fn instead<T>(
        &mut self,
        name: &'static str,
        Instead { last, aged }: Instead<T>,
        problem: Option<String>,
    ) -> Option<T> {
        let failing = self.failing.entry(name).or_insert(Failing {
            problem: String::new(),
            looks: 0,
        });
        failing.problem = problem.unwrap_or_else(|| std::mem::take(&mut failing.problem));
        failing.looks = failing.looks.saturating_add(1);
        match failing.looks < FAILURES_MAX {
            true => last,
            false => aged,
        }
    }

    fn notes<'a>(name: &'static str, absent: &'a mut Vec<String>) -> Notes<'a> {
        Notes { name, absent }
    }

    fn others_cpu(&mut self) -> Reading<f64> {
        let notes = Self::notes("others' load", &mut self.absent);
        self.cpu.read(notes, CpuProbe::start, |probe| {
            let sample = probe.sample()?;
            Ok(sample.map(|sample| sample.others))
        })
    }

    fn others_gpu(&mut self) -> Reading<f64> {
        self.others_gpu_as(|| {
            let mut probe = GpuProbe::open()?;
            Ok(Box::new(move || probe.sample()))
        })
    }

    /// The same, by what `open` gives. Nobody looks for a GPU while no device is one.
    fn others_gpu_as(&mut self, open: impl Fn() -> Result<GpuSampler, HostError>) -> Reading<f64> {
        let Self {
            gpu,
            own_gpus,
            absent,
            ..
        } = self;
        let notes = Self::notes("others' use of GPUs", absent);
        let has_none = own_gpus.is_empty();
        let open = || match has_none {
            true => Err("no device of this pipeline is a GPU".to_owned()),
            false => open().map_err(in_words),
        };
        gpu.read(notes, open, |sample| own_gpus.others(&sample()).map(Some))
    }

    fn memory_available(&mut self) -> Reading<f64> {
        let notes = Self::notes("memory", &mut self.absent);
        self.memory.read(notes, MemoryProbe::open, |probe| {
            let memory = probe.sample()?;
            let total = memory.total.0.max(1);
            Ok(Some(memory.available.0 as f64 / total as f64))
        })
    }

    fn memory_pressure(&mut self) -> Reading<f64> {
        let notes = Self::notes("memory pressure", &mut self.absent);
        self.pressure.read(notes, PressureProbe::open, |probe| {
            Ok(probe.sample()?.memory_some)
        })
    }

    fn presence(&mut self) -> Reading<Presence> {
        let threads = &self.threads;
        let open = || PresenceProbe::open(threads.adoption("presence"));
        let mut notes = Self::notes("presence", &mut self.absent);
        let Some(probe) = self.presence.get(&mut notes, open) else {
            return Ok(None);
        };
        let seen = probe.sample();
        if let Some(problem) = probe.ended().map(str::to_owned) {
            log::warn(&format_args!("presence is unknown: {problem}"));
            self.presence.close(&mut notes, &problem, true);
        }
        Ok(seen.map(|seen| Presence {
            // A person who is not known to be away is there.
            idle: seen.idle.unwrap_or(Duration::ZERO),
            locked: seen.locked.unwrap_or(false),
            full_screen: seen.full_screen.unwrap_or(false),
        }))
    }

    fn temperature_c(&mut self) -> Reading<f64> {
        let notes = Self::notes("temperature", &mut self.absent);
        let open = TemperatureProbe::open;
        self.temperature
            .read(notes, open, |probe| probe.sample_c().map(Some))
    }

    fn battery(&mut self) -> Reading<Battery> {
        self.battery_as(gogrid_host::battery)
    }

    /// The battery as `look` sees it. One that was seen, and neither tells any more nor is known to be
    /// gone, is in use and empty.
    fn battery_as(
        &mut self,
        look: impl Fn() -> Result<gogrid_host::Battery, HostError>,
    ) -> Reading<Battery> {
        let is_none = Cell::new(false);
        let look =
            || look().inspect_err(|error| is_none.set(matches!(error, HostError::NoneHere { .. })));
        let notes = Self::notes("battery", &mut self.absent);
        let open = || look().map(drop);
        let told = self.battery.read(notes, open, |()| look().map(Some));
        if is_none.get() {
            let mut notes = Self::notes("battery", &mut self.absent);
            self.battery
                .close(&mut notes, "this machine has none", false);
            note(&mut self.absent, "battery status", &[]);
            return Ok(None);
        }
        let told = told?;
        let unknown = told.as_ref().map_or(&[][..], |battery| &battery.unknown);
        note(&mut self.absent, "battery status", unknown);
        let untold = self.battery.has_failed().then_some(UNTOLD);
        Ok(told.map(cautious).or(untold))
    }

    /// Which of the exclusive applications run.
    fn running(&mut self, policy: &Policy) -> Reading<Vec<String>> {
        let notes = Self::notes("applications", &mut self.absent);
        let list = || gogrid_host::running(&policy.exclusive);
        let open = || list().map(drop);
        self.programs.read(notes, open, |()| list().map(Some))
    }

    /// What changes slowly.
    fn look_around(&mut self, policy: &Policy, heeds_load: bool) {
        let last = self.slow.clone();
        let applications = match policy.exclusive.is_empty() {
            true => None,
            false => {
                let instead = Instead::last(Some(last.applications));
                self.told("applications", instead, |probes| probes.running(policy))
            }
        };
        let others_gpu = match heeds_load && policy.others_gpu.yield_above < 1.0 {
            true => {
                let instead = Instead::last(last.others_gpu);
                self.told("others' use of GPUs", instead, Self::others_gpu)
            }
            false => None,
        };
        let battery = Instead {
            aged: last.battery.as_ref().map(|_| UNTOLD),
            last: last.battery,
        };
        let temperature = Instead::last(last.temperature_c);
        self.slow = Observation {
            // Somebody who was away may be back.
            presence: heeds_load
                .then(|| self.told("presence", Instead::last(None), Self::presence))
                .flatten(),
            battery: self.told("battery", battery, Self::battery),
            temperature_c: self.told("temperature", temperature, Self::temperature_c),
            applications: applications.unwrap_or_default(),
            others_gpu,
            local_time: local_time(policy),
            ..Observation::default()
        };
    }
}

impl Senses for Probes {
    fn observe(&mut self, policy: &Policy, heeds_load: bool) -> Observation {
        if self.looks.is_multiple_of(SLOW_EVERY) {
            self.look_around(policy, heeds_load);
        }
        self.looks = self.looks.wrapping_add(1);
        let slow = self.slow.clone();
        if !heeds_load {
            return slow;
        }
        let last = self.fast.clone();
        let others = Instead::last(last.others_cpu);
        let available = Instead::last(last.memory_available);
        let pressure = Instead::last(last.memory_pressure);
        self.fast = Observation {
            others_cpu: self.told("others' load", others, Self::others_cpu),
            memory_available: self.told("memory", available, Self::memory_available),
            memory_pressure: self.told("memory pressure", pressure, Self::memory_pressure),
            ..slow
        };
        self.fast.clone()
    }

    fn look_anew(&mut self) {
        self.looks = 0;
    }

    fn absent(&self) -> Vec<String> {
        let failing = self.failing.iter();
        let failing = failing.map(|(name, failing)| format!("{name}: {}", failing.problem));
        self.absent.iter().cloned().chain(failing).collect()
    }
}

/// A battery of which nothing is known.
const UNTOLD: Battery = Battery {
    discharging: true,
    charge: 0.0,
};

/// A battery that does not tell is one that the machine runs from, and one that is empty: work that is
/// held back costs less than a machine that goes out.
fn cautious(battery: gogrid_host::Battery) -> Battery {
    Battery {
        discharging: battery.discharging.unwrap_or(UNTOLD.discharging),
        charge: battery.charge.unwrap_or(UNTOLD.charge),
    }
}

/// Has `absent` say once, under this name, what is unknown at present.
fn note(absent: &mut Vec<String>, name: &str, unknown: &[String]) {
    absent.retain(|line| line.split_once(": ").is_none_or(|(of, _)| of != name));
    if !unknown.is_empty() {
        absent.push(format!("{name}: {}", unknown.join(", ")));
    }
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The time of the week, where a schedule asks for it.
fn local_time(policy: &Policy) -> Option<LocalTime> {
    if policy.schedule.is_empty() {
        return None;
    }
    let now = gogrid_host::local_time();
    Some(LocalTime {
        weekday: *Weekday::ALL.get(usize::from(now.weekday))?,
        minute_of_day: now.minute_of_day,
    })
}

/// A machine that tells what a test says.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Told(pub(crate) Observation);

#[cfg(test)]
impl Senses for Told {
    fn observe(&mut self, _policy: &Policy, _heeds_load: bool) -> Observation {
        self.0.clone()
    }

    fn look_anew(&mut self) {}

    fn absent(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gogrid_testkit::fakes::{FakeBackend, Faults};
    use gogrid_units::Bytes;

    use super::*;
    use crate::fixture::{TestDevice, TestMachine, free};
    use crate::heterogeneous_pipeline::fake_cpu;
    use crate::machine::Machine;

    fn on_a_cpu() -> Arc<Machine> {
        TestMachine::of(vec![fake_cpu(0, Faults::default())]).open(&free())
    }

    /// A CPU, and the GPU `fake GPU 0`.
    fn with_a_gpu() -> Arc<Machine> {
        let gpu = TestDevice::accelerator(0, 1, |loan| Box::new(FakeBackend::new(loan.memory)));
        let machine = TestMachine {
            memories: vec![Bytes::gib(1); 2],
            ..TestMachine::of(vec![fake_cpu(0, Faults::default()), gpu])
        };
        machine.open(&free())
    }

    #[test]
    fn a_reading_that_fails_voids_itself_and_what_was_told_last_counts() {
        let machine = on_a_cpu();
        let mut probes = Probes::new(&machine.hardware);
        let mut told = |read: fn(&mut Probes) -> Reading<f64>| {
            let instead = Instead::last(Some(40.0));
            let told = probes.told("temperature", instead, read);
            (told, probes.absent())
        };
        assert_eq!(told(|_| Ok(Some(50.0))), (Some(50.0), vec![]));
        assert_eq!(told(|_| Ok(None)), (None, vec![]));
        let gone = vec!["temperature: gone".to_owned()];
        assert_eq!(told(|_| Err("gone".to_owned())), (Some(40.0), gone));
        assert_eq!(told(|_| Ok(Some(60.0))), (Some(60.0), vec![]));
        let (last, said) = told(|_| panic!("as a test asked"));
        assert_eq!(last, Some(40.0));
        assert!(
            said[0].ends_with("is not asked again: as a test asked"),
            "{said:?}"
        );
        // What it told last counts no more after some looks.
        for _ in 2..FAILURES_MAX {
            let again = told(|_| Ok(Some(70.0)));
            assert_eq!(again, (Some(40.0), said.clone()));
        }
        assert_eq!(told(|_| Ok(Some(70.0))), (None, said));
    }

    #[test]
    fn a_probe_whose_readings_fail_is_closed_and_opened_anew_after_a_while() {
        let (mut probe, mut absent) = (Probe::Unopened, Vec::new());
        let mut opened = 0;
        let mut look = |reading: Result<f64, &'static str>| {
            let notes = Probes::notes("temperature", &mut absent);
            let open = || {
                opened += 1;
                Ok(())
            };
            let read = probe.read(notes, open, |()| reading.map(Some));
            (read, absent.clone(), opened)
        };
        let lost = || Err("gone".to_owned());
        for _ in 0..2 {
            assert_eq!(look(Ok(95.0)), (Ok(Some(95.0)), vec![], 1));
            // Fewer failures than may be, and it tells again.
            for _ in 1..FAILURES_MAX {
                assert_eq!(look(Err("gone")), (lost(), vec![], 1));
            }
        }
        assert_eq!(look(Ok(95.0)), (Ok(Some(95.0)), vec![], 1));
        for _ in 1..FAILURES_MAX {
            assert_eq!(look(Err("gone")), (lost(), vec![], 1));
        }
        let why = vec![format!(
            "temperature: {FAILURES_MAX} readings in a row failed: gone"
        )];
        for _ in 0..RETRY_AFTER {
            assert_eq!(look(Err("gone")), (Ok(None), why.clone(), 1));
        }
        assert_eq!(look(Ok(50.0)), (Ok(Some(50.0)), vec![], 2));
    }

    /// What is told by a driver of a GPU of this name, as busy as that.
    fn driver(name: &'static str, total: f64) -> impl Fn() -> Result<GpuSampler, HostError> {
        move || {
            let sample = GpuSample {
                name: name.to_owned(),
                total,
                ours: 0.0,
                others: total,
                temperature_c: None,
                power_w: None,
            };
            Ok(Box::new(move || vec![sample.clone()]))
        }
    }

    #[test]
    fn gpus_are_looked_at_where_a_device_is_one_and_not_otherwise() {
        let machine = with_a_gpu();
        let mut probes = Probes::new(&machine.hardware);
        assert_eq!(
            probes.others_gpu_as(driver("fake GPU 0", 0.75)),
            Ok(Some(0.75))
        );
        assert!(probes.absent().is_empty(), "{:?}", probes.absent());
        let mut probes = Probes::new(&machine.hardware);
        let told = probes.others_gpu_as(driver("another GPU", 0.75));
        assert_eq!(
            told,
            Err("no driver tells how busy fake GPU 0 is".to_owned())
        );
        let cpu = on_a_cpu();
        let mut probes = Probes::new(&cpu.hardware);
        let told = probes.others_gpu_as(|| panic!("no device is a GPU"));
        assert_eq!(told, Ok(None));
        let absent = probes.absent().join("; ");
        assert_eq!(
            absent,
            "others' use of GPUs: no device of this pipeline is a GPU"
        );
    }

    #[test]
    fn a_battery_that_is_taken_out_is_none_and_one_that_fails_is_empty() {
        let machine = on_a_cpu();
        let mut probes = Probes::new(&machine.hardware);
        let full = || {
            Ok(gogrid_host::Battery {
                discharging: Some(true),
                charge: Some(1.0),
                power_w: None,
                unknown: Vec::new(),
            })
        };
        let none = || Err(HostError::NoneHere { what: "battery" });
        let unread = || {
            Err(HostError::Unread {
                what: "battery",
                reason: "a loose contact".to_owned(),
            })
        };
        let in_use = Ok(Some(Battery {
            discharging: true,
            charge: 1.0,
        }));
        assert_eq!(probes.battery_as(full), in_use);
        assert_eq!(probes.battery_as(none), Ok(None), "it was taken out");
        for look in 1..=RETRY_AFTER {
            let told = probes.battery_as(full);
            assert_eq!(told.is_ok_and(|one| one.is_some()), look == RETRY_AFTER);
        }
        for _ in 1..FAILURES_MAX {
            assert!(probes.battery_as(unread).is_err());
        }
        for _ in 0..2 * RETRY_AFTER {
            assert_eq!(probes.battery_as(unread), Ok(Some(UNTOLD)));
        }
        // It is opened anew, and gone.
        let told = (0..RETRY_AFTER).map(|_| probes.battery_as(none));
        assert_eq!(told.last(), Some(Ok(None)));
    }

    #[test]
    fn a_battery_that_does_not_tell_counts_as_empty_and_in_use() {
        let check = |told: (Option<bool>, Option<f64>), expected: (bool, f64)| {
            let battery = cautious(gogrid_host::Battery {
                discharging: told.0,
                charge: told.1,
                power_w: None,
                unknown: Vec::new(),
            });
            assert_eq!((battery.discharging, battery.charge), expected, "{told:?}");
        };
        check((Some(false), Some(0.4)), (false, 0.4));
        check((None, Some(0.4)), (true, 0.4));
        check((Some(false), None), (false, 0.0));
        check((None, None), (true, 0.0));
    }

    #[test]
    fn a_probe_that_fails_is_noted_once_and_opened_anew_after_a_while() {
        let (mut probe, mut absent) = (Probe::Unopened, Vec::new());
        let mut opened = 0;
        for look in 0..=RETRY_AFTER {
            let mut notes = Probes::notes("thing", &mut absent);
            let got = probe.get(&mut notes, || {
                opened += 1;
                if opened == 1 { Err("not yet") } else { Ok(()) }
            });
            assert_eq!(got.is_some(), look == RETRY_AFTER, "{look}");
            assert_eq!(absent.is_empty(), look == RETRY_AFTER, "{absent:?}");
        }
        assert_eq!(opened, 2);
        probe.close(
            &mut Probes::notes("thing", &mut absent),
            "its thread ended",
            false,
        );
        probe.close(
            &mut Probes::notes("thing", &mut absent),
            "its thread ended",
            false,
        );
        assert_eq!(absent, ["thing: its thread ended"]);
        note(&mut absent, "thing", &[]);
        assert!(absent.is_empty());
    }
}
