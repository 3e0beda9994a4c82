use gogrid_units::Bytes;

use super::kept::KeptFile;
use super::read;
use crate::error::HostError;
use crate::memory::{Resident, SystemMemory};

const MEMINFO: &str = "/proc/meminfo";
const STATUS: &str = "/proc/self/status";

/// `/proc/meminfo`, kept open.
#[derive(Debug)]
pub(crate) struct MemoryFile(KeptFile);

impl MemoryFile {
    pub(crate) fn open() -> Result<Self, HostError> {
        KeptFile::open(MEMINFO).map(Self)
    }

    pub(crate) fn read(&mut self) -> Result<SystemMemory, HostError> {
        memory_in(self.0.read()?)
    }
}

pub(crate) fn system_memory() -> Result<SystemMemory, HostError> {
    memory_in(&read(MEMINFO)?)
}

fn memory_in(text: &str) -> Result<SystemMemory, HostError> {
    let field = |name| kilobytes(text, MEMINFO, name);
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

/// The value of `name: 123 kB` in a file of /proc.
fn kilobytes(text: &str, path: &'static str, field: &'static str) -> Result<Bytes, HostError> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let value = lines.find(|(key, _)| *key == field).map(|(_, value)| value);
    let number = value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse().ok());
    number
        .map(|kb| Bytes(1024).times(kb))
        .ok_or(HostError::Field { path, field })
}
