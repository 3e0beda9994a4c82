//! What travels between drivers: a job's flight from stage to stage, and the line it follows.
//!
//! A flight stands in exactly one channel, and a channel keeps room for every flight that any of its
//! lines may have, so a hand-over never waits and drivers cannot block each other in a ring. A
//! flight that is dropped anywhere ends its job with an error, so that none is lost unseen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::task::Wake;
use std::thread::JoinHandle;

use gogrid_lease::{Permit, Permits};
use gogrid_units::{Renewal, Span, Whose, contain};

use crate::driver::DriverStage;
use crate::runner::{Finished, Hooks, Job, StageFailure};
use crate::spares::{FlightBuffers, SparesReturn};
use crate::stage::{Stage, StageError};
use crate::step::{BlockId, OutputBuf, Rows, Step};

/// Pipelines that have stages on one device at a time, at most.
pub const LINES_MAX: usize = 16;
/// Stages of one pipeline, at most.
pub const STAGES_MAX: usize = 64;
/// Jobs of one pipeline in flight, at most: the depths of all its stages.
pub const FLIGHTS_MAX: usize = 64;
/// Releases of one pipeline that wait in a driver's channel, at most.
pub(crate) const RELEASES_MAX: usize = 8;

/// Messages that a driver's channel keeps room for: what each line may have in it, its stages put in
/// and asked back, and for the driver itself a wake, a renewal, the stop and a fault.
pub(crate) const MESSAGES_MAX: usize =
    LINES_MAX * (FLIGHTS_MAX + RELEASES_MAX + STAGES_MAX + 1) + 4;

/// What a driver is told.
pub(crate) enum Message {
    /// A stage to drive from here on.
    Place(Box<DriverStage>),
    Run(Box<Flight>),
    Release(Release),
    /// A stage that waited for its device may be worth asking again.
    Wake,
    /// The stages of a line are wanted back.
    Take(Take),
    Renew(Renewal, Permit),
    /// Answered with the thread that ends.
    Stop(SyncSender<JoinHandle<()>>),
    /// To end by a panic, for fault injection.
    Panic,
}

/// Blocks that the stages of a line forget.
pub(crate) struct Release {
    pub(crate) line: u64,
    pub(crate) group: usize,
    pub(crate) blocks: Arc<[BlockId]>,
    /// Its place in the channel, until it is done.
    pub(crate) _place: ReleasePlace,
}

/// A place for a release in a driver's channel. A caller that found none hears when it is free.
pub(crate) struct ReleasePlace {
    permit: Option<Permit>,
    line: Arc<Line>,
}

impl ReleasePlace {
    pub(crate) fn new(permit: Permit, line: &Arc<Line>) -> Self {
        Self {
            permit: Some(permit),
            line: Arc::clone(line),
        }
    }
}

impl Drop for ReleasePlace {
    fn drop(&mut self) {
        drop(self.permit.take());
        if self.line.wants_room.swap(false, Ordering::AcqRel) {
            (self.line.hooks.has_room)();
        }
    }
}

/// Asks for the stages of a line.
pub(crate) struct Take {
    pub(crate) line: u64,
    pub(crate) answer: SyncSender<Vec<TakenStage>>,
    /// The line's place on the driver, until everything it sent there is done.
    pub(crate) place: Permit,
}

/// A stage that came off its driver, with its index in the line. Dropping it drops the stage, and a
/// panic of that goes no further: a driver and an engine outlive their stages.
pub(crate) struct TakenStage {
    pub(crate) index: usize,
    stage: Option<Box<dyn Stage>>,
}

impl TakenStage {
    pub(crate) fn new(index: usize, stage: Box<dyn Stage>) -> Self {
        Self {
            index,
            stage: Some(stage),
        }
    }

    pub(crate) fn into_stage(mut self) -> Option<Box<dyn Stage>> {
        self.stage.take()
    }
}

impl Drop for TakenStage {
    fn drop(&mut self) {
        let stage = self.stage.take();
        // The panic hook has shown it.
        let _ = contain(|| drop(stage));
    }
}

/// The senders' side of a driver.
pub(crate) struct Mailbox {
    pub(crate) sender: SyncSender<Message>,
    /// Places for lines.
    pub(crate) lines: Permits,
    /// The place for a renewal.
    pub(crate) renewals: Permits,
    /// Whether a wake is on its way already.
    pub(crate) is_woken: AtomicBool,
    /// How often the driver's thread came out of its sleep.
    pub(crate) wake_ups: AtomicU64,
    /// Whether the thread has ended by a panic.
    pub(crate) has_ended: AtomicBool,
}

impl Mailbox {
    /// Sends what there is a place for; a driver that is gone drops it.
    pub(crate) fn send(&self, message: Message) {
        match self.sender.try_send(message) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => unreachable!("a channel has room for every message"),
        }
    }
}

impl Wake for Mailbox {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.send(Message::Wake);
        }
    }
}

/// The stages of one pipeline in a row, as the drivers see them. It never changes: layers that move
/// make another line.
pub(crate) struct Line {
    pub(crate) id: u64,
    pub(crate) stops: Vec<Stop>,
    pub(crate) in_flight_max: usize,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) hooks: Hooks,
    /// Where flights leave the buffers that they do not need any more.
    pub(crate) spares: SparesReturn,
    /// Whether a release found no place since one was free.
    pub(crate) wants_room: AtomicBool,
}

/// Where a stage of a line stands.
pub(crate) struct Stop {
    pub(crate) device: usize,
    pub(crate) span: Span,
    pub(crate) driver: Arc<Mailbox>,
}

/// A job on its way.
pub(crate) struct Flight {
    pub(crate) id: u64,
    /// Index of the stage it is at.
    pub(crate) at: usize,
    pub(crate) whose: Whose,
    pub(crate) step: Arc<Step>,
    pub(crate) payload: Payload,
    buffers: FlightBuffers,
    pub(crate) line: Arc<Line>,
    has_ended: bool,
}

/// What crosses from stage to stage.
pub(crate) enum Payload {
    Rows(Rows),
    Hidden(OutputBuf),
}

impl Line {
    /// A place for one more job, if there is one.
    pub(crate) fn enter(&self) -> bool {
        let one_more = |now: usize| (now < self.in_flight_max).then_some(now + 1);
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .is_ok()
    }

    /// Ends a job. The place is free before the caller hears of it, so it can submit at once.
    fn finish(&self, finished: Finished) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        (self.hooks.finished)(finished);
    }
}

impl Flight {
    /// A job at the first stage, which has a place on the line.
    pub(crate) fn begin(job: Job, line: Arc<Line>, buffers: FlightBuffers) -> Box<Self> {
        let Job {
            id,
            step,
            rows,
            whose,
        } = job;
        Box::new(Self {
            id,
            at: 0,
            whose,
            step,
            payload: Payload::Rows(rows),
            buffers,
            line,
            has_ended: false,
        })
    }

    /// Sends it to the driver of the stage it is at.
    pub(crate) fn hand_over(self: Box<Self>) {
        let driver = Arc::clone(&self.line.stops[self.at].driver);
        driver.send(Message::Run(self));
    }

    fn is_at_last(&self) -> bool {
        self.at + 1 == self.line.stops.len()
    }

    /// What the stage it is at fills.
    pub(crate) fn out(&mut self) -> &mut OutputBuf {
        match self.is_at_last() {
            true => &mut self.buffers.output,
            false => &mut self.buffers.hidden,
        }
    }

    /// Goes on with what the stage gave, in [`out`](Self::out): to the next stage, or to the caller.
    pub(crate) fn go_on(mut self: Box<Self>) {
        if let Payload::Hidden(before) = &mut self.payload
            && !before.faults.is_empty()
        {
            // What the stages before found comes first.
            let mut faults = std::mem::take(&mut before.faults);
            let given = self.out();
            faults.append(&mut given.faults);
            given.faults = faults;
        }
        if self.is_at_last() {
            let output = std::mem::take(&mut self.buffers.output);
            return self.end(Ok(output));
        }
        let used = match std::mem::replace(&mut self.payload, Payload::Rows(Rows::default())) {
            Payload::Rows(_) => OutputBuf::default(),
            Payload::Hidden(buffer) => buffer,
        };
        self.payload = Payload::Hidden(std::mem::replace(&mut self.buffers.hidden, used));
        self.at += 1;
        self.hand_over();
    }

    /// Ends the job with an error of the stage it is at.
    pub(crate) fn fail(mut self, error: StageError) {
        let failure = self.failure(error);
        self.end(Err(failure));
    }

    fn failure(&self, error: StageError) -> StageFailure {
        let Stop { device, span, .. } = self.line.stops[self.at];
        StageFailure {
            stage: self.at,
            device,
            span,
            error,
        }
    }

    fn end(&mut self, result: Result<OutputBuf, StageFailure>) {
        self.has_ended = true;
        self.leave_buffers();
        let id = self.id;
        self.line.finish(Finished { id, result });
    }

    /// Leaves what was not given to the caller to flights to come.
    fn leave_buffers(&mut self) {
        let FlightBuffers { output, hidden } = std::mem::take(&mut self.buffers);
        let spares = &self.line.spares;
        spares.output(output);
        spares.hidden(hidden);
        if let Payload::Hidden(input) = &mut self.payload {
            spares.hidden(std::mem::take(input));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.has_ended {
            let why = "its driver's thread has ended".to_owned();
            let failure = self.failure(StageError::Lost(why));
            // Many may be dropped at once, and two panics at once end the process: a panic of the
            // caller's function, which the panic hook has shown, goes no further.
            let _ = contain(|| self.end(Err(failure)));
        }
    }
}
