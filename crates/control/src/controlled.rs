use std::time::Duration;

use corpgrid_scheduler::{PeerUse, Settings};

use crate::protocol::{Refused, StageAt};

/// The pipeline that commands and files act upon, or something that stands for one. Called from
/// several threads, one change at a time.
pub trait Controlled: Send + Sync {
    /// The settings in force, as they were asked for.
    fn settings(&self) -> Settings;

    /// Puts settings in force that were found valid, all of them or none. The error is for people.
    fn apply(&self, settings: Settings) -> Result<(), String>;

    /// Carries out a command. The error is for people.
    fn command(&self, command: Command) -> Result<(), String>;

    /// Has the stages stand on these devices, in order. Returns when they do, or stand where they
    /// stood.
    fn move_stages(&self, stages: &[StageAt]) -> Result<(), Refused>;

    /// What the process takes of the machine. Asked for several times a second: must not wait.
    fn usage(&self) -> PeerUse;

    /// Notes that a thread that hears of changes has failed, and how: it goes on, or has said that it
    /// has ended.
    fn note_failure(&self, thread: &str, problem: &str);

    /// Its status, for people and scripts.
    fn snapshot(&self) -> serde_json::Value;
}

/// A command given by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop until told otherwise.
    Pause,
    /// Go on as the settings say; ends a pause, a snooze and a finish.
    Resume,
    /// Stop for a time.
    Snooze(Duration),
    /// Accept nothing more; requests that were accepted run to their end.
    Finish,
}
