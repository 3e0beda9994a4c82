use std::fmt;

use crate::error::HostError;
use crate::imp;
use crate::thread::{ThreadId, current_thread};

/// How far a thread stands back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// Nice value, -20 (first) to 19 (last).
    pub nice: i32,
    /// Priority of its reads and writes.
    pub io: IoPriority,
}

/// Priority of reads and writes, as Linux has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPriority {
    /// 0 from the nice value, 1 real time, 2 best effort, 3 idle.
    pub class: u8,
    /// 0 (first) to 7 (last) within classes 1 and 2; without meaning in the others.
    pub level: u8,
}

impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = ["from nice", "real time", "best effort", "idle"];
        let class = classes
            .get(usize::from(self.class))
            .unwrap_or(&"unknown class");
        match self.class {
            1 | 2 => write!(f, "{class} {}", self.level),
            _ => f.pad(class),
        }
    }
}

/// One restraint: the value asked for, and the value that the system says is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restraint<T> {
    /// The value asked for.
    pub asked: T,
    /// The value read back, if it could be read.
    pub in_effect: Option<T>,
    /// Why another value is in effect.
    pub problem: Option<String>,
}

impl<T: PartialEq> Restraint<T> {
    pub(crate) fn made(asked: T, set: Result<(), HostError>, read: Result<T, HostError>) -> Self {
        let (in_effect, unread) = match read {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        let holds = in_effect.as_ref() == Some(&asked);
        let problem = match (set.err().or(unread), holds) {
            (_, true) => None,
            (Some(error), false) => Some(error.to_string()),
            (None, false) => Some("the system took it and did not apply it".to_owned()),
        };
        Self {
            asked,
            in_effect,
            problem,
        }
    }

    /// Whether the value asked for is in effect.
    pub fn holds(&self) -> bool {
        self.problem.is_none()
    }
}

/// The outcome of a [`Priority`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restraints {
    /// The nice value. Where a system has a few bands instead, a value stands for its band.
    pub nice: Restraint<i32>,
    /// The I/O priority.
    pub io: Restraint<IoPriority>,
    /// The restraints that only this system has besides, each by its name.
    pub system: Vec<SystemRestraint>,
}

/// A restraint that one system has: a scheduling policy on Linux, EcoQoS and memory priority on
/// Windows, a quality of service class on macOS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemRestraint {
    /// The system's name for it.
    pub name: &'static str,
    /// Its value, in the system's words.
    pub restraint: Restraint<&'static str>,
}

/// Gives the calling thread, and no other, this priority, and reads back the values in effect.
///
/// Threads it starts later begin with the same. Without privilege a nice value only rises, so a
/// thread that should rise again must be started by one that never fell.
pub fn restrain_thread(priority: Priority) -> Restraints {
    restrain(current_thread(), priority)
}

/// Gives one running thread of this process this priority, and reads back the values in effect.
pub fn restrain(thread: ThreadId, priority: Priority) -> Restraints {
    let io = priority.io;
    // Class 0 takes no level, and the idle class has none.
    let level = if matches!(io.class, 1 | 2) {
        io.level
    } else {
        0
    };
    let io = IoPriority { level, ..io };
    imp::restrain(thread, Priority { io, ..priority })
}
