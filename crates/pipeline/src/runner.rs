//! Runs steps through the stages: one driver thread for each device, bounded channels between.
//!
//! A job in flight stands in exactly one channel, and a channel keeps room for every job that may
//! be in flight, so a hand-over never waits and drivers cannot block each other in a ring.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use gogrid_lease::{Permit, Permits};
use gogrid_units::{Span, Spawn, hand_over};

use crate::driver::{Driver, DriverStage, NAME};
use crate::stage::{Stage, StageError};
use crate::step::{BlockId, OutputBuf, Step};

/// Releases and renewals that wait in a driver's channel at most.
const WORDS_MAX: u32 = 8;

/// A stage with its place: which device drives it, and which pieces it runs.
pub struct PlacedStage {
    /// Index of the device; stages with one index share a driver thread.
    pub device: usize,
    /// The pieces.
    pub span: Span,
    /// The stage.
    pub stage: Box<dyn Stage>,
}

/// A step to run, with the token ids of its rows.
#[derive(Debug)]
pub struct Job {
    /// The caller's own number; comes back in [`Finished`].
    pub id: u64,
    /// Rows, positions, block tables.
    pub step: Arc<Step>,
    /// One for each row.
    pub ids: Vec<u32>,
}

/// The end of a job.
#[derive(Debug)]
pub struct Finished {
    /// The job's number.
    pub id: u64,
    /// What the last stage gave, or which stage failed.
    pub result: Result<OutputBuf, StageFailure>,
}

/// Which stage failed, where, and why.
#[derive(Debug, thiserror::Error)]
#[error("stage {stage} ({span}) on device {device}: {error}")]
pub struct StageFailure {
    /// Index of the stage in the pipeline.
    pub stage: usize,
    /// Index of its device.
    pub device: usize,
    /// Its pieces.
    pub span: Span,
    /// What happened.
    pub error: StageError,
}

/// Dropped by each driver when a renewal is done.
pub type Renewal = Arc<dyn Any + Send + Sync>;

/// What a runner calls.
pub struct Hooks {
    /// Called on a driver thread with each job's end; must not block.
    pub finished: Box<dyn Fn(Finished) + Send + Sync>,
    /// What starts the driver thread of a device, by its index, under the name `driver`.
    pub spawn: Box<dyn Fn(usize) -> Arc<dyn Spawn>>,
}

/// Stages in a row, each driven by its device's thread. Dropping it stops the drivers after the
/// step each is in; jobs still in flight end without a call.
pub struct Runner {
    line: Arc<Line>,
    in_flight_max: usize,
}

/// What all drivers share.
pub(crate) struct Line {
    /// For each stage, the channel of its driver.
    routes: Vec<SyncSender<Message>>,
    /// For each distinct device, the same channel once.
    devices: Vec<DeviceChannel>,
    in_flight: AtomicUsize,
    finished: Box<dyn Fn(Finished) + Send + Sync>,
}

/// The channel of one driver.
struct DeviceChannel {
    sender: SyncSender<Message>,
    /// Places for releases and renewals in it.
    words: Permits,
}

/// What a driver is told.
pub(crate) enum Message {
    Run(Flight),
    Release {
        group: usize,
        blocks: Arc<[BlockId]>,
        /// Its place in the channel, until it is done.
        place: Permit,
    },
    Renew(Renewal, Permit),
    /// Answered with the thread that ends.
    Stop(SyncSender<JoinHandle<()>>),
}

/// A job on its way.
pub(crate) struct Flight {
    pub(crate) id: u64,
    pub(crate) stage: usize,
    pub(crate) step: Arc<Step>,
    pub(crate) payload: Payload,
    /// A buffer the next stage fills; the two change places at every hand-over.
    pub(crate) spare: OutputBuf,
}

/// What crosses from stage to stage.
pub(crate) enum Payload {
    Ids(Vec<u32>),
    Hidden(OutputBuf),
}

impl Runner {
    /// Starts a driver for each device named by `stages`, which are in pipeline order and not
    /// empty. At most `in_flight_max` jobs may be in flight.
    pub fn start(stages: Vec<PlacedStage>, in_flight_max: usize, hooks: Hooks) -> io::Result<Self> {
        assert!(
            !stages.is_empty() && in_flight_max > 0,
            "a runner needs a stage and a job"
        );
        let mut channels = BTreeMap::new();
        for placed in &stages {
            // One more for the word to stop.
            let room = in_flight_max + WORDS_MAX as usize + 1;
            channels
                .entry(placed.device)
                .or_insert_with(|| sync_channel(room));
        }
        let line = Arc::new(Line {
            routes: stages
                .iter()
                .map(|s| channels[&s.device].0.clone())
                .collect(),
            devices: channels
                .values()
                .map(|(sender, _)| DeviceChannel {
                    sender: sender.clone(),
                    words: Permits::new(WORDS_MAX),
                })
                .collect(),
            in_flight: AtomicUsize::new(0),
            finished: hooks.finished,
        });
        let receivers = channels
            .into_iter()
            .map(|(device, (_, receiver))| (device, receiver));
        let runner = Self {
            line,
            in_flight_max,
        };
        runner.spawn_drivers(stages, receivers, &hooks.spawn)?;
        Ok(runner)
    }

    fn spawn_drivers(
        &self,
        stages: Vec<PlacedStage>,
        receivers: impl Iterator<Item = (usize, Receiver<Message>)>,
        spawn: &dyn Fn(usize) -> Arc<dyn Spawn>,
    ) -> io::Result<()> {
        let mut by_device: BTreeMap<usize, Vec<DriverStage>> = BTreeMap::new();
        for (index, placed) in stages.into_iter().enumerate() {
            let stages = by_device.entry(placed.device).or_default();
            stages.push(DriverStage::new(index, placed.span, placed.stage));
        }
        for (device, inbox) in receivers {
            let stages = by_device
                .remove(&device)
                .expect("every channel has a stage");
            let line = Arc::clone(&self.line);
            let spawn = spawn(device);
            let driver = Driver::new((device, stages), inbox, line, Arc::clone(&spawn));
            hand_over(&*spawn, NAME, driver, Driver::run).map_err(|(_, error)| error)?;
        }
        Ok(())
    }

    /// Sends a job to the first stage; gives it back when as many as may be are in flight.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        if !self.line.enter(self.in_flight_max) {
            return Err(job);
        }
        let Job { id, step, ids } = job;
        assert_eq!(ids.len(), step.rows(), "one id for each row");
        let payload = Payload::Ids(ids);
        self.line.hand_over(Flight {
            id,
            stage: 0,
            step,
            payload,
            spare: OutputBuf::default(),
        });
        Ok(())
    }

    /// Tells every stage to forget blocks. Jobs submitted before keep them until they are done,
    /// since each driver works in order. Gives the blocks back, and tells no stage, when as many
    /// releases as may be wait for some driver; the caller tries again with the next job's end.
    pub fn release(&self, group: usize, blocks: Arc<[BlockId]>) -> Result<(), Arc<[BlockId]>> {
        let told = self.tell_all(|place| Message::Release {
            group,
            blocks: Arc::clone(&blocks),
            place,
        });
        if told { Ok(()) } else { Err(blocks) }
    }

    /// Has every driver start its own thread, and those its stages compute with, anew: each hands
    /// what it has to a fresh thread once it is between two steps, and nothing in flight is lost.
    /// Where a fresh thread is refused the one before goes on. Gives the renewal back as
    /// [`release`](Self::release) does.
    pub fn renew(&self, renewal: Renewal) -> Result<(), Renewal> {
        let told = self.tell_all(|place| Message::Renew(Arc::clone(&renewal), place));
        if told { Ok(()) } else { Err(renewal) }
    }

    /// Sends every driver a word, unless some driver's channel has no place for it.
    fn tell_all(&self, word: impl Fn(Permit) -> Message) -> bool {
        let devices = &self.line.devices;
        let places: Option<Vec<_>> = devices.iter().map(|d| d.words.take()).collect();
        let Some(places) = places else {
            return false;
        };
        for (channel, place) in devices.iter().zip(places) {
            match channel.sender.try_send(word(place)) {
                // A driver that is gone needs no telling.
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(_)) => unreachable!("a channel has room for every word"),
            }
        }
        true
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let (ends, ended) = sync_channel(self.line.devices.len());
        for channel in &self.line.devices {
            // A driver that is gone needs no telling.
            let _ = channel.sender.send(Message::Stop(ends.clone()));
        }
        drop(ends);
        for thread in ended {
            let _ = thread.join();
        }
    }
}

impl Line {
    fn enter(&self, most: usize) -> bool {
        let one_more = |now: usize| (now < most).then_some(now + 1);
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .is_ok()
    }

    /// Sends a flight to the driver of its stage.
    pub(crate) fn hand_over(&self, flight: Flight) {
        match self.routes[flight.stage].try_send(Message::Run(flight)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => unreachable!("a channel has room for every job"),
            // The runner is being dropped.
            Err(TrySendError::Disconnected(_)) => self.leave(),
        }
    }

    /// Whether `stage` is the last one.
    pub(crate) fn is_last(&self, stage: usize) -> bool {
        stage + 1 == self.routes.len()
    }

    /// Ends a job. The place is free before the caller hears of it, so it can submit at once.
    pub(crate) fn finish(&self, finished: Finished) {
        self.leave();
        (self.finished)(finished);
    }

    fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
