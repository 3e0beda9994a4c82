use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;

use super::clock::runs_in_this_process;
use super::policy::stand_back;
use super::{failed, gone, last_error, pid};
use crate::error::HostError;
use crate::priority::{IoPriority, Priority, Restraint, Restraints};
use crate::thread::ThreadId;

pub(crate) fn current_thread() -> ThreadId {
    ThreadId(u64::from(gettid().as_raw_nonzero().get().unsigned_abs()))
}

pub(crate) fn restrain(thread: ThreadId, priority: Priority) -> Restraints {
    // Another process's thread may have got the number since. It must not be touched, and root could.
    let is_ours = runs_in_this_process(thread);
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
