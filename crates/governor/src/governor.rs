use std::time::Duration;

use gogrid_units::Moment;

use crate::state::{Ask, LIMITED_MAX, Look, State};
use crate::{Decision, Manual, Policy, Presence, Profile, Reason, Situation, Verdict};

/// Shares are whole steps of this, rounded down, so that small changes of a measurement change
/// nothing.
const SHARE_STEP: f64 = 0.01;

/// Turns observations into verdicts, by a policy. Keeps as much of earlier observations as hysteresis
/// and smoothing need, and reads no clock.
///
/// A reason to take less holds at once. It ends when its figure has been well, by a threshold
/// of its own, for the rule's `resume_after_s` without a break; for exclusive applications and
/// full screens that is five seconds. The figures of load and temperature are smoothed over a few
/// seconds. The owner's own requests are shut out by neither presence nor others' load: they give way to
/// load down to a least share. Somebody's first input counts at once. From any state, half a minute plus the longest
/// `resume_after_s` after all became well, the verdict is open.
#[derive(Clone, Debug)]
pub struct Governor {
    policy: Policy,
    state: State,
}

impl Governor {
    /// One that has observed nothing yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::default(),
        }
    }

    /// Changes the policy. With the next decision it holds as if it always had: nothing waits
    /// for a hold of the old one to end.
    pub fn set_policy(&mut self, policy: Policy) {
        if policy != self.policy {
            self.policy = policy;
            self.state.release();
        }
    }

    /// The verdict for this moment. Cheap enough for a few times a second.
    pub fn decide(&mut self, situation: &Situation<'_>) -> Decision {
        let (profile, away_at) = self.profile(situation);
        let cap = match profile {
            Profile::Present => situation.caps.present,
            Profile::Away => situation.caps.away,
        };
        let look = Look {
            now: situation.now,
            policy: &self.policy,
            observation: situation.observation,
            cap: cap.clamp(0.0, 1.0),
        };
        let machine = self.state.machine_asks(&look);
        let load = match situation.heeds_load {
            true => self.state.load_asks(&look),
            false => {
                self.state.forget_load();
                Vec::new()
            }
        };
        let (verdict, owner, until) = match by_hand(situation) {
            Some((verdict, until)) => (verdict.clone(), verdict, until),
            None => {
                let ends = [
                    away_at,
                    self.window_change(situation),
                    self.state.next_end(),
                ];
                let least = (self.policy.owner_share_min).min(look.cap * LIMITED_MAX);
                let of_owner = load.iter().map(|ask| ask.of_owner(least));
                let owner = machine.iter().cloned().chain(of_owner);
                let owner = verdict(owner, look.cap);
                let guests = verdict(machine.into_iter().chain(load), look.cap);
                (guests, owner, ends.into_iter().flatten().min())
            }
        };
        Decision {
            profile,
            verdict,
            owner,
            admits: situation.manual != Manual::Finishing,
            until,
        }
    }

    /// Whose limits hold, and when that changes if there is no input.
    fn profile(&self, situation: &Situation<'_>) -> (Profile, Option<Moment>) {
        let presence = situation.observation.presence;
        let Some(presence) = presence.filter(|_| situation.heeds_load) else {
            return (Profile::Present, None);
        };
        let rule = &self.policy.presence;
        let Presence {
            idle,
            locked,
            full_screen,
        } = presence;
        let away_after = Duration::from_secs(rule.away_after_s.into());
        let watching = full_screen && !locked && rule.full_screen_share_max < 1.0;
        if locked && rule.away_when_locked || idle >= away_after && !watching {
            (Profile::Away, None)
        } else if watching {
            (Profile::Present, None)
        } else {
            let away_at = situation.now.after(away_after - idle);
            (Profile::Present, Some(away_at))
        }
    }

    /// The latest moment to ask again because a window begins or ends. The minute that runs is
    /// known, the second is not: towards the change it is asked more often.
    fn window_change(&self, situation: &Situation<'_>) -> Option<Moment> {
        let whole_minutes = self.minutes_to_change(situation)?.saturating_sub(1);
        let wait = Duration::from_secs((whole_minutes * 60).max(5));
        Some(situation.now.after(wait))
    }

    /// When the schedule's windows next begin or end, at the latest: the time of day is known to a
    /// minute.
    pub fn window_changes_by(&self, situation: &Situation<'_>) -> Option<Moment> {
        let minutes = self.minutes_to_change(situation)?;
        Some(situation.now.after(Duration::from_secs(minutes * 60)))
    }

    fn minutes_to_change(&self, situation: &Situation<'_>) -> Option<u64> {
        let time = situation.observation.local_time.filter(|t| t.is_valid())?;
        let changes = self.policy.schedule.iter().map(|w| w.next_change(time));
        changes.min().map(u64::from)
    }
}

/// A stop by hand, and when it ends.
fn by_hand(situation: &Situation<'_>) -> Option<(Verdict, Option<Moment>)> {
    match situation.manual {
        Manual::Paused => Some((Verdict::Shut(Reason::Paused), None)),
        Manual::Snoozed { until } if until > situation.now => {
            let left = until.since(situation.now);
            let left_s = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            Some((Verdict::Shut(Reason::Snoozed { left_s }), Some(until)))
        }
        Manual::Run | Manual::Snoozed { .. } | Manual::Finishing => None,
    }
}

/// The first stop, or else the least share.
fn verdict(asks: impl IntoIterator<Item = Ask>, cap: f64) -> Verdict {
    let mut limits = Vec::new();
    for ask in asks {
        match ask {
            Ask::Stop(reason) => return Verdict::Shut(reason),
            Ask::AtMost(share, reason) if share < cap => limits.push((share, reason)),
            Ask::AtMost(..) | Ask::Nothing => {}
        }
    }
    limits.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(least, _)) = limits.first() else {
        return Verdict::Open;
    };
    // A share that would round to nothing stays as it is.
    let steps = (least / SHARE_STEP).floor();
    Verdict::Limited {
        share: if steps > 0.0 {
            steps * SHARE_STEP
        } else {
            least
        },
        why: limits.into_iter().map(|(_, reason)| reason).collect(),
    }
}

#[cfg(test)]
mod tests;
