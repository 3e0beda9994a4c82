//! The devices of this computer, by name, and what they are opened from. This file and its child are the
//! one place that knows the backends.

mod specs;

use std::fmt;

use gogrid_gpu::{Adapter, AdapterKind, adapters, interfaces};
use gogrid_host::{
    CoreSet, HostError, SystemMemory, allowed_cores, cpu_quota, may_have_gpu, processor,
    system_memory,
};
use serde::Serialize;

pub(super) use self::specs::specs;
use crate::error::OpenError;

/// A device that stages can be put on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// What kind it is.
    #[serde(flatten)]
    pub kind: DeviceKind,
    /// What its maker calls it.
    pub name: String,
    /// Its memory in all; for a CPU, and for a GPU that shares it, the system memory that this process may
    /// use, which in a container may be less than the machine has.
    pub memory_total_bytes: u64,
    /// Its memory that nobody uses, when it was listed; `None` where its driver does not tell.
    pub memory_free_bytes: Option<u64>,
    /// The memory that is built in.
    pub memory_built_in_bytes: u64,
    /// Thousandths of a core's time that this process may use on all its cores together, where a container's
    /// quota says. None for a GPU.
    pub quota_millicores: Option<u32>,
    /// Whether somebody asked for this very device: then opening fails where it cannot be used.
    #[serde(skip)]
    is_asked_for: bool,
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
    /// A GPU, by a driver that was found when it was listed.
    #[non_exhaustive]
    Gpu {
        /// Its place among the GPUs of this machine.
        index: usize,
        /// The interface of its driver: `vulkan`, `metal`, `dx12`.
        api: String,
        /// Name and version of its driver.
        driver: String,
        /// What sort of GPU it is.
        adapter: GpuKind,
        /// Whether its memory is the system's, so that CPU devices and it have one account.
        shares_system_memory: bool,
    },
}

/// What sort of GPU a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GpuKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor.
    Integrated,
    /// A GPU of a virtual machine's host.
    Virtual,
    /// The processor, which plays a GPU: slower than the CPU device, and for tests. It is used only where
    /// it is asked for by its name.
    Software,
    /// Its driver does not say.
    Unknown,
}

impl From<AdapterKind> for GpuKind {
    fn from(kind: AdapterKind) -> Self {
        match kind {
            AdapterKind::Discrete => Self::Discrete,
            AdapterKind::Integrated => Self::Integrated,
            AdapterKind::Virtual => Self::Virtual,
            AdapterKind::Software => Self::Software,
            AdapterKind::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for GpuKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Unknown => "of an unknown kind",
        })
    }
}

/// What this build can compute with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The instructions that CPU devices compute with on this machine, the best of those built in.
    pub instructions: String,
    /// The interfaces to drivers of GPUs, such as `Vulkan`; whether a driver is there shows when devices are listed.
    pub gpu_interfaces: Vec<&'static str>,
}

impl BuiltIn {
    /// That of the running program; no driver is loaded for it.
    pub fn of_this_build() -> Self {
        Self {
            instructions: gogrid_cpu::instructions(),
            gpu_interfaces: interfaces(),
        }
    }
}

/// The devices of this machine: its whole CPU, and every GPU that has a driver. A machine that is opened on
/// them uses what is of use: it leaves software GPUs out, and GPUs that cannot be opened. No driver is loaded
/// where the system has no GPU. None where the system does not tell its memory, since no limit could be held
/// there; [`Device::named`] says why.
pub fn devices() -> Vec<Device> {
    match may_have_gpu() {
        true => every_device(),
        false => whole_cpu().into_iter().map(|(_, cpu)| cpu).collect(),
    }
}

/// The same with what drivers offer on a machine without a GPU: software GPUs.
pub fn every_device() -> Vec<Device> {
    let Ok((memory, cpu)) = whole_cpu() else {
        return Vec::new();
    };
    let gpus = gpus(adapters(), &memory);
    [cpu].into_iter().chain(gpus).collect()
}

/// All cores that this process may use, and the memory it may use.
fn whole_cpu() -> Result<(SystemMemory, Device), HostError> {
    let memory = system_memory()?;
    let name = processor().map_or_else(|_| std::env::consts::ARCH.to_owned(), |found| found.name);
    let cpu = Device {
        kind: DeviceKind::Cpu {
            cores: allowed_cores()?.cores().to_vec(),
            whole: true,
        },
        name,
        memory_total_bytes: memory.total.0,
        memory_free_bytes: Some(memory.available.0),
        memory_built_in_bytes: memory.machine.0,
        // At least one, and no more than fits: a float is cut off at the ends.
        quota_millicores: cpu_quota().map(|cores| (cores * 1000.0).max(1.0) as u32),
        is_asked_for: false,
    };
    Ok((memory, cpu))
}

/// GPUs on a machine whose system has this memory. One whose driver does not tell its own memory is no
/// device, since no limit could be held there.
fn gpus(adapters: Vec<Adapter>, system: &SystemMemory) -> Vec<Device> {
    let gpu = |adapter: Adapter| {
        let shared = adapter.shares_system_memory.then_some(system);
        let total = shared.map(|memory| memory.total).or(adapter.memory)?;
        Some(Device {
            kind: DeviceKind::Gpu {
                index: adapter.index,
                api: adapter.api.to_owned(),
                driver: adapter.driver,
                adapter: adapter.kind.into(),
                shares_system_memory: adapter.shares_system_memory,
            },
            name: adapter.name,
            memory_total_bytes: total.0,
            memory_free_bytes: (shared
                .map(|memory| memory.available)
                .or(adapter.memory_free))
            .map(|free| free.0),
            memory_built_in_bytes: shared.map_or(total, |memory| memory.machine).0,
            quota_millicores: None,
            is_asked_for: false,
        })
    };
    adapters.into_iter().filter_map(gpu).collect()
}

impl Device {
    /// The cores of a CPU device, in order; a GPU has none.
    pub fn cores(&self) -> &[usize] {
        match &self.kind {
            DeviceKind::Cpu { cores, .. } => cores,
            DeviceKind::Gpu { .. } => &[],
        }
    }

    /// The device of this name on this machine: `cpu` (every core), `cpu:0` (one core), `cpu:2-5`, `gpu:0`.
    pub fn named(name: &str) -> Result<Self, OpenError> {
        let (memory, machine) = whole_cpu().map_err(refused)?;
        let device = if name == "cpu" {
            machine
        } else if name.starts_with("gpu") {
            gpu_named(name, adapters(), &memory)?
        } else {
            let allowed = allowed_cores().map_err(refused)?;
            let cores = CoreSet::of_device(name, &allowed).map_err(refused)?;
            Self {
                kind: DeviceKind::Cpu {
                    cores: cores.cores().to_vec(),
                    whole: false,
                },
                ..machine
            }
        };
        Ok(Self {
            is_asked_for: true,
            ..device
        })
    }

    /// Whether a machine that is opened on it, though nobody asked for this very device, uses it.
    fn is_of_use(&self) -> bool {
        let DeviceKind::Gpu { adapter, .. } = &self.kind else {
            return true;
        };
        *adapter != GpuKind::Software
    }

    /// Whether its memory is the system's.
    fn is_on_system_memory(&self) -> bool {
        match self.kind {
            DeviceKind::Cpu { .. } => true,
            DeviceKind::Gpu {
                shares_system_memory,
                ..
            } => shares_system_memory,
        }
    }
}

/// The GPU of this name among those that there are.
fn gpu_named(
    name: &str,
    adapters: Vec<Adapter>,
    system: &SystemMemory,
) -> Result<Device, OpenError> {
    let untold = adapters.iter().find(|adapter| {
        format!("gpu:{}", adapter.index) == name
            && adapter.memory.is_none()
            && !adapter.shares_system_memory
    });
    if let Some(adapter) = untold {
        return Err(OpenError::BadDevice(format!(
            "{name} ({}) cannot be used: its driver does not tell its memory, so no limit could be held there",
            adapter.name
        )));
    }
    let gpus = gpus(adapters, system);
    let there = match &gpus[..] {
        [] => {
            let interfaces = interfaces().join(" and ");
            format!(
                "no driver of a GPU was found by {interfaces}, which is what is built in; CUDA and ROCm are not \
                 built in, and a driver without {interfaces} cannot be used"
            )
        }
        gpus => {
            let named = gpus.iter().map(|gpu| format!("{gpu} ({})", gpu.name));
            format!("there is {}", named.collect::<Vec<_>>().join(", "))
        }
    };
    let mut gpus = gpus.into_iter();
    let found = gpus.find(|gpu| gpu.to_string() == name);
    found.ok_or_else(|| OpenError::BadDevice(format!("{name:?} is none of this machine: {there}")))
}

impl fmt::Display for Device {
    /// The name that [`Device::named`] takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DeviceKind::Cpu { cores, whole } => match CoreSet::new(cores.iter().copied()) {
                Some(cores) if !whole => f.pad(&format!("cpu:{cores}")),
                _ => f.pad("cpu"),
            },
            DeviceKind::Gpu { index, .. } => f.pad(&format!("gpu:{index}")),
        }
    }
}

fn refused(error: HostError) -> OpenError {
    OpenError::BadDevice(error.to_string())
}

#[cfg(test)]
mod tests;
