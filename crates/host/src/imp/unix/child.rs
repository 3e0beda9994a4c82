use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process_group};

/// In a group of its own, so that what it starts can be ended with it.
pub(crate) fn tie_to_this_process(command: &mut Command) {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    crate::imp::linux::die_with_parent(command);
}

/// Its group is its own as long as it was not waited for.
pub(crate) fn kill_with_its_own(child: &Child) {
    // It fails only when all of them have ended.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}
