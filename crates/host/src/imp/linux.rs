use std::fs;
use std::io::Error;
use std::time::Duration;

use gogrid_units::Bytes;
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::ability::{Ability, AbilityState, names};
use crate::cores::{CoreSet, Processor};
use crate::error::HostError;
use crate::memory::{Resident, SystemMemory};
use crate::priority::IoPriority;

const MEMINFO: &str = "/proc/meminfo";
const STATUS: &str = "/proc/self/status";
const CPUINFO: &str = "/proc/cpuinfo";

pub(crate) fn system_memory() -> Result<SystemMemory, HostError> {
    let text = read(MEMINFO)?;
    let field = |name| kilobytes(&text, MEMINFO, name);
    Ok(SystemMemory {
        total: field("MemTotal")?,
        available: field("MemAvailable")?,
    })
}

pub(crate) fn resident() -> Result<Resident, HostError> {
    let text = read(STATUS)?;
    let field = |name| kilobytes(&text, STATUS, name);
    Ok(Resident {
        total: field("VmRSS")?,
        anonymous: field("RssAnon")?,
        file: field("RssFile")?,
        peak: field("VmHWM")?,
    })
}

pub(crate) fn allowed_cores() -> Result<CoreSet, HostError> {
    let set = sched_getaffinity(None).map_err(failed("sched_getaffinity"))?;
    let cores = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core));
    CoreSet::new(cores).ok_or(HostError::Absent {
        ability: names::AFFINITY,
    })
}

pub(crate) fn pin(cores: &CoreSet) -> Result<(), HostError> {
    let mut set = CpuSet::new();
    for &core in cores.cores().iter().filter(|core| **core < CpuSet::MAX_CPU) {
        set.set(core);
    }
    sched_setaffinity(None, &set).map_err(failed("sched_setaffinity"))
}

/// Linux has a nice value for each thread; the thread's id stands for the process's.
pub(crate) fn set_nice(nice: i32) -> Result<(), HostError> {
    setpriority_process(Some(gettid()), nice).map_err(failed("setpriority"))
}

pub(crate) fn nice() -> Result<i32, HostError> {
    getpriority_process(Some(gettid())).map_err(failed("getpriority"))
}

/// `IOPRIO_WHO_PROCESS` of linux/ioprio.h; with id 0, the calling thread.
const WHO_PROCESS: libc::c_int = 1;
/// Bits of the level and hint below the class, in linux/ioprio.h.
const CLASS_SHIFT: u32 = 13;

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn set_io(io: IoPriority) -> Result<(), HostError> {
    let value = libc::c_int::from(io.class) << CLASS_SHIFT | libc::c_int::from(io.level);
    // SAFETY: ioprio_set takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    if result == 0 {
        Ok(())
    } else {
        Err(last_error("ioprio_set"))
    }
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn io() -> Result<IoPriority, HostError> {
    // SAFETY: ioprio_get takes two integers and touches no memory of ours.
    let value = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) };
    if value < 0 {
        return Err(last_error("ioprio_get"));
    }
    // Three bits each.
    Ok(IoPriority {
        class: (value >> CLASS_SHIFT & 7) as u8,
        level: (value & 7) as u8,
    })
}

pub(crate) fn thread_cpu_time() -> Result<Duration, HostError> {
    cpu_time(ClockId::ThreadCPUTime)
}

pub(crate) fn process_cpu_time() -> Result<Duration, HostError> {
    cpu_time(ClockId::ProcessCPUTime)
}

fn cpu_time(clock: ClockId) -> Result<Duration, HostError> {
    let absent = |_| HostError::Absent {
        ability: names::CPU_TIME,
    };
    clock_gettime(clock).try_into().map_err(absent)
}

pub(crate) fn processor() -> Result<Processor, HostError> {
    let text = read(CPUINFO)?;
    let value = |names: [&str; 2]| {
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        fields
            .find(|(key, _)| names.contains(&key.trim()))
            .map(|(_, value)| value.trim())
    };
    // Arm's kernels give no name, and call the flags features.
    let name = value(["model name", "Model"])
        .unwrap_or(std::env::consts::ARCH)
        .to_owned();
    let flags = value(["flags", "Features"]).unwrap_or("");
    Ok(Processor {
        name,
        flags: flags.split_whitespace().map(str::to_owned).collect(),
    })
}

pub(crate) fn abilities() -> Vec<Ability> {
    let memory = state(system_memory(), |_| None);
    let resident = state(resident(), |_| None);
    let affinity = state(allowed_cores(), |cores| Some(format!("cores {cores}")));
    let nice = state(nice(), |nice| (*nice != 0).then(|| format!("nice {nice}")));
    let cpu_time = state(thread_cpu_time(), |_| None);
    let processor = state(processor(), |_| None);
    let states = [
        memory,
        resident,
        affinity,
        nice,
        io_state(),
        cpu_time,
        processor,
    ];
    let named = names::ALL.into_iter().zip(states);
    named.map(|(name, state)| Ability { name, state }).collect()
}

fn state<T>(
    got: Result<T, HostError>,
    in_effect: impl FnOnce(&T) -> Option<String>,
) -> AbilityState {
    match got {
        Ok(value) => in_effect(&value).map_or(AbilityState::Available, AbilityState::InEffect),
        Err(error) => AbilityState::Absent(error.to_string()),
    }
}

/// An I/O priority can be set on any system, and matters only where a disk's scheduler looks.
fn io_state() -> AbilityState {
    let schedulers = disk_schedulers();
    let honours =
        |(_, scheduler): &(String, String)| scheduler == "bfq" || scheduler == "mq-deadline";
    if !schedulers.iter().any(honours) {
        let list: Vec<_> = schedulers
            .iter()
            .map(|(disk, s)| format!("{disk} has {s}"))
            .collect();
        let disks = if list.is_empty() {
            "no disk is seen".to_owned()
        } else {
            list.join(", ")
        };
        return AbilityState::Absent(format!("no disk's scheduler honours it: {disks}"));
    }
    state(io(), |io| (io.class != 0).then(|| io.to_string()))
}

/// Disks and the scheduler each uses: the one in brackets in its `queue/scheduler`.
fn disk_schedulers() -> Vec<(String, String)> {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut schedulers: Vec<_> = disks
        .filter_map(|disk| {
            let name = disk.file_name().into_string().ok()?;
            let text = fs::read_to_string(disk.path().join("queue/scheduler")).ok()?;
            let chosen = text.split_once('[')?.1.split_once(']')?.0.to_owned();
            let real = !name.starts_with("loop") && !name.starts_with("ram");
            real.then_some((name, chosen))
        })
        .collect();
    schedulers.sort();
    schedulers
}

fn read(path: &'static str) -> Result<String, HostError> {
    fs::read_to_string(path).map_err(|source| HostError::Read { path, source })
}

/// The value of `name: 123 kB` in a file of /proc.
fn kilobytes(text: &str, path: &'static str, field: &'static str) -> Result<Bytes, HostError> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let value = lines.find(|(key, _)| *key == field).map(|(_, value)| value);
    let number = value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse().ok());
    number
        .map(|kb| Bytes(1024).times(kb))
        .ok_or(HostError::Field { path, field })
}

fn failed(call: &'static str) -> impl FnOnce(rustix::io::Errno) -> HostError {
    move |errno| HostError::Call {
        call,
        source: errno.into(),
    }
}

fn last_error(call: &'static str) -> HostError {
    HostError::Call {
        call,
        source: Error::last_os_error(),
    }
}
