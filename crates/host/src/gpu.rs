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
    /// This process's, as far as the driver tells it; it may be less than it is, as in a container, where a
    /// process has another number.
    pub ours: f64,
    /// The rest.
    pub others: f64,
    /// Degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Watts.
    pub power_w: Option<f64>,
}

/// Whether the system has a device that may be a GPU, found without loading any driver of one: some take 50 MiB
/// of memory and a tenth of a second to be asked. True where that cannot be told.
pub fn may_have_gpu() -> bool {
    imp::may_have_gpu()
}

/// Keeps a layer of Mesa's Vulkan from writing to standard error that there is no display, where there is none. It
/// sets a variable of the environment, so it must be called before there is another thread.
pub fn quiet_drivers() {
    imp::quiet_drivers();
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
