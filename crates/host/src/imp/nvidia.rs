//! NVIDIA's GPUs, by the library that comes with the driver; it makes no context on the GPU.

use std::process;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::gpu::GpuSample;

#[derive(Debug)]
pub(crate) struct Nvidia {
    library: Nvml,
    /// For each GPU, the time of the last figures seen, in the driver's microseconds.
    seen: Vec<u64>,
}

impl Nvidia {
    pub(crate) fn open(library: &str) -> Result<Self, String> {
        let said = |error: NvmlError| error.to_string();
        let library = Nvml::builder()
            .lib_path(library.as_ref())
            .init()
            .map_err(said)?;
        let count = library.device_count().map_err(said)?;
        if count == 0 {
            return Err("the driver knows of no GPU".to_owned());
        }
        Ok(Self {
            library,
            seen: vec![0; count as usize],
        })
    }

    pub(crate) fn sample(&mut self) -> Vec<GpuSample> {
        let Self { library, seen } = self;
        let each = (0..).zip(seen.iter_mut());
        each.filter_map(|(index, seen)| sample(&library.device_by_index(index).ok()?, seen).ok())
            .collect()
    }
}

/// From shares that need not agree to the last digit.
pub(crate) fn shared(name: String, total: f64, ours: f64) -> GpuSample {
    let (total, ours) = (total.clamp(0.0, 1.0), ours.clamp(0.0, 1.0));
    GpuSample {
        name,
        total,
        ours,
        others: (total - ours).max(0.0),
        temperature_c: None,
        power_w: None,
    }
}

fn sample(gpu: &Device<'_>, seen: &mut u64) -> Result<GpuSample, NvmlError> {
    let total = f64::from(gpu.utilization_rates()?.gpu) / 100.0;
    let ours = ours(gpu, seen)?;
    let sample = shared(gpu.name()?, total, ours);
    Ok(GpuSample {
        temperature_c: gpu.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
        power_w: gpu
            .power_usage()
            .ok()
            .map(|milliwatts| f64::from(milliwatts) / 1000.0),
        ..sample
    })
}

/// Our mean share of the driver's figures since the last ones seen; 0 where it keeps none, as while nobody
/// computes, or tells none of processes.
fn ours(gpu: &Device<'_>, seen: &mut u64) -> Result<f64, NvmlError> {
    let figures = match gpu.process_utilization_stats(*seen) {
        Ok(figures) => figures,
        Err(NvmlError::NotFound | NvmlError::NotSupported | NvmlError::NoPermission) => {
            return Ok(0.0);
        }
        Err(error) => return Err(error),
    };
    *seen = figures
        .iter()
        .map(|figure| figure.timestamp)
        .fold(*seen, u64::max);
    let own: Vec<_> = figures
        .iter()
        .filter(|figure| figure.pid == process::id())
        .collect();
    let sum: f64 = own
        .iter()
        .map(|figure| f64::from(figure.sm_util) / 100.0)
        .sum();
    Ok(sum / own.len().max(1) as f64)
}
