//! Batteries of systems other than Linux, by a library.

use starship_battery::units::energy::joule;
use starship_battery::units::power::watt;
use starship_battery::{Battery as One, Manager, State};

use crate::ability::names;
use crate::error::HostError;
use crate::power::{Battery, Part};

pub(crate) fn battery() -> Result<Battery, HostError> {
    let unread = |error: starship_battery::Error| HostError::Unread {
        what: names::BATTERY,
        reason: error.to_string(),
    };
    let manager = Manager::new().map_err(unread)?;
    let found = manager.batteries().map_err(unread)?;
    let parts: Vec<_> = (0..).zip(found).map(part).collect();
    Battery::together(&parts).ok_or(HostError::NoneHere {
        what: names::BATTERY,
    })
}

/// One that cannot be read is there all the same.
fn part((index, found): (usize, Result<One, starship_battery::Error>)) -> Part {
    let name = format!("battery {index}");
    let Ok(one) = found else {
        return Part {
            name,
            ..Part::default()
        };
    };
    let discharging = match one.state() {
        State::Discharging | State::Empty => Some(true),
        State::Charging | State::Full | State::Paused => Some(false),
        State::Unknown => None,
    };
    let full: f64 = one.energy_full().get::<joule>().into();
    let now: f64 = one.energy().get::<joule>().into();
    let known = full > 0.0 && now >= 0.0;
    Part {
        name,
        discharging,
        charge: known.then(|| (now / full).min(1.0)),
        full: known.then_some(full),
        power_w: Some(one.energy_rate().get::<watt>().abs().into()),
    }
}
