use std::io::Error;
use std::time::Duration;

use libc::qos_class_t;
use rustix::time::{ClockId, clock_gettime};

use super::{done, unread};
use crate::ability::names;
use crate::error::HostError;
use crate::priority::{IoPriority, Priority, Restraint, Restraints, SystemRestraint};
use crate::thread::ThreadId;

/// By its Mach port, which stays the thread's for as long as it runs.
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
pub(crate) fn current_thread() -> ThreadId {
    // SAFETY: both calls only look at the calling thread.
    ThreadId(unsafe { libc::pthread_mach_thread_np(libc::pthread_self()) }.into())
}

/// A nice value is the whole process's here, the caller's own threads' too, and is left alone: the
/// quality of service class does its work. `PRIO_DARWIN_BG` would slow sockets as well.
pub(crate) fn restrain(thread: ThreadId, priority: Priority) -> Restraints {
    let Priority { nice, io } = priority;
    let only = "macOS changes the calling thread only";
    let is_own = thread == current_thread();
    let whole = || unread(names::NICE, "macOS has it for the whole process only");
    let (set_io, read_io) = match is_own {
        true => (set_io(io), get_io(io)),
        false => (unread(names::IO, only), unread(names::IO, only)),
    };
    let class = class(nice);
    let (set_class, read_class) = match is_own {
        true => (set_class(class), get_class()),
        false => (unread(QOS, only), unread(QOS, only)),
    };
    Restraints {
        nice: Restraint::made(nice, whole().map(drop), whole()),
        io: Restraint::made(io, set_io, read_io),
        system: vec![SystemRestraint {
            name: QOS,
            restraint: Restraint::made(name(class), set_class, read_class),
        }],
    }
}

const QOS: &str = "quality of service class";

/// The background class is for the last in line only: it may cost eight tenths of the speed.
fn class(nice: i32) -> qos_class_t {
    match nice {
        19.. => qos_class_t::QOS_CLASS_BACKGROUND,
        10..19 => qos_class_t::QOS_CLASS_UTILITY,
        _ => qos_class_t::QOS_CLASS_DEFAULT,
    }
}

fn name(class: qos_class_t) -> &'static str {
    match class {
        qos_class_t::QOS_CLASS_USER_INTERACTIVE => "user interactive",
        qos_class_t::QOS_CLASS_USER_INITIATED => "user initiated",
        qos_class_t::QOS_CLASS_DEFAULT => "default",
        qos_class_t::QOS_CLASS_UTILITY => "utility",
        qos_class_t::QOS_CLASS_BACKGROUND => "background",
        _ => "unspecified",
    }
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn set_class(class: qos_class_t) -> Result<(), HostError> {
    // SAFETY: the call takes two numbers and changes the calling thread only.
    match unsafe { libc::pthread_set_qos_class_self_np(class, 0) } {
        0 => Ok(()),
        error => Err(HostError::Call {
            call: "pthread_set_qos_class_self_np",
            source: Error::from_raw_os_error(error),
        }),
    }
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn get_class() -> Result<&'static str, HostError> {
    let (mut class, mut relative) = (qos_class_t::QOS_CLASS_UNSPECIFIED, 0);
    // SAFETY: the call writes a class and a number, and is given both.
    let result = unsafe {
        libc::pthread_get_qos_class_np(libc::pthread_self(), &raw mut class, &raw mut relative)
    };
    done("pthread_get_qos_class_np", result)?;
    Ok(name(class))
}

#[expect(unsafe_code, reason = "the library has no binding for them")]
// SAFETY: declared as in sys/resource.h.
unsafe extern "C" {
    safe fn setiopolicy_np(
        kind: libc::c_int,
        scope: libc::c_int,
        policy: libc::c_int,
    ) -> libc::c_int;
    safe fn getiopolicy_np(kind: libc::c_int, scope: libc::c_int) -> libc::c_int;
}

/// `IOPOL_TYPE_DISK` and `IOPOL_SCOPE_THREAD` of sys/resource.h.
const DISK: libc::c_int = 0;
const THREAD: libc::c_int = 1;

/// `IOPOL_DEFAULT`, `IOPOL_IMPORTANT`, `IOPOL_STANDARD` and `IOPOL_THROTTLE` of sys/resource.h, by
/// Linux's classes; macOS has no levels.
const POLICIES: [libc::c_int; 4] = [0, 1, 5, 3];

fn policy(io: IoPriority) -> libc::c_int {
    POLICIES.get(usize::from(io.class)).copied().unwrap_or(0)
}

fn set_io(io: IoPriority) -> Result<(), HostError> {
    done("setiopolicy_np", setiopolicy_np(DISK, THREAD, policy(io)))
}

/// The value asked for if it is the thread's policy.
fn get_io(asked: IoPriority) -> Result<IoPriority, HostError> {
    let policy_now = getiopolicy_np(DISK, THREAD);
    if policy_now == policy(asked) {
        return Ok(asked);
    }
    let class = POLICIES.iter().position(|policy| *policy == policy_now);
    let class = class.and_then(|class| u8::try_from(class).ok());
    match class {
        Some(class) => Ok(IoPriority { class, level: 0 }),
        None => unread(names::IO, "a policy that nobody asked for"),
    }
}

pub(crate) fn thread_cpu_time() -> Result<Duration, HostError> {
    cpu_time(ClockId::ThreadCPUTime)
}

pub(crate) fn process_cpu_time() -> Result<Duration, HostError> {
    cpu_time(ClockId::ProcessCPUTime)
}

fn cpu_time(clock: ClockId) -> Result<Duration, HostError> {
    let absent = |_| HostError::Absent {
        ability: names::CPU_TIME,
    };
    clock_gettime(clock).try_into().map_err(absent)
}
