//! Linux: system calls, and the files of `/proc` and `/sys`.

mod ability;
mod child;
mod clock;
mod cores;
mod gpu;
mod group;
mod kept;
mod load;
mod memory;
mod own;
mod peer;
mod policy;
mod power;
mod presence;
mod priority;
mod supply;

use std::fs;
use std::io::Error;

use rustix::process::Pid;

use crate::error::HostError;
use crate::thread::ThreadId;

pub(crate) use ability::abilities;
pub(crate) use child::die_with_parent;
pub(crate) use clock::{process_cpu_time, thread_cpu_time};
pub(crate) use cores::{allowed_cores, core_siblings, cpu_quota, current_core, pin, processor};
pub(crate) use gpu::{Gpus, may_have_gpu};
pub(crate) use load::{IdleClock, PressureFiles};
pub(crate) use memory::{MemoryFile, resident, system_memory};
pub(crate) use own::{
    heap_in_use, keep_arenas_few, own_counts, quiet_drivers, return_freed_blocks,
    run_again_without_kept_blocks, threads_keep_blocks, unmap_freed_blocks,
};
pub(crate) use peer::peer_user;
pub(crate) use power::{PowerMeter, Thermometers};
pub(crate) use presence::PresenceSources;
pub(crate) use priority::{current_thread, restrain};
pub(crate) use supply::battery;

fn read(path: &'static str) -> Result<String, HostError> {
    fs::read_to_string(path).map_err(|source| HostError::Read { path, source })
}

fn failed(call: &'static str) -> impl FnOnce(rustix::io::Errno) -> HostError {
    move |errno| HostError::Call {
        call,
        source: errno.into(),
    }
}

fn last_error(call: &'static str) -> HostError {
    HostError::Call {
        call,
        source: Error::last_os_error(),
    }
}

fn gone(thread: ThreadId) -> HostError {
    HostError::NoSuchThread { thread: thread.0 }
}

/// The thread's number, as system calls take it.
fn pid(thread: ThreadId) -> Result<Pid, HostError> {
    let number = i32::try_from(thread.0).ok();
    number.and_then(Pid::from_raw).ok_or_else(|| gone(thread))
}
