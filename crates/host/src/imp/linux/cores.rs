use std::fs;
use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::group::Groups;
use super::{failed, read};
use crate::ability::names;
use crate::cores::{CoreSet, Processor};
use crate::error::HostError;

const CPUINFO: &str = "/proc/cpuinfo";
/// The flag of an x86 processor that a hypervisor shows to its guests.
const HYPERVISOR: &str = "hypervisor";

pub(crate) fn allowed_cores() -> Result<CoreSet, HostError> {
    let listed = || cores_listed_under(Path::new("/"));
    asked_cores().or_else(|refused| listed().ok_or(refused))
}

pub(crate) fn cpu_quota() -> Option<f64> {
    Groups::of_this_process().cpu_quota()
}

/// For a process that may not ask, as in a sandbox: the process's own cores as `/proc` lists them, its
/// group's, the machine's, and the one core that there must be.
fn cores_listed_under(root: &Path) -> Option<CoreSet> {
    let text = |name| fs::read_to_string(root.join(name)).unwrap_or_default();
    let status = text("proc/self/status");
    let mut own = status
        .lines()
        .filter_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let own = own.next().and_then(|list| list.trim().parse().ok());
    let online = || text("sys/devices/system/cpu/online").trim().parse().ok();
    own.or_else(|| Groups::under(root).cores())
        .or_else(online)
        .or_else(|| CoreSet::new([0]))
}

/// The cores that the system call tells.
pub(super) fn asked_cores() -> Result<CoreSet, HostError> {
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

/// Each core with the hardware threads of its physical core; none in an x86 virtual machine or where
/// nobody tells whether it is one, and those left out that the kernel does not tell of.
pub(crate) fn core_siblings(cores: &CoreSet) -> Vec<(usize, CoreSet)> {
    let is_virtual = |processor: Processor| processor.flags.iter().any(|flag| flag == HYPERVISOR);
    if processor().map_or(true, is_virtual) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_listed_by_the_first_that_tells() {
        let root = tempfile::tempdir().unwrap();
        let listed = || cores_listed_under(root.path()).unwrap().to_string();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(listed(), "0");
        write("sys/devices/system/cpu/online", "0-15\n");
        assert_eq!(listed(), "0-15");
        write("sys/fs/cgroup/cpuset.cpus.effective", "4-7\n");
        assert_eq!(listed(), "4-7");
        write(
            "proc/self/status",
            "Cpus_allowed:\tff\nCpus_allowed_list:\t5-6\n",
        );
        assert_eq!(listed(), "5-6");
        for rubbish in [
            "",
            "Cpus_allowed_list:\n",
            "Cpus_allowed_list: 0-99999999\n",
        ] {
            write("proc/self/status", rubbish);
            assert_eq!(listed(), "4-7", "{rubbish}");
        }
    }
}
