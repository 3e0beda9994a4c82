//! Windows: system calls, whose errors are those of `GetLastError`.

mod ability;
mod disk;
mod lookup;
mod machine;
mod pipe;
mod presence;
mod thread;

use std::io::Error;

use windows_sys::core::BOOL;

use crate::error::HostError;

pub(crate) use ability::abilities;
pub(crate) use disk::free_space;
pub(crate) use machine::{
    Gpus, IdleClock, MemoryFile, PowerMeter, PressureFiles, Thermometers, processor, resident,
    system_memory,
};
pub(crate) use pipe::{Listener, Stream, socket_files, socket_is_alive};
pub(crate) use presence::PresenceSources;
pub(crate) use thread::{
    allowed_cores, current_thread, pin, process_cpu_time, restrain, thread_cpu_time,
};

/// The result of a call that returns whether it did its work.
fn done(call: &'static str, result: BOOL) -> Result<(), HostError> {
    match result {
        0 => Err(last_error(call)),
        _ => Ok(()),
    }
}

fn last_error(call: &'static str) -> HostError {
    HostError::Call {
        call,
        source: Error::last_os_error(),
    }
}
