use std::fmt;

use serde::Serialize;

use crate::error::OpenError;
use crate::ground::Ground;
use crate::options::Options;
use crate::threads::Threads;

/// A device that stages can be put on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// What kind it is.
    pub kind: DeviceKind,
    /// The cores of a CPU device, in order; none for a GPU.
    pub cores: Vec<usize>,
    /// Whether it is all cores that this process may use.
    pub whole: bool,
    /// What its maker calls it.
    pub name: String,
    /// Its memory in all; system memory for a CPU.
    pub memory_total_bytes: u64,
    /// Its memory that nobody uses, when it was listed.
    pub memory_free_bytes: u64,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DeviceKind {
    /// Cores of this machine's processors.
    Cpu,
}

/// The devices of this machine: its whole CPU.
pub fn devices() -> Vec<Device> {
    unimplemented!()
}

impl Device {
    /// The device of this name on this machine: `cpu` (every core), `cpu:0` (one core), `cpu:2-5`.
    pub fn named(name: &str) -> Result<Self, OpenError> {
        let problem = format!("{name:?}");
        Err(OpenError::BadOption {
            field: "device",
            problem,
        })
    }
}

impl fmt::Display for Device {
    /// The name that [`Device::named`] takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Cores are in order, and none is there twice.
        match (&self.cores[..], self.whole) {
            (_, true) => f.write_str("cpu"),
            ([one], _) => write!(f, "cpu:{one}"),
            ([first, .., last], _) => write!(f, "cpu:{first}-{last}"),
            ([], _) => f.write_str("cpu"),
        }
    }
}

/// The devices with their backends and ledgers.
pub(crate) fn ground(
    devices: &[Device],
    options: &Options,
    threads: &Threads,
) -> Result<Vec<Ground>, OpenError> {
    let _ = (devices, options, threads);
    unimplemented!()
}
