use crate::error::HostError;
use crate::imp;

/// Measures how much of the machine's GPUs this process and others use. It is for pipelines with a GPU
/// among their devices; while all devices are CPUs nothing asks it.
#[derive(Debug)]
pub struct GpuProbe(imp::Gpus);

/// Use of one GPU over about the last second, as shares of its time, in 0..=1.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuSample {
    /// Its name.
    pub name: String,
    /// Everybody's use.
    pub total: f64,
    /// This process's.
    pub ours: f64,
    /// The rest.
    pub others: f64,
    /// Degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Watts.
    pub power_w: Option<f64>,
}

impl GpuProbe {
    /// Finds the GPUs that can be asked; an error says why there are none.
    pub fn open() -> Result<Self, HostError> {
        imp::Gpus::open().map(Self)
    }

    /// Each GPU since the last sample; one that does not answer is left out.
    pub fn sample(&mut self) -> Vec<GpuSample> {
        self.0.sample()
    }
}
