use crate::error::HostError;
use crate::imp;

/// The machine's batteries, as one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Battery {
    /// The machine runs from it.
    pub discharging: bool,
    /// The charge that is left, in 0..=1.
    pub charge: f64,
    /// Watts into or out of it.
    pub power_w: f64,
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
