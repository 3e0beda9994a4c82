//! The platform, behind one set of functions: `linux`, and `absent` for all others.

#[cfg(any(test, not(target_os = "linux")))]
#[cfg_attr(
    target_os = "linux",
    expect(dead_code, reason = "a test looks at its abilities only")
)]
mod absent;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
pub(crate) use absent::{
    abilities, allowed_cores, io, nice, pin, process_cpu_time, processor, resident, set_io,
    set_nice, system_memory, thread_cpu_time,
};
#[cfg(target_os = "linux")]
pub(crate) use linux::{
    abilities, allowed_cores, io, nice, pin, process_cpu_time, processor, resident, set_io,
    set_nice, system_memory, thread_cpu_time,
};
