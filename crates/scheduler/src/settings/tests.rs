use gogrid_governor::{TimeOfDay, Weekday, Window};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::limits::SETTINGS_BYTES_MAX;

/// Every way a file can be wrong, and the whole of what is said about it.
const BAD_FILES: &[(&str, &str)] = &[
    (
        "mode = \"reckless\"",
        "line 1, column 1: mode is \"reckless\", must be \"conservative\", \"default\" or \
             \"aggressive\"",
    ),
    (
        "mode = 3",
        "line 1, column 1: mode is 3, must be \"conservative\", \"default\" or \"aggressive\"",
    ),
    (
        "[limits]\nmax_compute_usage_percent = 1.5",
        "line 2, column 1: limits.max_compute_usage_percent is 1.5, must be in 0..=1",
    ),
    (
        "[limits]\n  max_compute_usage_percent = nan",
        "line 2, column 3: limits.max_compute_usage_percent is NaN, must be in 0..=1",
    ),
    (
        "away.max_vram_usage_percent = -0.5",
        "line 1, column 6: away.max_vram_usage_percent is -0.5, must be in 0..=1",
    ),
    (
        "[away]\nmax_compute_usage_percent = 0",
        "line 2, column 1: away.max_compute_usage_percent is 0, must be over 0: nothing could be computed with it",
    ),
    (
        "[limits]\nmax_batch_size = \"many\"",
        "line 2, column 1: limits.max_batch_size is \"many\", must be a whole number",
    ),
    (
        "[limits]\nmax_batch_size = 4.0",
        "line 2, column 1: limits.max_batch_size is 4.0, must be a whole number",
    ),
    (
        "[limits]\nmax_batch_size = 65",
        "line 2, column 1: limits.max_batch_size is 65, must be in 1..=64",
    ),
    (
        "[limits]\nmax_batch_size = -1",
        "line 2, column 1: limits.max_batch_size is -1, must be in 1..=64",
    ),
    (
        "[limits]\nprocess_priority = 99999999999",
        "line 2, column 1: limits.process_priority is 99999999999, must be in -20..=19",
    ),
    (
        "[limits]\nmin_request_interval_ms = -1",
        "line 2, column 1: limits.min_request_interval_ms is -1, must be in \
             0..=9223372036854775807",
    ),
    (
        "[limits]\nenable_auto_throttle = 1",
        "line 2, column 1: limits.enable_auto_throttle is 1, must be true or false",
    ),
    (
        "limits = 3",
        "line 1, column 1: limits is 3, must be a table",
    ),
    (
        "[limits]\nmax_compute = 0.5",
        "line 2, column 1: limits.max_compute is no key, known are enable_auto_throttle, \
             io_priority_class, io_priority_level, max_batch_size, max_compute_usage_percent, \
             max_vram_usage_percent, min_request_interval_ms, process_priority",
    ),
    (
        "# limits belong in a table\nmax_batch_size = 4",
        "line 2, column 1: max_batch_size is no key, known are away, limits, policy",
    ),
    (
        "[policy.presence]\naway_after = 600",
        "line 2, column 1: policy.presence.away_after is no key, known are away_after_s, \
             away_when_locked, full_screen_share_max",
    ),
    (
        "[policy.presence]\naway_after_s = -1",
        "line 2, column 1: policy.presence.away_after_s is -1, must be in 0..=4294967295",
    ),
    (
        "[policy]\nexclusive = [\"game\", 7]",
        "line 2, column 22: policy.exclusive[1]: invalid type: integer `7`, expected a string",
    ),
    (
        "[[policy.schedule]]\ndays = [\"mon\"]\nfrom = \"25:00\"\nto = \"08:00\"",
        "line 3, column 1: policy.schedule[0].from: \"25:00\" is not a time from \"00:00\" to \
             \"24:00\"",
    ),
    (
        "[[policy.schedule]]\ndays = [\"mon\"]\nfrom = \"22:00\"",
        "line 1, column 1: policy.schedule[0]: missing field `to`",
    ),
    (
        "[limits]\nmax_batch_size = ",
        "line 2, column 18: not TOML: string values must be quoted, expected literal string",
    ),
    (
        "[limits]\nmax_batch_size = 1\nmax_batch_size = 2",
        "line 3, column 1: not TOML: duplicate key",
    ),
];

#[test]
fn a_bad_file_is_refused_with_the_place_the_key_and_what_is_allowed() {
    for &(text, message) in BAD_FILES {
        let error = Settings::from_toml(text).expect_err(text);
        assert_eq!(error.to_string(), message, "of {text:?}");
        assert!(error.place().is_some(), "{text:?}");
    }
    let long = "#".repeat(SETTINGS_BYTES_MAX + 1);
    let error = Settings::from_toml(&long).expect_err("too long");
    let message = "65537 bytes of settings, 65536 are the most that is taken";
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_file_is_its_mode_and_what_differs() {
    let text = "mode = \"aggressive\"\n\
                [limits]\nmax_compute_usage_percent = 1\n\
                [policy]\nexclusive = [\"game\"]\n\
                [policy.presence]\naway_after_s = 5\n";
    let mut expected = Settings::of(Mode::Aggressive);
    expected.limits.max_compute_usage_percent = 1.0;
    expected.policy.exclusive = vec!["game".to_owned()];
    expected.policy.presence.away_after_s = 5;
    assert_eq!(Settings::from_toml(text), Ok(expected));
    let nothing = Settings::from_toml("");
    assert_eq!(nothing, Ok(Settings::of(Mode::Conservative)));
}

#[test]
fn changes_without_a_mode_keep_what_they_do_not_name() {
    let base = Settings::of(Mode::Aggressive);
    let changes = Changes::from_toml("away.max_batch_size = 9").unwrap();
    let changed = changes.onto(&base).unwrap();
    assert_eq!(changed.away.max_batch_size, 9);
    let limits = (&changed.limits, &changed.policy);
    assert_eq!(limits, (&base.limits, &base.policy));
    let mode = Changes::of_mode(Mode::Default).onto(&base);
    assert_eq!(mode, Ok(Settings::of(Mode::Default)));
}

#[test]
fn changes_cross_a_wire_whole() {
    let text = "mode = \"default\"\n[limits]\nmax_compute_usage_percent = 0.25\n";
    let sent = Changes::from_toml(text).unwrap();
    let wire = toml::to_string(&sent).unwrap();
    let got: Changes = toml::from_str(&wire).unwrap();
    let base = Settings::of(Mode::Conservative);
    assert_eq!(got.onto(&base), sent.onto(&base));
    assert_eq!(got.mode(), Some(Mode::Default));
    let error = toml::from_str::<Changes>("mode = \"reckless\"").unwrap_err();
    assert!(error.message().contains("reckless"), "{error}");
}

#[test]
fn nobody_there_never_means_less_than_somebody() {
    for mode in Mode::ALL {
        let Settings {
            limits,
            away,
            policy,
        } = Settings::of(mode);
        assert_eq!(policy.validate(), Ok(()), "{mode:?}");
        assert!(away.max_vram_usage_percent >= limits.max_vram_usage_percent);
        assert!(away.max_compute_usage_percent >= limits.max_compute_usage_percent);
        assert!(away.max_batch_size >= limits.max_batch_size);
        assert!(away.min_request_interval_ms <= limits.min_request_interval_ms);
        assert_eq!(away.process_priority, limits.process_priority);
    }
    let own = ResourceConfig {
        max_batch_size: 7,
        ..ResourceConfig::conservative()
    };
    let settings = Settings::from(own.clone());
    assert_eq!((settings.limits, settings.away), (own.clone(), own));
}

#[test]
fn the_example_file_is_the_mode_it_names_with_every_key() {
    let text = include_str!("../../../../docs/limits.toml");
    let settings = Settings::from_toml(text).unwrap();
    assert_eq!(settings, Settings::of(Mode::Conservative));
    let mut written: toml::Table = toml::from_str(text).unwrap();
    let mode = written.remove("mode");
    assert_eq!(mode, Some("conservative".into()));
    let whole: toml::Table = toml::from_str(&settings.to_toml().unwrap()).unwrap();
    assert_eq!(written, whole);
}

fn limits() -> impl Strategy<Value = ResourceConfig> {
    // A share of compute of 0 is refused where settings are read.
    let shares = (0.0..=1.0, f64::EPSILON..=1.0);
    let priorities = (-20..=19, 0u8..=3, 0u8..=7);
    let starts = (any::<bool>(), 0..=i64::MAX as u64, 1usize..=64);
    (shares, priorities, starts).prop_map(|(shares, priorities, starts)| ResourceConfig {
        max_vram_usage_percent: shares.0,
        max_compute_usage_percent: shares.1,
        process_priority: priorities.0,
        io_priority_class: priorities.1,
        io_priority_level: priorities.2,
        enable_auto_throttle: starts.0,
        min_request_interval_ms: starts.1,
        max_batch_size: starts.2,
    })
}

fn window() -> impl Strategy<Value = Window> {
    let days = prop::sample::subsequence(Weekday::ALL.to_vec(), 1..=7);
    let time = || (0u16..24, 0u16..60).prop_map(|(h, m)| TimeOfDay::new(h, m).unwrap());
    (days, time(), time()).prop_map(|(days, from, to)| Window { days, from, to })
}

fn settings() -> impl Strategy<Value = Settings> {
    let modes = prop::sample::select(Mode::ALL.to_vec());
    let lists = (
        prop::collection::vec("[^/\\\\\\p{Cc}]{1,12}", 0..4),
        prop::collection::vec(window(), 0..3),
    );
    let policy = (modes, lists, 1u32..100_000, 0.0..=1.0);
    (limits(), limits(), policy).prop_map(|(limits, away, (mode, lists, seconds, share))| {
        let mut policy = Settings::of(mode).policy;
        (policy.exclusive, policy.schedule) = lists;
        policy.presence.away_after_s = seconds;
        policy.presence.full_screen_share_max = share;
        Settings {
            limits,
            away,
            policy,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_equal(settings in settings()) {
        let valid = settings.validate();
        let text = settings.to_toml().unwrap();
        match valid {
            Ok(()) => prop_assert_eq!(Settings::from_toml(&text), Ok(settings)),
            Err(error) => prop_assert!(error.key().is_some()),
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\[(limits|away|policy\\.presence)\\]\n)?([a-z_]{0,9} = .{0,9}\n){0,3}") {
        if let Err(error) = Settings::from_toml(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
