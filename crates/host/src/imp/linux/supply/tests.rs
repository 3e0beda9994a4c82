use std::os::unix::fs::symlink;

use super::*;

/// The supplies of a machine, each file as `BAT0/status`; a text that begins with `->` is a link.
fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("->") {
            Some(target) => symlink(root.path().join(target), path).unwrap(),
            None => fs::write(path, format!("{text}\n")).unwrap(),
        }
    }
    root
}

/// Whether the machine runs from its batteries and their charge, `None` on a machine without one.
fn check(files: &[(&str, &str)], expected: Option<(Option<bool>, Option<f64>)>) -> Vec<String> {
    let root = machine(files);
    let found = battery_under(root.path()).ok();
    let told = found.as_ref().map(|b| (b.discharging, b.charge));
    assert_eq!(told, expected, "{files:?}");
    found.map_or_else(Vec::new, |battery| battery.unknown)
}

const AT_HALF: [(&str, &str); 5] = [
    ("BAT0/type", "Battery"),
    ("BAT0/present", "1"),
    ("BAT0/status", "Discharging"),
    ("BAT0/energy_now", "20000000"),
    ("BAT0/energy_full", "40000000"),
];

fn beside(files: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&AT_HALF[..], files].concat()
}

const HALF: Option<(Option<bool>, Option<f64>)> = Some((Some(true), Some(0.5)));

#[test]
fn one_that_discharges_counts_whatever_is_beside_it() {
    check(&AT_HALF, HALF);
    check(&[], None);
    let not_there = [
        ("BAT1/type", "Battery"),
        ("BAT1/present", "0"),
        ("BAT1/status", "Full"),
    ];
    check(&beside(&not_there), HALF);
    let says = check(&beside(&[("BAT1/type", "Battery")]), HALF);
    assert_eq!(says, ["BAT1: status unknown", "BAT1: charge unknown"]);
    let rubbish = [
        ("BAT1/type", "Battery"),
        ("BAT1/status", "\u{1b}[31m"),
        ("BAT1/energy_now", "-5"),
        ("BAT1/energy_full", "0"),
        ("BAT1/capacity", "4000"),
    ];
    check(&beside(&rubbish), HALF);
    check(&beside(&[("BAT1/uevent", "")]), HALF);
    let full = [
        ("BAT1/type", "Battery"),
        ("BAT1/status", "Full"),
        ("BAT1/capacity", "100"),
    ];
    // Without a common measure the two count alike.
    check(&beside(&full), Some((Some(true), Some(0.75))));
    let large = [
        ("BAT1/type", "Battery"),
        ("BAT1/status", "Not charging"),
        ("BAT1/energy_now", "120000000"),
        ("BAT1/energy_full", "120000000"),
    ];
    check(&beside(&large), Some((Some(true), Some(0.875))));
}

#[test]
fn only_what_a_battery_tells_is_known() {
    let only =
        |files: &[(&'static str, &'static str)]| [&[("BAT0/type", "Battery")][..], files].concat();
    check(&only(&[("BAT0/capacity", "40")]), Some((None, Some(0.4))));
    check(
        &only(&[("BAT0/status", "Charging")]),
        Some((Some(false), None)),
    );
    check(&only(&[("BAT0/status", "Unknown")]), Some((None, None)));
    let by_charge = [("BAT0/charge_now", "30"), ("BAT0/charge_full", "40")];
    check(&only(&by_charge), Some((None, Some(0.75))));
    // An adapter says what the battery does not.
    let adapter = |online| only(&[("AC/type", "Mains"), ("AC/online", online)]);
    check(&adapter("1"), Some((Some(false), None)));
    check(&adapter("0"), Some((Some(true), None)));
    check(&adapter("?"), Some((None, None)));
    let unplugged_port = [("ucsi/type", "USB"), ("ucsi/online", "0")];
    check(
        &[&adapter("1")[..], &unplugged_port].concat(),
        Some((Some(false), None)),
    );
    // A battery that says that it discharges is believed more than the adapter.
    let both = [
        ("AC/type", "Mains"),
        ("AC/online", "1"),
        ("BAT0/status", "Discharging"),
    ];
    check(&only(&both), Some((Some(true), None)));
}

#[test]
fn a_mouses_battery_is_not_the_machines() {
    let mouse = |scope: Option<&'static str>| {
        let files = [
            ("x/type", "Battery"),
            ("x/status", "Discharging"),
            ("x/capacity", "5"),
        ];
        let scope = scope.map(|scope| ("x/scope", scope));
        files.into_iter().chain(scope).collect::<Vec<_>>()
    };
    check(&mouse(Some("Device")), None);
    check(&mouse(Some("System")), Some((Some(true), Some(0.05))));
    // Where nothing says what it is, the cautious answer is that it is the machine's.
    check(&mouse(None), Some((Some(true), Some(0.05))));
    let by_bus = [
        ("x/device", "->devices/usb1/0003:046D:4008"),
        ("devices/usb1/0003:046D:4008/subsystem", "->bus/hid"),
        ("bus/hid/uevent", ""),
    ];
    check(&[&mouse(None)[..], &by_bus].concat(), None);
    let by_name = [
        ("hidpp_battery_0/type", "Battery"),
        ("hidpp_battery_0/status", "Discharging"),
        ("hidpp_battery_0/capacity", "5"),
    ];
    check(&by_name, None);
    check(&beside(&by_name), HALF);
}

#[test]
fn power_is_told_directly_or_by_current_and_voltage() {
    let watts = |files: &[(&'static str, &'static str)]| {
        let root = machine(&beside(files));
        battery_under(root.path()).unwrap().power_w
    };
    assert_eq!(watts(&[]), None);
    assert_eq!(watts(&[("BAT0/power_now", "7500000")]), Some(7.5));
    let current = [
        ("BAT0/current_now", "-500000"),
        ("BAT0/voltage_now", "12000000"),
    ];
    assert_eq!(watts(&current), Some(6.0));
}
