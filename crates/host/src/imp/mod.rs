//! The platform, behind one set of functions: `linux`, and `absent` for all others.

#[cfg(any(test, not(target_os = "linux")))]
#[cfg_attr(
    target_os = "linux",
    expect(dead_code, reason = "a test looks at its abilities only")
)]
mod absent;
#[cfg(any(target_os = "linux", target_os = "macos", windows))]
mod battery;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(target_os = "linux", windows))]
mod nvidia;
#[cfg(unix)]
mod unix;

#[cfg(not(target_os = "linux"))]
use absent as system;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
pub(crate) use absent::battery;
#[cfg(not(unix))]
pub(crate) use absent::{Listener, Stream, socket_files, socket_is_alive};
#[cfg(any(target_os = "linux", target_os = "macos", windows))]
pub(crate) use battery::battery;
pub(crate) use system::{
    Gpus, IdleClock, MemoryFile, PowerMeter, PresenceSources, PressureFiles, Thermometers,
    abilities, allowed_cores, current_thread, pin, process_cpu_time, processor, resident, restrain,
    set_timer_slack, system_memory, thread_cpu_time, thread_cpu_time_of,
};
#[cfg(unix)]
pub(crate) use unix::{Listener, Stream, socket_files, socket_is_alive};
