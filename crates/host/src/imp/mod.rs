//! The platform, behind one set of functions: a module for each system, and `absent` for others.

#[cfg(any(test, not(any(target_os = "linux", target_os = "macos", windows))))]
#[cfg_attr(
    any(target_os = "linux", target_os = "macos", windows),
    expect(dead_code, reason = "a test looks at its abilities only")
)]
mod absent;
#[expect(unsafe_code, reason = "the trait of allocators is unsafe")]
mod allocator;
#[cfg(any(target_os = "macos", windows))]
mod battery;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(any(target_os = "linux", windows))]
mod nvidia;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod plain;
mod starter;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(not(target_os = "linux"))]
use crate::cores::CoreSet;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
use absent as system;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;
#[cfg(windows)]
use windows as system;

pub use allocator::RememberingAllocator;
#[cfg(any(target_os = "macos", windows))]
pub(crate) use battery::battery;
pub(crate) use starter::{Starter, starter};
pub(crate) use system::{
    Gpus, IdleClock, MemoryFile, PowerMeter, PresenceSources, PressureFiles, Thermometers,
    abilities, allowed_cores, current_thread, pin, process_cpu_time, processor, resident, restrain,
    system_memory, thread_cpu_time,
};

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) use plain::{
    change_mark, exit_when_out_of_memory, hear_signals, hide_typing, kill_group, kind_of,
    open_to_own, open_to_read, raise_open_files, remember_terminal, remove_sockets,
    restore_terminal, runs, tie_to_this_process,
};
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) use system::{Listener, Stream, free_space, socket_files, socket_is_alive};
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use unix::{
    Listener, Stream, change_mark, exit_when_out_of_memory, free_space, hear_signals, hide_typing,
    kill_group, kind_of, open_to_own, open_to_read, raise_open_files, remember_terminal,
    remove_sockets, restore_terminal, runs, socket_files, socket_is_alive, tie_to_this_process,
};

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
pub(crate) use absent::battery;

#[cfg(target_os = "linux")]
pub(crate) use linux::{
    battery, core_siblings, cpu_quota, current_core, heap_in_use, keep_arenas_few, may_have_gpu,
    own_counts, quiet_drivers, return_freed_blocks, run_again_without_kept_blocks,
    threads_keep_blocks, unmap_freed_blocks,
};

/// Not asked of other systems.
#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_quota() -> Option<f64> {
    None
}

/// Other systems are not asked: their drivers tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn may_have_gpu() -> bool {
    true
}

/// Other systems' drivers write nothing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn quiet_drivers() {}

/// Not asked of other systems.
#[cfg(not(target_os = "linux"))]
pub(crate) fn current_core() -> Option<usize> {
    None
}

/// Not asked of other systems.
#[cfg(not(target_os = "linux"))]
pub(crate) fn core_siblings(_cores: &CoreSet) -> Vec<(usize, CoreSet)> {
    Vec::new()
}

/// Not asked of other systems.
#[cfg(not(target_os = "linux"))]
pub(crate) fn own_counts() -> Option<crate::own::OwnCounts> {
    None
}

/// Other systems' allocators are not asked.
#[cfg(not(target_os = "linux"))]
pub(crate) fn heap_in_use() -> Option<gogrid_units::Bytes> {
    None
}

/// Other systems' allocators are not asked.
#[cfg(not(target_os = "linux"))]
pub(crate) fn threads_keep_blocks() -> bool {
    true
}

/// Other systems' allocators are not told.
#[cfg(not(target_os = "linux"))]
pub(crate) fn run_again_without_kept_blocks() -> std::io::Result<()> {
    Ok(())
}

/// Other systems' allocators are not told.
#[cfg(not(target_os = "linux"))]
pub(crate) fn keep_arenas_few() -> bool {
    false
}

/// Other systems' allocators are not told.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unmap_freed_blocks() -> bool {
    false
}

/// Other systems' allocators are not told.
#[cfg(not(target_os = "linux"))]
pub(crate) fn return_freed_blocks() {}
