use crate::error::HostError;
use crate::imp;

/// The machine's batteries, as one. `None` is something that they do not tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Battery {
    /// The machine runs from it. Unknown while a battery does not tell and no other runs down.
    pub discharging: Option<bool>,
    /// The charge that is left, in 0..=1.
    pub charge: Option<f64>,
    /// Watts into or out of it.
    pub power_w: Option<f64>,
    /// What single batteries do not tell, each in words.
    pub unknown: Vec<String>,
}

/// One battery of the machine's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) discharging: Option<bool>,
    /// In 0..=1.
    pub(crate) charge: Option<f64>,
    /// What it holds when full, in a measure that all batteries of one machine share.
    pub(crate) full: Option<f64>,
    pub(crate) power_w: Option<f64>,
}

impl Battery {
    /// Batteries that are used up one after the other are one: the machine runs from it while any one
    /// discharges. A battery that does not tell something voids only its own part.
    pub(crate) fn together(parts: &[Part]) -> Option<Self> {
        if parts.is_empty() {
            return None;
        }
        let told = |yes: bool| parts.iter().any(|part| part.discharging == Some(yes));
        let is_unknown = parts.iter().any(|part| part.discharging.is_none());
        let charged: Vec<_> = parts.iter().filter(|part| part.charge.is_some()).collect();
        // Weighted where all tell how much they hold.
        let have_weights = charged.iter().all(|part| part.full.is_some());
        let weight = |part: &Part| part.full.filter(|_| have_weights).unwrap_or(1.0);
        let all: f64 = charged.iter().map(|part| weight(part)).sum();
        let held = charged
            .iter()
            .map(|part| weight(part) * part.charge.unwrap_or(0.0));
        let held: f64 = held.sum();
        let power = parts.iter().filter_map(|part| part.power_w);
        Some(Self {
            discharging: match told(true) {
                true => Some(true),
                false if is_unknown => None,
                false => Some(false),
            },
            charge: (!charged.is_empty()).then(|| (held / all).clamp(0.0, 1.0)),
            power_w: power.reduce(|a, b| a + b),
            unknown: parts.iter().flat_map(Part::unknown).collect(),
        })
    }
}

impl Part {
    fn unknown(&self) -> impl Iterator<Item = String> {
        let said = [
            (self.discharging.is_none(), "status"),
            (self.charge.is_none(), "charge"),
        ];
        let unknown = said.into_iter().filter(|(unknown, _)| *unknown);
        unknown.map(|(_, figure)| format!("{}: {figure} unknown", self.name))
    }
}

/// The machine's batteries now; an error on a machine without one.
pub fn battery() -> Result<Battery, HostError> {
    imp::battery()
}

/// Reads how hot the processor is.
#[derive(Debug)]
pub struct TemperatureProbe(imp::Thermometers);

impl TemperatureProbe {
    /// Finds the processor's thermometers, and no disk's or network card's: reading those may wake
    /// them.
    pub fn open() -> Result<Self, HostError> {
        imp::Thermometers::open().map(Self)
    }

    /// Degrees Celsius at the hottest of them.
    pub fn sample_c(&mut self) -> Result<f64, HostError> {
        self.0.hottest_c()
    }
}

/// Measures the power that the processor, or else the machine's battery, gives away: for figures of
/// energy. No policy goes by it.
#[derive(Debug)]
pub struct PowerProbe(imp::PowerMeter);

impl PowerProbe {
    /// Finds a meter, and begins to measure.
    pub fn open() -> Result<Self, HostError> {
        imp::PowerMeter::open().map(Self)
    }

    /// Watts on average since the last sample.
    pub fn sample_w(&mut self) -> Result<f64, HostError> {
        self.0.watts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batteries_are_one_and_the_unknown_stays_unknown() {
        let part = |discharging, charge, full| Part {
            name: "b".to_owned(),
            discharging,
            charge,
            full,
            power_w: None,
        };
        let check = |parts: &[Part], discharging, charge| {
            let battery = Battery::together(parts).unwrap();
            assert_eq!((battery.discharging, battery.charge), (discharging, charge));
        };
        let down = part(Some(true), Some(0.3), Some(100.0));
        let full = part(Some(false), Some(1.0), Some(300.0));
        let mute = part(None, None, None);
        check(&[down.clone(), full.clone()], Some(true), Some(0.825));
        check(&[down.clone(), mute.clone()], Some(true), Some(0.3));
        check(&[full.clone(), mute.clone()], None, Some(1.0));
        check(&[full.clone(), full], Some(false), Some(1.0));
        check(&[mute], None, None);
        let unmeasured = part(Some(true), Some(0.9), None);
        check(&[down, unmeasured], Some(true), Some(0.6));
        assert_eq!(Battery::together(&[]), None);
    }
}
