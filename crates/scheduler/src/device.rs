use std::fmt;
use std::sync::Arc;

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_pipeline::Backend;
use serde::Serialize;

use crate::error::OpenError;
use crate::ground::Ground;
use crate::machine::whole_cpu;
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

/// The devices of this machine: its whole CPU.
pub fn devices() -> Vec<Device> {
    vec![whole_cpu()]
}

impl Device {
    /// The device of this name on this machine: `cpu` (every core), `cpu:0` (one core), `cpu:2-5`.
    pub fn named(name: &str) -> Result<Self, OpenError> {
        let machine = whole_cpu();
        let refuse = |problem: String| OpenError::BadOption {
            field: "device",
            problem,
        };
        if name == "cpu" {
            return Ok(machine);
        }
        let unknown = || {
            refuse(format!(
                "{name:?} is not a device; one of: cpu, cpu:N, cpu:N-M (no GPU yet)"
            ))
        };
        let (first, last) = cores(name).ok_or_else(unknown)?;
        let missing = |core: &usize| !machine.cores.contains(core);
        if let Some(core) = (first..=last).find(missing) {
            let cores = &machine.cores;
            return Err(refuse(format!(
                "{name}: no core {core} here; there are {cores:?}"
            )));
        }
        Ok(Self {
            cores: (first..=last).collect(),
            whole: false,
            ..machine
        })
    }
}

/// The first and the last core of `cpu:N` or `cpu:N-M`.
fn cores(name: &str) -> Option<(usize, usize)> {
    let cores = name.strip_prefix("cpu:")?;
    let (first, last) = cores.split_once('-').unwrap_or((cores, cores));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

impl fmt::Display for Device {
    /// The name that [`Device::named`] takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cores[..] {
            _ if self.whole => f.pad("cpu"),
            [] => f.pad("cpu"),
            [one] => f.pad(&format!("cpu:{one}")),
            [first, .., last] => f.pad(&format!("cpu:{first}-{last}")),
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
    let refuse = |problem| {
        Err(OpenError::BadOption {
            field: "device",
            problem,
        })
    };
    if devices.is_empty() {
        return refuse("none given".to_owned());
    }
    for (index, device) in devices.iter().enumerate() {
        let overlaps = |other: &&Device| device.cores.iter().any(|core| other.cores.contains(core));
        if let Some(other) = devices[..index].iter().find(overlaps) {
            return refuse(format!("{other} and {device} have cores in common"));
        }
    }
    Ok(())
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
    let (threads, its) = (threads.clone(), device.clone());
    let on_start = move |member| threads.begin(&format!("{its} worker {member}"), Some(&its));
    let cpu = CpuOptions {
        on_start: Arc::new(on_start),
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
        assert_eq!(cores("cpu:3"), Some((3, 3)));
        assert_eq!(cores("cpu:2-5"), Some((2, 5)));
        for bad in ["cpu:", "cpu:-1", "cpu:5-2", "cpu:a", "gpu:0", "cpu:1-"] {
            assert_eq!(cores(bad), None, "{bad}");
        }
        let error = Device::named("gpu:0").expect_err("there is no GPU");
        assert!(
            error
                .to_string()
                .starts_with("device: \"gpu:0\" is not a device"),
            "{error}"
        );
        let first = devices()[0].cores[0];
        let one = Device::named(&format!("cpu:{first}")).expect("the core is there");
        assert_eq!(
            (one.to_string(), one.cores),
            (format!("cpu:{first}"), vec![first])
        );
    }

    #[test]
    fn devices_may_not_overlap() {
        let whole = whole_cpu();
        let one = Device {
            cores: vec![whole.cores[0]],
            whole: false,
            ..whole.clone()
        };
        let error = check_apart(&[whole, one]).expect_err("they share a core");
        assert!(error.to_string().contains("in common"), "{error}");
    }
}
