//! What the policy is told of the machine: the host's probes, each asked as often as it is worth.

use std::time::Duration;

use gogrid_governor::{Battery, LocalTime, Observation, Policy, Presence, Weekday};
use gogrid_host::{CpuProbe, MemoryProbe, PresenceProbe, PressureProbe, TemperatureProbe};

use super::threads::Threads;

/// Something that observes a machine, or stands for it.
pub(crate) trait Senses: Send {
    /// Looks at what `policy` asks for; at the load of others and at presence only if `heeds_load`.
    /// Called a few times a second at most.
    fn observe(&mut self, policy: &Policy, heeds_load: bool) -> Observation;

    /// The next look is at everything.
    fn look_anew(&mut self);

    /// What this machine does not tell, each with the reason.
    fn absent(&self) -> &[String];
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
    looks: u32,
    /// What changes slowly, as it was when it was last looked at.
    slow: Observation,
}

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
            looks: 0,
            slow: Observation::default(),
        }
    }

    fn others_cpu(&mut self) -> Option<f64> {
        let named = ("others' load", &mut self.absent);
        let sample = self.cpu.get(named, CpuProbe::start)?.sample();
        Some(sample.ok()??.others)
    }

    fn memory_available(&mut self) -> Option<f64> {
        let named = ("memory", &mut self.absent);
        let memory = self.memory.get(named, MemoryProbe::open)?.sample().ok()?;
        Some(memory.available.0 as f64 / memory.total.0.max(1) as f64)
    }

    fn memory_pressure(&mut self) -> Option<f64> {
        let named = ("memory pressure", &mut self.absent);
        let pressure = self.pressure.get(named, PressureProbe::open)?;
        pressure.sample().ok()?.memory_some
    }

    fn presence(&mut self) -> Option<Presence> {
        let threads = &self.threads;
        let open = || PresenceProbe::open(threads.adoption("presence"));
        let named = ("presence", &mut self.absent);
        let probe = self.presence.get(named, open)?;
        let seen = probe.sample();
        if let Some(problem) = probe.ended().map(str::to_owned) {
            tracing::warn!(%problem, "presence is unknown");
            self.presence
                .close(("presence", &mut self.absent), &problem);
        }
        let seen = seen?;
        Some(Presence {
            // A person who is not known to be away is there.
            idle: seen.idle.unwrap_or(Duration::ZERO),
            locked: seen.locked.unwrap_or(false),
            full_screen: seen.full_screen.unwrap_or(false),
        })
    }

    fn temperature_c(&mut self) -> Option<f64> {
        let named = ("temperature", &mut self.absent);
        let probe = self.temperature.get(named, TemperatureProbe::open)?;
        probe.sample_c().ok()
    }

    fn battery(&mut self) -> Option<Battery> {
        let named = ("battery", &mut self.absent);
        self.battery
            .get(named, || gogrid_host::battery().map(drop))?;
        let battery = gogrid_host::battery();
        let unknown = battery.as_ref().map_or(&[][..], |battery| &battery.unknown);
        note(&mut self.absent, "battery status", unknown);
        battery.ok().map(cautious)
    }

    /// Which of the exclusive applications run.
    fn running(&mut self, policy: &Policy) -> Vec<String> {
        let named = ("applications", &mut self.absent);
        let listed = gogrid_host::running(&policy.exclusive);
        let listed = listed.map_err(|error| error.to_string());
        let tells = self.programs.get(named, || listed.as_ref().map(drop));
        tells.and(listed.as_ref().ok()).cloned().unwrap_or_default()
    }

    /// What changes slowly.
    fn look_around(&mut self, policy: &Policy, heeds_load: bool) {
        let applications = match policy.exclusive.is_empty() {
            true => Vec::new(),
            false => self.running(policy),
        };
        if heeds_load && policy.others_gpu.yield_above < 1.0 {
            let named = ("others' use of GPUs", &mut self.absent);
            // Every device is a CPU so far.
            self.gpu
                .get(named, || Err("no device of this pipeline is a GPU"));
        }
        self.slow = Observation {
            presence: heeds_load.then(|| self.presence()).flatten(),
            battery: self.battery(),
            temperature_c: self.temperature_c(),
            applications,
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
        Observation {
            others_cpu: self.others_cpu(),
            memory_available: self.memory_available(),
            memory_pressure: self.memory_pressure(),
            ..slow
        }
    }

    fn look_anew(&mut self) {
        self.looks = 0;
    }

    fn absent(&self) -> &[String] {
        &self.absent
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

    fn absent(&self) -> &[String] {
        &[]
    }
}
