use std::num::NonZeroU64;
use std::time::Duration;

use rustix::process::{Pid, getpriority_process, setpriority_process};
use rustix::thread::{current_timer_slack, gettid, set_current_timer_slack};

use super::clock::thread_cpu_time_of;
use super::policy::stand_back;
use super::{failed, last_error};
use crate::error::HostError;
use crate::priority::{IoPriority, Priority, Restraint, Restraints};
use crate::thread::ThreadId;

pub(crate) fn current_thread() -> ThreadId {
    ThreadId(u64::from(gettid().as_raw_nonzero().get().unsigned_abs()))
}

pub(crate) fn restrain(thread: ThreadId, priority: Priority) -> Restraints {
    // A number that another process's thread got since must not be touched, which root could.
    let is_ours = thread_cpu_time_of(thread).is_ok();
    let (set, set_of_io) = match is_ours {
        true => (set_nice(thread, priority.nice), set_io(thread, priority.io)),
        false => (Err(gone(thread)), Err(gone(thread))),
    };
    Restraints {
        nice: Restraint::made(priority.nice, set, nice(thread)),
        io: Restraint::made(priority.io, set_of_io, io(thread)),
        // After the nice value, which it keeps.
        system: is_ours
            .then(|| stand_back(thread))
            .flatten()
            .into_iter()
            .collect(),
    }
}

fn gone(thread: ThreadId) -> HostError {
    HostError::NoSuchThread { thread: thread.0 }
}

pub(super) fn pid(thread: ThreadId) -> Result<Pid, HostError> {
    let number = i32::try_from(thread.0).ok();
    number.and_then(Pid::from_raw).ok_or_else(|| gone(thread))
}

/// Linux has a nice value for each thread; the thread's id stands for the process's.
fn set_nice(thread: ThreadId, nice: i32) -> Result<(), HostError> {
    setpriority_process(Some(pid(thread)?), nice).map_err(failed("setpriority"))
}

pub(super) fn nice(thread: ThreadId) -> Result<i32, HostError> {
    getpriority_process(Some(pid(thread)?)).map_err(failed("getpriority"))
}

/// `IOPRIO_WHO_PROCESS` of linux/ioprio.h, which takes a thread's id.
const WHO_PROCESS: libc::c_int = 1;
/// Bits of the level and hint below the class, in linux/ioprio.h.
const CLASS_SHIFT: u32 = 13;

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn set_io(thread: ThreadId, io: IoPriority) -> Result<(), HostError> {
    let value = libc::c_int::from(io.class) << CLASS_SHIFT | libc::c_int::from(io.level);
    // SAFETY: ioprio_set takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, thread.0, value) };
    if result == 0 {
        Ok(())
    } else {
        Err(last_error("ioprio_set"))
    }
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(super) fn io(thread: ThreadId) -> Result<IoPriority, HostError> {
    // SAFETY: ioprio_get takes two integers and touches no memory of ours.
    let value = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, thread.0) };
    if value < 0 {
        return Err(last_error("ioprio_get"));
    }
    // Three bits each.
    Ok(IoPriority {
        class: (value >> CLASS_SHIFT & 7) as u8,
        level: (value & 7) as u8,
    })
}

pub(crate) fn set_timer_slack(slack: Duration) -> Restraint<Duration> {
    // Zero would ask for the default, and 2^64 nanoseconds are 584 years.
    let nanos = NonZeroU64::new(slack.as_nanos() as u64).unwrap_or(NonZeroU64::MIN);
    let set = set_current_timer_slack(Some(nanos)).map_err(failed("prctl(PR_SET_TIMERSLACK)"));
    Restraint::made(Duration::from_nanos(nanos.get()), set, timer_slack())
}

pub(super) fn timer_slack() -> Result<Duration, HostError> {
    let nanos = current_timer_slack().map_err(failed("prctl(PR_GET_TIMERSLACK)"))?;
    Ok(Duration::from_nanos(nanos))
}
