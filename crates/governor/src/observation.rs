use std::time::Duration;

use crate::LocalTime;

/// The machine at one moment. `None` is a figure that this machine does not tell: nothing is throttled
/// for an unknown figure, except that unknown presence counts as somebody present.
/// Figures that are not numbers, or out of their range, count as unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Whether somebody is at the machine.
    pub presence: Option<Presence>,
    /// Share of all cores, in 0..=1, that others used since the last observation. The caller
    /// subtracts our own use: with it in here we would pause for ourselves for ever.
    pub others_cpu: Option<f64>,
    /// The same of the busiest GPU we use, without our own use of it.
    pub others_gpu: Option<f64>,
    /// Share of the machine's memory, in 0..=1, that can be had without swapping.
    pub memory_available: Option<f64>,
    /// Share of the last ten seconds, in 0..=1, in which some task waited for memory.
    pub memory_pressure: Option<f64>,
    /// The battery, on a machine with one.
    pub battery: Option<Battery>,
    /// The hottest part that counts, in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Which of the policy's exclusive applications run now, by the policy's own names.
    pub applications: Vec<String>,
    /// The machine's own time.
    pub local_time: Option<LocalTime>,
}

/// Signs of somebody at the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Time since the last input.
    pub idle: Duration,
    /// The screen is locked.
    pub locked: bool,
    /// An application fills the screen.
    pub full_screen: bool,
}

/// The state of a battery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Battery {
    /// The machine runs from it.
    pub discharging: bool,
    /// The charge that is left, in 0..=1.
    pub charge: f64,
}
