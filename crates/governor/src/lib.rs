//! How much of a device may be taken, worked out from what was used. Pure: time is an argument.
//!
//! ```
//! use std::time::Duration;
//!
//! use gogrid_governor::Duty;
//! use gogrid_units::Moment;
//!
//! // Half of two cores, in slices of at most 2 ms. Without credit, a slice is half as long.
//! let duty = Duty::new(0.5, 2, Duration::from_millis(2));
//! assert_eq!(duty.settle(Moment(900_000), 1_800_000), None);
//! // Both cores worked for 1.2 ms: 2.4 ms of CPU time used, half of it earned, half to earn.
//! let rest = duty.settle(Moment(1_200_000), 600_000);
//! assert_eq!(rest, Some(Moment(2_400_000)));
//! assert_eq!(duty.resting(Moment(2_400_000)), None);
//! ```

#![forbid(unsafe_code)]

mod decision;
mod duty;
mod governor;
mod hysteresis;
mod observation;
mod policy;
mod reason;
mod schedule;
mod state;

pub use decision::{Caps, Decision, Manual, Profile, Situation, Verdict};
pub use duty::Duty;
pub use governor::Governor;
pub use observation::{Battery, Observation, Presence};
pub use policy::{
    BatteryRule, LoadRule, MemoryRule, Policy, PolicyError, PresenceRule, TemperatureRule,
};
pub use reason::Reason;
pub use schedule::{LocalTime, TimeOfDay, Weekday, Window};
