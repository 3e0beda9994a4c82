//! How a thread takes its turns: sched(7), `sched_setattr(2)`, and Documentation/scheduler/sched-eevdf.rst.
//!
//! A nice value says how much of a core a thread gets beside others, not when the others get theirs: a
//! thread that wakes up waits until the thread that runs has finished its slice, 1.4 to 3 ms. A thread
//! that asked for long slices is put aside at once for one that wakes up with a shorter slice. And a
//! thread with the batch policy puts no other aside when it wakes up itself. Neither changes the meaning
//! of the nice value.

use std::mem::size_of;
use std::time::Duration;

use super::{last_error, pid};
use crate::error::HostError;
use crate::priority::{Restraint, SystemRestraint};
use crate::thread::ThreadId;

/// Long beside the system's own 1.4 to 3 ms, so that its thread is nearly always put aside. A thread
/// that gives up its turn gives up the rest of the slice, so it is no longer than this.
const SLICE: Duration = Duration::from_millis(20);

const BATCH: &str = "batch";
const BATCH_LONG: &str = "batch, slices of 20 ms";

/// Turns of a thread as the system has them.
#[derive(Clone, Copy)]
pub(super) struct Turns(libc::sched_attr);

impl Turns {
    #[expect(unsafe_code, reason = "the system call has no safe wrapper")]
    pub(super) fn of(thread: ThreadId) -> Result<Self, HostError> {
        const SIZE: u32 = size_of::<libc::sched_attr>() as u32;
        let mut found = libc::sched_attr {
            size: SIZE,
            sched_policy: 0,
            sched_flags: 0,
            sched_nice: 0,
            sched_priority: 0,
            sched_runtime: 0,
            sched_deadline: 0,
            sched_period: 0,
        };
        let number = number(thread)?;
        // SAFETY: sched_getattr writes at most the size it is given, which is that of `found`.
        let result =
            unsafe { libc::syscall(libc::SYS_sched_getattr, number, &raw mut found, SIZE, 0) };
        match result {
            0 => Ok(Self(found)),
            _ => Err(last_error("sched_getattr")),
        }
    }

    #[expect(unsafe_code, reason = "the system call has no safe wrapper")]
    fn give(self, thread: ThreadId) -> Result<(), HostError> {
        let number = number(thread)?;
        // SAFETY: sched_setattr reads as many bytes as the size in the structure says, its own.
        let result =
            unsafe { libc::syscall(libc::SYS_sched_setattr, number, &raw const self.0, 0) };
        match result {
            0 => Ok(()),
            _ => Err(last_error("sched_setattr")),
        }
    }

    /// Whether slices can be asked for: since Linux 6.12, which tells how long they are.
    fn have_slices(self) -> bool {
        self.0.sched_runtime > 0
    }

    fn has_policy(self, policy: libc::c_int) -> bool {
        i64::from(self.0.sched_policy) == i64::from(policy)
    }

    /// The batch policy, with long slices where they can be asked for.
    fn stand_back(self) -> Self {
        let Self(mut asked) = self;
        // A small positive number.
        asked.sched_policy = libc::SCHED_BATCH as u32;
        asked.sched_flags = 0;
        if self.have_slices() {
            // 2^64 nanoseconds are 584 years.
            asked.sched_runtime = SLICE.as_nanos() as u64;
        }
        Self(asked)
    }

    /// In words.
    pub(super) fn name(self) -> &'static str {
        let is_long = u128::from(self.0.sched_runtime) == SLICE.as_nanos();
        match self {
            _ if self.has_policy(libc::SCHED_BATCH) && is_long => BATCH_LONG,
            _ if self.has_policy(libc::SCHED_BATCH) && !self.have_slices() => BATCH,
            _ if self.has_policy(libc::SCHED_BATCH) => "batch, slices of another length",
            _ if self.has_policy(libc::SCHED_OTHER) => "normal",
            _ => "another policy",
        }
    }

    pub(super) fn stands_back(self) -> bool {
        self.has_policy(libc::SCHED_BATCH)
    }
}

fn number(thread: ThreadId) -> Result<libc::pid_t, HostError> {
    Ok(pid(thread)?.as_raw_nonzero().get())
}

/// Makes a thread of this process let others go first. One whose policy is neither the system's first nor
/// batch is left as it is: the user chose another for the process, such as the idle one.
pub(super) fn stand_back(thread: ThreadId) -> Option<SystemRestraint> {
    let before = match Turns::of(thread) {
        Ok(before) => before,
        Err(error) => return Some(named(Restraint::made(BATCH, Ok(()), Err(error)))),
    };
    if !before.has_policy(libc::SCHED_OTHER) && !before.stands_back() {
        return None;
    }
    let asked = before.stand_back();
    let set = asked.give(thread);
    let read = Turns::of(thread).map(Turns::name);
    Some(named(Restraint::made(asked.name(), set, read)))
}

fn named(restraint: Restraint<&'static str>) -> SystemRestraint {
    SystemRestraint {
        name: "scheduling policy",
        restraint,
    }
}
