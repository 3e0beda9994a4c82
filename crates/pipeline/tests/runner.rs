//! The runner and its drivers, with stages that only note what they are asked.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;

use gogrid_pipeline::{
    BlockId, DeviceDriver, DriverHooks, Finished, Footprint, Hooks, Input, Job, LINES_MAX, LayerKv,
    OutputBuf, PlacedStage, Positions, Rows, Runner, RunnerError, STAGES_MAX, SequenceRows, Stage,
    StageError, Step, Ticket, Want,
};
use gogrid_units::{PlainThreads, Renewal, Span, Spawn, ThreadBody, Whose};

/// Appends its number to each row's history; the history is the hidden state, one value per stage.
struct Noting {
    number: f32,
    open: Vec<(Ticket, Vec<f32>)>,
    tickets: u64,
    behaviour: Behaviour,
    log: Log,
}

type Log = Arc<Mutex<Vec<String>>>;

#[derive(Clone)]
enum Behaviour {
    Works,
    /// Answers `Pending` until its device is done with the oldest step, as it was told.
    Waits(Arc<FakeDevice>),
    /// Answers `Pending` once before each result, and wakes its driver at once.
    WakesAtOnce(Waker, bool),
    Abandons,
    Panics,
    /// Panics in a step, and again when it is dropped.
    PanicsTwice,
    /// Works, and panics when it is dropped.
    PanicsWhenDropped,
}

/// Steps that a device has done, and polls that asked it.
#[derive(Default)]
struct FakeDevice {
    done: AtomicU64,
    polls: AtomicU64,
}

impl Noting {
    fn new(number: usize, behaviour: Behaviour, log: &Log) -> Self {
        Self {
            number: number as f32,
            open: Vec::new(),
            tickets: 0,
            behaviour,
            log: Arc::clone(log),
        }
    }

    fn note(&self, text: &str) {
        let text = format!("stage {} {text}", self.number);
        self.log.lock().unwrap().push(text);
    }
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
            Input::Rows(rows) => rows.ids.iter().map(|&id| id as f32).collect(),
            Input::Hidden(rows) => rows.to_vec(),
        };
        assert!(rows.len() >= step.rows());
        rows.push(self.number);
        self.tickets += 1;
        self.open.push((Ticket(self.tickets), rows));
        Ok(Ticket(self.tickets))
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        match &mut self.behaviour {
            Behaviour::Abandons => return Poll::Ready(Err(StageError::Abandoned)),
            Behaviour::Panics | Behaviour::PanicsTwice => panic!("out of order"),
            Behaviour::Waits(device) => {
                device.polls.fetch_add(1, SeqCst);
                if device.done.load(SeqCst) < ticket.0 {
                    return Poll::Pending;
                }
            }
            Behaviour::WakesAtOnce(waker, has_waited) => {
                *has_waited = !*has_waited;
                if *has_waited {
                    waker.wake_by_ref();
                    return Poll::Pending;
                }
            }
            Behaviour::Works | Behaviour::PanicsWhenDropped => {}
        }
        let (oldest, rows) = self.open.remove(0);
        assert_eq!(oldest, ticket, "polled in the order submitted");
        self.note("ran");
        out.hidden = rows;
        Poll::Ready(Ok(()))
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        self.note(&format!("frees {blocks:?} of group {group}"));
    }

    fn export(&mut self, _group: usize, _block: BlockId) -> Result<Vec<LayerKv>, StageError> {
        Ok(Vec::new())
    }

    fn import(
        &mut self,
        _group: usize,
        _block: BlockId,
        _layers: &[LayerKv],
    ) -> Result<(), StageError> {
        Ok(())
    }

    fn renew_threads(&mut self, renewal: u64) {
        self.note(&format!("renews for the {renewal}th time"));
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        let panics = [Behaviour::PanicsTwice, Behaviour::PanicsWhenDropped];
        let own = std::mem::discriminant(&self.behaviour);
        if panics.iter().any(|b| std::mem::discriminant(b) == own) {
            panic!("cannot be dropped");
        }
    }
}

/// Drivers for three devices, and what their deaths were.
struct Drivers {
    drivers: Vec<DeviceDriver>,
    deaths: Receiver<String>,
}

impl Drivers {
    fn start(spawn: &Arc<dyn Spawn>) -> Self {
        let (sender, deaths) = channel();
        let hooks = DriverHooks {
            serves: Arc::new(|_| ()),
            on_death: Arc::new(move |why| drop(sender.send(why.to_owned()))),
        };
        let start = |_| DeviceDriver::start(spawn, hooks.clone()).unwrap();
        let drivers = (0..3).map(start).collect();
        Self { drivers, deaths }
    }

    fn plain() -> Self {
        Self::start(&(Arc::new(PlainThreads) as _))
    }

    fn all(&self) -> Vec<&DeviceDriver> {
        self.drivers.iter().collect()
    }

    /// A line of stages on the devices given, in order; the last behaves as said.
    fn line(&self, devices: &[usize], last: Behaviour) -> Line {
        let log = Log::default();
        let stages = devices.iter().enumerate().map(|(index, &device)| {
            let is_last = index + 1 == devices.len();
            let behaviour = if is_last {
                last.clone()
            } else {
                Behaviour::Works
            };
            PlacedStage {
                device,
                span: Span::new(index, index + 1),
                stage: Box::new(Noting::new(100 + index, behaviour, &log)),
            }
        });
        self.open(stages.collect(), log)
    }

    fn open(&self, stages: Vec<PlacedStage>, log: Log) -> Line {
        let (sender, ends) = channel();
        let (has_room, room) = channel();
        let hooks = Hooks {
            finished: Arc::new(move |end| drop(sender.send(end))),
            has_room: Arc::new(move || has_room.send(()).unwrap()),
        };
        let runner = Runner::open(stages, &self.all(), hooks).unwrap();
        Line {
            runner,
            ends,
            room,
            log,
        }
    }

    fn renew(&self) -> Receiver<()> {
        let (told, done) = renewal();
        for driver in &self.drivers {
            // Refused where one waits already.
            let _ = driver.renew(Arc::clone(&told));
        }
        done
    }
}

struct Line {
    runner: Runner,
    ends: Receiver<Finished>,
    /// A word for each time that a release was refused and there is room again.
    room: Receiver<()>,
    log: Log,
}

/// Hooks for a caller that hears of ends alone.
fn on_end(finished: impl Fn(Finished) + Send + Sync + 'static) -> Hooks {
    Hooks {
        finished: Arc::new(finished),
        has_room: Arc::new(|| {}),
    }
}

impl Line {
    fn sorted_log(&self) -> Vec<String> {
        let mut log = std::mem::take(&mut *self.log.lock().unwrap());
        log.retain(|text| !text.ends_with("ran"));
        log.sort();
        log
    }

    /// What a job gives, or the text of its failure.
    fn run(&self, id: u64) -> Result<Vec<f32>, String> {
        self.runner.submit(job(id, id as u32)).unwrap();
        let end = self.ends.recv().unwrap();
        assert_eq!(end.id, id);
        end.result
            .map(|out| out.hidden)
            .map_err(|failure| failure.to_string())
    }
}

/// Drivers whose first does nothing before a word is sent.
fn held_drivers() -> (Drivers, Sender<()>) {
    let (hold, held) = channel();
    let held: Arc<dyn Spawn> = Arc::new(Held(Mutex::new(Some(held))));
    (Drivers::start(&held), hold)
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

fn job(id: u64, token: u32) -> Job {
    let rows = SequenceRows {
        tables: Arc::default(),
        start: 0,
        length: 1,
        positions: Positions::Sequential,
        wants: vec![Want::Logits],
    };
    Job {
        id,
        step: Arc::new(Step {
            sequences: vec![rows],
        }),
        rows: Rows::of_ids(vec![token]),
        whose: Whose::Guest,
    }
}

/// A renewal, and what tells when it is done.
fn renewal() -> (Renewal, Receiver<()>) {
    let (done, wait) = channel();
    (Arc::new(done), wait)
}

/// Waits until `is_so`, which another thread makes so.
fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

#[test]
fn rows_pass_every_stage_in_order_even_when_a_device_has_two() {
    for waits in [false, true] {
        let drivers = Drivers::plain();
        let waker = drivers.drivers[0].waker();
        let last = if waits {
            Behaviour::WakesAtOnce(waker, false)
        } else {
            Behaviour::Works
        };
        let line = drivers.line(&[0, 1, 0], last);
        assert_eq!(line.runner.depth(), 6, "two for each stage");
        for id in 0..6 {
            line.runner.submit(job(id, id as u32)).unwrap();
        }
        for id in 0..6 {
            let end = line.ends.recv().unwrap();
            assert_eq!(end.id, id);
            assert_eq!(end.result.unwrap().hidden, [id as f32, 100.0, 101.0, 102.0]);
        }
    }
}

#[test]
fn an_output_that_was_read_is_filled_again_until_spares_are_freed() {
    let drivers = Drivers::plain();
    let line = drivers.line(&[0, 1, 0], Behaviour::Works);
    let next = |id| {
        line.runner.submit(job(id, 1)).unwrap();
        line.ends.recv().unwrap().result.unwrap()
    };
    let mut output = next(1);
    output.logits = vec![1.0; 1000];
    let place = output.logits.as_ptr();
    line.runner.reuse(output);
    let output = next(2);
    assert_eq!((output.logits.as_ptr(), output.logits.len()), (place, 0));
    assert_eq!(output.hidden, [1.0, 100.0, 101.0, 102.0]);
    line.runner.reuse(output);
    line.runner.free_spares();
    assert_eq!(next(3).logits.capacity(), 0);
}

#[test]
fn a_job_over_the_bound_comes_back() {
    let (drivers, hold) = held_drivers();
    let Line { runner, ends, .. } = drivers.line(&[0], Behaviour::Works);
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
    let drivers = Drivers::plain();
    let line = drivers.line(&[0, 2], Behaviour::Abandons);
    line.runner.submit(job(5, 1)).unwrap();
    let failure = line.ends.recv().unwrap().result.unwrap_err();
    assert_eq!(
        (failure.stage, failure.device, failure.span),
        (1, 2, Span::new(1, 2))
    );
    assert!(matches!(failure.error, StageError::Abandoned));
}

#[test]
fn a_panic_becomes_an_error_and_the_stage_takes_no_more() {
    let drivers = Drivers::plain();
    let line = drivers.line(&[0], Behaviour::Panics);
    let other = drivers.line(&[0], Behaviour::Works);
    for id in 0..2 {
        let failure = line.run(id).unwrap_err();
        assert!(failure.contains("out of order"), "{failure}");
    }
    assert_eq!(other.run(7).unwrap(), [7.0, 100.0], "the driver goes on");
    assert!(line.runner.retire().wait().is_empty(), "it is not trusted");
}

#[test]
fn a_release_reaches_every_stage_of_its_line() {
    let drivers = Drivers::plain();
    let line = drivers.line(&[0, 1, 0], Behaviour::Works);
    let other = drivers.line(&[0, 1], Behaviour::Works);
    line.runner.release(3, Arc::from([BlockId(9)])).unwrap();
    // A job behind it has passed every stage, so the release has too.
    line.run(1).unwrap();
    let expected: Vec<_> = (100..103)
        .map(|n| format!("stage {n} frees [BlockId(9)] of group 3"))
        .collect();
    assert_eq!(line.sorted_log(), expected);
    assert!(other.sorted_log().is_empty());
}

#[test]
fn releases_never_take_the_room_of_jobs() {
    let (drivers, hold) = held_drivers();
    let line = drivers.line(&[0], Behaviour::Works);
    line.runner.submit(job(1, 1)).unwrap();
    let mut taken = 0;
    while line.runner.release(0, Arc::from([BlockId(taken)])).is_ok() {
        taken += 1;
    }
    line.runner.submit(job(2, 2)).unwrap();
    hold.send(()).unwrap();
    assert_eq!(line.ends.recv().unwrap().id, 1);
    assert_eq!(line.ends.recv().unwrap().id, 2);
    assert_eq!(line.sorted_log().len(), taken as usize);
    // There is room for releases again, and the refused caller heard of it.
    line.room.recv().unwrap();
    assert!(line.room.try_recv().is_err(), "once");
    line.runner.release(0, Arc::from([BlockId(99)])).unwrap();
}

#[test]
fn lines_on_one_driver_run_in_turn() {
    let (drivers, hold) = held_drivers();
    let log = Log::default();
    let (sender, ends) = channel();
    let open = |stages: usize, number: usize| {
        let stage = |index| PlacedStage {
            device: 0,
            span: Span::new(index, index + 1),
            stage: Box::new(Noting::new(number, Behaviour::Works, &log)),
        };
        let sender = sender.clone();
        let finished = on_end(move |_| sender.send(number).unwrap());
        Runner::open((0..stages).map(stage).collect(), &drivers.all(), finished).unwrap()
    };
    // Sixteen jobs before one.
    let (long, short) = (open(8, 1), open(1, 2));
    for id in 0..16 {
        long.submit(job(id, 1)).unwrap();
    }
    short.submit(job(0, 2)).unwrap();
    hold.send(()).unwrap();
    let order: Vec<usize> = ends.iter().take(17).collect();
    let place = order.iter().position(|&number| number == 2).unwrap();
    assert!(place <= 1, "{order:?}");
}

#[test]
fn a_pending_stage_is_asked_only_when_it_rings() {
    let drivers = Drivers::plain();
    let driver = &drivers.drivers[0];
    let device = Arc::new(FakeDevice::default());
    let line = drivers.line(&[0], Behaviour::Waits(Arc::clone(&device)));
    let polls = || device.polls.load(SeqCst);
    line.runner.submit(job(1, 1)).unwrap();
    wait_until(|| polls() == 1);
    // It works for a while: nobody asks, whatever else the driver is told.
    let before = driver.wake_ups();
    line.runner.submit(job(2, 2)).unwrap();
    line.runner.release(0, Arc::from([BlockId(1)])).unwrap();
    wait_until(|| line.log.lock().unwrap().len() == 1);
    std::thread::park_timeout(std::time::Duration::from_millis(50));
    assert_eq!(polls(), 1);
    let idle = driver.wake_ups();
    assert!(idle - before <= 2, "one for each message at most");
    // Rings that mean nothing cost a poll each, and no more.
    for ring in 0..5 {
        driver.waker().wake();
        wait_until(|| polls() == 2 + ring);
    }
    device.done.store(2, SeqCst);
    driver.waker().wake();
    assert_eq!(line.ends.recv().unwrap().id, 1);
    assert_eq!(line.ends.recv().unwrap().id, 2);
    wait_until(|| polls() == 8);
    // One that finds the driver awake wakes nobody.
    assert!(driver.wake_ups() - idle <= 6, "one for each ring");
}

#[test]
fn a_driver_whose_caller_panics_tells_and_leaves_nobody_waiting() {
    let drivers = Drivers::plain();
    let log = Log::default();
    let (sender, ends) = channel();
    let has_panicked = AtomicBool::new(false);
    let finished = on_end(move |end: Finished| {
        let is_lost = matches!(&end.result, Err(f) if matches!(f.error, StageError::Lost(_)));
        sender.send((end.id, is_lost)).unwrap();
        assert!(has_panicked.swap(true, SeqCst), "the caller's own fault");
    });
    let device = Arc::new(FakeDevice::default());
    let stages = vec![PlacedStage {
        device: 0,
        span: Span::new(0, 1),
        stage: Box::new(Noting::new(1, Behaviour::Waits(Arc::clone(&device)), &log)),
    }];
    let runner = Runner::open(stages, &drivers.all(), finished).unwrap();
    let other = drivers.line(&[1, 0], Behaviour::Works);
    runner.submit(job(1, 1)).unwrap();
    runner.submit(job(2, 1)).unwrap();
    device.done.store(1, SeqCst);
    drivers.drivers[0].waker().wake();
    assert_eq!(ends.recv().unwrap(), (1, false));
    assert_eq!(ends.recv().unwrap(), (2, true));
    let death = drivers.deaths.recv().unwrap();
    assert!(death.contains("the caller's own fault"), "{death}");
    // Every later job is lost too, of each line that stands there.
    for id in 3..9 {
        runner.submit(job(id, 1)).unwrap();
        assert_eq!(ends.recv().unwrap(), (id, true));
        let failure = other.run(id).unwrap_err();
        assert!(failure.contains("device lost"), "{failure}");
    }
    assert!(runner.release(0, Arc::from([BlockId(1)])).is_ok());
    let (told, done) = renewal();
    assert!(drivers.drivers[0].renew(told).is_ok());
    assert!(done.recv().is_err());
    assert!(runner.retire().wait().is_empty());
    let sound = other.runner.retire().wait();
    assert_eq!(sound.iter().map(|s| s.device).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_stage_that_cannot_be_dropped_ends_no_stage_of_others_unseen() {
    // Broken, and dropped by its driver while that runs.
    let drivers = Drivers::plain();
    let broken = drivers.line(&[0], Behaviour::PanicsTwice);
    let other = drivers.line(&[0], Behaviour::Works);
    broken.run(1).unwrap_err();
    drop(broken.runner);
    // It was known to be broken: the driver goes on with the stages of others.
    other.run(2).unwrap();
    // Dropped with its driver, beside another such.
    let mut drivers = Drivers::plain();
    let lines = [0, 1].map(|_| drivers.line(&[0], Behaviour::PanicsWhenDropped));
    drivers.drivers.remove(0);
    let death = drivers.deaths.recv().unwrap();
    assert!(death.contains("cannot be dropped"), "{death}");
    for line in &lines {
        assert!(line.run(3).unwrap_err().contains("device lost"));
    }
}

#[test]
fn stages_that_retire_can_stand_in_another_line() {
    let drivers = Drivers::plain();
    let line = drivers.line(&[0, 1, 0], Behaviour::Works);
    line.run(1).unwrap();
    let Line { runner, log, .. } = line;
    let mut stages = runner.retire().wait();
    let places: Vec<_> = stages.iter().map(|s| (s.device, s.span.start)).collect();
    assert_eq!(places, [(0, 0), (1, 1), (0, 2)]);
    // The middle one leaves, and the last moves to another device.
    stages.remove(1);
    stages[1].device = 2;
    let line = drivers.open(stages, log);
    assert_eq!(line.run(5).unwrap(), [5.0, 100.0, 102.0]);
}

#[test]
fn a_line_dropped_while_another_runs_ends_its_own_jobs_alone() {
    let drivers = Drivers::plain();
    let device = Arc::new(FakeDevice::default());
    let stays = drivers.line(&[0, 1, 0], Behaviour::Works);
    for round in 0..50 {
        let goes = drivers.line(&[1, 0, 1], Behaviour::Waits(Arc::clone(&device)));
        goes.runner.submit(job(1, 1)).unwrap();
        goes.runner.submit(job(2, 1)).unwrap();
        stays.runner.submit(job(round, 1)).unwrap();
        drop(goes.runner);
        for id in [1, 2] {
            let end = goes.ends.recv().unwrap();
            let error = end.result.unwrap_err().error;
            assert!(end.id == id || end.id == 3 - id);
            // No device is to blame: the line was taken off.
            assert!(matches!(error, StageError::Abandoned), "{error}");
        }
        let end = stays.ends.recv().unwrap();
        assert_eq!((end.id, end.result.is_ok()), (round, true));
    }
}

#[test]
fn a_device_has_places_for_so_many_lines_and_gets_them_back() {
    let drivers = Drivers::plain();
    let stage = || PlacedStage {
        device: 1,
        span: Span::new(0, 1),
        stage: Box::new(Noting::new(1, Behaviour::Works, &Log::default())),
    };
    let open = |stages| Runner::open(stages, &drivers.all(), on_end(|_| {}));
    let mut lines: Vec<_> = (0..LINES_MAX)
        .map(|_| open(vec![stage()]).unwrap())
        .collect();
    let refused = open(vec![stage()]).err();
    assert_eq!(refused, Some(RunnerError::TooManyPipelines { device: 1 }));
    assert_eq!(lines.pop().unwrap().retire().wait().len(), 1);
    lines.push(open(vec![stage()]).unwrap());
    let stages = STAGES_MAX + 1;
    let many = open((0..stages).map(|_| stage()).collect()).err();
    assert_eq!(many, Some(RunnerError::Stages { stages }));
    assert_eq!(
        open(Vec::new()).err(),
        Some(RunnerError::Stages { stages: 0 })
    );
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

#[test]
fn jobs_in_flight_end_in_order_while_fresh_threads_take_over() {
    for waits in [false, true] {
        let counting = Arc::new(Counting::default());
        let drivers = Drivers::start(&(counting.clone() as _));
        let last = if waits {
            Behaviour::WakesAtOnce(drivers.drivers[0].waker(), false)
        } else {
            Behaviour::Works
        };
        let line = drivers.line(&[0, 1, 0], last);
        let (mut sent, mut ended) = (0, 0);
        while ended < 200 {
            while sent < 200 && line.runner.submit(job(sent, sent as u32)).is_ok() {
                sent += 1;
                drop(drivers.renew());
            }
            let end = line.ends.recv().unwrap();
            assert_eq!(end.id, ended);
            let hidden = end.result.unwrap().hidden;
            assert_eq!(hidden, [ended as f32, 100.0, 101.0, 102.0]);
            ended += 1;
        }
        let started = counting.started.load(SeqCst);
        assert!(started > 10, "{started}");
        assert!(drivers.renew().recv().is_err());
        // A driver and the one before it, which may not have ended, for each device.
        wait_until(|| counting.alive.load(SeqCst) <= 2 * 3);
        drop(drivers);
        assert_eq!(counting.alive.load(SeqCst), 0);
    }
}

#[test]
fn drivers_dropped_while_fresh_threads_take_over_join_them_all() {
    for renewals in 1..20 {
        let counting = Arc::new(Counting::default());
        let drivers = Drivers::start(&(counting.clone() as _));
        let line = drivers.line(&[0, 1], Behaviour::Works);
        for _ in 0..renewals {
            drop(drivers.renew());
        }
        drop(line);
        drop(drivers);
        assert_eq!(counting.alive.load(SeqCst), 0);
    }
}

#[test]
fn where_no_thread_can_take_over_the_one_before_goes_on() {
    let counting = Arc::new(Counting::default());
    let drivers = Drivers::start(&(counting.clone() as _));
    let line = drivers.line(&[0, 1], Behaviour::Works);
    counting.refuses.store(true, SeqCst);
    assert!(drivers.renew().recv().is_err(), "it is over all the same");
    assert_eq!(line.run(7).unwrap()[0], 7.0);
    assert_eq!(counting.started.load(SeqCst), 3);
    counting.refuses.store(false, SeqCst);
    assert!(drivers.renew().recv().is_err());
    assert_eq!(line.run(8).unwrap()[0], 8.0);
    assert_eq!(counting.started.load(SeqCst), 6);
}

#[test]
fn a_renewal_reaches_every_stage_once() {
    let drivers = Drivers::plain();
    let line = drivers.line(&[0, 1, 0], Behaviour::Works);
    let expected =
        |time: u64| (100..103).map(move |n| format!("stage {n} renews for the {time}th time"));
    for time in 1..3 {
        assert!(drivers.renew().recv().is_err());
        assert_eq!(line.sorted_log(), expected(time).collect::<Vec<_>>());
    }
}
