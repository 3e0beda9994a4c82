use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::Window;

/// The rules of one machine's owner, beyond caps. Every share is in 0..=1 of the whole machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// When somebody counts as present, and the meaning of a full screen.
    pub presence: PresenceRule,
    /// The share that the owner's own requests keep, whatever others do on the machine: they slow down to
    /// it where a guest's wait. More than 0.
    #[serde(default = "owner_share_min")]
    pub owner_share_min: f64,
    /// The share that others' use of the processor leaves us.
    pub others_cpu: LoadRule,
    /// The share that others' use of the GPU leaves us.
    pub others_gpu: LoadRule,
    /// When others need the memory's bandwidth and room more than we do.
    pub memory: MemoryRule,
    /// The share that may be taken on battery.
    pub battery: BatteryRule,
    /// When the machine is too hot.
    pub temperature: TemperatureRule,
    /// Names of applications that want the machine for themselves: nothing runs beside them.
    pub exclusive: Vec<String>,
    /// When work is welcome; always, if there is no window.
    pub schedule: Vec<Window>,
}

/// When somebody counts as present. Unknown counts as present.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresenceRule {
    /// Away after so long without input.
    pub away_after_s: u32,
    /// Away at once while the screen is locked.
    pub away_when_locked: bool,
    /// The most that is taken while somebody present has an application full screen; 0 stops,
    /// and with 1 a full screen means nothing. Otherwise a full screen that is not locked is
    /// somebody present, however long without input: films and talks need none.
    pub full_screen_share_max: f64,
}

/// The share that others' use of a resource leaves us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadRule {
    /// Others' share above which room is made for them; with 1, never.
    pub yield_above: f64,
    /// The share that stays free beside others, for their next demand.
    pub headroom: f64,
    /// A smaller share than this is not worth running with: stop.
    pub share_min: f64,
    /// After a stop, the share that must be free again: from `share_min` to 1 - `headroom`.
    pub resume_share: f64,
    /// For how long it must be free.
    pub resume_after_s: u32,
}

/// When others need the memory more than we do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryRule {
    /// Stop when less than this share of memory is available; 0 never stops.
    pub available_min: f64,
    /// After a stop, the share that must be available again. At least `available_min`.
    pub resume_available: f64,
    /// Stop when tasks waited for memory for more than this share of the time; 1 never stops.
    pub pressure_max: f64,
    /// After a stop, the pressure it must have fallen to. At most `pressure_max`.
    pub resume_pressure: f64,
    /// For how long both must be well.
    pub resume_after_s: u32,
}

/// The share that may be taken on battery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatteryRule {
    /// The most that is taken on battery; 0 stops, 1 does not limit.
    pub share_max: f64,
    /// On battery, stop below this charge; 0 never stops.
    pub charge_min: f64,
    /// After a stop, the charge it goes on at. At least `charge_min`.
    pub resume_charge: f64,
    /// How long the machine must be off battery, or charged, before it goes on.
    pub resume_after_s: u32,
}

/// When the machine is too hot: from one temperature on it takes less, down to nothing at another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemperatureRule {
    /// Above this the cap falls in a straight line, in degrees Celsius.
    pub limit_above_c: f64,
    /// At this nothing runs. More than `limit_above_c`.
    pub stop_above_c: f64,
    /// After a stop, the temperature it must have cooled to. Less than `stop_above_c`.
    pub resume_below_c: f64,
    /// For how long.
    pub resume_after_s: u32,
}

/// That of every mode, and of a policy that was written before there was one.
fn owner_share_min() -> f64 {
    0.1
}

impl Policy {
    /// For a machine somebody works at: the conservative mode's.
    pub fn desktop() -> Self {
        Self {
            presence: PresenceRule {
                away_after_s: 600,
                away_when_locked: true,
                full_screen_share_max: 0.3,
            },
            owner_share_min: owner_share_min(),
            others_cpu: LoadRule {
                yield_above: 0.25,
                headroom: 0.1,
                share_min: 0.1,
                resume_share: 0.2,
                resume_after_s: 5,
            },
            others_gpu: LoadRule {
                yield_above: 0.25,
                headroom: 0.2,
                share_min: 0.1,
                resume_share: 0.25,
                resume_after_s: 5,
            },
            memory: MemoryRule {
                available_min: 0.1,
                resume_available: 0.15,
                pressure_max: 0.1,
                resume_pressure: 0.02,
                resume_after_s: 30,
            },
            battery: BatteryRule {
                share_max: 0.0,
                charge_min: 0.5,
                resume_charge: 0.6,
                resume_after_s: 10,
            },
            temperature: TemperatureRule {
                limit_above_c: 80.0,
                stop_above_c: 95.0,
                resume_below_c: 75.0,
                resume_after_s: 15,
            },
            exclusive: Vec::new(),
            schedule: Vec::new(),
        }
    }

    /// For a machine that somebody works at now and then: the default mode's.
    pub fn mixed() -> Self {
        let desktop = Self::desktop();
        Self {
            presence: PresenceRule {
                away_after_s: 300,
                full_screen_share_max: 0.5,
                ..desktop.presence
            },
            others_cpu: LoadRule {
                yield_above: 0.5,
                headroom: 0.05,
                share_min: 0.05,
                resume_share: 0.1,
                resume_after_s: 3,
            },
            others_gpu: LoadRule {
                yield_above: 0.5,
                headroom: 0.1,
                share_min: 0.05,
                resume_share: 0.1,
                resume_after_s: 3,
            },
            memory: MemoryRule {
                available_min: 0.05,
                resume_available: 0.1,
                pressure_max: 0.2,
                resume_pressure: 0.05,
                resume_after_s: 15,
            },
            battery: BatteryRule {
                share_max: 0.3,
                charge_min: 0.5,
                resume_charge: 0.6,
                resume_after_s: 10,
            },
            temperature: TemperatureRule {
                limit_above_c: 85.0,
                stop_above_c: 97.0,
                resume_below_c: 80.0,
                resume_after_s: 15,
            },
            ..desktop
        }
    }

    /// For a machine nobody sits at: the aggressive mode's.
    pub fn server() -> Self {
        let unheeded = LoadRule {
            yield_above: 1.0,
            headroom: 0.0,
            share_min: 0.0,
            resume_share: 0.0,
            resume_after_s: 0,
        };
        Self {
            presence: PresenceRule {
                away_after_s: 300,
                away_when_locked: true,
                full_screen_share_max: 1.0,
            },
            owner_share_min: owner_share_min(),
            others_cpu: unheeded.clone(),
            others_gpu: unheeded,
            memory: MemoryRule {
                available_min: 0.0,
                resume_available: 0.0,
                pressure_max: 1.0,
                resume_pressure: 1.0,
                resume_after_s: 0,
            },
            battery: BatteryRule {
                share_max: 1.0,
                charge_min: 0.2,
                resume_charge: 0.3,
                resume_after_s: 10,
            },
            temperature: TemperatureRule {
                limit_above_c: 90.0,
                stop_above_c: 100.0,
                resume_below_c: 85.0,
                resume_after_s: 15,
            },
            exclusive: Vec::new(),
            schedule: Vec::new(),
        }
    }

    /// Whether every value is one that means something. The first that does not is named.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.presence.validate()?;
        let least = OWNER_SHARE_LEAST..=1.0;
        check("owner_share_min".to_owned(), self.owner_share_min, least)?;
        self.others_cpu.validate("others_cpu")?;
        self.others_gpu.validate("others_gpu")?;
        self.memory.validate()?;
        self.battery.validate()?;
        self.temperature.validate()?;
        validate_names(&self.exclusive)?;
        validate_schedule(&self.schedule)
    }
}

impl PresenceRule {
    fn validate(&self) -> Result<(), PolicyError> {
        let key = |name| format!("presence.{name}");
        check(key("away_after_s"), self.away_after_s, 1..=AWAY_AFTER_S_MAX)?;
        check(
            key("full_screen_share_max"),
            self.full_screen_share_max,
            SHARES,
        )
    }
}

impl LoadRule {
    fn validate(&self, rule: &str) -> Result<(), PolicyError> {
        let key = |name| format!("{rule}.{name}");
        let most = 1.0 - self.headroom;
        check(key("yield_above"), self.yield_above, SHARES)?;
        check(key("headroom"), self.headroom, SHARES)?;
        check(key("share_min"), self.share_min, SHARES)?;
        check(
            key("resume_share"),
            self.resume_share,
            self.share_min..=most,
        )?;
        check(key("resume_after_s"), self.resume_after_s, RESUMES)
    }
}

impl MemoryRule {
    fn validate(&self) -> Result<(), PolicyError> {
        let key = |name| format!("memory.{name}");
        check(key("available_min"), self.available_min, SHARES)?;
        let resumes = self.available_min..=1.0;
        check(key("resume_available"), self.resume_available, resumes)?;
        check(key("pressure_max"), self.pressure_max, SHARES)?;
        let resumes = 0.0..=self.pressure_max;
        check(key("resume_pressure"), self.resume_pressure, resumes)?;
        check(key("resume_after_s"), self.resume_after_s, RESUMES)
    }
}

impl BatteryRule {
    fn validate(&self) -> Result<(), PolicyError> {
        let key = |name| format!("battery.{name}");
        check(key("share_max"), self.share_max, SHARES)?;
        check(key("charge_min"), self.charge_min, SHARES)?;
        let resumes = self.charge_min..=1.0;
        check(key("resume_charge"), self.resume_charge, resumes)?;
        check(key("resume_after_s"), self.resume_after_s, RESUMES)
    }
}

impl TemperatureRule {
    fn validate(&self) -> Result<(), PolicyError> {
        let key = |name| format!("temperature.{name}");
        let below_stop = TEMPERATURE_C_MIN..=self.stop_above_c - TEMPERATURE_STEP_C;
        check(
            key("stop_above_c"),
            self.stop_above_c,
            TEMPERATURE_C_MIN + TEMPERATURE_STEP_C..=TEMPERATURE_C_MAX,
        )?;
        check(key("limit_above_c"), self.limit_above_c, below_stop.clone())?;
        check(key("resume_below_c"), self.resume_below_c, below_stop)?;
        check(key("resume_after_s"), self.resume_after_s, RESUMES)
    }
}

/// Less would be a stop by another name.
const OWNER_SHARE_LEAST: f64 = 0.01;
const SHARES: RangeInclusive<f64> = 0.0..=1.0;
const RESUMES: RangeInclusive<u32> = 0..=3600;
const AWAY_AFTER_S_MAX: u32 = 7 * 24 * 3600;
const TEMPERATURE_C_MIN: f64 = 20.0;
const TEMPERATURE_C_MAX: f64 = 125.0;
const TEMPERATURE_STEP_C: f64 = 1.0;
const NAMES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 255;
const WINDOWS_MAX: usize = 64;

fn check<T: PartialOrd + fmt::Display>(
    key: String,
    value: T,
    allowed: RangeInclusive<T>,
) -> Result<(), PolicyError> {
    match allowed.contains(&value) {
        true => Ok(()),
        false => Err(PolicyError {
            key,
            value: value.to_string(),
            allowed: format!("from {} to {}", allowed.start(), allowed.end()),
        }),
    }
}

fn validate_names(names: &[String]) -> Result<(), PolicyError> {
    if names.len() > NAMES_MAX {
        return Err(PolicyError {
            key: "exclusive".into(),
            value: format!("a list of {}", names.len()),
            allowed: format!("at most {NAMES_MAX} names"),
        });
    }
    let meaningless =
        |name: &String| name.trim() != name || name.is_empty() || name.len() > NAME_BYTES_MAX;
    match names.iter().position(meaningless) {
        None => Ok(()),
        Some(at) => Err(PolicyError {
            key: format!("exclusive[{at}]"),
            value: format!("{:?}", names[at]),
            allowed: format!("a name of 1 to {NAME_BYTES_MAX} bytes without space around it"),
        }),
    }
}

fn validate_schedule(windows: &[Window]) -> Result<(), PolicyError> {
    if windows.len() > WINDOWS_MAX {
        return Err(PolicyError {
            key: "schedule".into(),
            value: format!("a list of {}", windows.len()),
            allowed: format!("at most {WINDOWS_MAX} windows"),
        });
    }
    match windows.iter().position(|window| window.days.is_empty()) {
        None => Ok(()),
        Some(at) => Err(PolicyError {
            key: format!("schedule[{at}].days"),
            value: "empty".into(),
            allowed: "one day or more".into(),
        }),
    }
}

/// A value in a policy that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The key's path within the policy, as in `presence.away_after_s` or `schedule[1].days`;
    /// positions in lists count from 0.
    pub key: String,
    /// The value there.
    pub value: String,
    /// The values that may stand there.
    pub allowed: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            value,
            allowed,
        } = self;
        write!(f, "{key} is {value}, and must be {allowed}")
    }
}

impl std::error::Error for PolicyError {}

#[cfg(test)]
mod tests;
