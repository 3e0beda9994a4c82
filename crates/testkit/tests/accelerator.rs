//! The fake accelerator on the real runner, beside a fake CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gogrid_lease::{Kind, Ledger};
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::{
    Backend, BlockId, DeviceDriver, DriverHooks, Finished, Hooks, Job, Opening, PlacedStage,
    Positions, Rows, Runner, RunnerError, SequenceRows, StageError, Step, Want,
};
use gogrid_testkit::fakes::{
    AcceleratorHandle, AcceleratorScript, FakeAccelerator, FakeBackend, FakeModel,
};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{
    Bytes, FullSpeed, Go, Moment, Pace, PlainThreads, Span, Spawn, WeightType, Whose, Work,
};

/// The index of the device that is a CPU, and of the accelerator.
const CPU: usize = 0;
const FAKE: usize = 1;

fn model() -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let spec = Spec {
        family: Family::Llama,
        weights: WeightType::Q8_0,
        seed: 3,
    };
    RandomModel::new(spec).write_gguf(&path).unwrap();
    Model::open(&path, &OpenOptions::default()).unwrap()
}

/// Adds up what it is charged.
#[derive(Default)]
struct Counting(AtomicU64);

impl Pace for Counting {
    fn point(&self, _work: Work) -> Go {
        Go::Go
    }

    fn rest(&self, _until: Moment) {}

    fn is_over(&self) -> bool {
        false
    }

    fn charge(&self, busy_nanos: u64) {
        self.0.fetch_add(busy_nanos, SeqCst);
    }
}

/// A CPU and an accelerator with their drivers.
struct Desk {
    model: Model,
    cpu: FakeBackend,
    fake: FakeAccelerator,
    device: AcceleratorHandle,
    memory: Ledger,
    pace: Arc<Counting>,
    drivers: [DeviceDriver; 2],
}

impl Desk {
    fn new(script: AcceleratorScript) -> Self {
        let spawn: Arc<dyn Spawn> = Arc::new(PlainThreads);
        let driver = || {
            let hooks = DriverHooks {
                serves: Arc::new(|_| ()),
                on_death: Arc::new(|why| panic!("{why}")),
            };
            DeviceDriver::start(&spawn, hooks).unwrap()
        };
        let memory = Ledger::new(Bytes::gib(1));
        let pace = Arc::new(Counting::default());
        let fake = FakeAccelerator::new(memory.clone(), Arc::clone(&pace) as _, script);
        Self {
            model: model(),
            cpu: FakeBackend::new(Ledger::new(Bytes::gib(1))),
            device: fake.handle(),
            fake,
            memory,
            pace,
            drivers: [driver(), driver()],
        }
    }

    /// The model cut evenly over these devices.
    fn open(&mut self, devices: &[usize]) -> Result<Line, StageError> {
        let mut rest = Span::whole_model(self.model.decoder().layers.len());
        let mut stages = Vec::new();
        for (index, &device) in devices.iter().enumerate() {
            let (span, after) = rest.split_at(rest.len() / (devices.len() - index));
            rest = after;
            let opening = Opening {
                waker: self.drivers[device].waker(),
                ..Opening::new(&self.model, span, 64)
            };
            let stage = match device {
                CPU => self.cpu.open(opening)?,
                _ => self.fake.open(opening)?,
            };
            stages.push(PlacedStage {
                device,
                span,
                stage,
            });
        }
        let (sender, ends) = channel();
        let hooks = Hooks {
            finished: Arc::new(move |end| drop(sender.send(end))),
            has_room: Arc::new(|| {}),
        };
        let drivers = [&self.drivers[CPU], &self.drivers[FAKE]];
        let runner: Result<_, RunnerError> = Runner::open(stages, &drivers, hooks);
        Ok(Line {
            runner: runner.unwrap(),
            ends,
            fake: FakeModel::of(self.model.decoder()),
            ids: Vec::new(),
        })
    }
}

/// A pipeline with one sequence on its way.
struct Line {
    runner: Runner,
    ends: Receiver<Finished>,
    fake: FakeModel,
    ids: Vec<u32>,
}

impl Line {
    fn submit(&mut self, ids: &[u32]) {
        let blocks = (0..4).map(|block| Some(BlockId(block))).collect();
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        let rows = SequenceRows {
            tables: Arc::new(vec![blocks; self.fake.windows.len()]),
            start,
            length: self.ids.len(),
            positions: Positions::Sequential,
            wants: vec![Want::Logits; ids.len()],
        };
        let job = Job {
            id: self.ids.len() as u64,
            step: Arc::new(Step {
                sequences: vec![rows],
            }),
            rows: Rows::of_ids(ids.to_vec()),
            whose: Whose::Guest,
        };
        assert!(self.runner.submit(job).is_ok());
    }

    /// Whether the next end is what the model means for the ids up to its number.
    fn check_next(&self) -> Result<(), StageError> {
        let end = self.ends.recv().unwrap();
        let out = end.result.map_err(|failure| failure.error)?;
        let ids = &self.ids[..end.id as usize];
        let last = out.logits.chunks_exact(self.fake.vocab).next_back();
        assert_eq!(last.unwrap(), self.fake.logits(ids));
        Ok(())
    }

    fn error(&self) -> StageError {
        self.check_next().unwrap_err()
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

fn working(nanos_per_row: u64) -> AcceleratorScript {
    AcceleratorScript {
        nanos_per_row,
        ..AcceleratorScript::default()
    }
}

#[test]
fn every_order_of_cpu_and_accelerator_means_what_the_model_means() {
    for devices in [
        &[CPU, FAKE][..],
        &[FAKE, CPU],
        &[FAKE, CPU, FAKE],
        &[CPU, FAKE, CPU, FAKE],
    ] {
        let mut desk = Desk::new(working(2_000));
        let time = desk.device.in_real_time();
        let mut line = desk.open(devices).unwrap();
        for chunk in [&[1, 2, 3, 4][..], &[5], &[6, 7], &[8]] {
            line.submit(chunk);
            line.check_next().unwrap();
        }
        let on_fake = devices.iter().filter(|&&device| device == FAKE).count() as u64;
        assert_eq!(desk.device.submissions(), 4 * on_fake);
        assert_eq!(desk.device.busy_nanos(), 8 * 2_000 * on_fake);
        assert_eq!(desk.pace.0.load(SeqCst), desk.device.busy_nanos());
        drop(time);
    }
}

#[test]
fn a_cpu_that_waits_wakes_its_driver() {
    let mut desk = Desk::new(working(1_000));
    let _time = desk.device.in_real_time();
    desk.cpu.faults.pending = 3;
    let mut line = desk.open(&[CPU, FAKE, CPU]).unwrap();
    for id in 0..5 {
        line.submit(&[id]);
        line.check_next().unwrap();
    }
}

#[test]
fn two_pipelines_share_an_accelerator_and_its_memory() {
    let mut desk = Desk::new(working(1_000));
    let _time = desk.device.in_real_time();
    let mut lines = [
        desk.open(&[FAKE, CPU]).unwrap(),
        desk.open(&[CPU, FAKE]).unwrap(),
    ];
    for (number, line) in lines.iter_mut().enumerate() {
        line.submit(&[number as u32, 9]);
    }
    lines.iter().for_each(|line| line.check_next().unwrap());
    assert!(desk.memory.used_by(Kind::Weights) > Bytes::ZERO);
    assert!(desk.memory.used_by(Kind::Scratch) > Bytes::ZERO);
    let both = desk.memory.used();
    let [one, other] = lines;
    drop(one);
    assert!(desk.memory.used() < both);
    drop(other);
    assert_eq!(desk.memory.used(), Bytes::ZERO);
    // A cap below what a stage needs.
    desk.memory.set_cap(Bytes(100));
    let refused = desk.open(&[CPU, FAKE]).err();
    assert!(
        matches!(refused, Some(StageError::Memory(_))),
        "{refused:?}"
    );
}

#[test]
fn it_works_in_virtual_time_and_wakes_nobody_meanwhile() {
    let mut desk = Desk::new(AcceleratorScript {
        nanos_per_row: 1_000_000_000,
        spurious_wakes: 2,
        extra_wakes: 1,
        ..AcceleratorScript::default()
    });
    let mut line = desk.open(&[FAKE]).unwrap();
    assert_eq!(line.runner.depth(), 2);
    line.submit(&[1]);
    line.submit(&[2]);
    wait_until(|| desk.device.in_flight() == 2);
    assert_eq!(desk.device.next_end(), Some(Moment(1_000_000_000)));
    let settled = || {
        let before = desk.drivers[FAKE].wake_ups();
        std::thread::park_timeout(Duration::from_millis(100));
        desk.drivers[FAKE].wake_ups() == before
    };
    wait_until(settled);
    let asleep = desk.drivers[FAKE].wake_ups();
    for _ in 0..999 {
        desk.device.advance(1_000_000);
    }
    std::thread::park_timeout(Duration::from_millis(20));
    assert_eq!(desk.drivers[FAKE].wake_ups(), asleep, "a second of work");
    assert!(line.ends.try_recv().is_err());
    desk.device.advance(1_000_000);
    line.check_next().unwrap();
    assert_eq!(desk.device.next_end(), Some(Moment(2_000_000_000)));
    desk.device.advance(5_000_000_000);
    line.check_next().unwrap();
    wait_until(settled);
    // Two answers that wake twice each; what comes while the driver is awake wakes nobody.
    let woken = desk.drivers[FAKE].wake_ups() - asleep;
    assert!((1..=4).contains(&woken), "{woken}");
}

#[test]
fn a_failed_submission_fails_alone() {
    let mut desk = Desk::new(AcceleratorScript {
        fail: vec![1],
        ..working(1_000)
    });
    let _time = desk.device.in_real_time();
    let mut line = desk.open(&[CPU, FAKE]).unwrap();
    line.submit(&[1]);
    line.check_next().unwrap();
    line.submit(&[2]);
    assert!(matches!(line.error(), StageError::Device(_)));
    // The same row again.
    line.ids.pop();
    line.submit(&[2]);
    line.check_next().unwrap();
}

#[test]
fn a_device_that_hangs_answers_when_it_is_told_or_lost() {
    let mut desk = Desk::new(AcceleratorScript {
        hang: vec![0, 2],
        ..working(1_000)
    });
    let mut line = desk.open(&[FAKE, CPU]).unwrap();
    line.submit(&[1]);
    wait_until(|| desk.device.in_flight() == 1);
    desk.device.advance(u64::MAX / 2);
    assert_eq!(desk.device.next_end(), None);
    assert!(line.ends.try_recv().is_err());
    assert!(desk.device.answer());
    line.check_next().unwrap();
    line.submit(&[2]);
    wait_until(|| desk.device.in_flight() == 1);
    desk.device.advance(1_000);
    line.check_next().unwrap();
    line.submit(&[3]);
    wait_until(|| desk.device.in_flight() == 1);
    desk.device.lose();
    assert!(matches!(line.error(), StageError::Lost(_)));
    assert!(!desk.device.answer(), "it has nothing any more");
}

#[test]
fn a_line_whose_device_hangs_can_be_dropped() {
    let mut desk = Desk::new(AcceleratorScript {
        hang: vec![0],
        ..working(1_000)
    });
    let mut line = desk.open(&[CPU, FAKE]).unwrap();
    line.submit(&[1]);
    wait_until(|| desk.device.in_flight() == 1);
    drop(line.runner);
    let end = line.ends.recv().unwrap();
    assert!(matches!(
        end.result.unwrap_err().error,
        StageError::Abandoned
    ));
    assert_eq!(desk.memory.used(), Bytes::ZERO);
}

#[test]
fn what_a_lost_device_held_is_gone_and_a_fresh_pipeline_replays_it() {
    let mut desk = Desk::new(AcceleratorScript {
        lost_at: vec![2],
        ..working(1_000)
    });
    let _time = desk.device.in_real_time();
    let mut line = desk.open(&[CPU, FAKE]).unwrap();
    for id in [4, 5] {
        line.submit(&[id]);
        line.check_next().unwrap();
    }
    line.submit(&[6]);
    assert!(matches!(line.error(), StageError::Lost(_)));
    let refused = desk.open(&[FAKE]).err();
    assert!(matches!(refused, Some(StageError::Lost(_))), "{refused:?}");
    desk.device.come_back();
    // The stage from before stays lost, whatever comes back.
    line.ids.pop();
    line.submit(&[6]);
    assert!(matches!(line.error(), StageError::Lost(_)));
    let ids = line.ids.clone();
    drop(line);
    let mut fresh = desk.open(&[FAKE, CPU]).unwrap();
    fresh.submit(&ids);
    fresh.check_next().unwrap();
}

#[test]
fn a_pace_that_is_over_abandons_before_the_device_has_the_step() {
    let memory = Ledger::new(Bytes::gib(1));
    let mut fake = FakeAccelerator::new(memory, Arc::new(FullSpeed), working(1_000));
    let model = model();
    let span = Span::whole_model(model.decoder().layers.len());
    let opening = Opening::new(&model, span, 4);
    let cancel = opening.cancel.clone();
    let mut stage = fake.open(opening).unwrap();
    cancel.cancel();
    let rows = SequenceRows {
        tables: Arc::new(vec![vec![Some(BlockId(0))]]),
        start: 0,
        length: 1,
        positions: Positions::Sequential,
        wants: vec![Want::Logits],
    };
    let step = Arc::new(Step {
        sequences: vec![rows],
    });
    let rows = Rows::of_ids(vec![1]);
    let refused = stage.submit(&step, gogrid_pipeline::Input::Rows(&rows));
    assert!(matches!(refused, Err(StageError::Abandoned)), "{refused:?}");
    assert_eq!(fake.handle().submissions(), 0);
}
