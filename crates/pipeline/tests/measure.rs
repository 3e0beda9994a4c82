//! Timing pieces on a device whose clocks are scripted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, Waker};

use gogrid_lease::Ledger;
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::{
    Backend, BlockId, Costs, Footprint, Input, LayerKv, Meter, Opening, OutputBuf, Stage,
    StageError, Step, Ticket, measure,
};
use gogrid_testkit::fakes::{FakeBackend, ManualClock};
use gogrid_testkit::{Family, RandomModel, Rng, Spec};
use gogrid_units::{Bytes, Span, WeightType};

/// Lanes of the device.
const LANES: usize = 2;
/// Nanoseconds that a row takes in each piece of a span, alone and among many, if all lanes share it.
const DECODE_NANOS: u64 = 400_000;
const PREFILL_NANOS: u64 = 50_000;
/// What a thread takes to load a piece.
const LOAD_NANOS: u64 = 200_000_000;

/// A device with clocks of its own. Stages check that what they read was written.
struct Scripted {
    inner: FakeBackend,
    times: Arc<Times>,
}

#[derive(Default)]
struct Times {
    wall: ManualClock,
    busy: AtomicU64,
    /// Of it, what steps took.
    busy_in_steps: AtomicU64,
    /// What the thread that loads and times has used and not settled yet.
    unsettled: AtomicU64,
    polls: AtomicUsize,
    steps: AtomicUsize,
    /// What a step takes of wall and busy time, for its undisturbed nanoseconds.
    disturb: Option<Disturb>,
}

/// From a step's number and its undisturbed nanoseconds to wall nanoseconds and busy ones of all
/// lanes.
type Disturb = Box<dyn Fn(usize, u64) -> (u64, u64) + Send + Sync>;

struct Timed {
    inner: Box<dyn Stage>,
    pieces: u64,
    rows: u64,
    waker: Waker,
    has_waited: bool,
    times: Arc<Times>,
}

impl Backend for Scripted {
    fn check(&self, model: &Model, span: Span) -> Result<(), StageError> {
        self.inner.check(model, span)
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.inner.predict(model, span, rows_max)
    }

    fn open(&mut self, opening: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        self.times.unsettled.fetch_add(LOAD_NANOS, SeqCst);
        Ok(Box::new(Timed {
            pieces: opening.span.len() as u64,
            rows: 0,
            waker: opening.waker.clone(),
            has_waited: false,
            inner: self.inner.open(opening)?,
            times: Arc::clone(&self.times),
        }))
    }
}

impl Stage for Timed {
    fn footprint(&self) -> Footprint {
        self.inner.footprint()
    }

    fn depth(&self) -> usize {
        1
    }

    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError> {
        self.rows = step.rows() as u64;
        self.inner.submit(step, input)
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        self.times.polls.fetch_add(1, SeqCst);
        self.has_waited = !self.has_waited;
        if self.has_waited {
            // Woken from another thread.
            let waker = self.waker.clone();
            std::thread::spawn(move || waker.wake());
            return Poll::Pending;
        }
        let nanos = self.pieces
            * match self.rows {
                1 => DECODE_NANOS,
                rows => rows * PREFILL_NANOS,
            };
        let step = self.times.steps.fetch_add(1, SeqCst);
        let disturb = self.times.disturb.as_ref();
        let (wall, busy) = disturb.map_or((nanos, nanos * LANES as u64), |d| d(step, nanos));
        self.times.wall.advance(wall);
        let settled = busy + self.times.unsettled.swap(0, SeqCst);
        self.times.busy.fetch_add(settled, SeqCst);
        self.times.busy_in_steps.fetch_add(busy, SeqCst);
        self.inner.poll(ticket, out)
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        self.inner.release(group, blocks);
    }

    fn export(&mut self, group: usize, block: BlockId) -> Result<Vec<LayerKv>, StageError> {
        self.inner.export(group, block)
    }

    fn import(
        &mut self,
        group: usize,
        block: BlockId,
        layers: &[LayerKv],
    ) -> Result<(), StageError> {
        self.inner.import(group, block, layers)
    }
}

fn tiny() -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let spec = Spec {
        family: Family::Gemma2,
        weights: WeightType::Q8_0,
        seed: 3,
    };
    RandomModel::new(spec).write_gguf(&path).unwrap();
    Model::open(&path, &OpenOptions::default()).unwrap()
}

/// What is measured where steps are disturbed so, and the meter's busy figure is read through
/// `figure`.
fn measured(disturb: Option<Disturb>, figure: fn(u64) -> u64) -> Costs {
    let memory = Ledger::new(Bytes::gib(1));
    let times = Arc::new(Times {
        disturb,
        ..Times::default()
    });
    let mut backend = Scripted {
        inner: FakeBackend::new(memory.clone()),
        times: Arc::clone(&times),
    };
    let meter = Meter {
        clock: &|| times.wall.now(),
        busy: &|| figure(times.busy.load(SeqCst)),
        loaded: &|| times.unsettled.store(0, SeqCst),
        lanes: LANES,
    };
    let model = tiny();
    let costs = measure(&mut backend, &model, &memory, &meter).unwrap();
    assert_eq!(memory.used(), Bytes::ZERO, "nothing is kept");
    let pieces = 2 * model.decoder().layers.len() + 2;
    assert_eq!([costs.decode.len(), costs.prefill.len()], [pieces; 2]);
    let (polls, steps) = (times.polls.load(SeqCst), times.steps.load(SeqCst));
    assert_eq!(polls, 2 * steps, "one before the device rings, one after");
    let (busy, in_steps) = (&times.busy, &times.busy_in_steps);
    let what = "loading a piece is no busy time, on which the device's limit would have it rest";
    assert_eq!(busy.load(SeqCst), in_steps.load(SeqCst), "{what}");
    costs
}

/// Panics unless every cost is within `share` of the undisturbed one.
fn check_near(costs: &Costs, share: f64) {
    let near = |found: &f64, nanos: u64| (found / (nanos as f64 / 1e9) - 1.0).abs() <= share;
    assert!(
        costs.decode.iter().all(|s| near(s, DECODE_NANOS)),
        "{costs:?}"
    );
    assert!(
        costs.prefill.iter().all(|s| near(s, PREFILL_NANOS)),
        "{costs:?}"
    );
}

fn plainly(busy: u64) -> u64 {
    busy
}

#[test]
fn an_idle_device_is_timed_as_it_is() {
    let costs = measured(None, plainly);
    assert!(costs.is_sure);
    check_near(&costs, 1e-6);
}

#[test]
fn other_programs_and_rests_do_not_count() {
    // Now and then a step waits for its core, thirty times as long as it works.
    let shared: Disturb = Box::new(|step, nanos| {
        let wait = nanos * 30 * (step as u64 % 3);
        (nanos + wait, nanos * LANES as u64)
    });
    let costs = measured(Some(shared), plainly);
    assert!(costs.is_sure);
    check_near(&costs, 1e-6);
}

#[test]
fn a_busy_figure_that_lags_does_by_long_stretches() {
    // Settled every millisecond of each lane.
    let costs = measured(None, |busy| busy / 2_000_000 * 2_000_000);
    assert!(costs.is_sure);
    check_near(&costs, 0.1);
}

#[test]
fn without_a_busy_figure_the_wall_must_agree_with_itself() {
    let costs = measured(None, |_| 0);
    assert!(costs.is_sure);
    check_near(&costs, 1e-6);
    let disturbed: Disturb = Box::new(|step, nanos| {
        let mut rng = Rng::new(step as u64 / 40);
        (nanos * (1 + rng.below(1000) as u64), 0)
    });
    assert!(!measured(Some(disturbed), |_| 0).is_sure);
}

#[test]
fn a_busy_figure_that_cannot_be_is_not_believed() {
    // More than all lanes have.
    let costs = measured(None, |busy| 3 * busy);
    assert!(!costs.is_sure);
    check_near(&costs, 1e-6);
    // One that never comes out the same: caches that others empty.
    let disturbed: Disturb = Box::new(|step, nanos| {
        let mut rng = Rng::new(step as u64 / 20);
        let busy = nanos * LANES as u64 * (1 + rng.below(300) as u64);
        (busy, busy)
    });
    assert!(!measured(Some(disturbed), plainly).is_sure);
}
