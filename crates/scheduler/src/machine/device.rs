use std::fmt;

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_host::{
    CoreSet, HostError, allowed_cores, check_disjoint, cpu_quota, processor, system_memory,
};
use gogrid_pipeline::Backend;
use gogrid_units::Bytes;
use serde::Serialize;

use super::hardware::{DeviceSpec, Loan, MemorySpec};
use super::threads::ThreadPlace;
use crate::error::OpenError;

/// A device that stages can be put on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// What kind it is.
    #[serde(flatten)]
    pub kind: DeviceKind,
    /// What its maker calls it.
    pub name: String,
    /// Its memory in all; for a CPU the system memory that this process may use, which in a container may be
    /// less than the machine has.
    pub memory_total_bytes: u64,
    /// Its memory that nobody uses, when it was listed.
    pub memory_free_bytes: u64,
    /// The memory that is built in.
    pub memory_built_in_bytes: u64,
    /// Thousandths of a core's time that this process may use on all its cores together, where a container's
    /// quota says.
    pub quota_millicores: Option<u32>,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum DeviceKind {
    /// Cores of this machine's processors, on the system's memory.
    Cpu {
        /// The cores, in order.
        cores: Vec<usize>,
        /// Whether it is all cores that this process may use.
        whole: bool,
    },
}

/// The devices of this machine: its whole CPU. None where the system does not tell its memory, since no
/// limit could be held there; [`Device::named`] says why.
pub fn devices() -> Vec<Device> {
    whole_cpu().into_iter().collect()
}

/// All cores that this process may use.
fn whole_cpu() -> Result<Device, HostError> {
    let memory = system_memory()?;
    let name = processor().map_or_else(|_| std::env::consts::ARCH.to_owned(), |found| found.name);
    Ok(Device {
        kind: DeviceKind::Cpu {
            cores: allowed_cores()?.cores().to_vec(),
            whole: true,
        },
        name,
        memory_total_bytes: memory.total.0,
        memory_free_bytes: memory.available.0,
        memory_built_in_bytes: memory.machine.0,
        // At least one, and no more than fits: a float is cut off at the ends.
        quota_millicores: cpu_quota().map(|cores| (cores * 1000.0).max(1.0) as u32),
    })
}

impl Device {
    /// The cores of a CPU device, in order.
    pub fn cores(&self) -> &[usize] {
        let DeviceKind::Cpu { cores, .. } = &self.kind;
        cores
    }

    /// The device of this name on this machine: `cpu` (every core), `cpu:0` (one core), `cpu:2-5`.
    pub fn named(name: &str) -> Result<Self, OpenError> {
        let machine = whole_cpu().map_err(refused)?;
        if name == "cpu" {
            return Ok(machine);
        }
        let allowed = allowed_cores().map_err(refused)?;
        let cores = CoreSet::of_device(name, &allowed).map_err(refused)?;
        Ok(Self {
            kind: DeviceKind::Cpu {
                cores: cores.cores().to_vec(),
                whole: false,
            },
            ..machine
        })
    }
}

impl fmt::Display for Device {
    /// The name that [`Device::named`] takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DeviceKind::Cpu { cores, whole } => match CoreSet::new(cores.iter().copied()) {
                Some(cores) if !whole => f.pad(&format!("cpu:{cores}")),
                _ => f.pad("cpu"),
            },
        }
    }
}

fn refused(error: HostError) -> OpenError {
    OpenError::BadDevice(error.to_string())
}

/// The memories and the devices of a machine, with what opens the device of each kind. This is the
/// one place that knows the backends.
pub(crate) fn specs(
    devices: &[Device],
    threads: Option<usize>,
) -> Result<(Vec<MemorySpec>, Vec<DeviceSpec>), OpenError> {
    check_apart(devices)?;
    let cores = devices.iter().map(|device| device.cores().len()).sum();
    let quota_share = quota_share(devices[0].quota_millicores, cores);
    let specs = devices.iter().map(|device| match &device.kind {
        DeviceKind::Cpu { whole, .. } => {
            let part = CpuPart {
                whole: *whole,
                threads,
                quota_share,
            };
            cpu(device, part)
        }
    });
    Ok((vec![memory(&devices[0])], specs.collect::<Result<_, _>>()?))
}

/// System memory. What a container allows ends at a killed process instead of a swapped one, so what others
/// held in it when the device was listed is not promised to anybody.
fn memory(device: &Device) -> MemorySpec {
    let is_limited = device.memory_total_bytes < device.memory_built_in_bytes;
    MemorySpec {
        name: "system".to_owned(),
        total: Bytes(device.memory_total_bytes),
        room: match is_limited {
            true => Bytes(device.memory_free_bytes),
            false => Bytes(device.memory_total_bytes),
        },
    }
}

/// The part of the time of `cores` cores that a quota pays for: the same for all devices, which share it.
fn quota_share(quota_millicores: Option<u32>, cores: usize) -> f64 {
    let quota = quota_millicores.map(|thousandths| f64::from(thousandths) / 1000.0);
    quota.map_or(1.0, |quota| (quota / cores.max(1) as f64).min(1.0))
}

/// How a CPU device takes part.
struct CpuPart {
    /// Whether it has all cores that this process may use.
    whole: bool,
    /// Threads that were asked for.
    threads: Option<usize>,
    /// The part of its cores' time that a quota pays for.
    quota_share: f64,
}

/// A CPU device, on the first memory. Without a wish it has as many threads as its part of a quota keeps busy.
fn cpu(device: &Device, part: CpuPart) -> Result<DeviceSpec, OpenError> {
    let CpuPart {
        whole,
        threads,
        quota_share,
    } = part;
    let cores = device.cores();
    // A number from 0 to that of the cores.
    let kept_busy = (cores.len() as f64 * quota_share).ceil() as usize;
    let threads = threads.unwrap_or(kept_busy.clamp(1, cores.len().max(1)));
    if !(1..=cores.len()).contains(&threads) {
        let problem = format!(
            "{threads} threads on {device}, which has 1 to {}",
            cores.len()
        );
        return Err(OpenError::BadOption {
            field: "threads",
            problem,
        });
    }
    let core_set = CoreSet::new(cores.iter().copied());
    Ok(DeviceSpec {
        place: ThreadPlace {
            name: device.to_string(),
            pinned: core_set.clone().filter(|_| !whole),
            cores: core_set,
        },
        driver_text: format!("{}, {}", device.name, gogrid_cpu::instructions()),
        cores: cores.len(),
        quota_share,
        lanes: threads,
        memory: 0,
        open: Box::new(move |loan: Loan| {
            let options = CpuOptions {
                spawn: loan.spawn,
                ..CpuOptions::new(threads, loan.memory, loan.pace)
            };
            Ok(Box::new(CpuBackend::new(&options)?) as Box<dyn Backend>)
        }),
    })
}

/// Devices that share a core are refused, and so is one that is named twice.
fn check_apart(devices: &[Device]) -> Result<(), OpenError> {
    if devices.is_empty() {
        return Err(OpenError::BadDevice("none given".to_owned()));
    }
    let set = |device: &Device| {
        let no_cores = || OpenError::BadDevice(format!("{device} has no cores"));
        CoreSet::new(device.cores().iter().copied()).ok_or_else(no_cores)
    };
    let sets = devices.iter().map(set).collect::<Result<Vec<_>, _>>()?;
    check_disjoint(&sets).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_core_sets() {
        let error = Device::named("gpu:0").expect_err("there is no GPU");
        assert!(error.to_string().starts_with("device: "), "{error}");
        let first = devices()[0].cores()[0];
        let one = Device::named(&format!("cpu:{first}")).expect("the core is there");
        let kind = DeviceKind::Cpu {
            cores: vec![first],
            whole: false,
        };
        assert_eq!((one.to_string(), one.kind), (format!("cpu:{first}"), kind));
    }

    #[test]
    fn a_container_has_the_threads_that_its_quota_keeps_busy() {
        let device = |name: &str, quota_millicores| Device {
            kind: DeviceKind::Cpu {
                cores: name.parse::<CoreSet>().expect("a list").cores().to_vec(),
                whole: false,
            },
            name: "a processor".to_owned(),
            memory_total_bytes: 1000,
            memory_free_bytes: 600,
            memory_built_in_bytes: 4000,
            quota_millicores,
        };
        let check = |names: &[&str], quota, expected: &[(usize, f64)]| {
            let devices: Vec<_> = names.iter().map(|name| device(name, quota)).collect();
            let (memories, specs) = specs(&devices, None).expect("they are apart");
            let found: Vec<_> = specs.iter().map(|s| (s.lanes, s.quota_share)).collect();
            assert_eq!(found, expected, "{names:?} {quota:?}");
            assert_eq!(
                (memories[0].total, memories[0].room),
                (Bytes(1000), Bytes(600))
            );
        };
        check(&["0-7"], None, &[(8, 1.0)]);
        check(&["0-7"], Some(1500), &[(2, 0.1875)]);
        check(&["0-7"], Some(1), &[(1, 0.000_125)]);
        check(&["0-7"], Some(64_000), &[(8, 1.0)]);
        check(&["0-3", "4-7"], Some(2000), &[(1, 0.25), (1, 0.25)]);
    }

    #[test]
    fn devices_may_not_overlap() {
        let whole = whole_cpu().expect("this system tells");
        let error = check_apart(&[whole.clone(), whole]).expect_err("they share their cores");
        assert!(error.to_string().starts_with("device: "), "{error}");
    }
}
