//! Batteries and adapters, by `Documentation/ABI/testing/sysfs-class-power`. Every figure there is a
//! driver's or an embedded controller's word: one that makes no sense is unknown, and voids itself alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::power::text;
use crate::ability::names;
use crate::error::HostError;
use crate::power::{Battery, Part};

const SUPPLIES: &str = "/sys/class/power_supply";
/// No machine has more; further ones are not looked at.
const SUPPLIES_MAX: usize = 64;

/// Subsystems that a machine's own battery is never below: a mouse's is.
const PERIPHERAL: [&str; 4] = ["hid", "usb", "bluetooth", "input"];
/// How drivers name peripherals' batteries, for those that say nothing else of it.
const PERIPHERAL_NAMES: [&str; 7] = [
    "hid",
    "wacom",
    "sony_controller",
    "ps-controller",
    "nintendo",
    "wiimote",
    "steam",
];

pub(crate) fn battery() -> Result<Battery, HostError> {
    battery_under(Path::new(SUPPLIES))
}

fn battery_under(root: &Path) -> Result<Battery, HostError> {
    let unread = |reason: String| HostError::Unread {
        what: names::BATTERY,
        reason,
    };
    let entries = fs::read_dir(root).map_err(|e| unread(format!("{}: {e}", root.display())))?;
    let mut supplies: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    supplies.sort();
    supplies.truncate(SUPPLIES_MAX);
    let on_line = on_line(&supplies);
    let batteries = supplies.iter().filter(|supply| is_the_machines(supply));
    let parts: Vec<_> = batteries.map(|battery| part(battery, on_line)).collect();
    Battery::together(&parts).ok_or(HostError::NoneHere {
        what: names::BATTERY,
    })
}

/// Whether an adapter feeds the machine; `None` where no adapter tells.
fn on_line(supplies: &[PathBuf]) -> Option<bool> {
    let adapters = supplies.iter().filter(|supply| {
        let kind = text(&supply.join("type"));
        ["Mains", "USB", "Wireless"].contains(&&*kind) && text(&supply.join("scope")) != "Device"
    });
    let told = adapters.filter_map(|adapter| match &*text(&adapter.join("online")) {
        "0" => Some(false),
        "1" | "2" => Some(true),
        _ => None,
    });
    told.reduce(|a, b| a || b)
}

/// A battery that is there and is neither a mouse's nor a headset's. One that does not say what it is
/// counts as the machine's.
fn is_the_machines(supply: &Path) -> bool {
    let name = supply.file_name().unwrap_or_default().to_string_lossy();
    let is_battery = match &*text(&supply.join("type")) {
        "Battery" | "UPS" => true,
        "" => name.starts_with("BAT"),
        _ => false,
    };
    let scope = text(&supply.join("scope"));
    let is_peripheral = match &*scope {
        "Device" => true,
        "System" => false,
        _ => is_named_peripheral(&name) || is_below_peripheral(supply),
    };
    is_battery && !is_peripheral && text(&supply.join("present")) != "0"
}

fn is_named_peripheral(name: &str) -> bool {
    let mut prefixes = PERIPHERAL_NAMES.iter();
    prefixes.any(|prefix| name.starts_with(prefix))
}

/// Whether one of the devices that it is part of is on a bus of peripherals.
fn is_below_peripheral(supply: &Path) -> bool {
    let Ok(place) = fs::canonicalize(supply.join("device")) else {
        return false;
    };
    let subsystem = |device: &Path| {
        let link = fs::read_link(device.join("subsystem")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    };
    let subsystems = place.ancestors().filter_map(subsystem);
    let mut of_peripherals = subsystems.filter(|name| PERIPHERAL.contains(&&**name));
    of_peripherals.next().is_some()
}

fn part(supply: &Path, on_line: Option<bool>) -> Part {
    let name = supply.file_name().unwrap_or_default().to_string_lossy();
    let discharging = match &*text(&supply.join("status")) {
        "Discharging" => Some(true),
        "Charging" | "Full" | "Not charging" => Some(false),
        // Nor is it where it does not say, and an adapter feeds the machine.
        _ => on_line.map(|on_line| !on_line),
    };
    let number = |file: &str| -> Option<f64> {
        let number: i64 = text(&supply.join(file)).parse().ok()?;
        Some(number as f64)
    };
    let pair = |now: &str, full: &str| Some((number(now)?, number(full)?));
    let volts = || Some(number("voltage_now")? / 1e6);
    let sound = |(now, full): &(f64, f64)| *now >= 0.0 && *full > 0.0;
    let energy = pair("energy_now", "energy_full").filter(sound);
    let charge = pair("charge_now", "charge_full").filter(sound);
    // Both in microwatt hours.
    let by_volts = || Some(charge?.1 * volts().filter(|volts| *volts > 0.0)?);
    let percent = number("capacity").filter(|percent| (0.0..=100.0).contains(percent));
    let power = number("power_now").map(|microwatts| microwatts.abs() / 1e6);
    let current = || Some((number("current_now")? / 1e6).abs() * volts()?);
    Part {
        name: name.into_owned(),
        discharging,
        charge: energy
            .or(charge)
            .map(|(now, full)| (now / full).min(1.0))
            .or(percent.map(|percent| percent / 100.0)),
        full: energy.map(|(_, full)| full).or_else(by_volts),
        power_w: power.or_else(current),
    }
}

#[cfg(test)]
mod tests;
