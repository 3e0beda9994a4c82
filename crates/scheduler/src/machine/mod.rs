//! The computer and what may be taken of it: one owner of devices, memories, limits and threads,
//! which the pipelines opened on it share.

mod changes;
mod crew;
mod device;
mod engines;
mod gate;
mod hardware;
mod health;
mod observer;
mod owner;
mod pace;
mod peers;
mod process;
mod recovery;
mod senses;
mod spawner;
mod statuses;
mod threads;

pub(crate) use crew::Crew;
pub use device::{BuiltIn, Device, DeviceKind, GpuKind, devices, every_device};
pub(crate) use engines::{CachesOff, Engines, TextWork};
pub(crate) use gate::OwnerRuns;
pub(crate) use hardware::{DeviceContext, Hardware};
#[cfg(test)]
pub(crate) use hardware::{DeviceSpec, Loan, MachineSpec, MemorySpec};
pub use health::ThreadFailure;
#[cfg(test)]
pub(crate) use owner::Surroundings;
pub use owner::{Machine, MachineOptions};
#[cfg(test)]
pub(crate) use pace::CoreTime;
pub(crate) use pace::DutyPace;
pub use peers::{PeerUse, Peers, SeenPeers};
#[cfg(test)]
pub(crate) use process::Process;
#[cfg(test)]
pub(crate) use senses::Told;
pub(crate) use statuses::{Held, device_status};
pub(crate) use threads::ThreadPlace;
#[cfg(test)]
pub(crate) use threads::Threads;
