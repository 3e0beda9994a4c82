use super::*;
use crate::{Battery, Caps, LocalTime, Observation, TimeOfDay, Weekday, Window};

mod properties;

/// The longest it takes from when all became well until the verdict is open, as `Governor` says.
fn recovery_s(policy: &Policy) -> u32 {
    let holds = [
        policy.others_cpu.resume_after_s,
        policy.others_gpu.resume_after_s,
        policy.memory.resume_after_s,
        policy.battery.resume_after_s,
        policy.temperature.resume_after_s,
    ];
    30 + holds.into_iter().max().expect("not empty")
}

/// A machine in virtual time, observed four times a second.
struct Desk {
    governor: Governor,
    now: Moment,
    manual: Manual,
    heeds_load: bool,
    caps: Caps,
    observation: Observation,
}

const HOUR_NS: u64 = 3_600_000_000_000;

/// Somebody has just touched the mouse, and nothing else goes on.
fn quiet() -> Observation {
    Observation {
        presence: Some(Presence::default()),
        others_cpu: Some(0.0),
        others_gpu: Some(0.0),
        memory_available: Some(1.0),
        memory_pressure: Some(0.0),
        battery: Some(Battery {
            discharging: false,
            charge: 1.0,
        }),
        temperature_c: Some(10.0),
        applications: Vec::new(),
        local_time: None,
    }
}

impl Desk {
    fn new(policy: Policy) -> Self {
        policy.validate().expect("a valid policy");
        Self {
            governor: Governor::new(policy),
            now: Moment(HOUR_NS),
            manual: Manual::Run,
            heeds_load: true,
            caps: Caps {
                present: 0.6,
                away: 0.8,
            },
            observation: quiet(),
        }
    }

    fn look(&mut self) -> Decision {
        self.governor.decide(&Situation {
            now: self.now,
            manual: self.manual,
            heeds_load: self.heeds_load,
            caps: self.caps,
            observation: &self.observation,
        })
    }

    fn step(&mut self) -> Decision {
        self.now = self.now.after(Duration::from_millis(250));
        self.look()
    }

    fn run(&mut self, seconds: u32) -> Decision {
        for _ in 0..seconds * 4 {
            self.step();
        }
        self.look()
    }

    fn see(&mut self, change: impl FnOnce(&mut Observation)) -> &mut Self {
        change(&mut self.observation);
        self
    }
}

fn why(verdict: &Verdict) -> Vec<Reason> {
    match verdict {
        Verdict::Open => Vec::new(),
        Verdict::Limited { why, .. } => why.clone(),
        Verdict::Shut(reason) => vec![reason.clone()],
    }
}

fn names(verdict: &Verdict) -> Vec<&'static str> {
    why(verdict).iter().map(Reason::name).collect()
}

/// Something goes on for twenty seconds: the share that is left of a cap of 0.6, and why. Then
/// it ends, and the verdict is open within the time that is promised.
fn check_reason(begin: impl Fn(&mut Desk), share: f64, name: &str, text: &str) {
    let mut policy = Policy::desktop();
    policy.exclusive = vec!["Game".into()];
    let mut desk = Desk::new(policy.clone());
    assert_eq!(desk.run(5).verdict, Verdict::Open, "before {name}");
    begin(&mut desk);
    let verdict = desk.run(20).verdict;
    assert!((verdict.share(0.6) - share).abs() < 1e-9, "{verdict:?}");
    assert_eq!(names(&verdict), [name]);
    assert_eq!(why(&verdict)[0].to_string(), text);
    let json = serde_json::to_string(&verdict).expect("serialises");
    assert!(json.contains(&format!("\"reason\":\"{name}\"")), "{json}");
    desk.observation = quiet();
    desk.manual = Manual::Run;
    let verdict = desk.run(recovery_s(&desk.governor.policy)).verdict;
    assert_eq!(verdict, Verdict::Open, "after {name}");
}

#[test]
fn stopped_by_hand() {
    check_reason(
        |desk| desk.manual = Manual::Paused,
        0.0,
        "paused",
        "paused by hand",
    );
    check_reason(
        |desk| {
            let until = desk.now.after(Duration::from_millis(50_500));
            desk.manual = Manual::Snoozed { until };
        },
        0.0,
        "snoozed",
        "snoozed for another 31 s",
    );
}

#[test]
fn stopped_by_the_schedule_and_by_applications() {
    check_reason(
        |desk| {
            let evening = TimeOfDay::new(18, 0).zip(TimeOfDay::new(23, 0));
            let (from, to) = evening.expect("times");
            desk.governor.policy.schedule = vec![Window {
                days: Weekday::ALL.to_vec(),
                from,
                to,
            }];
            desk.observation.local_time = Some(LocalTime {
                weekday: Weekday::Mon,
                minute_of_day: 600,
            });
        },
        0.0,
        "schedule",
        "outside the hours of the schedule",
    );
    check_reason(
        |desk| desk.observation.applications = vec!["game".into()],
        0.0,
        "exclusive",
        "Game is running",
    );
}

#[test]
fn stopped_or_limited_by_the_battery() {
    let battery = |charge| {
        Some(Battery {
            discharging: true,
            charge,
        })
    };
    check_reason(
        |desk| desk.observation.battery = battery(1.0),
        0.0,
        "battery",
        "the machine runs on its battery",
    );
    check_reason(
        |desk| {
            desk.governor.policy.battery.share_max = 0.25;
            desk.observation.battery = battery(0.8);
        },
        0.25,
        "battery",
        "the machine runs on its battery",
    );
    check_reason(
        |desk| {
            desk.governor.policy.battery.share_max = 1.0;
            desk.observation.battery = battery(0.31);
        },
        0.0,
        "charge",
        "the battery is at 31 % (needs 60 %)",
    );
}

#[test]
fn a_flat_battery_that_charges_is_no_reason() {
    let mut desk = Desk::new(Policy::desktop());
    let battery = |discharging| {
        Some(Battery {
            discharging,
            charge: 0.1,
        })
    };
    desk.see(|o| o.battery = battery(true)).run(5);
    let verdict = desk.see(|o| o.battery = battery(false)).run(9).verdict;
    assert_eq!(names(&verdict), ["battery"]);
    assert_eq!(desk.run(2).verdict, Verdict::Open);
}

#[test]
fn stopped_or_limited_by_heat() {
    // Halfway from 80 to 95; smoothed, it is not quite there.
    check_reason(
        |desk| desk.observation.temperature_c = Some(87.5),
        0.3,
        "temperature",
        "it is 87 °C hot (needs 80 °C or less)",
    );
    check_reason(
        |desk| desk.observation.temperature_c = Some(96.0),
        0.0,
        "temperature",
        "it is 96 °C hot (needs 75 °C or less)",
    );
}

#[test]
fn stopped_by_memory() {
    check_reason(
        |desk| desk.observation.memory_available = Some(0.08),
        0.0,
        "memory_available",
        "8 % of memory is available (needs 15 %)",
    );
    check_reason(
        |desk| desk.observation.memory_pressure = Some(0.25),
        0.0,
        "memory_pressure",
        "tasks wait for memory 25 % of the time (needs 2 % or less)",
    );
}

#[test]
fn stopped_or_limited_by_others_load() {
    check_reason(
        |desk| desk.observation.others_cpu = Some(0.5),
        0.4,
        "others_cpu",
        "others use 50 % of the processor",
    );
    check_reason(
        |desk| desk.observation.others_cpu = Some(0.85),
        0.0,
        "others_cpu",
        "others use 85 % of the processor",
    );
    check_reason(
        |desk| desk.observation.others_gpu = Some(0.6),
        0.2,
        "others_gpu",
        "others use 60 % of the GPU",
    );
}

#[test]
fn limited_by_a_full_screen() {
    let full_screen = Presence {
        full_screen: true,
        ..Presence::default()
    };
    check_reason(
        |desk| desk.observation.presence = Some(full_screen),
        0.3,
        "full_screen",
        "an application is full screen",
    );
}

#[test]
fn the_least_share_holds_and_all_reasons_are_kept() {
    let mut desk = Desk::new(Policy::desktop());
    desk.see(|o| {
        o.others_cpu = Some(0.5);
        o.others_gpu = Some(0.6);
        o.temperature_c = Some(87.5);
    });
    let verdict = desk.run(20).verdict;
    assert!((verdict.share(0.6) - 0.2).abs() < 1e-9, "{verdict:?}");
    assert_eq!(names(&verdict), ["others_gpu", "temperature", "others_cpu"]);
    desk.see(|o| o.memory_available = Some(0.01));
    assert_eq!(names(&desk.step().verdict), ["memory_available"]);
}

#[test]
fn the_owners_requests_give_way_to_load_and_are_not_stopped_by_it() {
    let owner = |change: fn(&mut Observation)| {
        let mut desk = Desk::new(Policy::desktop());
        let decision = desk.see(change).run(20);
        assert_ne!(decision.verdict, Verdict::Open);
        (decision.owner.share(0.6), names(&decision.owner))
    };
    // What is left beside others is the owner's as it is a guest's, and at least a tenth.
    assert_eq!(
        owner(|o| o.others_cpu = Some(0.6)),
        (0.3, vec!["others_cpu"])
    );
    assert_eq!(
        owner(|o| o.others_cpu = Some(1.0)),
        (0.1, vec!["others_cpu"])
    );
    assert_eq!(
        owner(|o| o.others_gpu = Some(1.0)),
        (0.1, vec!["others_gpu"])
    );
    let full = (0.1, vec!["memory_available"]);
    assert_eq!(owner(|o| o.memory_available = Some(0.02)), full);
    let waits = (0.1, vec!["memory_pressure"]);
    assert_eq!(owner(|o| o.memory_pressure = Some(0.5)), waits);
    let full_screen = |o: &mut Observation| {
        let presence = o.presence.as_mut().expect("somebody is there");
        presence.full_screen = true;
    };
    assert_eq!(owner(full_screen), (0.6, vec![]));
}

#[test]
fn what_the_machine_or_a_hand_stops_is_stopped_for_its_owner_too() {
    let check = |change: fn(&mut Desk), name: &str| {
        let mut policy = Policy::desktop();
        policy.exclusive = vec!["Game".into()];
        let mut desk = Desk::new(policy);
        desk.run(5);
        change(&mut desk);
        let decision = desk.run(20);
        assert_eq!(names(&decision.owner), [name]);
        assert_eq!(decision.owner, decision.verdict);
    };
    check(|desk| desk.manual = Manual::Paused, "paused");
    let plays = |desk: &mut Desk| desk.observation.applications = vec!["game".into()];
    check(plays, "exclusive");
    let on_battery = |desk: &mut Desk| {
        desk.observation.battery = Some(Battery {
            discharging: true,
            charge: 0.9,
        });
    };
    check(on_battery, "battery");
    check(
        |desk| desk.observation.temperature_c = Some(99.0),
        "temperature",
    );
    // Heat that limits limits both.
    check(
        |desk| desk.observation.temperature_c = Some(88.0),
        "temperature",
    );
}

#[test]
fn a_policy_without_a_share_for_the_owner_gives_a_tenth_and_one_with_none_is_refused() {
    let json = serde_json::to_value(Policy::desktop()).expect("serialises");
    let mut older = json.clone();
    older
        .as_object_mut()
        .expect("a map")
        .remove("owner_share_min");
    let read: Policy = serde_json::from_value(older).expect("it was a policy");
    assert_eq!(read, Policy::desktop());
    let mut policy = Policy::desktop();
    policy.owner_share_min = 0.0;
    let refused = policy.validate().expect_err("nothing is a stop");
    assert_eq!(
        refused.to_string(),
        "owner_share_min is 0, and must be from 0.01 to 1"
    );
}

#[test]
fn away_after_some_time_without_input_and_back_at_once() {
    let mut desk = Desk::new(Policy::desktop());
    let idle = |desk: &mut Desk, idle_s| {
        desk.see(|o| {
            o.presence = Some(Presence {
                idle: Duration::from_secs(idle_s),
                ..Presence::default()
            });
        });
        desk.step()
    };
    let decision = idle(&mut desk, 599);
    assert_eq!(decision.profile, Profile::Present);
    let in_a_second = desk.now.after(Duration::from_secs(1));
    assert_eq!(decision.until, Some(in_a_second));
    assert_eq!(idle(&mut desk, 600).profile, Profile::Away);
    assert_eq!(idle(&mut desk, 0).profile, Profile::Present);
}

#[test]
fn a_locked_screen_is_away_and_a_film_is_not() {
    let profile = |idle_s, locked, full_screen, change: fn(&mut Policy)| {
        let mut policy = Policy::desktop();
        change(&mut policy);
        let mut desk = Desk::new(policy);
        desk.see(|o| {
            o.presence = Some(Presence {
                idle: Duration::from_secs(idle_s),
                locked,
                full_screen,
            });
        });
        desk.step().profile
    };
    assert_eq!(profile(0, true, false, |_| ()), Profile::Away);
    assert_eq!(profile(0, true, true, |_| ()), Profile::Away);
    let stays = |p: &mut Policy| p.presence.away_when_locked = false;
    assert_eq!(profile(0, true, false, stays), Profile::Present);
    assert_eq!(profile(9999, false, true, |_| ()), Profile::Present);
    let ignores = |p: &mut Policy| p.presence.full_screen_share_max = 1.0;
    assert_eq!(profile(9999, false, true, ignores), Profile::Away);
}

#[test]
fn what_is_unknown_throttles_nothing_and_somebody_may_be_there() {
    for mut policy in [Policy::desktop(), Policy::mixed(), Policy::server()] {
        policy.exclusive = vec!["Game".into()];
        policy.schedule = vec![Window {
            days: vec![Weekday::Mon],
            from: TimeOfDay::new(1, 0).expect("a time"),
            to: TimeOfDay::new(2, 0).expect("a time"),
        }];
        let mut desk = Desk::new(policy);
        desk.observation = Observation::default();
        let decision = desk.run(20);
        assert_eq!(decision.profile, Profile::Present);
        assert_eq!(decision.verdict, Verdict::Open);
        assert_eq!(decision.until, None);
    }
}

#[test]
fn load_is_not_heeded_where_limits_say_so_but_the_machine_is() {
    let mut desk = Desk::new(Policy::desktop());
    desk.see(|o| {
        o.others_cpu = Some(1.0);
        o.others_gpu = Some(1.0);
        o.memory_available = Some(0.0);
        o.memory_pressure = Some(1.0);
        o.presence = Some(Presence {
            idle: Duration::from_secs(9999),
            locked: false,
            full_screen: true,
        });
    });
    assert!(matches!(desk.run(20).verdict, Verdict::Shut(_)));
    desk.heeds_load = false;
    let decision = desk.step();
    assert_eq!(decision.verdict, Verdict::Open);
    assert_eq!(decision.profile, Profile::Present);
    desk.see(|o| o.temperature_c = Some(100.0));
    let verdict = desk.run(20).verdict;
    assert_eq!(names(&verdict), ["temperature"]);
}

#[test]
fn a_snooze_ends_by_time_and_says_when() {
    let mut desk = Desk::new(Policy::desktop());
    let until = desk.now.after(Duration::from_secs(10));
    desk.manual = Manual::Snoozed { until };
    assert_eq!(desk.look().until, Some(until));
    desk.now = Moment(until.0 - 1);
    let left = Reason::Snoozed { left_s: 1 };
    assert_eq!(desk.look().verdict, Verdict::Shut(left));
    desk.now = until;
    assert_eq!(desk.look().verdict, Verdict::Open);
}

#[test]
fn finishing_admits_nothing_and_runs_on() {
    let mut desk = Desk::new(Policy::desktop());
    assert!(desk.step().admits);
    desk.manual = Manual::Paused;
    assert!(desk.step().admits);
    desk.manual = Manual::Finishing;
    let decision = desk.step();
    assert!(!decision.admits);
    assert_eq!(decision.verdict, Verdict::Open);
    desk.see(|o| o.others_cpu = Some(1.0));
    assert!(matches!(desk.run(20).verdict, Verdict::Shut(_)));
}

#[test]
fn another_policy_holds_at_once() {
    let mut desk = Desk::new(Policy::desktop());
    desk.see(|o| o.others_cpu = Some(0.95));
    assert!(matches!(desk.run(20).verdict, Verdict::Shut(_)));
    desk.governor.set_policy(Policy::server());
    assert_eq!(desk.look().verdict, Verdict::Open);
    // What was measured is still known: no second to find out.
    desk.governor.set_policy(Policy::desktop());
    assert!(matches!(desk.look().verdict, Verdict::Shut(_)));
}

#[test]
fn the_first_sample_and_a_moment_of_load_stop_nothing() {
    let mut desk = Desk::new(Policy::desktop());
    desk.see(|o| o.others_cpu = Some(1.0));
    assert_eq!(desk.look().verdict, Verdict::Open);
    desk.see(|o| o.others_cpu = Some(0.0)).run(5);
    desk.see(|o| o.others_cpu = Some(1.0));
    desk.now = desk.now.after(Duration::from_millis(50));
    assert_eq!(desk.look().verdict, Verdict::Open);
    assert_ne!(desk.step().verdict, Verdict::Open);
}

#[test]
fn room_is_made_within_two_seconds_and_taken_back_slowly() {
    let mut desk = Desk::new(Policy::desktop());
    desk.run(5);
    let made = desk.see(|o| o.others_cpu = Some(0.5)).run(2).verdict;
    assert!(made.share(0.6) <= 0.41, "{made:?}");
    let back = desk.see(|o| o.others_cpu = Some(0.0)).run(2).verdict;
    assert!((0.5..0.6).contains(&back.share(0.6)), "{back:?}");
    assert_eq!(desk.run(10).verdict, Verdict::Open);
}

#[test]
fn asked_again_before_a_window_ends() {
    let mut desk = Desk::new(Policy::desktop());
    desk.governor.policy.schedule = vec![Window {
        days: vec![Weekday::Sun],
        from: TimeOfDay::new(22, 0).expect("a time"),
        to: TimeOfDay::new(6, 0).expect("a time"),
    }];
    let mut at = |weekday, minute_of_day| {
        desk.see(|o| {
            o.presence = None;
            o.local_time = Some(LocalTime {
                weekday,
                minute_of_day,
            });
        });
        let decision = desk.look();
        let wait_s = decision
            .until
            .map(|until| (until.0 - desk.now.0) / 1_000_000_000);
        (decision.verdict == Verdict::Open, wait_s)
    };
    assert_eq!(at(Weekday::Mon, 300), (true, Some(59 * 60)));
    assert_eq!(at(Weekday::Mon, 359), (true, Some(5)));
    assert!(!at(Weekday::Mon, 360).0);
    assert_eq!(at(Weekday::Mon, 1440), (true, None), "no such minute");
}
