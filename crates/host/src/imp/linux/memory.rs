use gogrid_units::Bytes;

use super::group::Groups;
use super::kept::KeptFile;
use super::read;
use crate::error::HostError;
use crate::memory::{Resident, SystemMemory};

const MEMINFO: &str = "/proc/meminfo";
const STATUS: &str = "/proc/self/status";

/// `/proc/meminfo`, kept open, and the control groups whose limits count. Without that file nobody tells how
/// much is available: what sysinfo(2) calls free leaves out files that can be dropped, and no work may stop
/// for those.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    machine: KeptFile,
    groups: Groups,
}

impl MemoryFile {
    pub(crate) fn open() -> Result<Self, HostError> {
        Ok(Self {
            machine: KeptFile::open(MEMINFO)?,
            groups: Groups::of_this_process(),
        })
    }

    pub(crate) fn read(&mut self) -> Result<SystemMemory, HostError> {
        let machine = memory_in(self.machine.read()?)?;
        Ok(self.groups.limit(machine))
    }
}

pub(crate) fn system_memory() -> Result<SystemMemory, HostError> {
    let machine = listed_memory().unwrap_or_else(|_| called_memory());
    Ok(Groups::of_this_process().limit(machine))
}

/// The machine's, which an error says that nobody lists.
pub(super) fn listed_memory() -> Result<SystemMemory, HostError> {
    memory_in(&read(MEMINFO)?)
}

/// By sysinfo(2), which does not tell how much of the files in memory could be dropped: so none of it
/// counts as available.
fn called_memory() -> SystemMemory {
    let told = rustix::system::sysinfo();
    // The fields' width is the machine's word.
    let bytes = |units: u64| Bytes(units.saturating_mul(u64::from(told.mem_unit.max(1))));
    let total = bytes(told.totalram as u64);
    SystemMemory {
        total,
        available: bytes(told.freeram as u64).min(total),
        machine: total,
    }
}

fn memory_in(text: &str) -> Result<SystemMemory, HostError> {
    let field = |name| kilobytes(text, MEMINFO, name);
    let total = field("MemTotal")?;
    Ok(SystemMemory {
        total,
        available: field("MemAvailable")?,
        machine: total,
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

/// The value of `name: 123 kB` in a file of /proc.
fn kilobytes(text: &str, path: &'static str, field: &'static str) -> Result<Bytes, HostError> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let value = lines.find(|(key, _)| *key == field).map(|(_, value)| value);
    let number = value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse().ok());
    number
        .map(|kb: u64| Bytes(kb.saturating_mul(1024)))
        .ok_or(HostError::Field { path, field })
}
