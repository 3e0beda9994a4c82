use gogrid_units::Moment;
use serde::{Deserialize, Serialize};

use crate::{Observation, Reason};

/// The owner's order by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manual {
    /// Nothing: the policy decides.
    #[default]
    Run,
    /// Stop until told otherwise.
    Paused,
    /// Stop until a moment.
    Snoozed {
        /// The first moment at which the policy decides again.
        until: Moment,
    },
    /// Accept nothing more; requests that were accepted run on as the policy says.
    Finishing,
}

/// The caps of the two profiles: shares of the machine's compute, in 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Caps {
    /// While somebody is there, or may be.
    pub present: f64,
    /// While nobody is.
    pub away: f64,
}

/// Everything a decision is made from, beside the policy and earlier observations.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// When the observation was made. May repeat, jump, or go backwards.
    pub now: Moment,
    /// The owner's order by hand.
    pub manual: Manual,
    /// Without it, presence and others' load on processor, GPU and memory never throttle, and the
    /// profile is that of somebody present: the limits' `enable_auto_throttle`.
    pub heeds_load: bool,
    /// The most that may be taken.
    pub caps: Caps,
    /// The state of the machine.
    pub observation: &'a Observation,
}

/// How much may be taken, from now until the next decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Whose limits hold.
    pub profile: Profile,
    /// How much of them guests' requests may take.
    pub verdict: Verdict,
    /// How much of them the owner's own requests may take: never less. What shuts for the owner shuts for
    /// all.
    pub owner: Verdict,
    /// Whether new requests are accepted. While shut they are, and wait; while finishing they are
    /// not.
    pub admits: bool,
    /// The moment to ask again at the latest, where time alone may change the answer.
    pub until: Option<Moment>,
}

/// Whose limits hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Somebody is at the machine, or may be.
    Present,
    /// Nobody is.
    Away,
}

/// How much of the profile's limits may be taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// All that the profile's limits allow.
    Open,
    /// Less.
    Limited {
        /// Share of the machine's compute: more than 0, and below the profile's cap.
        share: f64,
        /// Each thing that asks for less than the cap, the most pressing first.
        why: Vec<Reason>,
    },
    /// Nothing. Of several reasons this is the first in [`Reason`]'s order.
    Shut(Reason),
}

impl Verdict {
    /// The share of the machine's compute that may be taken under the profile's `cap`.
    pub fn share(&self, cap: f64) -> f64 {
        match self {
            Self::Open => cap,
            Self::Limited { share, .. } => share.min(cap),
            Self::Shut(_) => 0.0,
        }
    }
}
