use super::*;

const CORES: f64 = 2.0;

/// A sample every tenth of a second of a machine that takes half of its time, with one model open.
fn clean(number: u32) -> Sample {
    let at_s = f64::from(number) / 10.0;
    Sample {
        at_s,
        // The machine was opened before the first look.
        asked_at_s: at_s + 7.0,
        used: 100 << 20,
        cap: 200 << 20,
        leased: 100 << 20,
        share: 0.5,
        share_of_all: 0.5,
        busy_s: vec![at_s * 0.5, at_s * 0.5],
        cpu_s: at_s * 0.5 * CORES,
        models: 1,
        resident_mib: Some(130.0),
        floor_mib: 10.0,
        ..Sample::default()
    }
}

/// The faults of half a minute of samples, each changed as it is told.
fn faults(change: impl Fn(u32, &mut Sample)) -> (Vec<String>, Extremes) {
    let mut checks = Checks::new(vec![1, 1]);
    let mut faults = Vec::new();
    for number in 0..300 {
        let mut sample = clean(number);
        change(number, &mut sample);
        faults.extend(checks.take(sample));
    }
    (faults, checks.extremes())
}

fn check(says: &str, change: impl Fn(u32, &mut Sample)) {
    let (faults, _) = faults(change);
    assert!(!faults.is_empty(), "no fault, where one says {says:?}");
    assert!(
        faults.iter().all(|fault| fault.contains(says)),
        "{faults:?}"
    );
}

#[test]
fn clean_samples_have_no_fault() {
    let (faults, extremes) = faults(|_, _| {});
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(extremes.looks, 300);
    assert!(extremes.cpu_stretches > 200 && extremes.cpu_over.abs() < 1e-9);
    assert!(extremes.share_stretches > 200 && extremes.share_over.abs() < 1e-9);
}

#[test]
fn a_device_over_the_share_by_its_own_account_is_a_fault() {
    check("by its own account, 0.500 in force", |_, sample| {
        sample.busy_s[1] = sample.at_s * 0.6;
    });
}

/// Every twentieth look takes 0.2 s from when the devices are asked. Both devices take so much of
/// their time by their own account, and half of it by the system's.
fn late(number: u32, sample: &mut Sample, took: f64) {
    let begun_s = f64::from(number) / 10.0 + f64::from(number.saturating_sub(1) / 20) * 0.2;
    sample.at_s = f64::from(number) / 10.0 + f64::from(number / 20) * 0.2;
    sample.asked_at_s = 7.0 + begun_s;
    sample.busy_s = vec![begun_s * took; 2];
    sample.cpu_s = sample.at_s * 0.5 * CORES;
}

#[test]
fn an_answer_that_comes_late_is_no_fault_and_hides_none() {
    let (clean, extremes) = faults(|number, sample| late(number, sample, 0.5));
    assert_eq!(clean, Vec::<String>::new());
    assert!(extremes.share_stretches > 200 && extremes.share_over.abs() < 1e-9);
    check("by its own account, 0.500 in force", |number, sample| {
        late(number, sample, 0.6);
    });
}

#[test]
fn a_share_that_falls_within_a_stretch_counts_as_far_as_it_was_in_force() {
    let lowered = |number: u32, share: f64, sample: &mut Sample| {
        let before_s = sample.at_s.min(15.0);
        let after_s = sample.at_s - before_s;
        sample.busy_s[0] = before_s * 0.9 + after_s * share;
        sample.share = if number <= 150 { 0.9 } else { 0.5 };
        (sample.share_of_all, sample.cpu_s) = (1.0, 0.0);
    };
    let (clean, extremes) = faults(|number, sample| lowered(number, 0.5, sample));
    assert_eq!(clean, Vec::<String>::new());
    assert!(extremes.share_over < 1e-9, "{extremes:?}");
    check("by its own account", |number, sample| {
        lowered(number, 0.6, sample);
    });
}

#[test]
fn nothing_is_said_of_a_stretch_with_looks_far_apart() {
    let (_, all) = faults(|_, _| {});
    let (clean, extremes) = faults(|number, sample| {
        // A share that nobody saw.
        let later_s = f64::from(u32::from(number >= 150)) * 2.0 * LOOKS_APART_MAX_S;
        sample.asked_at_s += later_s;
        sample.at_s += later_s;
        sample.busy_s[0] += later_s;
    });
    assert_eq!(clean, Vec::<String>::new());
    assert!(extremes.share_stretches < all.share_stretches);
    assert!(extremes.cpu_stretches < all.cpu_stretches);
}

#[test]
fn cpu_time_that_the_machine_does_not_book_is_a_fault() {
    let over = 0.5 * (1.0 + CPU_TOLERANCE) + CPU_UNPACED;
    check("by the system's account", |_, sample| {
        sample.cpu_s = sample.at_s * CORES * (over + 0.01);
    });
    let (faults, _) = faults(|_, sample| {
        sample.cpu_s = sample.at_s * CORES * (over - 0.01);
    });
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn cpu_time_while_all_work_is_stopped_is_a_fault() {
    check("by the system's account", |_, sample| {
        (sample.share, sample.share_of_all) = (0.0, 0.0);
        sample.busy_s = vec![0.0, 0.0];
        sample.cpu_s = sample.at_s * CORES * 0.2;
    });
}

#[test]
fn a_breach_in_the_midst_is_one_fault() {
    // One second at all cores.
    let (faults, _) = faults(|number, sample| {
        sample.cpu_s += f64::from(number.clamp(150, 160) - 150) / 10.0;
    });
    assert_eq!(faults.len(), 1, "{faults:?}");
    let (faults, _) = super::tests::faults(|number, sample| {
        sample.busy_s[0] += f64::from(number.clamp(150, 153) - 150) / 10.0;
    });
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn cpu_time_of_a_load_is_not_compared() {
    let loads = |number: u32| Loads {
        begun: u64::from(number >= 100),
        under_way: (100..140).contains(&number),
    };
    let (faults, extremes) = faults(|number, sample| {
        sample.loads = loads(number);
        sample.cpu_s += f64::from(number.clamp(100, 140) - 100) / 10.0;
    });
    assert_eq!(faults, Vec::<String>::new());
    assert!(extremes.cpu_stretches > 100, "{extremes:?}");
}

#[test]
fn leases_over_the_cap_are_a_fault_and_those_over_a_lowered_cap_are_not() {
    check("bytes leased", |number, sample| {
        if number == 200 {
            sample.used = 201 << 20;
        }
    });
    let (faults, _) = faults(|number, sample| {
        if number >= 200 {
            sample.cap = 50 << 20;
        }
    });
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn resident_growth_beyond_leases_is_a_fault() {
    let most = 10.0 + 100.0 + UNLEASED_MIB + UNLEASED_MIB_PER_MODEL;
    check("that nobody leased", |_, sample| {
        sample.resident_mib = Some(most + 1.0);
    });
    let (faults, _) = faults(|_, sample| sample.resident_mib = Some(most - 1.0));
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn limits_that_are_not_held_for_long_are_a_fault() {
    let name = |sample: &mut Sample| sample.not_held.push("nice 5".to_owned());
    check("limits not held: nice 5", |_, sample| name(sample));
    let (faults, _) = faults(|number, sample| {
        if number % 50 != 0 {
            name(sample);
        }
    });
    assert_eq!(faults, Vec::<String>::new());
}
