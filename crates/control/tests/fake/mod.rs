//! Something to control that notes down what it was asked.

use std::sync::Mutex;

use corpgrid_scheduler::{Mode, PeerUse, Settings};
use gogrid_control::{Cause, Command, Controlled, Refused, StageAt};
use serde_json::{Value, json};

pub(crate) struct Fake {
    settings: Mutex<Settings>,
    commands: Mutex<Vec<Command>>,
    /// What was noted of threads.
    failures: Mutex<Vec<String>>,
    /// Settings with so large a batch are not taken.
    batch_refused: usize,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            settings: Mutex::new(Settings::of(Mode::Conservative)),
            commands: Mutex::new(Vec::new()),
            failures: Mutex::new(Vec::new()),
            batch_refused: 64,
        }
    }
}

impl Controlled for Fake {
    fn settings(&self) -> Settings {
        self.settings.lock().unwrap().clone()
    }

    fn apply(&self, settings: Settings) -> Result<(), String> {
        if settings.limits.max_batch_size == self.batch_refused {
            return Err("the batch is too large for me".to_owned());
        }
        *self.settings.lock().unwrap() = settings;
        Ok(())
    }

    fn command(&self, command: Command) -> Result<(), String> {
        self.commands.lock().unwrap().push(command);
        Ok(())
    }

    fn move_stages(&self, stages: &[StageAt]) -> Result<(), Refused> {
        match &stages[0].device[..] {
            "cpu" => Ok(()),
            other => Err(Refused {
                cause: Cause::Stages,
                message: format!("no device {other}"),
            }),
        }
    }

    fn usage(&self) -> PeerUse {
        PeerUse {
            pid: std::process::id(),
            memory_bytes: vec![("system".to_owned(), 4096)],
            is_busy: true,
            ..PeerUse::default()
        }
    }

    fn note_failure(&self, thread: &str, problem: &str) {
        self.failures
            .lock()
            .unwrap()
            .push(format!("{thread}: {problem}"));
    }

    fn snapshot(&self) -> Value {
        let commands = self.commands.lock().unwrap();
        let named: Vec<_> = commands
            .iter()
            .map(|command| format!("{command:?}"))
            .collect();
        json!({ "commands": named })
    }
}
