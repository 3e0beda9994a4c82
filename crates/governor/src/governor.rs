use crate::{Decision, Manual, Policy, Profile, Reason, Situation, Verdict};

/// Turns what is observed into what may be taken, by a policy. Keeps what hysteresis and smoothing
/// need of earlier observations, and reads no clock.
#[derive(Clone, Debug)]
pub struct Governor {
    policy: Policy,
}

impl Governor {
    /// One that has observed nothing yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// Changes the policy; in effect with the next decision.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What may be taken now. Costs a microsecond or so; asked a few times a second.
    pub fn decide(&mut self, situation: &Situation<'_>) -> Decision {
        let verdict = match situation.manual {
            Manual::Paused => Verdict::Shut(Reason::Paused),
            Manual::Snoozed { until } if until > situation.now => {
                let left_ns = until.0 - situation.now.0;
                Verdict::Shut(Reason::Snoozed {
                    left_s: left_ns.div_ceil(1_000_000_000),
                })
            }
            _ => Verdict::Open,
        };
        Decision {
            profile: Profile::Present,
            verdict,
            admits: situation.manual != Manual::Finishing,
            until: None,
        }
    }
}
