//! Something to control that notes down what it was asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    /// Calls until one panics; none does at 0.
    fault_in: AtomicUsize,
}

#[allow(dead_code, reason = "each test uses some of it")]
impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            settings: Mutex::new(Settings::of(Mode::Conservative)),
            commands: Mutex::new(Vec::new()),
            failures: Mutex::new(Vec::new()),
            batch_refused: 64,
            fault_in: AtomicUsize::new(0),
        }
    }

    /// From here on the call of this number panics, counted from 1.
    pub(crate) fn fail_at(&self, call: usize) {
        self.fault_in.store(call, Ordering::SeqCst);
    }

    /// What was noted of threads.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    fn count(&self) {
        let order = Ordering::SeqCst;
        let before = self
            .fault_in
            .fetch_update(order, order, |left| left.checked_sub(1));
        assert!(before != Ok(1), "a fault, as the test asked");
    }
}

impl Controlled for Fake {
    fn settings(&self) -> Settings {
        self.count();
        self.settings.lock().unwrap().clone()
    }

    fn apply(&self, settings: Settings) -> Result<(), String> {
        self.count();
        if settings.limits.max_batch_size == self.batch_refused {
            return Err("the batch is too large for me".to_owned());
        }
        *self.settings.lock().unwrap() = settings;
        Ok(())
    }

    fn command(&self, command: Command) -> Result<(), String> {
        self.count();
        self.commands.lock().unwrap().push(command);
        Ok(())
    }

    fn move_stages(&self, stages: &[StageAt]) -> Result<(), Refused> {
        self.count();
        match stages.first().map_or("", |stage| &stage.device) {
            "cpu" => Ok(()),
            other => Err(Refused {
                cause: Cause::Stages,
                message: format!("no device {other}"),
            }),
        }
    }

    fn usage(&self) -> PeerUse {
        self.count();
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
        self.count();
        let commands = self.commands.lock().unwrap();
        let named: Vec<_> = commands
            .iter()
            .map(|command| format!("{command:?}"))
            .collect();
        json!({ "commands": named })
    }
}
