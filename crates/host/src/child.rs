use std::io;
use std::process::{Child, ChildStderr, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::imp;

/// The numbers of the programs at work. A lock: a process that ends at once ends all of them, whoever
/// owns them, and a number leaves the list before it may become another program's.
static AT_WORK: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn at_work() -> MutexGuard<'static, Vec<u32>> {
    // Every write leaves it sound.
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all programs at work, and what they started.
pub(crate) fn end_children() {
    for pid in at_work().drain(..) {
        imp::kill_group(pid);
    }
}

/// Another program at work for this process, which it does not outlive: it and what it started are ended
/// when this is dropped, and by [`tidy_up`](crate::tidy_up). On Linux it is also ended when this process
/// is killed, or when the thread that started it ends.
#[derive(Debug)]
pub struct ChildProcess {
    child: Child,
    /// Its number may belong to another program from then on.
    is_reaped: bool,
}

impl ChildProcess {
    /// Starts the program, away from the terminal's signals: it is this process that ends it.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        imp::tie_to_this_process(&mut command);
        let child = command.spawn()?;
        at_work().push(child.id());
        Ok(Self {
            child,
            is_reaped: false,
        })
    }

    /// Its messages, once, if the command asked for a pipe.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// How it ended, if it has. What it started and left is ended as well.
    ///
    /// # Errors
    /// When the system does not tell, as in a process that ignores the ends of its children.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        // Once it is reaped its group can no more be told from another's.
        if !self.is_reaped && self.runs()? {
            return Ok(None);
        }
        let mut at_work = at_work();
        if !self.is_reaped {
            imp::kill_group(self.child.id());
        }
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.is_reaped = true;
            at_work.retain(|pid| *pid != self.child.id());
        }
        Ok(status)
    }

    /// Whether it goes on. Where the system does not tell, it has been reaped.
    fn runs(&mut self) -> io::Result<bool> {
        let runs = imp::runs(&self.child);
        if runs.is_err() {
            self.is_reaped = true;
            at_work().retain(|pid| *pid != self.child.id());
        }
        runs
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // Nothing is ended by a number that may be another's.
        if self.is_reaped || self.runs().is_err() {
            return;
        }
        at_work().retain(|pid| *pid != self.child.id());
        imp::kill_group(self.child.id());
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
