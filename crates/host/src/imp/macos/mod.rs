//! macOS: the kernel, Mach and the window server.

mod ability;
mod machine;
mod peer;
mod presence;
mod thread;

use std::io::Error;

use crate::error::HostError;

pub(crate) use ability::abilities;
pub(crate) use machine::{
    Gpus, IdleClock, MemoryFile, PowerMeter, PressureFiles, Thermometers, allowed_cores, pin,
    processor, resident, system_memory,
};
pub(crate) use peer::peer_user;
pub(crate) use presence::PresenceSources;
pub(crate) use thread::{current_thread, process_cpu_time, restrain, thread_cpu_time};

/// The result of a call that returns zero when it did its work.
fn done(call: &'static str, result: libc::c_int) -> Result<(), HostError> {
    match result {
        0 => Ok(()),
        _ => Err(HostError::Call {
            call,
            source: Error::last_os_error(),
        }),
    }
}

fn unread<T>(what: &'static str, reason: &str) -> Result<T, HostError> {
    Err(HostError::Unread {
        what,
        reason: reason.to_owned(),
    })
}
