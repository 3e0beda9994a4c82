use gogrid_units::Bytes;

use crate::imp;

/// The machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemMemory {
    /// All there is.
    pub total: Bytes,
    /// What a new program could have without anything being swapped out.
    pub available: Bytes,
}

/// This process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident now.
    pub resident: Bytes,
    /// The most that was ever resident.
    pub peak: Bytes,
    /// Of what is resident, what no file backs.
    pub anonymous: Bytes,
}

/// The machine's memory; `None` where the system does not tell.
pub fn system_memory() -> Option<SystemMemory> {
    imp::system_memory()
}

/// This process's memory; `None` where the system does not tell.
pub fn process_memory() -> Option<ProcessMemory> {
    imp::process_memory()
}

/// The logical cores this process may run on, in order.
pub fn cores() -> Vec<usize> {
    imp::cores()
}

/// What its maker calls the processor; `None` where the system does not tell.
pub fn cpu_name() -> Option<String> {
    imp::cpu_name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_consistent() {
        if let Some(memory) = system_memory() {
            assert!(memory.available <= memory.total && memory.total > Bytes::ZERO);
        }
        if let Some(memory) = process_memory() {
            assert!(memory.resident <= memory.peak && memory.anonymous <= memory.resident);
        }
        assert!(!cores().is_empty());
    }
}
