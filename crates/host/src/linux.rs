use std::fs;
use std::io;

use gogrid_units::Bytes;
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::ability::Ability;
use crate::memory::{ProcessMemory, SystemMemory};
use crate::restraint::{InEffect, Restraint};

pub(crate) const ABILITIES: &[Ability] = &[
    Ability {
        name: "memory of the machine and of this process",
        absent: None,
    },
    Ability {
        name: "cpu time of each thread",
        absent: None,
    },
    Ability {
        name: "priority of each thread",
        absent: None,
    },
    Ability {
        name: "i/o priority of each thread",
        absent: None,
    },
    Ability {
        name: "cores of each thread",
        absent: None,
    },
];

/// `IOPRIO_WHO_PROCESS` of the kernel's ioprio.h; a thread's id names that thread alone.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
/// Bits of a level within an I/O priority.
const IOPRIO_LEVEL_BITS: u32 = 13;

pub(crate) fn restrain(asked: &Restraint) -> InEffect {
    let mut held = InEffect::default();
    let mut note = |what: &str, done: io::Result<()>| {
        if let Err(error) = done {
            held.problems.push(format!("{what}: {error}"));
        }
    };
    note(
        "nice",
        setpriority_process(Some(gettid()), asked.nice).map_err(io::Error::from),
    );
    note(
        "i/o priority",
        set_io_priority(asked.io_class, asked.io_level),
    );
    if let Some(cores) = &asked.cores {
        note("cores", set_cores(cores));
    }
    held.nice = getpriority_process(Some(gettid())).ok();
    held.io = io_priority().ok();
    held.cores = Some(cores());
    held
}

/// What a thread is by default: a restraint that asks for nothing more.
#[cfg(test)]
pub(crate) fn unrestrained() -> Restraint {
    let nice = getpriority_process(Some(gettid())).unwrap_or(0);
    Restraint {
        nice,
        io_class: 0,
        io_level: 0,
        cores: None,
    }
}

fn set_io_priority(class: u8, level: u8) -> io::Result<()> {
    // Without a class a level means nothing, and the kernel refuses it.
    let level = if class == 0 { 0 } else { level };
    let priority = libc::c_int::from(class) << IOPRIO_LEVEL_BITS | libc::c_int::from(level);
    // SAFETY: the call takes three integers and touches no memory of ours; 0 names the calling
    // thread. Neither libc nor rustix wraps it.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn io_priority() -> io::Result<(u8, u8)> {
    // SAFETY: as above, with two integers.
    let priority = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) };
    let priority = u32::try_from(priority).map_err(|_| io::Error::last_os_error())?;
    let (class, level) = (priority >> IOPRIO_LEVEL_BITS & 7, priority & 7);
    // Three bits each.
    Ok((class as u8, level as u8))
}

fn set_cores(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        if core >= CpuSet::MAX_CPU {
            let why = format!("core {core}, where at most {} are known", CpuSet::MAX_CPU);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        set.set(core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

pub(crate) fn cores() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect()
}

pub(crate) fn thread_cpu_nanos() -> Option<u64> {
    nanos(ClockId::ThreadCPUTime)
}

pub(crate) fn process_cpu_nanos() -> Option<u64> {
    nanos(ClockId::ProcessCPUTime)
}

fn nanos(clock: ClockId) -> Option<u64> {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    Some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?)
}

pub(crate) fn system_memory() -> Option<SystemMemory> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let total = kibibytes(&text, "MemTotal:")?;
    Some(SystemMemory {
        total,
        available: kibibytes(&text, "MemAvailable:")?.min(total),
    })
}

pub(crate) fn process_memory() -> Option<ProcessMemory> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let resident = kibibytes(&text, "VmRSS:")?;
    Some(ProcessMemory {
        resident,
        peak: kibibytes(&text, "VmHWM:")?.max(resident),
        anonymous: kibibytes(&text, "RssAnon:")?.min(resident),
    })
}

/// The value of a line `name   123 kB`.
fn kibibytes(text: &str, name: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let count: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(Bytes(1024).times(count))
}

pub(crate) fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
