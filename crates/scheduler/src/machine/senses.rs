//! What the policy is told of the machine: the host's probes, each asked as often as it is worth.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gogrid_governor::{Battery, LocalTime, Observation, Policy, Presence, Weekday};
use gogrid_host::{CpuProbe, MemoryProbe, PresenceProbe, PressureProbe, TemperatureProbe};
use gogrid_units::contain;

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
    cpu: Probe<CpuProbe>,
    memory: Probe<MemoryProbe>,
    pressure: Probe<PressureProbe>,
    presence: Probe<PresenceProbe>,
    temperature: Probe<TemperatureProbe>,
    battery: Probe<()>,
    gpu: Probe<()>,
    programs: Probe<()>,
    absent: Vec<String>,
    /// What was told before and is not at present, by name, with the reason.
    failing: BTreeMap<&'static str, String>,
    /// Probes that panicked: what is left of them is not to be trusted.
    broken: BTreeSet<&'static str>,
    looks: u32,
    /// What changes slowly, as it was when it was last looked at.
    slow: Observation,
    /// What was last told of the load of others.
    fast: Observation,
}

/// A figure, or why there is none.
type Reading<T> = Result<Option<T>, String>;

enum Probe<T> {
    Unopened,
    Open(T),
    Absent {
        /// Looks until it is opened anew: what is not there may come, and what failed once need not again.
        retry_in: u32,
    },
}

const RETRY_AFTER: u32 = 60;

impl<T> Probe<T> {
    /// The probe, opened at the first call and, while there is none, anew after a while; notes why there is none.
    fn get<E: std::fmt::Display>(
        &mut self,
        (name, absent): (&str, &mut Vec<String>),
        open: impl FnOnce() -> Result<T, E>,
    ) -> Option<&mut T> {
        if let Self::Absent { retry_in } = self {
            *retry_in = retry_in.saturating_sub(1);
        }
        if let Self::Unopened | Self::Absent { retry_in: 0 } = self {
            match open() {
                Ok(probe) => {
                    note(absent, name, &[]);
                    *self = Self::Open(probe);
                }
                Err(error) => self.close((name, absent), &error.to_string()),
            }
        }
        match self {
            Self::Open(probe) => Some(probe),
            Self::Unopened | Self::Absent { .. } => None,
        }
    }

    /// There is none for this reason, for a while.
    fn close(&mut self, (name, absent): (&str, &mut Vec<String>), problem: &str) {
        note(absent, name, &[problem.to_owned()]);
        *self = Self::Absent {
            retry_in: RETRY_AFTER,
        };
    }
}

impl Probes {
    /// The machine that this runs on. Threads that its probes need are among `threads`.
    pub(crate) fn new(threads: Threads) -> Self {
        Self {
            threads,
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

    /// The one border to a probe: what it tells, or `last` where it fails. What a rule held back for
    /// is then held back for until the probe tells otherwise, and the status says so. A probe that
    /// panics is not asked again.
    fn told<T>(
        &mut self,
        name: &'static str,
        last: Option<T>,
        read: impl FnOnce(&mut Self) -> Reading<T>,
    ) -> Option<T> {
        if self.broken.contains(name) {
            return last;
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
            Err(problem) => {
                self.failing.insert(name, problem);
                last
            }
        }
    }

    fn others_cpu(&mut self) -> Reading<f64> {
        let named = ("others' load", &mut self.absent);
        let Some(probe) = self.cpu.get(named, CpuProbe::start) else {
            return Ok(None);
        };
        let sample = probe.sample().map_err(in_words)?;
        Ok(sample.map(|sample| sample.others))
    }

    fn memory_available(&mut self) -> Reading<f64> {
        let named = ("memory", &mut self.absent);
        let Some(probe) = self.memory.get(named, MemoryProbe::open) else {
            return Ok(None);
        };
        let memory = probe.sample().map_err(in_words)?;
        Ok(Some(
            memory.available.0 as f64 / memory.total.0.max(1) as f64,
        ))
    }

    fn memory_pressure(&mut self) -> Reading<f64> {
        let named = ("memory pressure", &mut self.absent);
        let Some(probe) = self.pressure.get(named, PressureProbe::open) else {
            return Ok(None);
        };
        let pressure = probe.sample().map_err(in_words)?;
        Ok(pressure.memory_some)
    }

    fn presence(&mut self) -> Reading<Presence> {
        let threads = &self.threads;
        let open = || PresenceProbe::open(threads.adoption("presence"));
        let named = ("presence", &mut self.absent);
        let Some(probe) = self.presence.get(named, open) else {
            return Ok(None);
        };
        let seen = probe.sample();
        if let Some(problem) = probe.ended().map(str::to_owned) {
            log::warn(&format_args!("presence is unknown: {problem}"));
            self.presence
                .close(("presence", &mut self.absent), &problem);
        }
        Ok(seen.map(|seen| Presence {
            // A person who is not known to be away is there.
            idle: seen.idle.unwrap_or(Duration::ZERO),
            locked: seen.locked.unwrap_or(false),
            full_screen: seen.full_screen.unwrap_or(false),
        }))
    }

    fn temperature_c(&mut self) -> Reading<f64> {
        let named = ("temperature", &mut self.absent);
        match self.temperature.get(named, TemperatureProbe::open) {
            Some(probe) => probe.sample_c().map(Some).map_err(in_words),
            None => Ok(None),
        }
    }

    fn battery(&mut self) -> Reading<Battery> {
        let named = ("battery", &mut self.absent);
        let open = || gogrid_host::battery().map(drop);
        if self.battery.get(named, open).is_none() {
            return Ok(None);
        }
        let battery = gogrid_host::battery();
        let unknown = battery.as_ref().map_or(&[][..], |battery| &battery.unknown);
        note(&mut self.absent, "battery status", unknown);
        battery.map(cautious).map(Some).map_err(in_words)
    }

    /// Which of the exclusive applications run.
    fn running(&mut self, policy: &Policy) -> Reading<Vec<String>> {
        let named = ("applications", &mut self.absent);
        let listed = gogrid_host::running(&policy.exclusive).map_err(in_words);
        match self.programs.get(named, || listed.as_ref().map(drop)) {
            Some(()) => listed.map(Some),
            None => Ok(None),
        }
    }

    /// What changes slowly.
    fn look_around(&mut self, policy: &Policy, heeds_load: bool) {
        let last = self.slow.clone();
        let applications = match policy.exclusive.is_empty() {
            true => None,
            false => self.told("applications", Some(last.applications), |probes| {
                probes.running(policy)
            }),
        };
        if heeds_load && policy.others_gpu.yield_above < 1.0 {
            let named = ("others' use of GPUs", &mut self.absent);
            // Every device is a CPU so far.
            self.gpu
                .get(named, || Err("no device of this pipeline is a GPU"));
        }
        self.slow = Observation {
            // Somebody who was away may be back.
            presence: heeds_load
                .then(|| self.told("presence", None, Self::presence))
                .flatten(),
            battery: self.told("battery", last.battery, Self::battery),
            temperature_c: self.told("temperature", last.temperature_c, Self::temperature_c),
            applications: applications.unwrap_or_default(),
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
        let (available, pressure) = (last.memory_available, last.memory_pressure);
        self.fast = Observation {
            others_cpu: self.told("others' load", last.others_cpu, Self::others_cpu),
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
        let failing = failing.map(|(name, problem)| format!("{name}: {problem}"));
        self.absent.iter().cloned().chain(failing).collect()
    }
}

/// A battery that does not tell is one that the machine runs from, and one that is empty: work that is
/// held back costs less than a machine that goes out.
fn cautious(battery: gogrid_host::Battery) -> Battery {
    Battery {
        discharging: battery.discharging.unwrap_or(true),
        charge: battery.charge.unwrap_or(0.0),
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
    use super::*;
    use crate::fixture::free;

    #[test]
    fn a_reading_that_fails_voids_itself_and_what_was_told_last_counts() {
        let threads = Threads::new(&free().limits).expect("a thread");
        let mut probes = Probes::new(threads);
        let mut told = |read: fn(&mut Probes) -> Reading<f64>| {
            let told = probes.told("temperature", Some(40.0), read);
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
        assert_eq!(told(|_| Ok(Some(70.0))), (Some(40.0), said));
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
            let got = probe.get(("thing", &mut absent), || {
                opened += 1;
                if opened == 1 { Err("not yet") } else { Ok(()) }
            });
            assert_eq!(got.is_some(), look == RETRY_AFTER, "{look}");
            assert_eq!(absent.is_empty(), look == RETRY_AFTER, "{absent:?}");
        }
        assert_eq!(opened, 2);
        probe.close(("thing", &mut absent), "its thread ended");
        probe.close(("thing", &mut absent), "its thread ended");
        assert_eq!(absent, ["thing: its thread ended"]);
        note(&mut absent, "thing", &[]);
        assert!(absent.is_empty());
    }
}
