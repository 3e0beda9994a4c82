use std::fmt;

use serde::{Deserialize, Serialize};

/// Why less may be taken, or nothing; in the order in which a stop is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// By hand.
    Paused,
    /// By hand, for a time.
    Snoozed {
        /// Seconds left, rounded up.
        left_s: u64,
    },
    /// Outside of the schedule's windows.
    Schedule,
    /// An application that wants the machine for itself runs.
    Exclusive {
        /// Its name, as the policy has it.
        application: String,
    },
    /// The machine runs on its battery.
    Battery,
    /// On battery, its charge is low, or has not come back far enough.
    Charge {
        /// The charge that is left, in 0..=1.
        charge: f64,
        /// The charge at which work goes on.
        resume_charge: f64,
    },
    /// It is hot.
    Temperature {
        /// How hot, in degrees Celsius, smoothed.
        temperature_c: f64,
        /// Where the limit begins, or the temperature a stopped machine must cool to.
        limit_c: f64,
    },
    /// Little memory is available to others.
    MemoryAvailable {
        /// Share of memory.
        available: f64,
        /// The memory at which work goes on.
        resume_available: f64,
    },
    /// Tasks wait for memory.
    MemoryPressure {
        /// Share of the time in which some task did.
        pressure: f64,
        /// The pressure it must fall to.
        resume_pressure: f64,
    },
    /// Others use the processor.
    OthersCpu {
        /// Their share of all cores, smoothed.
        others: f64,
    },
    /// Others use the GPU.
    OthersGpu {
        /// Their share of it, smoothed.
        others: f64,
    },
    /// Somebody present has an application full screen.
    FullScreen,
    /// For guests: the owner's own requests run, and may take more than theirs. Said where requests wait; no
    /// decision has it.
    OwnerFirst,
    /// Nobody holds the limits any more, so nothing may be taken, for good.
    Failed {
        /// What happened.
        problem: String,
    },
}

impl Reason {
    /// A name for labels and scripts; the same as `reason` in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Snoozed { .. } => "snoozed",
            Self::Schedule => "schedule",
            Self::Exclusive { .. } => "exclusive",
            Self::Charge { .. } => "charge",
            Self::Battery => "battery",
            Self::Temperature { .. } => "temperature",
            Self::MemoryAvailable { .. } => "memory_available",
            Self::MemoryPressure { .. } => "memory_pressure",
            Self::OthersCpu { .. } => "others_cpu",
            Self::OthersGpu { .. } => "others_gpu",
            Self::FullScreen => "full_screen",
            Self::OwnerFirst => "owner_first",
            Self::Failed { .. } => "failed",
        }
    }
}

/// A share, as whole hundredths.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} %", self.0 * 100.0)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => write!(f, "paused by hand"),
            Self::Snoozed { left_s } => write!(f, "snoozed for another {left_s} s"),
            Self::Schedule => write!(f, "outside the hours of the schedule"),
            Self::Exclusive { application } => write!(f, "{application} is running"),
            Self::Battery => write!(f, "the machine runs on its battery"),
            Self::Charge {
                charge,
                resume_charge,
            } => {
                let (charge, needed) = (Percent(*charge), Percent(*resume_charge));
                write!(f, "the battery is at {charge} (needs {needed})")
            }
            Self::Temperature {
                temperature_c,
                limit_c,
            } => write!(
                f,
                "it is {temperature_c:.0} °C hot (needs {limit_c:.0} °C or less)"
            ),
            Self::MemoryAvailable {
                available,
                resume_available,
            } => {
                let (available, needed) = (Percent(*available), Percent(*resume_available));
                write!(f, "{available} of memory is available (needs {needed})")
            }
            Self::MemoryPressure {
                pressure,
                resume_pressure,
            } => {
                let (pressure, needed) = (Percent(*pressure), Percent(*resume_pressure));
                write!(
                    f,
                    "tasks wait for memory {pressure} of the time (needs {needed} or less)"
                )
            }
            Self::OthersCpu { others } => {
                write!(f, "others use {} of the processor", Percent(*others))
            }
            Self::OthersGpu { others } => write!(f, "others use {} of the GPU", Percent(*others)),
            Self::FullScreen => write!(f, "an application is full screen"),
            Self::OwnerFirst => write!(f, "a request of the machine's owner goes first"),
            Self::Failed { problem } => write!(f, "nobody holds the limits: {problem}"),
        }
    }
}
