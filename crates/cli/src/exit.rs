//! The program's exit codes, and the errors that only the program has.

pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 internal error or output not written, 2 wrong usage, 3 bad input or model,
4 refused by a limit or out of memory, 5 network or cache, 6 device, 7 no running gogrid, 130 interrupted";

pub(crate) const INTERNAL: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const INPUT: u8 = 3;
pub(crate) const LIMIT: u8 = 4;
pub(crate) const NETWORK: u8 = 5;
pub(crate) const DEVICE: u8 = 6;
pub(crate) const NOT_RUNNING: u8 = 7;
pub(crate) const INTERRUPTED: u8 = 130;

/// Input that a command cannot use: the message says which input, where in it, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);

/// Arguments that make no sense together, or here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongUsage(pub(crate) String);

/// A command line without a command, of which all has been said.
#[derive(Debug, thiserror::Error)]
#[error("no command")]
pub(crate) struct NoCommand;

/// The user pressed Ctrl-C, or another signal asked the program to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// No running process that `gogrid limits` could talk to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRunning {
    #[error("no gogrid is running under your name")]
    None,
    #[error("process {0} is no gogrid of yours that can be reached")]
    Not(u32),
}
