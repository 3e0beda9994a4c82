//! The runner with stages that only note what they are asked.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use gogrid_pipeline::{
    BlockId, Finished, Footprint, Hooks, Input, Job, OutputBuf, PlacedStage, Runner, SequenceRows,
    Stage, StageError, Step, Ticket, Want,
};
use gogrid_units::Span;

/// Appends its number to each row's history; the history is the hidden state, one value per stage.
struct Noting {
    number: f32,
    open: Vec<(Ticket, Vec<f32>)>,
    tickets: u64,
    behaviour: Behaviour,
    log: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Works,
    /// Answers `Pending` once before each result, as a device would.
    Waits,
    Abandons,
    Panics,
}

impl Stage for Noting {
    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    fn depth(&self) -> usize {
        2
    }

    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError> {
        let mut rows = match input {
            Input::Ids(ids) => ids.iter().map(|&id| id as f32).collect(),
            Input::Hidden(rows) => rows.to_vec(),
        };
        assert!(rows.len() >= step.rows());
        rows.push(self.number);
        self.tickets += 1;
        self.open.push((Ticket(self.tickets), rows));
        Ok(Ticket(self.tickets))
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        match self.behaviour {
            Behaviour::Abandons => return Poll::Ready(Err(StageError::Abandoned)),
            Behaviour::Panics => panic!("out of order"),
            Behaviour::Waits => {
                self.behaviour = Behaviour::Works;
                return Poll::Pending;
            }
            Behaviour::Works => {}
        }
        let (oldest, rows) = self.open.remove(0);
        assert_eq!(oldest, ticket, "polled in the order submitted");
        out.hidden = rows;
        Poll::Ready(Ok(()))
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        let text = format!("stage {} frees {blocks:?} of group {group}", self.number);
        self.log.lock().unwrap().push(text);
    }
}

struct Bench {
    runner: Runner,
    ends: Receiver<Finished>,
    log: Arc<Mutex<Vec<String>>>,
}

/// Stages on the devices given, in order; the last behaves as said.
fn bench(devices: &[usize], in_flight_max: usize, last: Behaviour) -> Bench {
    bench_when(devices, in_flight_max, last, |_| {})
}

/// One stage that works, for two jobs; its driver takes nothing before a word is sent.
fn held_bench() -> (Bench, Sender<()>) {
    let (hold, held) = channel();
    let held = Mutex::new(held);
    let wait = move |_| held.lock().unwrap().recv().unwrap();
    (bench_when(&[0], 2, Behaviour::Works, wait), hold)
}

/// As [`bench`], with what each driver does first.
fn bench_when(
    devices: &[usize],
    in_flight_max: usize,
    last: Behaviour,
    started: impl Fn(usize) + Send + Sync + 'static,
) -> Bench {
    let log = Arc::new(Mutex::new(Vec::new()));
    let stages = devices.iter().enumerate().map(|(index, &device)| {
        let behaviour = if index + 1 == devices.len() {
            last
        } else {
            Behaviour::Works
        };
        let number = 100.0 + index as f32;
        let log = Arc::clone(&log);
        let stage = Box::new(Noting {
            number,
            open: Vec::new(),
            tickets: 0,
            behaviour,
            log,
        });
        PlacedStage {
            device,
            span: Span::new(index, index + 1),
            stage,
        }
    });
    let (sender, ends) = channel();
    let hooks = Hooks {
        finished: Box::new(move |end| drop(sender.send(end))),
        started: Box::new(started),
    };
    let runner = Runner::start(stages.collect(), in_flight_max, hooks).unwrap();
    Bench { runner, ends, log }
}

fn job(id: u64, token: u32) -> Job {
    let rows = SequenceRows {
        tables: Arc::default(),
        start: 0,
        wants: vec![Want::Logits],
    };
    Job {
        id,
        step: Arc::new(Step {
            sequences: vec![rows],
        }),
        ids: vec![token],
    }
}

#[test]
fn rows_pass_every_stage_in_order_even_when_a_device_has_two() {
    for last in [Behaviour::Works, Behaviour::Waits] {
        let bench = bench(&[0, 1, 0], 4, last);
        for id in 0..4 {
            bench.runner.submit(job(id, id as u32)).unwrap();
        }
        for id in 0..4 {
            let end = bench.ends.recv().unwrap();
            assert_eq!(end.id, id);
            assert_eq!(end.result.unwrap().hidden, [id as f32, 100.0, 101.0, 102.0]);
        }
    }
}

#[test]
fn a_job_over_the_bound_comes_back() {
    let (Bench { runner, ends, .. }, hold) = held_bench();
    runner.submit(job(1, 1)).unwrap();
    runner.submit(job(2, 2)).unwrap();
    assert_eq!(runner.submit(job(3, 3)).unwrap_err().id, 3);
    hold.send(()).unwrap();
    ends.recv().unwrap();
    // The place is free before the caller hears of the end.
    runner.submit(job(3, 3)).unwrap();
}

#[test]
fn a_failure_names_the_stage_its_device_and_its_pieces() {
    let bench = bench(&[0, 7], 1, Behaviour::Abandons);
    bench.runner.submit(job(5, 1)).unwrap();
    let failure = bench.ends.recv().unwrap().result.unwrap_err();
    assert_eq!(
        (failure.stage, failure.device, failure.span),
        (1, 7, Span::new(1, 2))
    );
    assert!(matches!(failure.error, StageError::Abandoned));
}

#[test]
fn a_panic_becomes_an_error_and_the_stage_takes_no_more() {
    let bench = bench(&[0], 1, Behaviour::Panics);
    for _ in 0..2 {
        bench.runner.submit(job(1, 1)).unwrap();
        let failure = bench.ends.recv().unwrap().result.unwrap_err();
        assert!(failure.to_string().contains("out of order"), "{failure}");
    }
}

#[test]
fn a_release_reaches_every_stage() {
    let bench = bench(&[0, 1, 0], 1, Behaviour::Works);
    bench.runner.release(3, Arc::from([BlockId(9)])).unwrap();
    // A job behind it has passed every stage, so the release has too.
    bench.runner.submit(job(1, 1)).unwrap();
    bench.ends.recv().unwrap();
    let mut log = bench.log.lock().unwrap().clone();
    log.sort();
    let expected: Vec<_> = (100..103)
        .map(|n| format!("stage {n} frees [BlockId(9)] of group 3"))
        .collect();
    assert_eq!(log, expected);
}

#[test]
fn releases_never_take_the_room_of_jobs() {
    let (Bench { runner, ends, log }, hold) = held_bench();
    runner.submit(job(1, 1)).unwrap();
    let mut taken = 0;
    while runner.release(0, Arc::from([BlockId(taken)])).is_ok() {
        taken += 1;
    }
    runner.submit(job(2, 2)).unwrap();
    hold.send(()).unwrap();
    assert_eq!(ends.recv().unwrap().id, 1);
    assert_eq!(ends.recv().unwrap().id, 2);
    assert_eq!(log.lock().unwrap().len(), taken as usize);
    // There is room for releases again.
    runner.release(0, Arc::from([BlockId(99)])).unwrap();
}
