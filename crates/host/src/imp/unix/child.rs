use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// In a group of its own, so that what it starts can be ended with it.
pub(crate) fn tie_to_this_process(command: &mut Command) {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    crate::imp::linux::die_with_parent(command);
}

/// Whether it has not ended, asked so that its number stays its own.
pub(crate) fn runs(child: &Child) -> bool {
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(Pid::from_child(child)), how), Ok(None))
}

/// Its group is its own as long as it was not waited for.
pub(crate) fn kill_with_its_own(child: &Child) {
    // It fails only when all of them have ended.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}
