//! Batteries, which one library reads on every system.

use starship_battery::units::energy::joule;
use starship_battery::units::power::watt;
use starship_battery::{Battery as One, Manager, State};

use crate::ability::names;
use crate::error::HostError;
use crate::power::Battery;

pub(crate) fn battery() -> Result<Battery, HostError> {
    let unread = |error: starship_battery::Error| HostError::Unread {
        what: names::BATTERY,
        reason: error.to_string(),
    };
    let manager = Manager::new().map_err(unread)?;
    let found: Result<Vec<_>, _> = manager.batteries().map_err(unread)?.collect();
    let parts: Vec<_> = found.map_err(unread)?.iter().map(part).collect();
    together(&parts).ok_or(HostError::Unread {
        what: names::BATTERY,
        reason: "this machine has none".to_owned(),
    })
}

/// One battery of the machine's.
#[derive(Clone, Copy, Debug)]
struct Part {
    discharging: bool,
    energy_j: f64,
    full_j: f64,
    power_w: f64,
}

fn part(one: &One) -> Part {
    Part {
        discharging: one.state() == State::Discharging,
        energy_j: one.energy().get::<joule>().into(),
        full_j: one.energy_full().get::<joule>().into(),
        power_w: one.energy_rate().get::<watt>().abs().into(),
    }
}

/// A machine with two empties one after the other: it runs from them while any one discharges.
fn together(parts: &[Part]) -> Option<Battery> {
    let sum = |of: fn(&Part) -> f64| parts.iter().map(of).sum::<f64>();
    let full = sum(|part| part.full_j);
    (full > 0.0).then(|| Battery {
        discharging: parts.iter().any(|part| part.discharging),
        charge: (sum(|part| part.energy_j) / full).clamp(0.0, 1.0),
        power_w: sum(|part| part.power_w),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_batteries_are_one() {
        let part = |discharging, energy_j, power_w| Part {
            discharging,
            energy_j,
            full_j: 100.0,
            power_w,
        };
        let both = together(&[part(true, 30.0, 7.5), part(false, 100.0, 0.0)]);
        let expected = Battery {
            discharging: true,
            charge: 0.65,
            power_w: 7.5,
        };
        assert_eq!(both, Some(expected));
        let full = together(&[part(false, 101.0, 0.0)]).unwrap();
        assert_eq!((full.discharging, full.charge), (false, 1.0));
        assert_eq!(together(&[]), None);
    }
}
