use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::ability::names;
use crate::error::HostError;
use crate::thread::ThreadId;

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

/// `CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED` of linux/posix-timers_types.h: what a thread ran.
const THREAD_RAN: libc::clockid_t = 4 | 2;

/// The kernel knows such a clock only for threads of the caller's own process.
#[expect(
    unsafe_code,
    reason = "no safe wrapper takes a clock made of a thread's id"
)]
pub(crate) fn thread_cpu_time_of(thread: ThreadId) -> Result<Duration, HostError> {
    let gone = || HostError::NoSuchThread { thread: thread.0 };
    let number = libc::pid_t::try_from(thread.0).map_err(|_| gone())?;
    let clock = !number << 3 | THREAD_RAN;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime writes one timespec, and is given one.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    match (
        result,
        u64::try_from(time.tv_sec),
        u32::try_from(time.tv_nsec),
    ) {
        (0, Ok(seconds), Ok(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(gone()),
    }
}
