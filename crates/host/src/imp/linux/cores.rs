use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::{failed, read};
use crate::ability::names;
use crate::cores::{CoreSet, Processor};
use crate::error::HostError;

const CPUINFO: &str = "/proc/cpuinfo";
/// The flag of an x86 processor that a hypervisor shows to its guests.
const HYPERVISOR: &str = "hypervisor";

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

pub(crate) fn current_core() -> Option<usize> {
    Some(sched_getcpu())
}

/// Each core with the hardware threads of its physical core; none in an x86 virtual machine, and
/// those left out that the kernel does not tell of.
pub(crate) fn core_siblings(cores: &CoreSet) -> Vec<(usize, CoreSet)> {
    let is_virtual = |processor: Processor| processor.flags.iter().any(|flag| flag == HYPERVISOR);
    if processor().is_ok_and(is_virtual) {
        return Vec::new();
    }
    let group = |&core: &usize| {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let text = fs::read_to_string(path).ok()?;
        Some((core, text.trim().parse().ok()?))
    };
    cores.cores().iter().filter_map(group).collect()
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
