//! A device's driver thread: takes flights in, runs them through the stages that stand on the device
//! in order of arrival, and hands them on. It sleeps on its inbox alone.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

use gogrid_lease::Permits;
use gogrid_units::{LoopEnd, Renewal, Spawn, ThreadLoop, Whose, contain, start_loop};

use crate::line::{
    Flight, LINES_MAX, MESSAGES_MAX, Mailbox, Message, Payload, Release, Take, TakenStage,
};
use crate::stage::{Stage, StageError, Ticket};
use crate::step::Input;

/// What a driver calls, on its thread; neither may block.
#[derive(Clone)]
pub struct DriverHooks {
    /// Before a stage takes up or goes on with a step: whose it is.
    pub serves: Arc<dyn Fn(Whose) + Send + Sync>,
    /// When the thread ends by a panic, before the jobs there end with errors, and of each stage whose drop
    /// panics as it ends; with the panic's message.
    pub on_death: Arc<dyn Fn(&str) + Send + Sync>,
}

/// The owner's end of a device's driver thread, which drives the stages of every pipeline that
/// stands on the device. Dropping it stops the thread after the step it is in.
pub struct DeviceDriver {
    mailbox: Arc<Mailbox>,
}

impl DeviceDriver {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses one.
    pub fn start(spawn: &Arc<dyn Spawn>, hooks: DriverHooks) -> io::Result<Self> {
        let (sender, inbox) = sync_channel(MESSAGES_MAX);
        let mailbox = Arc::new(Mailbox {
            sender,
            lines: Permits::new(LINES_MAX as u32),
            renewals: Permits::new(1),
            is_woken: AtomicBool::new(false),
            wake_ups: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
        });
        let driver = Driver {
            stages: Vec::new(),
            inbox,
            mailbox: Arc::downgrade(&mailbox),
            spawn: Arc::clone(spawn),
            hooks,
            renewals: 0,
        };
        start_loop(driver)?;
        Ok(Self { mailbox })
    }

    /// What a stage of this device wakes when it is worth polling again.
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.mailbox))
    }

    /// Has the driver start its own thread, and those its stages compute with, anew: it hands what
    /// it has to a fresh thread once it is between two steps, and nothing in flight is lost. Where a
    /// fresh thread is refused the one before goes on. Gives the renewal back while another waits.
    pub fn renew(&self, renewal: Renewal) -> Result<(), Renewal> {
        match self.mailbox.renewals.take() {
            Some(place) => {
                self.mailbox.send(Message::Renew(renewal, place));
                Ok(())
            }
            None => Err(renewal),
        }
    }

    /// How often its thread came out of its sleep so far.
    pub fn wake_ups(&self) -> u64 {
        self.mailbox.wake_ups.load(Ordering::Relaxed)
    }

    /// Has the thread end by a panic, for fault injection.
    #[doc(hidden)]
    pub fn inject_panic(&self) {
        self.mailbox.send(Message::Panic);
    }

    /// Whether its thread has ended by a panic, so that nothing runs on the device any more.
    pub fn has_ended(&self) -> bool {
        self.mailbox.has_ended.load(Ordering::Acquire)
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }
}

impl Drop for DeviceDriver {
    fn drop(&mut self) {
        let (answer, ended) = sync_channel(1);
        self.mailbox.send(Message::Stop(answer));
        // A thread that panicked has told of it, and is joined by nobody.
        if let Ok(thread) = ended.recv() {
            let _ = thread.join();
        }
    }
}

/// A stage of a line, what waits for it, and what it has open.
pub(crate) struct DriverStage {
    line: u64,
    index: usize,
    stage: Box<dyn Stage>,
    /// What the stage says of itself, as it was opened.
    depth: usize,
    waiting: VecDeque<Box<Flight>>,
    open: VecDeque<(Ticket, Box<Flight>)>,
    /// Whether the oldest open ticket waits for its device, so that polling it is of no use.
    is_pending: bool,
    /// Set by a panic: the stage's state cannot be trusted, so it takes no further step.
    broken: Option<String>,
}

struct Driver {
    stages: Vec<DriverStage>,
    inbox: Receiver<Message>,
    mailbox: Weak<Mailbox>,
    spawn: Arc<dyn Spawn>,
    hooks: DriverHooks,
    renewals: u64,
}

impl DriverStage {
    pub(crate) fn new(line: u64, index: usize, stage: Box<dyn Stage>) -> Box<Self> {
        Box::new(Self {
            line,
            index,
            depth: stage.depth(),
            stage,
            waiting: VecDeque::new(),
            open: VecDeque::new(),
            is_pending: false,
            broken: None,
        })
    }

    /// Runs a call into the stage; a panic in it breaks the stage and becomes an error.
    fn guarded<T>(
        &mut self,
        call: impl FnOnce(&mut dyn Stage) -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        if let Some(why) = &self.broken {
            return Err(StageError::Broken(why.clone()));
        }
        let stage = self.stage.as_mut();
        contain(|| call(stage)).unwrap_or_else(|problem| {
            let why = format!("the stage panicked: {problem}");
            self.broken = Some(why.clone());
            Err(StageError::Device(why))
        })
    }

    /// Moves one waiting flight in, if the stage has room for it. Says whether one moved.
    fn submit_next(&mut self, serves: &dyn Fn(Whose)) -> bool {
        if self.open.len() >= self.depth {
            return false;
        }
        let Some(flight) = self.waiting.pop_front() else {
            return false;
        };
        serves(flight.whose);
        let submitted = self.guarded(|stage| {
            let input = match &flight.payload {
                Payload::Rows(rows) => Input::Rows(rows),
                Payload::Hidden(out) => Input::Hidden(&out.hidden),
            };
            stage.submit(&flight.step, input)
        });
        match submitted {
            Ok(ticket) => self.open.push_back((ticket, flight)),
            Err(error) => flight.fail(error),
        }
        true
    }

    /// Polls the oldest open ticket unless it waits for its device. Says whether it ended.
    fn poll_oldest(&mut self, serves: &dyn Fn(Whose)) -> bool {
        if self.is_pending {
            return false;
        }
        let Some((ticket, mut flight)) = self.open.pop_front() else {
            return false;
        };
        serves(flight.whose);
        let out = flight.out();
        out.clear();
        let polled = self.guarded(|stage| match stage.poll(ticket, out) {
            Poll::Ready(done) => done.map(|()| true),
            Poll::Pending => Ok(false),
        });
        match polled {
            Ok(true) => flight.go_on(),
            Ok(false) => {
                self.open.push_front((ticket, flight));
                self.is_pending = true;
                return false;
            }
            Err(error) => flight.fail(error),
        }
        true
    }
}

impl ThreadLoop for Driver {
    const NAME: &'static str = "driver";

    fn spawn(&self) -> Arc<dyn Spawn> {
        Arc::clone(&self.spawn)
    }

    /// Takes in messages one by one, with a round of work before each, and sleeps when no stage can
    /// go on.
    fn run(&mut self) -> LoopEnd {
        loop {
            let is_busy = self.advance();
            let message = match self.inbox.try_recv() {
                Ok(message) => message,
                Err(_) if is_busy => continue,
                Err(_) => self.sleep(),
            };
            if let Some(end) = self.take(message) {
                return end;
            }
        }
    }

    fn failed(&mut self, problem: &str) {
        if let Some(mailbox) = self.mailbox.upgrade() {
            mailbox.has_ended.store(true, Ordering::Release);
        }
        (self.hooks.on_death)(problem);
    }
}

impl Drop for Driver {
    /// Drops each stage on its own, since two panics at once end the process.
    fn drop(&mut self) {
        for stage in self.stages.drain(..) {
            if let Err(problem) = contain(|| drop(stage)) {
                (self.hooks.on_death)(&problem);
            }
        }
    }
}

impl Driver {
    /// Waits for a message.
    fn sleep(&self) -> Message {
        let message = self.inbox.recv();
        self.count_wake_up();
        message.expect("the owner stops the thread before it drops its end")
    }

    fn count_wake_up(&self) {
        if let Some(mailbox) = self.mailbox.upgrade() {
            mailbox.wake_ups.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Does what a message says; the end of its time on this thread, if it is that.
    fn take(&mut self, message: Message) -> Option<LoopEnd> {
        match message {
            Message::Place(stage) => self.place(*stage),
            Message::Run(flight) => {
                let its = |s: &&mut DriverStage| (s.line, s.index) == (flight.line.id, flight.at);
                match self.stages.iter_mut().find(its) {
                    Some(stage) => stage.waiting.push_back(flight),
                    // Its line has been taken off this driver, which is well.
                    None => flight.fail(StageError::Abandoned),
                }
            }
            Message::Release(release) => self.release(&release),
            Message::Wake => self.wake(),
            Message::Take(take) => self.give_up(take),
            Message::Renew(renewal, _place) => {
                self.renew_stages();
                return Some(LoopEnd::Renewed(renewal));
            }
            Message::Stop(answer) => return Some(LoopEnd::Stopped(answer)),
            Message::Panic => panic!("injected"),
        }
        None
    }

    /// Drives a stage from here on. Its threads are those that renewals so far have asked for.
    fn place(&mut self, mut stage: DriverStage) {
        let renewals = self.renewals;
        if renewals > 0 {
            let renewed = |stage: &mut dyn Stage| {
                stage.renew_threads(renewals);
                Ok(())
            };
            // A stage that panics here takes no step.
            let _ = stage.guarded(renewed);
        }
        self.stages.push(stage);
    }

    /// Has the stages start their threads anew.
    fn renew_stages(&mut self) {
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
    }

    /// What was sent before the release and names one of its blocks has ended: the caller of
    /// [`Runner::release`](crate::Runner::release) sees to it.
    fn release(&mut self, release: &Release) {
        for stage in self.stages.iter_mut().filter(|s| s.line == release.line) {
            let forget = |stage: &mut dyn Stage| {
                stage.release(release.group, &release.blocks);
                Ok(())
            };
            // A broken stage's memory goes with it.
            let _ = stage.guarded(forget);
        }
    }

    /// Stages that waited for the device may be asked again.
    fn wake(&mut self) {
        if let Some(mailbox) = self.mailbox.upgrade() {
            // Before the stages are polled, so that a wake that comes meanwhile is another; it sees
            // what was written before the wakes that this one stands for.
            mailbox.is_woken.swap(false, Ordering::AcqRel);
        }
        for stage in &mut self.stages {
            stage.is_pending = false;
        }
    }

    /// Gives the stages of a line to the caller that wants them. A broken one goes with its memory.
    fn give_up(&mut self, take: Take) {
        let Take {
            line,
            answer,
            place,
        } = take;
        let mut taken = Vec::new();
        for mut its in (self.stages).extract_if(.., |stage| stage.line == line) {
            let open = its.open.drain(..).map(|(_, flight)| flight);
            for flight in its.waiting.drain(..).chain(open) {
                flight.fail(StageError::Abandoned);
            }
            match its.broken {
                None => taken.push(TakenStage::new(its.index, its.stage)),
                // It may panic as it goes, and the driver has the stages of others.
                Some(_) => drop(TakenStage::new(its.index, its.stage)),
            }
        }
        // A caller that has the stages back finds the place free.
        drop(place);
        // The caller may not want them any more.
        let _ = answer.try_send(taken);
    }

    /// One step further in every stage that can go on; says whether some stage could.
    fn advance(&mut self) -> bool {
        let mut is_busy = false;
        for stage in &mut self.stages {
            let moved = stage.submit_next(&*self.hooks.serves);
            let ended = stage.poll_oldest(&*self.hooks.serves);
            is_busy |= moved || ended;
        }
        is_busy
    }
}
