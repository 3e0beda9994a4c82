use super::*;
use crate::{TimeOfDay, Weekday};

fn presets() -> [Policy; 3] {
    [Policy::desktop(), Policy::mixed(), Policy::server()]
}

fn night() -> Window {
    Window {
        days: vec![Weekday::Fri],
        from: TimeOfDay::new(22, 0).expect("a time"),
        to: TimeOfDay::new(6, 30).expect("a time"),
    }
}

/// Breaks one value of the desktop's policy, and compares the error.
fn check_refused(break_it: impl Fn(&mut Policy), message: &str) {
    let mut policy = Policy::desktop();
    break_it(&mut policy);
    let error = policy.validate().expect_err(message);
    assert_eq!(error.to_string(), message);
}

#[test]
fn each_modes_policy_is_valid_and_survives_a_file() {
    for mut policy in presets() {
        policy.exclusive.push("Game".into());
        policy.schedule.push(night());
        policy.validate().expect("valid");
        let json = serde_json::to_string(&policy).expect("serialises");
        assert_eq!(
            serde_json::from_str::<Policy>(&json).expect("parses"),
            policy
        );
    }
}

#[test]
fn each_mode_is_looser_than_the_one_before() {
    let [desktop, mixed, server] = presets();
    for (tight, loose) in [(&desktop, &mixed), (&mixed, &server)] {
        assert!(tight.presence.away_after_s >= loose.presence.away_after_s);
        assert!(tight.presence.full_screen_share_max < loose.presence.full_screen_share_max);
        assert!(tight.others_cpu.yield_above < loose.others_cpu.yield_above);
        assert!(tight.others_cpu.headroom > loose.others_cpu.headroom);
        assert!(tight.memory.available_min > loose.memory.available_min);
        assert!(tight.memory.pressure_max < loose.memory.pressure_max);
        assert!(tight.battery.share_max < loose.battery.share_max);
        assert!(tight.temperature.stop_above_c < loose.temperature.stop_above_c);
    }
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() {
    check_refused(
        |p| p.presence.away_after_s = 0,
        "presence.away_after_s is 0, and must be from 1 to 604800",
    );
    check_refused(
        |p| p.others_cpu.yield_above = 25.0,
        "others_cpu.yield_above is 25, and must be from 0 to 1",
    );
    check_refused(
        |p| p.others_gpu.headroom = f64::NAN,
        "others_gpu.headroom is NaN, and must be from 0 to 1",
    );
    check_refused(
        |p| p.others_cpu.resume_share = 0.05,
        "others_cpu.resume_share is 0.05, and must be from 0.1 to 0.9",
    );
    check_refused(
        |p| p.memory.resume_pressure = 0.5,
        "memory.resume_pressure is 0.5, and must be from 0 to 0.1",
    );
    check_refused(
        |p| p.battery.resume_charge = 0.4,
        "battery.resume_charge is 0.4, and must be from 0.5 to 1",
    );
    check_refused(
        |p| p.temperature.limit_above_c = 95.0,
        "temperature.limit_above_c is 95, and must be from 20 to 94",
    );
    check_refused(
        |p| p.temperature.resume_after_s = 4000,
        "temperature.resume_after_s is 4000, and must be from 0 to 3600",
    );
    check_refused(
        |p| p.exclusive = vec!["Game".into(), " Game".into()],
        "exclusive[1] is \" Game\", and must be a name of 1 to 255 bytes without space around it",
    );
    check_refused(
        |p| p.exclusive = vec!["Game".into(); 65],
        "exclusive is a list of 65, and must be at most 64 names",
    );
    check_refused(
        |p| {
            p.schedule = vec![Window {
                days: Vec::new(),
                ..night()
            }];
        },
        "schedule[0].days is empty, and must be one day or more",
    );
}

#[test]
fn unknown_keys_and_times_that_are_none_are_errors() {
    let refused = |json: &str, part: &str| {
        let error = serde_json::from_str::<Window>(json).expect_err(json);
        assert!(error.to_string().contains(part), "{error}");
    };
    let night = serde_json::to_string(&night()).expect("serialises");
    assert_eq!(night, r#"{"days":["fri"],"from":"22:00","to":"06:30"}"#);
    refused(
        &night.replace("\"to\"", "\"until\""),
        "unknown field `until`",
    );
    refused(&night.replace("fri", "Friday"), "unknown variant `Friday`");
    for time in ["24:01", "6:30", "06:60", "+6:30", "0630", "06:30:00"] {
        refused(
            &night.replace("06:30", time),
            &format!("{time:?} is not a time from \"00:00\" to \"24:00\""),
        );
    }
}
