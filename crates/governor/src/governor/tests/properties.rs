use proptest::prelude::*;

use super::*;
use crate::{LoadRule, MemoryRule};

/// A share, or something that is none.
fn any_figure() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        6 => (0.0..=1.0).prop_map(Some),
        1 => Just(None),
        1 => proptest::num::f64::ANY.prop_map(Some),
        1 => proptest::sample::select(vec![0.0, -0.0, 1.0, f64::NAN, f64::INFINITY]).prop_map(Some),
    ]
}

fn any_celsius() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        4 => (20.0..110.0).prop_map(Some),
        1 => Just(None),
        1 => proptest::num::f64::ANY.prop_map(Some),
    ]
}

fn any_presence() -> impl Strategy<Value = Option<Presence>> {
    let idle = prop_oneof![Just(0), 0..2000u64, any::<u64>()];
    let presence =
        (idle, any::<bool>(), any::<bool>()).prop_map(|(idle_s, locked, full_screen)| Presence {
            idle: Duration::from_secs(idle_s),
            locked,
            full_screen,
        });
    proptest::option::of(presence)
}

fn any_local_time() -> impl Strategy<Value = Option<LocalTime>> {
    let day = proptest::sample::select(Weekday::ALL.to_vec());
    let minute = prop_oneof![4 => 0..1440u16, 1 => any::<u16>()];
    proptest::option::of(
        (day, minute).prop_map(|(weekday, minute_of_day)| LocalTime {
            weekday,
            minute_of_day,
        }),
    )
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let loads = (any_figure(), any_figure(), any_figure(), any_figure());
    let battery = proptest::option::of((any::<bool>(), any_figure()));
    let game = proptest::sample::subsequence(vec!["GAME".to_owned(), "editor".to_owned()], 0..=2);
    let rest = (
        any_presence(),
        battery,
        any_celsius(),
        game,
        any_local_time(),
    );
    (loads, rest).prop_map(
        |(loads, (presence, battery, temperature_c, applications, local_time))| Observation {
            presence,
            others_cpu: loads.0,
            others_gpu: loads.1,
            memory_available: loads.2,
            memory_pressure: loads.3,
            battery: battery.map(|(discharging, charge)| Battery {
                discharging,
                charge: charge.unwrap_or(f64::NAN),
            }),
            temperature_c,
            applications,
            local_time,
        },
    )
}

fn any_load_rule() -> impl Strategy<Value = LoadRule> {
    (0.0..=1.0, 0.0..=0.5, 0.0..=0.5, 0.0..=1.0, 0..20u32).prop_map(
        |(yield_above, headroom, share_min, part, resume_after_s): (f64, f64, f64, f64, u32)| {
            let most = 1.0 - headroom;
            LoadRule {
                yield_above,
                headroom,
                share_min,
                // Between the two by a weight, and never beyond by rounding.
                resume_share: (share_min + (most - share_min) * part).clamp(share_min, most),
                resume_after_s,
            }
        },
    )
}

fn any_memory_rule() -> impl Strategy<Value = MemoryRule> {
    (0.0..=1.0, 0.0..=1.0, 0.0..=1.0, 0.0..=1.0, 0..20u32).prop_map(
        |(a, b, c, d, resume_after_s): (f64, f64, f64, f64, u32)| MemoryRule {
            available_min: a.min(b),
            resume_available: a.max(b),
            pressure_max: c.max(d),
            resume_pressure: c.min(d),
            resume_after_s,
        },
    )
}

fn any_schedule() -> impl Strategy<Value = Vec<Window>> {
    let time = || (0..24u16, 0..60u16).prop_map(|(h, m)| TimeOfDay::new(h, m).expect("a time"));
    let days = proptest::sample::subsequence(Weekday::ALL.to_vec(), 1..=7);
    let window = (days, time(), time()).prop_map(|(days, from, to)| Window { days, from, to });
    proptest::collection::vec(window, 0..3)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let presets = vec![Policy::desktop(), Policy::mixed(), Policy::server()];
    let preset = proptest::sample::select(presets);
    let loads = (any_load_rule(), any_load_rule(), any_memory_rule());
    let shares = prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0];
    let shares = (shares.clone(), shares);
    let mixed = (preset.clone(), loads, shares, any_schedule()).prop_map(
        |(preset, (others_cpu, others_gpu, memory), (full_screen, on_battery), schedule)| {
            let mut policy = Policy {
                schedule,
                others_cpu,
                others_gpu,
                memory,
                owner_share_min: preset.owner_share_min,
                exclusive: vec!["Game".into()],
                ..preset
            };
            policy.presence.full_screen_share_max = full_screen;
            policy.battery.share_max = on_battery;
            policy
        },
    );
    prop_oneof![1 => preset, 2 => mixed]
}

fn any_manual() -> impl Strategy<Value = Manual> {
    prop_oneof![
        4 => Just(Manual::Run),
        1 => Just(Manual::Paused),
        1 => Just(Manual::Finishing),
        1 => (0..2 * HOUR_NS).prop_map(|until| Manual::Snoozed { until: Moment(until) }),
    ]
}

/// Mostly a little later; at times the same, an hour off in either direction, or anywhere.
#[derive(Clone, Copy, Debug)]
enum Jump {
    Later(u64),
    HourBack,
    HourAhead,
    To(u64),
}

fn any_jump() -> impl Strategy<Value = Jump> {
    prop_oneof![
        8 => (0..2_000_000_000u64).prop_map(Jump::Later),
        1 => Just(Jump::Later(0)),
        1 => Just(Jump::HourBack),
        1 => Just(Jump::HourAhead),
        1 => any::<u64>().prop_map(Jump::To),
    ]
}

fn jumped(now: Moment, jump: Jump) -> Moment {
    Moment(match jump {
        Jump::Later(nanos) => now.0.saturating_add(nanos),
        Jump::HourBack => now.0.saturating_sub(HOUR_NS),
        Jump::HourAhead => now.0.saturating_add(HOUR_NS),
        Jump::To(nanos) => nanos,
    })
}

/// Whether something that stops everything certainly goes on at this moment.
fn certainly_shut(desk: &Desk) -> bool {
    let (policy, seen) = (&desk.governor.policy, &desk.observation);
    let by_hand = match desk.manual {
        Manual::Paused => true,
        Manual::Snoozed { until } => until > desk.now,
        Manual::Run | Manual::Finishing => false,
    };
    let share = |told: Option<f64>| told.filter(|told| (0.0..=1.0).contains(told));
    let battery = seen.battery.filter(|b| b.discharging);
    let charge = share(battery.map(|b| b.charge));
    let game = seen.applications.contains(&"GAME".to_owned()) && !policy.exclusive.is_empty();
    let machine = battery.is_some() && policy.battery.share_max == 0.0
        || charge.is_some_and(|charge| charge < policy.battery.charge_min);
    let watches = seen.presence.is_some_and(|p| p.full_screen && !p.locked);
    let memory = share(seen.memory_available).is_some_and(|a| a < policy.memory.available_min)
        || share(seen.memory_pressure).is_some_and(|p| p > policy.memory.pressure_max);
    let load = memory || watches && policy.presence.full_screen_share_max == 0.0;
    let time = seen.local_time.filter(|time| time.minute_of_day < 1440);
    let outside = |time| !policy.schedule.iter().any(|window| window.contains(time));
    let schedule = !policy.schedule.is_empty() && time.is_some_and(outside);
    by_hand || game || machine || schedule || desk.heeds_load && load
}

/// The owner's requests have no less than a guest's, and are stopped by nothing that somebody at the desk does.
fn check_owner(decision: &Decision, cap: f64) -> Result<(), TestCaseError> {
    let (owner, guests) = (&decision.owner, &decision.verdict);
    let is_share = (0.0..=1.0).contains(&cap);
    prop_assert!(
        !is_share || owner.share(cap) >= guests.share(cap),
        "{decision:?}"
    );
    if let Verdict::Shut(reason) = owner {
        prop_assert_eq!(owner, guests);
        let held_for = [
            "paused",
            "snoozed",
            "schedule",
            "exclusive",
            "battery",
            "charge",
            "temperature",
        ];
        prop_assert!(held_for.contains(&reason.name()), "{:?}", reason);
    }
    Ok(())
}

fn check_decision(desk: &Desk, decision: &Decision) -> Result<(), TestCaseError> {
    let cap = match decision.profile {
        Profile::Present => desk.caps.present,
        Profile::Away => desk.caps.away,
    };
    for verdict in [&decision.verdict, &decision.owner] {
        match verdict {
            Verdict::Open => {}
            Verdict::Limited { share, why } => {
                prop_assert!(*share > 0.0 && *share < cap, "{decision:?} of {cap}");
                prop_assert!(!why.is_empty());
            }
            Verdict::Shut(_) => prop_assert_eq!(verdict.share(cap), 0.0),
        }
    }
    check_owner(decision, cap)?;
    if certainly_shut(desk) {
        prop_assert!(matches!(decision.verdict, Verdict::Shut(_)), "{decision:?}");
    }
    let until = decision.until.filter(|_| desk.now.0 < u64::MAX);
    prop_assert!(until.is_none_or(|until| until > desk.now), "{decision:?}");
    prop_assert_eq!(decision.admits, desk.manual != Manual::Finishing);
    Ok(())
}

/// The higher, the less may be taken.
fn kind(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Open => 0,
        Verdict::Limited { .. } => 1,
        Verdict::Shut(_) => 2,
    }
}

/// A threshold of the desktop's policy under a cap of 0.6.
#[derive(Clone, Copy, Debug)]
struct Threshold {
    at: f64,
    /// How far around it a figure may swing without reaching where the reason ends.
    around: f64,
    hold_s: u64,
    set: fn(&mut Observation, f64),
}

fn thresholds() -> Vec<Threshold> {
    let threshold = |at, around, hold_s, set| Threshold {
        at,
        around,
        hold_s,
        set,
    };
    vec![
        threshold(0.3, 0.049, 5, |o, x| o.others_cpu = Some(x)),
        threshold(0.8, 0.09, 5, |o, x| o.others_cpu = Some(x)),
        threshold(0.1, 0.049, 30, |o, x| o.memory_available = Some(x)),
        threshold(0.1, 0.079, 30, |o, x| o.memory_pressure = Some(x)),
        threshold(80.0, 2.9, 15, |o, x| o.temperature_c = Some(x)),
        threshold(95.0, 9.0, 15, |o, x| o.temperature_c = Some(x)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_observed_limits_hold_and_all_recovers(
        policy in any_policy(),
        caps in (any_figure(), any_figure()),
        heeds_load in any::<bool>(),
        steps in proptest::collection::vec((any_jump(), any_manual(), any_observation()), 1..60),
    ) {
        let mut desk = Desk::new(policy);
        desk.heeds_load = heeds_load;
        desk.caps = Caps {
            present: caps.0.unwrap_or(0.5),
            away: caps.1.unwrap_or(0.5),
        };
        for (jump, manual, observation) in steps {
            desk.now = jumped(desk.now, jump);
            desk.manual = manual;
            desk.observation = observation;
            let decision = desk.look();
            check_decision(&desk, &decision)?;
        }
        desk.now = Moment(desk.now.0.min(u64::MAX / 2));
        desk.manual = Manual::Run;
        desk.observation = quiet();
        let decision = desk.run(recovery_s(&desk.governor.policy));
        prop_assert_eq!(decision.verdict, Verdict::Open);
        prop_assert_eq!(decision.owner, Verdict::Open);
    }

    #[test]
    fn a_policy_that_was_never_validated_panics_nowhere(
        figures in proptest::collection::vec(proptest::num::f64::ANY, 12),
        steps in proptest::collection::vec((any_jump(), any_observation()), 1..40),
    ) {
        let mut policy = Policy::desktop();
        for rule in [&mut policy.others_cpu, &mut policy.others_gpu] {
            rule.yield_above = figures[0];
            rule.headroom = figures[1];
            rule.share_min = figures[2];
            rule.resume_share = figures[3];
            rule.resume_after_s = u32::MAX;
        }
        policy.presence.full_screen_share_max = figures[4];
        policy.presence.away_after_s = u32::MAX;
        policy.battery.share_max = figures[5];
        policy.battery.charge_min = figures[6];
        policy.temperature.limit_above_c = figures[7];
        policy.temperature.stop_above_c = figures[8];
        policy.temperature.resume_below_c = figures[9];
        policy.memory.available_min = figures[10];
        policy.memory.pressure_max = figures[11];
        let mut desk = Desk::new(Policy::desktop());
        desk.governor = Governor::new(policy);
        for (jump, observation) in steps {
            desk.now = jumped(desk.now, jump);
            desk.observation = observation;
            let decision = desk.look();
            prop_assert!(decision.verdict.share(desk.caps.away) <= desk.caps.away);
        }
    }

    #[test]
    fn a_figure_that_swings_around_a_threshold_changes_the_verdict_once(
        threshold in proptest::sample::select(thresholds()),
        sides in proptest::collection::vec((-1.0..=1.0, 50..2000u64), 1..200),
    ) {
        let mut desk = Desk::new(Policy::desktop());
        let mut kinds = Vec::new();
        for (side, wait_ms) in sides {
            (threshold.set)(&mut desk.observation, threshold.at + threshold.around * side);
            desk.now = desk.now.after(Duration::from_millis(wait_ms));
            kinds.push(kind(&desk.look().verdict));
        }
        kinds.dedup();
        // A load's first sample tells nothing: the second may open with a limit, and then stop.
        prop_assert!(kinds.len() <= 2 || kinds == [0, 1, 2], "{:?}", kinds);
    }

    #[test]
    fn work_begins_again_at_most_once_in_a_hold(
        threshold in proptest::sample::select(thresholds()),
        ends in proptest::collection::vec((any::<bool>(), 50..20_000u64), 1..200),
    ) {
        let mut desk = Desk::new(Policy::desktop());
        let hold = Duration::from_secs(threshold.hold_s);
        // By the kind that was left: when it last was.
        let (mut before, mut left_at) = (0, [None::<Moment>; 3]);
        for (high, wait_ms) in ends {
            // From far on one side of the threshold to far on the other.
            (threshold.set)(&mut desk.observation, threshold.at * if high { 1.2 } else { 0.2 });
            desk.now = desk.now.after(Duration::from_millis(wait_ms));
            let kind = kind(&desk.look().verdict);
            for left_at in left_at.iter_mut().take(before + 1).skip(kind + 1) {
                let since = left_at.replace(desk.now);
                let apart = since.map(|at| Duration::from_nanos(desk.now.0 - at.0));
                prop_assert!(apart.is_none_or(|apart| apart >= hold), "{:?}", apart);
            }
            before = kind;
        }
    }

    #[test]
    fn more_load_of_others_never_leaves_more(
        policy in any_policy(),
        cap in 0.0..=1.0f64,
        loads in (0.0..=1.0f64, 0.0..=1.0f64),
        on_gpu in any::<bool>(),
    ) {
        let settled = |load: f64| {
            let mut desk = Desk::new(policy.clone());
            desk.caps = Caps { present: cap, away: cap };
            match on_gpu {
                true => desk.observation.others_gpu = Some(load),
                false => desk.observation.others_cpu = Some(load),
            }
            desk.run(30).verdict.share(cap)
        };
        let (little, much) = (loads.0.min(loads.1), loads.0.max(loads.1));
        prop_assert!(settled(much) <= settled(little));
        prop_assert!(settled(little) <= cap);
    }

    #[test]
    fn input_brings_the_present_profile_back_at_once(
        policy in any_policy(),
        before in proptest::collection::vec(any_observation(), 0..20),
    ) {
        let mut desk = Desk::new(policy);
        for observation in before {
            desk.observation = observation;
            desk.step();
        }
        desk.observation.presence = Some(Presence::default());
        prop_assert_eq!(desk.step().profile, Profile::Present);
    }
}
