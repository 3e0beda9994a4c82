//! What a machine is opened from: its memories, and for each device what opens it.

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_gpu::{Adapter, GpuBackend, GpuOptions, adapters};
use gogrid_host::{CoreSet, check_disjoint};
use gogrid_pipeline::{Backend, PLAN_DEVICES_MAX};
use gogrid_units::Bytes;

use super::{Device, DeviceKind, GpuKind, refused, whole_cpu};
use crate::error::OpenError;
use crate::limits::{
    GPU_MEMORY_OF_OTHERS_MIN, GPU_MEMORY_OF_OTHERS_PART, GUESSED_CPU_BYTES_PER_S,
    GUESSED_GPU_BYTES_PER_S,
};
use crate::machine::hardware::{DeviceSpec, Loan, MachineSpec, MemorySpec};
use crate::machine::pace::CoreTime;
use crate::machine::threads::ThreadPlace;

/// The memory of all CPU devices, and of GPUs that have none of their own, comes first.
const SYSTEM: usize = 0;

/// A machine of these devices, and why others of them are left out.
pub(in crate::machine) fn specs(
    devices: &[Device],
    threads: Option<usize>,
) -> Result<MachineSpec, OpenError> {
    let (used, left_out) = of_use(devices);
    if let ([], [first, ..]) = (&used[..], devices) {
        return Err(OpenError::BadDevice(format!(
            "{first} is a software GPU, which is used only where it is asked for by its name, and no other \
             device is given"
        )));
    }
    let devices = used;
    check_apart(&devices)?;
    let any_cpu = any_cpu(&devices)?;
    let cores = cores_of(&devices, &any_cpu);
    let mut memories = vec![system_memory(&any_cpu)];
    let mut specs = Vec::new();
    for device in devices {
        if !device.is_on_system_memory() {
            memories.push(own_memory(device));
        }
        let own = memories.len() - 1;
        specs.push(match device.kind {
            DeviceKind::Cpu { whole, .. } => {
                let part = CpuPart {
                    whole,
                    threads,
                    quota_share: cores.quota_share,
                };
                cpu(device, part)?
            }
            DeviceKind::Gpu {
                index,
                shares_system_memory,
                ..
            } => gpu(
                device,
                index,
                if shares_system_memory { SYSTEM } else { own },
            ),
        });
    }
    if threads.is_some() && specs.iter().all(|spec| spec.gpu_name.is_some()) {
        return Err(bad_threads("no device is a CPU".to_owned()));
    }
    Ok(MachineSpec {
        memories,
        devices: specs,
        cores,
        left_out,
    })
}

/// Those that a machine uses: all that were asked for, and of the others the CPU and real GPUs, as many as
/// can be planned for. A software GPU that nobody asked for is no news.
fn of_use(devices: &[Device]) -> (Vec<&Device>, Vec<String>) {
    let is_used = |device: &&Device| device.is_asked_for || device.is_of_use();
    let mut used: Vec<_> = devices.iter().filter(is_used).collect();
    let mut left_out = Vec::new();
    while used.len() > PLAN_DEVICES_MAX {
        let Some(last) = used.iter().rposition(|device| !device.is_asked_for) else {
            break;
        };
        let why = format!("a placement has at most {PLAN_DEVICES_MAX} devices");
        left_out.push(format!("{}: {why}", used.remove(last)));
    }
    (used, left_out)
}

/// A CPU device, for what the machine has once: the first of them, or all its cores.
fn any_cpu(devices: &[&Device]) -> Result<Device, OpenError> {
    match devices.iter().find(|device| !device.cores().is_empty()) {
        Some(cpu) => Ok((*cpu).clone()),
        None => whole_cpu().map(|(_, cpu)| cpu).map_err(refused),
    }
}

/// The cores of the CPU devices, or of the machine where there is none, and the part of their time that a
/// quota pays for.
fn cores_of(devices: &[&Device], any_cpu: &Device) -> CoreTime {
    let of_devices: usize = devices.iter().map(|device| device.cores().len()).sum();
    let cores = match of_devices {
        0 => any_cpu.cores().len(),
        cores => cores,
    };
    CoreTime {
        cores: cores.max(1),
        quota_share: quota_share(any_cpu.quota_millicores, cores),
    }
}

/// System memory, which texts take of as well. What a container allows ends at a killed process instead of a
/// swapped one, so what others held in it when the device was listed is not promised to anybody.
fn system_memory(any_cpu: &Device) -> MemorySpec {
    let is_limited = any_cpu.memory_total_bytes < any_cpu.memory_built_in_bytes;
    let free = any_cpu.memory_free_bytes.filter(|_| is_limited);
    MemorySpec {
        name: "system".to_owned(),
        total: Bytes(any_cpu.memory_total_bytes),
        room: Bytes(any_cpu.memory_total_bytes),
        free: free.map(Bytes),
    }
}

/// The memory of a GPU that has its own. A part of it is never taken, whatever the limits allow: the
/// driver's own, and that of the programs that draw on the screen.
fn own_memory(device: &Device) -> MemorySpec {
    let total = Bytes(device.memory_total_bytes);
    let of_others = Bytes(total.0 / GPU_MEMORY_OF_OTHERS_PART).max(GPU_MEMORY_OF_OTHERS_MIN);
    MemorySpec {
        name: device.to_string(),
        total,
        room: total.saturating_sub(of_others),
        free: device.memory_free_bytes.map(Bytes),
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

/// A CPU device. Without a wish it has as many threads as its part of a quota keeps busy.
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
        return Err(bad_threads(format!(
            "{threads} threads on {device}, which has 1 to {}",
            cores.len()
        )));
    }
    let core_set = CoreSet::new(cores.iter().copied());
    let name = device.to_string();
    Ok(DeviceSpec {
        place: ThreadPlace {
            name: name.clone(),
            pinned: core_set.clone().filter(|_| !whole),
            cores: core_set,
        },
        driver_text: format!("{}, {}", device.name, gogrid_cpu::instructions()),
        gpu_name: None,
        cores: cores.len(),
        quota_share,
        lanes: threads,
        guessed_bytes_per_s: GUESSED_CPU_BYTES_PER_S,
        memory: SYSTEM,
        is_optional: !device.is_asked_for,
        open: Box::new(move |loan: Loan| {
            let options = CpuOptions {
                spawn: loan.spawn,
                ..CpuOptions::new(threads, loan.memory, loan.pace)
            };
            let opened = CpuBackend::new(&options).map_err(|source| OpenError::NoThread {
                thread: name.clone(),
                source,
            });
            Ok(Box::new(opened?) as Box<dyn Backend>)
        }),
    })
}

/// A GPU, which is one lane whatever it is made of.
fn gpu(device: &Device, index: usize, memory: usize) -> DeviceSpec {
    let (name, listed) = (device.to_string(), device.clone());
    DeviceSpec {
        place: ThreadPlace {
            name: name.clone(),
            pinned: None,
            cores: None,
        },
        driver_text: driver_text(device),
        gpu_name: Some(device.name.clone()),
        cores: 1,
        quota_share: 1.0,
        lanes: 1,
        guessed_bytes_per_s: guessed_bytes_per_s(&device.kind),
        memory,
        is_optional: !device.is_asked_for,
        open: Box::new(move |loan: Loan| {
            check_still_there(&listed, &adapters())?;
            let options = GpuOptions {
                adapter: index,
                spawn: loan.spawn,
                memory: loan.memory,
                pace: loan.pace,
            };
            let opened = GpuBackend::new(&options).map_err(|error| OpenError::Device {
                device: name.clone(),
                problem: error.to_string(),
            });
            Ok(Box::new(opened?) as Box<dyn Backend>)
        }),
    }
}

/// What a GPU reads in a second at least; a software GPU reads as the processor does.
fn guessed_bytes_per_s(kind: &DeviceKind) -> f64 {
    match kind {
        DeviceKind::Gpu { adapter, .. } if *adapter != GpuKind::Software => GUESSED_GPU_BYTES_PER_S,
        _ => GUESSED_CPU_BYTES_PER_S,
    }
}

/// An error where a GPU's number is nobody's any more, or another's: the account that it is opened with is of
/// the GPU that was listed.
pub(super) fn check_still_there(listed: &Device, adapters: &[Adapter]) -> Result<(), OpenError> {
    let DeviceKind::Gpu {
        index,
        driver,
        adapter: kind,
        ..
    } = &listed.kind
    else {
        return Ok(());
    };
    let is_it = |there: &Adapter| {
        there.name == listed.name && there.driver == *driver && GpuKind::from(there.kind) == *kind
    };
    if adapters.get(*index).is_some_and(is_it) {
        return Ok(());
    }
    let there = adapters.get(*index).map(|there| &*there.name);
    let there = there.map_or("nothing".to_owned(), |name| format!("{name:?}"));
    Err(OpenError::Device {
        device: listed.to_string(),
        problem: format!(
            "{:?} is not there; another may have its number, which is that of {there} now",
            listed.name
        ),
    })
}

/// `NVIDIA H200, discrete, vulkan, NVIDIA 550.54`.
fn driver_text(device: &Device) -> String {
    let DeviceKind::Gpu {
        api,
        driver,
        adapter,
        shares_system_memory,
        ..
    } = &device.kind
    else {
        return device.name.clone();
    };
    let shares = match shares_system_memory {
        true => ", shares the system's memory",
        false => "",
    };
    format!("{}, {adapter}, {api}, {driver}{shares}", device.name)
}

/// Devices that share a core are refused, and so is one that is named twice.
fn check_apart(devices: &[&Device]) -> Result<(), OpenError> {
    if devices.is_empty() {
        return Err(OpenError::BadDevice("none given".to_owned()));
    }
    let mut sets = Vec::new();
    for (place, device) in devices.iter().enumerate() {
        match &device.kind {
            DeviceKind::Cpu { cores, .. } => {
                let no_cores = || OpenError::BadDevice(format!("{device} has no cores"));
                sets.push(CoreSet::new(cores.iter().copied()).ok_or_else(no_cores)?);
            }
            DeviceKind::Gpu { .. } => {
                let name = device.to_string();
                if devices[..place]
                    .iter()
                    .any(|other| other.to_string() == name)
                {
                    return Err(OpenError::BadDevice(format!("{name} is named twice")));
                }
            }
        }
    }
    check_disjoint(&sets).map_err(refused)
}

fn bad_threads(problem: String) -> OpenError {
    OpenError::BadOption {
        field: "threads",
        problem,
    }
}
