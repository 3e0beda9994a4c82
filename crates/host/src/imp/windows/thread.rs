use std::mem::size_of;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::SystemInformation::GROUP_AFFINITY;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentProcessId, GetCurrentThread, GetCurrentThreadId,
    GetProcessIdOfThread, GetProcessTimes, GetThreadGroupAffinity, GetThreadPriority,
    GetThreadTimes, MEMORY_PRIORITY_INFORMATION, MEMORY_PRIORITY_LOW, MEMORY_PRIORITY_NORMAL,
    OpenThread, SetThreadAffinityMask, SetThreadPriority, THREAD_INFORMATION_CLASS,
    THREAD_POWER_THROTTLING_CURRENT_VERSION, THREAD_POWER_THROTTLING_EXECUTION_SPEED,
    THREAD_POWER_THROTTLING_STATE, THREAD_PRIORITY_ABOVE_NORMAL, THREAD_PRIORITY_BELOW_NORMAL,
    THREAD_PRIORITY_IDLE, THREAD_PRIORITY_LOWEST, THREAD_PRIORITY_NORMAL, THREAD_QUERY_INFORMATION,
    THREAD_SET_INFORMATION, ThreadMemoryPriority, ThreadPowerThrottling,
};

use super::lookup::ThreadInformation;
use super::{done, last_error};
use crate::ability::names;
use crate::cores::CoreSet;
use crate::error::HostError;
use crate::priority::{Priority, Restraint, Restraints, SystemRestraint};
use crate::thread::ThreadId;

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn current_thread() -> ThreadId {
    // SAFETY: it takes nothing and gives a number.
    ThreadId(unsafe { GetCurrentThreadId() }.into())
}

/// A running thread of this process.
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
fn open(thread: ThreadId) -> Result<OwnedHandle, HostError> {
    let gone = || HostError::NoSuchThread { thread: thread.0 };
    let number = u32::try_from(thread.0).map_err(|_| gone())?;
    // SAFETY: it takes integers; a handle that is not null is ours to close, and stays open for
    // the second call.
    let (handle, owner) = unsafe {
        let handle = OpenThread(THREAD_QUERY_INFORMATION | THREAD_SET_INFORMATION, 0, number);
        if handle.is_null() {
            return Err(gone());
        }
        (
            OwnedHandle::from_raw_handle(handle),
            GetProcessIdOfThread(handle),
        )
    };
    // SAFETY: it takes nothing and gives a number.
    match owner == unsafe { GetCurrentProcessId() } {
        true => Ok(handle),
        false => Err(gone()),
    }
}

pub(crate) fn restrain(thread: ThreadId, priority: Priority) -> Restraints {
    let Priority { nice, io } = priority;
    let handle = || open(thread);
    let band = band(nice);
    let set = handle().and_then(|handle| set_priority(&handle, band));
    let read = handle().and_then(|handle| Ok(nice_of(get_priority(&handle)?, nice)));
    // Only a thread that steps far back gives up speed as well.
    let (steps_back, is_last) = (nice >= 10, nice >= 15);
    Restraints {
        nice: Restraint::made(nice, set, read),
        io: Restraint::made(io, per_file(), per_file()),
        system: vec![
            SystemRestraint {
                name: "EcoQoS",
                restraint: Restraint::made(
                    on_or_off(is_last),
                    handle().and_then(|handle| set_eco(&handle, is_last)),
                    handle().and_then(|handle| Ok(on_or_off(is_eco(&handle)?))),
                ),
            },
            SystemRestraint {
                name: "memory priority",
                restraint: Restraint::made(
                    low_or_normal(steps_back),
                    handle().and_then(|handle| set_memory_low(&handle, steps_back)),
                    handle().and_then(|handle| Ok(low_or_normal(is_memory_low(&handle)?))),
                ),
            },
        ],
    }
}

fn per_file<T>() -> Result<T, HostError> {
    Err(HostError::Unread {
        what: names::IO,
        reason: "Windows has it for files and not for threads".to_owned(),
    })
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn low_or_normal(low: bool) -> &'static str {
    if low { "low" } else { "normal" }
}

/// Nice values that Windows does not tell apart, by the least of each band.
const BANDS: [(i32, i32); 5] = [
    (15, THREAD_PRIORITY_IDLE),
    (10, THREAD_PRIORITY_LOWEST),
    (5, THREAD_PRIORITY_BELOW_NORMAL),
    (0, THREAD_PRIORITY_NORMAL),
    (i32::MIN, THREAD_PRIORITY_ABOVE_NORMAL),
];

fn band(nice: i32) -> i32 {
    let found = BANDS.iter().find(|(least, _)| nice >= *least);
    found.map_or(THREAD_PRIORITY_NORMAL, |(_, band)| *band)
}

/// The value asked for if it lies in the thread's band, else the band's least.
fn nice_of(priority: i32, asked: i32) -> i32 {
    if band(asked) == priority {
        return asked;
    }
    let found = BANDS.iter().find(|(_, band)| *band == priority);
    found.map_or(0, |(least, _)| (*least).max(-1))
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn set_priority(thread: &OwnedHandle, priority: i32) -> Result<(), HostError> {
    // SAFETY: the handle is open, and the call touches no memory of ours.
    done("SetThreadPriority", unsafe {
        SetThreadPriority(thread.as_raw_handle(), priority)
    })
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn get_priority(thread: &OwnedHandle) -> Result<i32, HostError> {
    /// `THREAD_PRIORITY_ERROR_RETURN` of winbase.h.
    const FAILED: i32 = i32::MAX;
    // SAFETY: the handle is open, and the call touches no memory of ours.
    match unsafe { GetThreadPriority(thread.as_raw_handle()) } {
        FAILED => Err(last_error("GetThreadPriority")),
        priority => Ok(priority),
    }
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn set<T>(
    thread: &OwnedHandle,
    class: THREAD_INFORMATION_CLASS,
    value: &T,
) -> Result<(), HostError> {
    let ThreadInformation { set, .. } = ThreadInformation::find()?;
    let (raw, from, size) = (thread.as_raw_handle(), value as *const T, size_of::<T>());
    // SAFETY: the handle is open, and the call reads as many bytes as the value has.
    done("SetThreadInformation", unsafe {
        set(raw, class, from.cast(), size as u32)
    })
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn get<T>(
    thread: &OwnedHandle,
    class: THREAD_INFORMATION_CLASS,
    value: &mut T,
) -> Result<(), HostError> {
    let ThreadInformation { get, .. } = ThreadInformation::find()?;
    let (raw, to, size) = (thread.as_raw_handle(), value as *mut T, size_of::<T>());
    // SAFETY: the handle is open, and the call writes as many bytes as the value has; callers use
    // types of integers only.
    done("GetThreadInformation", unsafe {
        get(raw, class, to.cast(), size as u32)
    })
}

fn eco(on: bool) -> THREAD_POWER_THROTTLING_STATE {
    THREAD_POWER_THROTTLING_STATE {
        Version: THREAD_POWER_THROTTLING_CURRENT_VERSION,
        ControlMask: THREAD_POWER_THROTTLING_EXECUTION_SPEED,
        StateMask: if on {
            THREAD_POWER_THROTTLING_EXECUTION_SPEED
        } else {
            0
        },
    }
}

fn set_eco(thread: &OwnedHandle, on: bool) -> Result<(), HostError> {
    set(thread, ThreadPowerThrottling, &eco(on))
}

fn is_eco(thread: &OwnedHandle) -> Result<bool, HostError> {
    let mut state = eco(false);
    get(thread, ThreadPowerThrottling, &mut state)?;
    Ok(state.StateMask & THREAD_POWER_THROTTLING_EXECUTION_SPEED != 0)
}

fn set_memory_low(thread: &OwnedHandle, low: bool) -> Result<(), HostError> {
    let priority = if low {
        MEMORY_PRIORITY_LOW
    } else {
        MEMORY_PRIORITY_NORMAL
    };
    let value = MEMORY_PRIORITY_INFORMATION {
        MemoryPriority: priority,
    };
    set(thread, ThreadMemoryPriority, &value)
}

fn is_memory_low(thread: &OwnedHandle) -> Result<bool, HostError> {
    let mut value = MEMORY_PRIORITY_INFORMATION { MemoryPriority: 0 };
    get(thread, ThreadMemoryPriority, &mut value)?;
    Ok(value.MemoryPriority < MEMORY_PRIORITY_NORMAL)
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn thread_cpu_time() -> Result<Duration, HostError> {
    let handle = open(current_thread())?;
    let [mut made, mut ended, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is open, and the call writes four times, and is given four.
    let result = unsafe {
        let handle = handle.as_raw_handle();
        GetThreadTimes(
            handle,
            &raw mut made,
            &raw mut ended,
            &raw mut kernel,
            &raw mut user,
        )
    };
    done("GetThreadTimes", result)?;
    Ok(duration(kernel) + duration(user))
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn process_cpu_time() -> Result<Duration, HostError> {
    let [mut made, mut ended, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the call writes four times, and is given four; the process's handle needs no closing.
    let result = unsafe {
        let own = GetCurrentProcess();
        GetProcessTimes(
            own,
            &raw mut made,
            &raw mut ended,
            &raw mut kernel,
            &raw mut user,
        )
    };
    done("GetProcessTimes", result)?;
    Ok(duration(kernel) + duration(user))
}

/// Windows counts in steps of 100 ns.
pub(super) fn duration(time: FILETIME) -> Duration {
    let steps = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::from_nanos(steps.saturating_mul(100))
}

/// Of the calling thread's group of at most 64 cores.
#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn allowed_cores() -> Result<CoreSet, HostError> {
    let mut affinity = GROUP_AFFINITY::default();
    // SAFETY: the call writes one affinity, and is given one; a thread's own handle needs no
    // closing.
    done("GetThreadGroupAffinity", unsafe {
        GetThreadGroupAffinity(GetCurrentThread(), &raw mut affinity)
    })?;
    let cores = (0..usize::BITS as usize).filter(|core| affinity.Mask >> core & 1 == 1);
    CoreSet::new(cores).ok_or(HostError::Absent {
        ability: names::AFFINITY,
    })
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn pin(cores: &CoreSet) -> Result<(), HostError> {
    let in_group = cores
        .cores()
        .iter()
        .filter(|core| **core < usize::BITS as usize);
    let mask = in_group.fold(0, |mask, core| mask | 1_usize << core);
    // SAFETY: the call takes a thread's own handle and a number, and touches no memory of ours.
    match unsafe { SetThreadAffinityMask(GetCurrentThread(), mask) } {
        0 => Err(last_error("SetThreadAffinityMask")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cannot be read back is a problem that names the call, and never said to hold.
    #[test]
    fn each_restraint_is_read_back_or_says_why_not() {
        let io = crate::priority::IoPriority { class: 3, level: 0 };
        let held = restrain(current_thread(), Priority { nice: 15, io });
        assert!(held.nice.holds(), "{:?}", held.nice);
        assert_eq!(held.nice.in_effect, Some(15));
        let has_information = ThreadInformation::find().is_ok();
        for SystemRestraint { name, restraint } in held.system {
            if !has_information {
                let problem = restraint.problem.as_deref().unwrap_or("none");
                assert!(
                    problem.contains("GetThreadInformation"),
                    "{name}: {problem}"
                );
            }
            assert_eq!(
                restraint.in_effect.is_some(),
                has_information,
                "{name}: {restraint:?}"
            );
        }
    }
}
