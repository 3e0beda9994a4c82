use std::fmt;

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_host::{CoreSet, HostError, allowed_cores, check_disjoint, processor, system_memory};
use gogrid_pipeline::Backend;
use serde::Serialize;

use crate::error::OpenError;
use crate::ground::Ground;
use crate::options::Options;
use crate::threads::Threads;

/// A device that stages can be put on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// What kind it is.
    pub kind: DeviceKind,
    /// The cores of a CPU device, in order.
    pub cores: Vec<usize>,
    /// Whether it is all cores that this process may use.
    pub whole: bool,
    /// What its maker calls it.
    pub name: String,
    /// Its memory in all; system memory for a CPU.
    pub memory_total_bytes: u64,
    /// Its memory that nobody uses, when it was listed.
    pub memory_free_bytes: u64,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DeviceKind {
    /// Cores of this machine's processors.
    Cpu,
}

/// The devices of this machine: its whole CPU. None where the system does not tell its memory or
/// its cores, since no limit could be held there; [`Device::named`] says why.
pub fn devices() -> Vec<Device> {
    whole_cpu().into_iter().collect()
}

/// All cores that this process may use.
fn whole_cpu() -> Result<Device, HostError> {
    let memory = system_memory()?;
    Ok(Device {
        kind: DeviceKind::Cpu,
        cores: allowed_cores()?.cores().to_vec(),
        whole: true,
        name: processor()?.name,
        memory_total_bytes: memory.total.0,
        memory_free_bytes: memory.available.0,
    })
}

impl Device {
    /// The device of this name on this machine: `cpu` (every core), `cpu:0` (one core), `cpu:2-5`.
    pub fn named(name: &str) -> Result<Self, OpenError> {
        let machine = whole_cpu().map_err(refused)?;
        if name == "cpu" {
            return Ok(machine);
        }
        let allowed = allowed_cores().map_err(refused)?;
        let cores = CoreSet::of_device(name, &allowed).map_err(refused)?;
        Ok(Self {
            cores: cores.cores().to_vec(),
            whole: false,
            ..machine
        })
    }
}

fn refused(error: HostError) -> OpenError {
    OpenError::BadOption {
        field: "device",
        problem: error.to_string(),
    }
}

impl fmt::Display for Device {
    /// The name that [`Device::named`] takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match CoreSet::new(self.cores.iter().copied()) {
            Some(cores) if !self.whole => f.pad(&format!("cpu:{cores}")),
            _ => f.pad("cpu"),
        }
    }
}

/// The devices with their backends, whose threads start here, and the account of their memory.
pub(crate) fn ground(
    devices: &[Device],
    options: &Options,
    threads: &Threads,
) -> Result<Vec<Ground>, OpenError> {
    check_apart(devices)?;
    let mut grounds = Vec::new();
    for device in devices {
        let backend: Box<dyn Backend> = Box::new(cpu(device, options, threads)?);
        grounds.push((device.clone(), backend));
    }
    Ok(Ground::on_one_memory(grounds, &options.limits))
}

fn check_apart(devices: &[Device]) -> Result<(), OpenError> {
    let set = |device: &Device| {
        CoreSet::new(device.cores.iter().copied()).ok_or_else(|| OpenError::BadOption {
            field: "device",
            problem: format!("{device} has no cores"),
        })
    };
    if devices.is_empty() {
        let problem = "none given".to_owned();
        return Err(OpenError::BadOption {
            field: "device",
            problem,
        });
    }
    let sets = devices.iter().map(set).collect::<Result<Vec<_>, _>>()?;
    check_disjoint(&sets).map_err(refused)
}

fn cpu(device: &Device, options: &Options, threads: &Threads) -> Result<CpuBackend, OpenError> {
    let count = options.threads.unwrap_or(device.cores.len());
    if !(1..=device.cores.len()).contains(&count) {
        let problem = format!(
            "{count} threads on {device}, which has 1 to {}",
            device.cores.len()
        );
        return Err(OpenError::BadOption {
            field: "threads",
            problem,
        });
    }
    let cpu = CpuOptions {
        spawn: threads.starter(Some(device)),
        ..CpuOptions::threads(count)
    };
    CpuBackend::new(&cpu).map_err(|e| OpenError::Device {
        device: device.to_string(),
        problem: format!("its threads could not be started: {e}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_core_sets() {
        let error = Device::named("gpu:0").expect_err("there is no GPU");
        assert!(error.to_string().starts_with("device: "), "{error}");
        let first = devices()[0].cores[0];
        let one = Device::named(&format!("cpu:{first}")).expect("the core is there");
        assert_eq!(
            (one.to_string(), one.cores),
            (format!("cpu:{first}"), vec![first])
        );
    }

    #[test]
    fn devices_may_not_overlap() {
        let whole = whole_cpu().expect("this system tells");
        let one = Device {
            cores: vec![whole.cores[0]],
            whole: false,
            ..whole.clone()
        };
        let error = check_apart(&[whole, one]).expect_err("they share a core");
        assert!(error.to_string().starts_with("device: "), "{error}");
    }
}
