//! Threads of the control that fail at each moment: every caller has an answer, the fault is noted,
//! and the next change is taken.

mod fake;

use std::fs;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corpgrid_scheduler::{
    Changes, Machine, MachineOptions, PeerUse, Peers, SeenPeers, Settings, devices,
};
use futures_executor::block_on;
use gogrid_control::{
    Cause, ClientError, Command, Control, Controlled, Refused, Request, Server, SettingsFile,
    StageAt, View, Watch, ask,
};
use serde_json::Value;

use crate::fake::Fake;

fn batch(size: usize) -> Request {
    Request::Set(Changes::from_toml(&format!("limits.max_batch_size = {size}")).unwrap())
}

#[test]
fn a_fault_at_any_call_is_one_callers_answer_and_the_next_is_served() {
    let fake = Arc::new(Fake::new());
    let control = Control::new(Arc::clone(&fake) as Arc<dyn Controlled>);
    let _server = Server::start("faults-calls", Arc::new(control)).unwrap();
    let ask = |request: &Request| ask("faults-calls", process::id(), request);
    // Each takes one to three calls.
    let requests = [
        Request::Get,
        batch(3),
        Request::Pause,
        batch(4),
        Request::Resume,
    ];
    let calls = 2 + 4 + 3 + 4 + 3;
    for moment in 1..=calls {
        fake.fail_at(moment);
        let answers: Vec<_> = requests.iter().map(ask).collect();
        let failed: Vec<_> = answers
            .iter()
            .filter_map(|answer| answer.as_ref().err())
            .collect();
        let [ClientError::Refused(refused)] = &failed[..] else {
            panic!("a fault at call {moment}: {failed:?}");
        };
        assert_eq!(refused.cause, Cause::Pipeline);
        assert!(refused.message.contains("as the test asked"), "{refused}");
        assert_eq!(fake.failures().len(), moment, "{:?}", fake.failures());
        assert_eq!(ask(&batch(9)).unwrap().settings.limits.max_batch_size, 9);
    }
}

#[test]
fn a_fault_while_a_file_is_taken_shows_and_the_next_change_is_taken() {
    const CHANGES: usize = 4;
    for moment in 1..=CHANGES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.toml");
        fs::write(&path, "").unwrap();
        let fake = Arc::new(Fake::new());
        let control = Arc::new(Control::new(Arc::clone(&fake) as Arc<dyn Controlled>));
        let file = SettingsFile::new(&path, None);
        let _watch = Watch::start(file, Arc::clone(&control), |_| {}).unwrap();
        for change in 1..=CHANGES {
            let aside = folder.path().join("aside");
            fs::write(&aside, format!("limits.max_batch_size = {}", change + 10)).unwrap();
            if change == moment {
                fake.fail_at(1);
            }
            fs::rename(&aside, &path).unwrap();
            if change == moment {
                // The one call of a file's thread.
                while fake.failures().is_empty() {
                    std::thread::yield_now();
                }
                let view = control.answer(Request::Get).unwrap();
                let problem = view.settings_file.unwrap().problem.unwrap();
                assert!(problem.contains("as the test asked"), "{problem}");
                assert_ne!(view.settings.limits.max_batch_size, change + 10);
            } else {
                let taken = |view: View| view.settings.limits.max_batch_size == change + 10;
                while !taken(control.answer(Request::Get).unwrap()) {
                    std::thread::yield_now();
                }
            }
        }
        assert_eq!(fake.failures().len(), 1, "{:?}", fake.failures());
    }
}

/// A real machine, whose observer is hit by a fault when it asks for its peers.
struct Real {
    machine: Machine,
}

#[derive(Default)]
struct Fatal(Arc<AtomicBool>);

impl Peers for Fatal {
    fn look(&mut self, _is_busy: bool) -> SeenPeers {
        assert!(!self.0.load(Ordering::SeqCst), "a fault, as the test asked");
        SeenPeers::default()
    }
}

impl Controlled for Real {
    fn settings(&self) -> Settings {
        self.machine.settings()
    }

    fn apply(&self, settings: Settings) -> Result<(), String> {
        let applied = block_on(self.machine.set_settings(settings));
        applied.map_err(|error| error.to_string())
    }

    fn command(&self, command: Command) -> Result<(), String> {
        let done = block_on(async {
            match command {
                Command::Pause => self.machine.pause().await,
                Command::Resume => self.machine.resume().await,
                Command::Snooze(time) => self.machine.snooze(time).await,
                Command::Finish => self.machine.finish().await,
            }
        });
        done.map_err(|error| error.to_string())
    }

    fn move_stages(&self, _stages: &[StageAt]) -> Result<(), Refused> {
        unreachable!("no test moves stages")
    }

    fn usage(&self) -> PeerUse {
        self.machine.usage()
    }

    fn note_failure(&self, thread: &str, problem: &str) {
        self.machine.note_failure(thread, problem);
    }

    fn snapshot(&self) -> Value {
        serde_json::to_value(block_on(self.machine.status())).unwrap()
    }
}

#[test]
fn once_nobody_holds_the_limits_no_change_of_them_is_said_to_be_done() {
    let requests = [
        batch(3),
        Request::Pause,
        Request::Resume,
        batch(4),
        Request::Finish,
    ];
    for moment in 0..requests.len() {
        let fatal = Arc::new(AtomicBool::new(false));
        let options = MachineOptions {
            peers: Some(Box::new(Fatal(Arc::clone(&fatal)))),
            threads: Some(1),
            ..MachineOptions::default()
        };
        let machine = Machine::open(&devices(), options).unwrap();
        let control = Control::new(Arc::new(Real { machine }));
        let _server = Server::start("faults-governor", Arc::new(control)).unwrap();
        let ask = |request: &Request| ask("faults-governor", process::id(), request);
        for request in &requests[..moment] {
            ask(request).unwrap();
        }
        fatal.store(true, Ordering::SeqCst);
        // Each of these has the observer look at once.
        for request in std::iter::once(&batch(5 + moment)).chain(&requests) {
            match ask(request) {
                Ok(view) => check_held(&view, request),
                Err(ClientError::Refused(refused)) => {
                    assert_eq!(refused.cause, Cause::Pipeline);
                    assert!(refused.message.contains("observer"), "{refused}");
                }
                Err(error) => panic!("after {moment} requests: {error}"),
            }
        }
    }
}

/// That what was asked for holds, where it was said to be done.
fn check_held(view: &View, request: &Request) {
    let failures = view.status["failures"].as_array().unwrap();
    let is_over = |failure: &Value| failure["thread"] == "observer";
    assert!(!failures.iter().any(is_over), "{request:?}: {failures:?}");
    if let Request::Set(changes) = request {
        let asked = changes.onto(&view.settings).unwrap();
        assert_eq!(view.settings, asked, "{request:?}");
        let in_force = &view.status["limits"]["max_batch_size"];
        assert_eq!(*in_force, asked.limits.max_batch_size);
    }
}
