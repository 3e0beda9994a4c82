use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corpgrid_scheduler::{Changes, Settings};
use gogrid_units::contain;

use crate::controlled::{Command, Controlled};
use crate::limits::{MESSAGE_CHARS_MAX, SNOOZE_SECONDS_MAX, STAGES_MAX};
use crate::protocol::{Answer, Cause, FileStatus, Refused, Request, View};

/// The way in for changes from outside, commands and a file, one change after another.
pub struct Control {
    controlled: Arc<dyn Controlled>,
    /// Held through every change of settings, since each is worked out from the settings that the one
    /// before it left. Callers and the file's thread take turns. A pause does not wait for its turn: a
    /// change may itself wait for threads.
    turn: Mutex<()>,
    /// A lock, held for a copy.
    file: Mutex<Option<FileStatus>>,
}

impl Control {
    /// Control of a pipeline that no file is watched for.
    pub fn new(controlled: Arc<dyn Controlled>) -> Self {
        Self {
            controlled,
            turn: Mutex::new(()),
            file: Mutex::new(None),
        }
    }

    /// Notes that a thread that hears of changes has failed. The thing that is controlled may be what
    /// failed, so nothing is expected of it here either.
    pub(crate) fn note_failure(&self, thread: &str, problem: &str) {
        let noted = || self.controlled.note_failure(thread, problem);
        // A panic in it has told of itself.
        let _ = contain(noted);
    }

    /// Notes that the file's settings may not be in force, since looking at it failed.
    pub(crate) fn fail_file(&self, path: PathBuf, problem: String) {
        *self.file() = Some(FileStatus {
            path,
            problem: Some(problem),
        });
    }

    /// The answer to a request that came over the socket.
    pub(crate) fn reply(&self, request: Request) -> Answer {
        if request == Request::Usage {
            return Answer::Usage(self.controlled.usage());
        }
        match self.answer(request) {
            Ok(view) => Answer::Done(Box::new(view)),
            Err(refused) => Answer::Refused(refused),
        }
    }

    /// Does as asked, and shows the result.
    pub fn answer(&self, request: Request) -> Result<View, Refused> {
        match request {
            Request::Get | Request::Usage => Ok(()),
            Request::Set(changes) => self.set(&changes),
            Request::Pause => self.command(Command::Pause),
            Request::Resume => self.command(Command::Resume),
            Request::Snooze { seconds } => self.snooze(seconds),
            Request::Finish => self.command(Command::Finish),
            Request::Move(stages) if stages.len() > STAGES_MAX => {
                let message = format!("{} stages, {STAGES_MAX} are the most", stages.len());
                Err(refused(Cause::Stages, message))
            }
            Request::Move(stages) => self.controlled.move_stages(&stages),
        }?;
        Ok(View {
            settings: self.controlled.settings(),
            settings_file: self.file().clone(),
            status: self.controlled.snapshot(),
        })
    }

    /// Puts a file's settings in force, or writes down why not.
    pub(crate) fn take_file(
        &self,
        path: PathBuf,
        said: Result<Settings, String>,
    ) -> Option<String> {
        let _turn = self.turn();
        let taken = said.and_then(|settings| self.controlled.apply(settings));
        let problem = taken.err().map(bounded);
        *self.file() = Some(FileStatus {
            path,
            problem: problem.clone(),
        });
        problem
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // A change that panicked was made or was not; the next one looks.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> MutexGuard<'_, Option<FileStatus>> {
        // Every write leaves it sound.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, changes: &Changes) -> Result<(), Refused> {
        let _turn = self.turn();
        let settings = changes.onto(&self.controlled.settings());
        let settings = settings.map_err(|error| refused(Cause::Settings, error.to_string()))?;
        let applied = self.controlled.apply(settings);
        applied.map_err(|message| refused(Cause::Pipeline, message))?;
        if let Some(file) = &mut *self.file() {
            file.problem = Some("a command has changed what it says since".to_owned());
        }
        Ok(())
    }

    fn snooze(&self, seconds: u64) -> Result<(), Refused> {
        if !(1..=SNOOZE_SECONDS_MAX).contains(&seconds) {
            let message =
                format!("a snooze of {seconds} s, must be in 1..={SNOOZE_SECONDS_MAX} (a week)");
            return Err(refused(Cause::Settings, message));
        }
        self.command(Command::Snooze(Duration::from_secs(seconds)))
    }

    fn command(&self, command: Command) -> Result<(), Refused> {
        let done = self.controlled.command(command);
        done.map_err(|message| refused(Cause::Pipeline, message))
    }
}

pub(crate) fn refused(cause: Cause, message: String) -> Refused {
    let message = bounded(message);
    Refused { cause, message }
}

/// A message that is no longer than one may be.
pub(crate) fn bounded(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
        message.truncate(end);
        message.push_str(" ...");
    }
    message
}
