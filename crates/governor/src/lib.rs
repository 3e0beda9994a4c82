//! How much of a machine may be taken. Pure: time and all that is observed are arguments.
//!
//! [`Governor`] decides by a [`Policy`] how much may be taken now; [`Duty`] holds a device to it.
//!
//! ```
//! use std::time::Duration;
//!
//! use gogrid_governor::{Caps, Governor, Manual, Observation, Policy, Situation, Verdict};
//! use gogrid_units::Moment;
//!
//! let mut governor = Governor::new(Policy::desktop());
//! let mut decide = |second: u64, others_cpu: f64| {
//!     governor.decide(&Situation {
//!         now: Moment(second * 1_000_000_000),
//!         manual: Manual::Run,
//!         heeds_load: true,
//!         caps: Caps { present: 0.6, away: 0.8 },
//!         observation: &Observation { others_cpu: Some(others_cpu), ..Observation::default() },
//!     })
//! };
//! // The first figure covers an unknown time, and only starts the clock.
//! assert_eq!(decide(0, 0.5).verdict, Verdict::Open);
//! // Others use half of the machine, a tenth stays free: 0.4 of it is left for us.
//! let decision = decide(1, 0.5);
//! assert!((decision.verdict.share(0.6) - 0.4).abs() < 1e-9);
//! let Verdict::Limited { why, .. } = decision.verdict else { panic!() };
//! assert_eq!(why[0].to_string(), "others use 50 % of the processor");
//! ```
//!
//! ```
//! use std::time::Duration;
//!
//! use gogrid_governor::Duty;
//! use gogrid_units::Moment;
//!
//! // Half of two cores, in slices of at most 2 ms.
//! let duty = Duty::new(0.5, 2, Duration::from_millis(2));
//! assert_eq!(duty.settle(Moment(900_000), 1_800_000), None);
//! // Both cores worked for 2.1 ms: 4.2 ms of CPU time used, half of it earned, half to earn.
//! let rest = duty.settle(Moment(2_100_000), 2_400_000);
//! assert_eq!(rest, Some(Moment(4_200_000)));
//! assert_eq!(duty.resting(Moment(4_200_000)), None);
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
