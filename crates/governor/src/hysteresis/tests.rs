use super::*;

const TROUBLE: Signal = Signal {
    trouble: true,
    well: false,
};
const BETWEEN: Signal = Signal {
    trouble: false,
    well: false,
};
const WELL: Signal = Signal {
    trouble: false,
    well: true,
};

fn at_s(seconds: f64) -> Moment {
    Moment((seconds * 1e9) as u64)
}

/// Feeds a latch with a hold of five seconds; each line is second, signal, and whether it is on.
fn check_latch(steps: &[(f64, Signal, bool)]) {
    let mut latch = Latch::default();
    for &(second, signal, on) in steps {
        assert_eq!(latch.update(at_s(second), signal, 5), on, "at {second} s");
    }
}

#[test]
fn a_latch_ends_when_all_was_well_without_a_break() {
    check_latch(&[
        (0.0, BETWEEN, false),
        (1.0, TROUBLE, true),
        (2.0, WELL, true),
        (6.9, WELL, true),
        (7.0, WELL, false),
        (8.0, BETWEEN, false),
    ]);
    check_latch(&[
        (1.0, TROUBLE, true),
        (2.0, WELL, true),
        (6.0, BETWEEN, true),
        (7.0, WELL, true),
        (11.9, WELL, true),
        (12.0, WELL, false),
    ]);
}

#[test]
fn time_that_runs_backwards_begins_the_hold_anew() {
    check_latch(&[
        (4000.0, TROUBLE, true),
        (4001.0, WELL, true),
        (401.0, WELL, true),
        (405.9, WELL, true),
        (406.0, WELL, false),
    ]);
}

const RATE: Smoothing = Smoothing {
    rise: Duration::from_secs(1),
    fall: Duration::from_secs(2),
    skips_first: true,
};

#[test]
fn the_first_sample_only_starts_the_clock() {
    let mut smooth = Smooth::default();
    assert_eq!(smooth.update(at_s(0.0), Some(1.0), RATE), None);
    assert_eq!(smooth.update(at_s(0.0), Some(1.0), RATE), None);
    assert_eq!(smooth.update(at_s(1.0), Some(0.5), RATE), Some(0.5));
    let gauge = Smoothing {
        skips_first: false,
        ..RATE
    };
    assert_eq!(
        Smooth::default().update(at_s(0.0), Some(1.0), gauge),
        Some(1.0)
    );
}

#[test]
fn what_was_seen_in_one_step_or_many_counts_alike() {
    let follow = |steps: u32| {
        let mut smooth = Smooth::default();
        smooth.update(at_s(0.0), Some(0.0), RATE);
        smooth.update(at_s(1.0), Some(0.0), RATE);
        let step = |i: u32| at_s(1.0 + f64::from(i) / f64::from(steps));
        let mut last = None;
        for i in 1..=steps {
            last = smooth.update(step(i), Some(1.0), RATE);
        }
        last.expect("known")
    };
    let expected = 1.0 - (-1.0f64).exp();
    for steps in [1, 4, 100] {
        assert!((follow(steps) - expected).abs() < 1e-9, "{steps} steps");
    }
}

#[test]
fn a_figure_stands_for_ten_seconds_untold() {
    let mut smooth = Smooth::default();
    smooth.update(at_s(0.0), Some(0.5), RATE);
    smooth.update(at_s(1.0), Some(0.5), RATE);
    assert_eq!(smooth.update(at_s(10.9), None, RATE), Some(0.5));
    assert_eq!(smooth.update(at_s(11.0), None, RATE), None);
    assert_eq!(smooth.update(at_s(12.0), Some(1.0), RATE), None);
}
