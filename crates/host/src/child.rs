use std::io;
use std::process::{Child, ChildStderr, Command, ExitStatus};

use crate::imp;

/// Another program at work for this process, which it does not outlive: it and what it started are ended
/// when this is dropped. On Linux it is also ended when this process is killed, or when the thread that
/// started it ends.
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
        Ok(Self {
            child: command.spawn()?,
            is_reaped: false,
        })
    }

    /// Its messages, once, if the command asked for a pipe.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// How it ended, if it has. What it started and left is ended as well.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if !self.is_reaped {
            // Once it is reaped its group can no more be told from another's.
            if imp::runs(&self.child) {
                return Ok(None);
            }
            imp::kill_with_its_own(&self.child);
        }
        let status = self.child.try_wait()?;
        self.is_reaped |= status.is_some();
        Ok(status)
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        imp::kill_with_its_own(&self.child);
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
