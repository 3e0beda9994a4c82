//! A device's driver thread: takes flights in, runs them through the device's stages in order of
//! arrival, and hands them on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use gogrid_units::{Span, Spawn, hand_over};

use crate::runner::{Finished, Flight, Line, Message, Payload, Renewal, StageFailure};
use crate::stage::{Stage, StageError, Ticket};
use crate::step::Input;

/// How long a driver waits for messages before it polls a stage again that waits for its device.
const POLL_AGAIN: Duration = Duration::from_micros(100);

/// What a driver's thread is called.
pub(crate) const NAME: &str = "driver";

/// A stage, what waits for it, and what it has open.
pub(crate) struct DriverStage {
    index: usize,
    span: Span,
    stage: Box<dyn Stage>,
    waiting: VecDeque<Flight>,
    open: VecDeque<(Ticket, Flight)>,
    /// Set by a panic: the stage's state cannot be trusted, so it takes no further step.
    broken: Option<String>,
}

pub(crate) struct Driver {
    device: usize,
    stages: Vec<DriverStage>,
    inbox: Receiver<Message>,
    line: Arc<Line>,
    spawn: Arc<dyn Spawn>,
    renewals: u64,
    /// The thread that drove before this one, which ends or has ended. Joined when this one ends or
    /// is followed itself: waiting for it at once could take as long as its priority is low.
    before: Option<JoinHandle<()>>,
}

/// What a driver does after it has taken its messages.
enum Next {
    Work,
    Renew(Renewal),
    Stop(SyncSender<JoinHandle<()>>),
}

impl DriverStage {
    pub(crate) fn new(index: usize, span: Span, stage: Box<dyn Stage>) -> Self {
        let (waiting, open) = (VecDeque::new(), VecDeque::new());
        Self {
            index,
            span,
            stage,
            waiting,
            open,
            broken: None,
        }
    }

    /// Runs a call into the stage; a panic in it breaks the stage and becomes an error.
    fn guarded<T>(
        &mut self,
        call: impl FnOnce(&mut dyn Stage) -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        if let Some(why) = &self.broken {
            return Err(StageError::Device(why.clone()));
        }
        let stage = self.stage.as_mut();
        catch_unwind(AssertUnwindSafe(|| call(stage))).unwrap_or_else(|payload| {
            let why = format!("the stage panicked: {}", panic_text(payload.as_ref()));
            self.broken = Some(why.clone());
            Err(StageError::Device(why))
        })
    }

    /// Moves one waiting flight in, if the stage has room for it.
    fn submit_next(&mut self) -> Option<Result<(), (Flight, StageError)>> {
        if self.open.len() >= self.stage.depth() {
            return None;
        }
        let flight = self.waiting.pop_front()?;
        let submitted = self.guarded(|stage| {
            let input = match &flight.payload {
                Payload::Ids(ids) => Input::Ids(ids),
                Payload::Hidden(out) => Input::Hidden(&out.hidden),
            };
            stage.submit(&flight.step, input)
        });
        Some(match submitted {
            Ok(ticket) => {
                self.open.push_back((ticket, flight));
                Ok(())
            }
            Err(error) => Err((flight, error)),
        })
    }

    /// Polls the oldest open ticket; `None` when it waits for its device or none is open.
    fn poll_oldest(&mut self) -> Option<(Flight, Result<(), StageError>)> {
        let (ticket, mut flight) = self.open.pop_front()?;
        flight.spare.clear();
        let spare = &mut flight.spare;
        let polled = self.guarded(|stage| match stage.poll(ticket, spare) {
            Poll::Ready(done) => done.map(|()| true),
            Poll::Pending => Ok(false),
        });
        match polled {
            Ok(true) => Some((flight, Ok(()))),
            Ok(false) => {
                self.open.push_front((ticket, flight));
                None
            }
            Err(error) => Some((flight, Err(error))),
        }
    }
}

impl Driver {
    pub(crate) fn new(
        (device, stages): (usize, Vec<DriverStage>),
        inbox: Receiver<Message>,
        line: Arc<Line>,
        spawn: Arc<dyn Spawn>,
    ) -> Self {
        Self {
            device,
            stages,
            inbox,
            line,
            spawn,
            renewals: 0,
            before: None,
        }
    }

    /// Drives on the calling thread, whose handle is `own`, until it is told to stop or a fresh
    /// thread has taken over.
    pub(crate) fn run(mut self, mut own: JoinHandle<()>) {
        loop {
            match self.take_messages() {
                Next::Work => (0..self.stages.len()).for_each(|index| self.advance(index)),
                Next::Renew(renewal) => match self.renew(own, renewal) {
                    Some(kept) => (self, own) = kept,
                    None => return,
                },
                Next::Stop(answer) => return self.stop(own, answer),
            }
        }
    }

    /// Goes on in a fresh thread, with the stages' threads fresh too. Gives back what it took where
    /// there is no such thread.
    fn renew(mut self, own: JoinHandle<()>, renewal: Renewal) -> Option<(Self, JoinHandle<()>)> {
        self.renewals += 1;
        let renewals = self.renewals;
        for stage in &mut self.stages {
            let renewed = |stage: &mut dyn Stage| {
                stage.renew_threads(renewals);
                Ok(())
            };
            // A broken stage takes no step.
            let _ = stage.guarded(renewed);
        }
        let spawn = Arc::clone(&self.spawn);
        let state = (self, own, renewal);
        let go_on = |(mut driver, before, renewal): (Self, _, _), own| {
            drop(renewal);
            driver.follow(before);
            driver.run(own);
        };
        let (driver, own, _) = hand_over(&*spawn, NAME, state, go_on).err()?.0;
        Some((driver, own))
    }

    /// Keeps the handle of the thread before, and joins the one before that.
    fn follow(&mut self, before: JoinHandle<()>) {
        if let Some(ended) = self.before.replace(before) {
            // A panic in it was reported on its own thread.
            let _ = ended.join();
        }
    }

    fn stop(mut self, own: JoinHandle<()>, answer: SyncSender<JoinHandle<()>>) {
        if let Some(ended) = self.before.take() {
            let _ = ended.join();
        }
        // There is room for every driver's.
        let _ = answer.try_send(own);
    }

    /// Takes in messages until one says what to do next or there are none; waits for one when there
    /// is nothing else to do.
    fn take_messages(&mut self) -> Next {
        let busy = self
            .stages
            .iter()
            .any(|s| !s.open.is_empty() || !s.waiting.is_empty());
        let first = if busy {
            self.inbox.recv_timeout(POLL_AGAIN)
        } else {
            self.inbox
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected)
        };
        let mut message = match first {
            Err(RecvTimeoutError::Timeout) => return Next::Work,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the line has a sender"),
            Ok(message) => message,
        };
        loop {
            match self.take(message) {
                Next::Work => {}
                next => return next,
            }
            match self.inbox.try_recv() {
                Ok(another) => message = another,
                Err(_) => return Next::Work,
            }
        }
    }

    fn take(&mut self, message: Message) -> Next {
        match message {
            Message::Run(flight) => {
                let stage = self.stages.iter_mut().find(|s| s.index == flight.stage);
                stage
                    .expect("flights are routed by stage")
                    .waiting
                    .push_back(flight);
            }
            Message::Release {
                group,
                blocks,
                place,
            } => {
                // What was sent before the release runs before it.
                for index in 0..self.stages.len() {
                    self.advance(index);
                    let release = |stage: &mut dyn Stage| {
                        stage.release(group, &blocks);
                        Ok(())
                    };
                    // A broken stage's memory goes with it.
                    let _ = self.stages[index].guarded(release);
                }
                drop(place);
            }
            Message::Renew(renewal, _place) => return Next::Renew(renewal),
            Message::Stop(answer) => return Next::Stop(answer),
        }
        Next::Work
    }

    /// Runs what a stage has until it waits for its device or has nothing left.
    fn advance(&mut self, index: usize) {
        loop {
            let stage = &mut self.stages[index];
            let submitted = stage.submit_next();
            let moved = submitted.is_some();
            if let Some(Err((flight, error))) = submitted {
                self.fail(index, &flight, error);
                continue;
            }
            match self.stages[index].poll_oldest() {
                Some((flight, Ok(()))) => self.pass_on(flight),
                Some((flight, Err(error))) => self.fail(index, &flight, error),
                None if moved => {}
                None => return,
            }
        }
    }

    /// Hands a flight to the next stage, or gives its output to the caller.
    fn pass_on(&self, flight: Flight) {
        let Flight {
            id,
            stage,
            step,
            payload,
            spare,
        } = flight;
        if self.line.is_last(stage) {
            return self.line.finish(Finished {
                id,
                result: Ok(spare),
            });
        }
        let used = match payload {
            Payload::Ids(_) => Default::default(),
            Payload::Hidden(buffer) => buffer,
        };
        let payload = Payload::Hidden(spare);
        self.line.hand_over(Flight {
            id,
            stage: stage + 1,
            step,
            payload,
            spare: used,
        });
    }

    fn fail(&self, index: usize, flight: &Flight, error: StageError) {
        let DriverStage {
            index: stage, span, ..
        } = self.stages[index];
        let failure = StageFailure {
            stage,
            device: self.device,
            span,
            error,
        };
        self.line.finish(Finished {
            id: flight.id,
            result: Err(failure),
        });
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
