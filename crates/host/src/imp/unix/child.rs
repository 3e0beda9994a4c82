use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// In a group of its own, so that what it starts can be ended with it.
pub(crate) fn tie_to_this_process(command: &mut Command) {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    crate::imp::linux::die_with_parent(command);
}

/// Whether it has not ended, asked so that its number stays its own. After an error, such as in a
/// process that ignores its children's ends, the number may be another's already.
pub(crate) fn runs(child: &Child) -> io::Result<bool> {
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = retry_on_intr(|| waitid(WaitId::Pid(Pid::from_child(child)), how))?;
    Ok(status.is_none())
}

/// Ends the group that begins with this number. It is the child's own as long as nobody has waited
/// for that child.
pub(crate) fn kill_group(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // It fails only when all of them have ended.
    let _ = pid.map(|pid| kill_process_group(pid, Signal::KILL));
}
