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

/// `CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED` of linux/posix-timers_types.h: a thread's CPU time.
const THREAD_CPU_TIME: libc::clockid_t = 4 | 2;

/// Whether a thread of this process has this number: the kernel knows such a clock only for threads
/// of the caller's own process.
#[expect(
    unsafe_code,
    reason = "no safe wrapper takes a clock made of a thread's id"
)]
pub(super) fn runs_in_this_process(thread: ThreadId) -> bool {
    let Ok(number) = libc::pid_t::try_from(thread.0) else {
        return false;
    };
    let clock = !number << 3 | THREAD_CPU_TIME;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime writes one timespec, and is given one.
    unsafe { libc::clock_gettime(clock, &raw mut time) == 0 }
}
