use gogrid_units::Bytes;

use crate::error::HostError;
use crate::imp;

/// The memory that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemMemory {
    /// All of it: the machine's, or what a container's limits allow.
    pub total: Bytes,
    /// The memory that programs could take now without anything being written out, within the limits.
    pub available: Bytes,
    /// What the machine has.
    pub machine: Bytes,
}

impl SystemMemory {
    /// Whether a container's limit allows less than the machine has.
    pub fn is_limited(&self) -> bool {
        self.total < self.machine
    }
}

/// This process's memory that is in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// All of it: the parts below, and memory shared between processes.
    pub total: Bytes,
    /// Not backed by a file.
    pub anonymous: Bytes,
    /// Backed by a file, and droppable: the program itself and mapped files.
    pub file: Bytes,
    /// The largest `total` since the process began.
    pub peak: Bytes,
}

/// The memory that this process may use, and what is left of it now.
pub fn system_memory() -> Result<SystemMemory, HostError> {
    imp::system_memory()
}

/// This process's memory now.
pub fn resident() -> Result<Resident, HostError> {
    imp::resident()
}

/// Reads the memory that this process may use again and again at less cost.
#[derive(Debug)]
pub struct MemoryProbe(imp::MemoryFile);

impl MemoryProbe {
    /// Finds the system's figures.
    pub fn open() -> Result<Self, HostError> {
        imp::MemoryFile::open().map(Self)
    }

    /// The memory now.
    pub fn sample(&mut self) -> Result<SystemMemory, HostError> {
        self.0.read()
    }
}
