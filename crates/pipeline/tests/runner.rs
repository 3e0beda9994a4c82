//! The runner with stages that only note what they are asked.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::JoinHandle;

use gogrid_pipeline::{
    BlockId, Finished, Footprint, Hooks, Input, Job, OutputBuf, PlacedStage, Renewal, Runner,
    SequenceRows, Stage, StageError, Step, Ticket, Want,
};
use gogrid_units::{PlainThreads, Span, Spawn, ThreadBody};

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

    fn renew_threads(&mut self, renewal: u64) {
        let text = format!("stage {} renews for the {renewal}th time", self.number);
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
    bench_when(devices, in_flight_max, last, Arc::new(PlainThreads))
}

/// One stage that works, for two jobs; its driver takes nothing before a word is sent.
fn held_bench() -> (Bench, Sender<()>) {
    let (hold, held) = channel();
    let held = Arc::new(Held(Mutex::new(Some(held))));
    (bench_when(&[0], 2, Behaviour::Works, held), hold)
}

/// The first thread that it starts does nothing before a word is sent.
struct Held(Mutex<Option<Receiver<()>>>);

impl Spawn for Held {
    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<JoinHandle<()>> {
        let held = self.0.lock().unwrap().take();
        let wait = move || {
            if let Some(held) = held {
                held.recv().unwrap();
            }
            body();
        };
        PlainThreads.spawn(name, Box::new(wait))
    }
}

/// As [`bench`], with what starts the drivers.
fn bench_when(
    devices: &[usize],
    in_flight_max: usize,
    last: Behaviour,
    spawn: Arc<dyn Spawn>,
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
        spawn: Box::new(move |_| Arc::clone(&spawn)),
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

/// Counts the threads that live, and refuses to start one where it is told to.
#[derive(Default)]
struct Counting {
    started: AtomicUsize,
    alive: Arc<AtomicUsize>,
    refuses: AtomicBool,
}

impl Spawn for Counting {
    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<JoinHandle<()>> {
        if self.refuses.load(SeqCst) {
            return Err(io::Error::other("no more threads"));
        }
        self.started.fetch_add(1, SeqCst);
        let alive = Arc::clone(&self.alive);
        alive.fetch_add(1, SeqCst);
        let counted = move || {
            body();
            alive.fetch_sub(1, SeqCst);
        };
        PlainThreads.spawn(name, Box::new(counted))
    }
}

/// A renewal, and what tells when it is done.
fn renewal() -> (Renewal, Receiver<()>) {
    let (done, wait) = channel();
    (Arc::new(done), wait)
}

#[test]
fn jobs_in_flight_end_in_order_while_fresh_threads_take_over() {
    for last in [Behaviour::Works, Behaviour::Waits] {
        let counting = Arc::new(Counting::default());
        let bench = bench_when(&[0, 1, 0], 4, last, counting.clone());
        let (mut sent, mut ended) = (0, 0);
        while ended < 200 {
            while sent < 200 && bench.runner.submit(job(sent, sent as u32)).is_ok() {
                sent += 1;
                // Refused where enough of them wait.
                let _ = bench.runner.renew(renewal().0);
            }
            let end = bench.ends.recv().unwrap();
            assert_eq!(end.id, ended);
            let hidden = end.result.unwrap().hidden;
            assert_eq!(hidden, [ended as f32, 100.0, 101.0, 102.0]);
            ended += 1;
        }
        let started = counting.started.load(SeqCst);
        assert!(started > 10, "{started}");
        // A driver and the one before it, which may not have ended, for each device.
        let (told, done) = renewal();
        bench.runner.renew(told).unwrap();
        assert!(done.recv().is_err());
        assert!(counting.alive.load(SeqCst) <= 4 + 2);
        drop(bench);
        assert_eq!(counting.alive.load(SeqCst), 0);
    }
}

#[test]
fn a_runner_dropped_while_fresh_threads_take_over_joins_them_all() {
    for renewals in 1..20 {
        let counting = Arc::new(Counting::default());
        let bench = bench_when(&[0, 1], 1, Behaviour::Works, counting.clone());
        for _ in 0..renewals {
            let _ = bench.runner.renew(renewal().0);
        }
        drop(bench);
        assert_eq!(counting.alive.load(SeqCst), 0);
    }
}

#[test]
fn where_no_thread_can_take_over_the_one_before_goes_on() {
    let counting = Arc::new(Counting::default());
    let bench = bench_when(&[0, 1], 2, Behaviour::Works, counting.clone());
    let run = |id| {
        bench.runner.submit(job(id, 7)).unwrap();
        assert_eq!(bench.ends.recv().unwrap().result.unwrap().hidden[0], 7.0);
    };
    counting.refuses.store(true, SeqCst);
    let (told, done) = renewal();
    bench.runner.renew(told).unwrap();
    assert!(done.recv().is_err(), "it is over all the same");
    run(1);
    assert_eq!(counting.started.load(SeqCst), 2);
    counting.refuses.store(false, SeqCst);
    let (told, done) = renewal();
    bench.runner.renew(told).unwrap();
    assert!(done.recv().is_err());
    run(2);
    assert_eq!(counting.started.load(SeqCst), 4);
}

#[test]
fn a_renewal_reaches_every_stage_once() {
    let bench = bench(&[0, 1, 0], 1, Behaviour::Works);
    let expected =
        |time: u64| (100..103).map(move |n| format!("stage {n} renews for the {time}th time"));
    for time in 1..3 {
        let (told, done) = renewal();
        bench.runner.renew(told).unwrap();
        assert!(done.recv().is_err());
        let mut log = std::mem::take(&mut *bench.log.lock().unwrap());
        log.sort();
        assert_eq!(log, expected(time).collect::<Vec<_>>());
    }
}
