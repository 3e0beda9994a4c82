mod stage;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use gogrid_lease::Ledger;
use gogrid_model::Model;
use gogrid_pipeline::{Backend, Footprint, Opening, Stage, StageError};
use gogrid_units::{Bytes, Moment, Pace, Span};

use self::stage::{AcceleratorStage, lost};
use super::backend::lease;
use super::{FakeModel, FakeStage, Faults};

/// Steps that a stage of a fake accelerator takes in before the oldest is done.
const DEPTH: usize = 2;

/// What a fake accelerator does, by the number of the submission over all its stages, from 0.
#[derive(Clone, Debug, Default)]
pub struct AcceleratorScript {
    /// How long it works for a row.
    pub nanos_per_row: u64,
    /// These fail with [`StageError::Device`].
    pub fail: Vec<u64>,
    /// These are not done, nor any after them, before [`AcceleratorHandle::answer`].
    pub hang: Vec<u64>,
    /// The device is lost when it is given these.
    pub lost_at: Vec<u64>,
    /// Wakes at each submission that mean nothing.
    pub spurious_wakes: usize,
    /// Wakes at each answer beyond the first.
    pub extra_wakes: usize,
    /// What it says of its copies.
    pub copy_bytes_per_second: Option<f64>,
}

/// A device with a memory of its own that computes what a [`FakeStage`] does and answers later: when
/// its handle says how time passes, or in real time by a thread of its own.
pub struct FakeAccelerator {
    device: AcceleratorHandle,
    memory: Ledger,
    pace: Arc<dyn Pace>,
}

/// The test's end of a [`FakeAccelerator`]. Clones are of the same device.
#[derive(Clone)]
pub struct AcceleratorHandle {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Rung when the thread that keeps real time may have something to do.
    changed: Condvar,
}

struct State {
    script: AcceleratorScript,
    now: Moment,
    submissions: u64,
    busy_nanos: u64,
    /// How often it was lost; what was opened before is lost with it.
    losses: u64,
    is_lost: bool,
    /// The work it was given, the oldest first. It does one after the other.
    queue: VecDeque<Given>,
    /// When it began the oldest.
    began: Moment,
    has_thread_to_end: bool,
}

/// Work that the device has, or has done.
struct Given {
    number: u64,
    nanos: u64,
    waker: Waker,
    pace: Arc<dyn Pace>,
    /// Where its stage sees that it is done.
    slot: Arc<Mutex<bool>>,
}

impl FakeAccelerator {
    /// A device of this memory that keeps this pace.
    pub fn new(memory: Ledger, pace: Arc<dyn Pace>, script: AcceleratorScript) -> Self {
        let state = State {
            script,
            now: Moment(0),
            submissions: 0,
            busy_nanos: 0,
            losses: 0,
            is_lost: false,
            queue: VecDeque::new(),
            began: Moment(0),
            has_thread_to_end: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        Self {
            device: AcceleratorHandle { shared },
            memory,
            pace,
        }
    }

    /// What moves it on.
    pub fn handle(&self) -> AcceleratorHandle {
        self.device.clone()
    }
}

impl AcceleratorHandle {
    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `nanos` pass; what is done by then answers.
    pub fn advance(&self, nanos: u64) {
        let until = self.lock().now.after(Duration::from_nanos(nanos));
        loop {
            let mut state = self.lock();
            match state.next_end() {
                Some(end) if end <= until => {
                    state.now = state.now.max(end);
                    let done = state.finish();
                    drop(state);
                    self.tell(done);
                }
                _ => {
                    state.now = until;
                    return;
                }
            }
        }
    }

    /// When the oldest work will be done; never, if it hangs or there is none.
    pub fn next_end(&self) -> Option<Moment> {
        self.lock().next_end()
    }

    /// Has the oldest work done at once, one that hangs too. Says whether there was any.
    pub fn answer(&self) -> bool {
        let mut state = self.lock();
        let has_work = !state.queue.is_empty();
        let done = has_work.then(|| state.finish()).flatten();
        drop(state);
        self.tell(done);
        has_work
    }

    /// Whether its oldest work is not done before it is told.
    pub fn hangs(&self) -> bool {
        let state = self.lock();
        !state.queue.is_empty() && state.next_end().is_none()
    }

    /// Loses the device: all that its stages hold is gone.
    pub fn lose(&self) {
        let lost = self.lock().lose();
        lost.into_iter().for_each(|given| given.waker.wake());
    }

    /// Has a lost device back, empty: stages can be opened anew.
    pub fn come_back(&self) {
        self.lock().is_lost = false;
    }

    /// What the device's driver gives who opens it once more.
    ///
    /// # Errors
    /// [`StageError::Lost`] while the device is lost.
    pub fn open_again(
        &self,
        memory: Ledger,
        pace: Arc<dyn Pace>,
    ) -> Result<FakeAccelerator, StageError> {
        match self.lock().is_lost {
            true => Err(lost()),
            false => Ok(FakeAccelerator {
                device: self.clone(),
                memory,
                pace,
            }),
        }
    }

    /// Work that it has and has not done.
    pub fn in_flight(&self) -> usize {
        self.lock().queue.len()
    }

    /// Submissions so far.
    pub fn submissions(&self) -> u64 {
        self.lock().submissions
    }

    /// Nanoseconds that it has worked so far.
    pub fn busy_nanos(&self) -> u64 {
        self.lock().busy_nanos
    }

    /// Has a thread let real time pass, until the answer is dropped.
    pub fn in_real_time(&self) -> RealTime {
        self.lock().has_thread_to_end = false;
        let device = self.clone();
        let thread = std::thread::spawn(move || device.keep_time());
        RealTime {
            device: self.clone(),
            thread: Some(thread),
        }
    }

    fn keep_time(&self) {
        let wait = |state, time| {
            let waited = self.shared.changed.wait_timeout(state, time);
            waited.unwrap_or_else(PoisonError::into_inner)
        };
        let mut state = self.lock();
        while !state.has_thread_to_end {
            let Some(end) = state.next_end() else {
                let woken = self.shared.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let number = state.queue.front().map(|given| given.number);
            // Nothing but its loss, or the test's word, takes the oldest work away meanwhile.
            let mut rest = end.since(state.now);
            while !rest.is_zero() && state.queue.front().map(|given| given.number) == number {
                let part = rest.min(Duration::from_millis(1));
                let (woken, waited) = wait(state, part);
                state = woken;
                if state.has_thread_to_end {
                    return;
                }
                if waited.timed_out() {
                    rest -= part;
                    state.now = state.now.after(part);
                }
            }
            if state.queue.front().map(|given| given.number) == number {
                let done = state.finish();
                drop(state);
                self.tell(done);
                state = self.lock();
            }
        }
    }

    /// Charges the pace of work that is done, and wakes its driver.
    fn tell(&self, done: Option<Given>) {
        let Some(given) = done else { return };
        let wakes = 1 + self.lock().script.extra_wakes;
        given.pace.charge(given.nanos);
        (0..wakes).for_each(|_| given.waker.wake_by_ref());
    }
}

/// Keeps a fake accelerator's time, by a thread that ends when this is dropped.
pub struct RealTime {
    device: AcceleratorHandle,
    thread: Option<JoinHandle<()>>,
}

impl Drop for RealTime {
    fn drop(&mut self) {
        self.device.lock().has_thread_to_end = true;
        self.device.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A waker's panic is its driver's.
            let _ = thread.join();
        }
    }
}

impl State {
    fn next_end(&self) -> Option<Moment> {
        let oldest = self.queue.front()?;
        let hangs = self.script.hang.contains(&oldest.number);
        (!hangs).then(|| self.began.after(Duration::from_nanos(oldest.nanos)))
    }

    /// The oldest work is done.
    fn finish(&mut self) -> Option<Given> {
        let given = self.queue.pop_front()?;
        self.busy_nanos += given.nanos;
        self.began = self.now;
        *lock(&given.slot) = true;
        Some(given)
    }

    fn lose(&mut self) -> VecDeque<Given> {
        self.is_lost = true;
        self.losses += 1;
        std::mem::take(&mut self.queue)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend for FakeAccelerator {
    /// It takes every model: its arithmetic is made up.
    fn check(&self, _model: &Model, _span: Span) -> Result<(), StageError> {
        Ok(())
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        let decoder = model.decoder();
        let pieces = span.pieces(decoder.layers.len());
        let weights = pieces.flat_map(|piece| decoder.piece_weights(piece));
        let stage = FakeStage::new(FakeModel::of(decoder), span, Faults::default());
        Footprint {
            weights: weights.map(|weight| weight.kept_bytes()).sum(),
            scratch: Bytes::of(DEPTH * rows_max * decoder.width * size_of::<f32>()),
            ..stage.footprint()
        }
    }

    fn open(&mut self, opening: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        let losses = {
            let state = self.device.lock();
            if state.is_lost {
                return Err(lost());
            }
            state.losses
        };
        let Opening {
            model,
            span,
            rows_max,
            waker,
            cancel,
        } = opening;
        let held = self.predict(model, span, rows_max);
        let leases = lease(&self.memory, &held)?;
        let model = FakeModel::of(model.decoder());
        Ok(Box::new(AcceleratorStage {
            device: self.device.clone(),
            losses,
            inner: FakeStage::new(model, span, Faults::default()),
            held,
            open: VecDeque::new(),
            waker,
            cancel,
            pace: Arc::clone(&self.pace),
            _leases: leases,
        }))
    }

    fn copy_bytes_per_second(&mut self) -> Result<Option<f64>, StageError> {
        let state = self.device.lock();
        match state.is_lost {
            true => Err(lost()),
            false => Ok(state.script.copy_bytes_per_second),
        }
    }
}
