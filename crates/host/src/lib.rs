//! The operating system: the parts of the machine, their use by others, and the restraints it offers. The
//! only crate that knows which system it runs on: Linux, macOS or Windows; on any other it reports
//! every ability as absent.
//!
//! ```
//! use gogrid_host::{CoreSet, check_disjoint};
//!
//! let machine: CoreSet = "0-7".parse()?;
//! let (front, back) = (CoreSet::of_device("cpu:0", &machine)?, CoreSet::of_device("cpu:2-5", &machine)?);
//! check_disjoint(&[front, back.clone()])?;
//! assert_eq!(back.cores(), [2, 3, 4, 5]);
//! assert!(CoreSet::of_device("cpu:8", &machine).is_err());
//! # Ok::<(), gogrid_host::HostError>(())
//! ```

// System calls that have no safe wrapper are in `imp`, each with its reason.
#![deny(unsafe_code)]

mod ability;
mod allocator;
mod bandwidth;
mod child;
mod clock;
mod cores;
mod error;
mod files;
mod gpu;
mod imp;
mod load;
mod local_time;
mod memory;
mod own;
mod power;
mod presence;
mod priority;
mod programs;
mod scratch;
mod service;
mod signals;
mod socket;
mod thread;

pub use ability::{Ability, AbilityState, abilities};
pub use allocator::{RememberingAllocator, exit_when_out_of_memory};
pub use bandwidth::{BandwidthProbe, copy_bandwidth, stream_bandwidth};
pub use child::ChildProcess;
pub use clock::{Clock, process_cpu_time};
pub use cores::{
    CoreSet, CoreSiblings, Processor, allowed_cores, check_disjoint, cpu_quota, current_core,
    pin_thread, processor,
};
pub use error::HostError;
pub use files::{change_mark, free_space, open_own, open_regular, read_regular, replace_own};
pub use gpu::{GpuProbe, GpuSample, may_have_gpu, quiet_drivers};
pub use load::{CpuProbe, CpuSample, Pressure, PressureProbe};
pub use local_time::{LocalDate, LocalTime, local_date, local_time};
pub use memory::{MemoryProbe, Resident, SystemMemory, resident, system_memory};
pub use own::{
    OwnCounts, heap_in_use, keep_arenas_few, own_counts, raise_open_files, return_freed_blocks,
    run_again_without_kept_blocks, threads_keep_blocks, unmap_freed_blocks,
};
pub use power::{Battery, PowerProbe, TemperatureProbe, battery};
pub use presence::{Presence, PresenceProbe, PresenceSource};
pub use priority::{
    IoPriority, Priority, Restraint, Restraints, SystemRestraint, restrain, restrain_thread,
};
pub use programs::running;
pub use scratch::ScratchNote;
pub use service::{
    Activity, Restart, ServiceError, ServiceSpec, ServiceStatus, install_service, remove_service,
    service_status,
};
pub use signals::{EndSignal, TypingHidden, hear_signals, hide_typing, remember_terminal, tidy_up};
pub use socket::{Listener, SocketName, Stream};
pub use thread::{ThreadId, current_thread, thread_cpu_time};
