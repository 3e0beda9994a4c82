//! The engine: one thread that owns the core and the runner. Callers and drivers talk to it by
//! messages, and it answers each on the caller's own channel.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_channel::oneshot;
use gogrid_host::Clock;
use gogrid_lease::Permit;
use gogrid_pipeline::{
    Finished, Hooks, Job, PlacedStage, Renewal, Runner, StageError, StageFailure,
};
use gogrid_units::{Moment, hand_over};

use crate::bell::Bell;
use crate::core::{Action, Beginning, Core, Ended, Input, Shape};
use crate::device::Device;
use crate::error::GenerateError;
use crate::gate::Gate;
use crate::limits::EVENTS_MAX;
use crate::listener::Listener;
use crate::pace::DutyPace;
use crate::places::Place;
use crate::resource_manager::{ResourceConfig, ResourceStats};
use crate::threads::Threads;

/// How long the engine waits for a driver that has no room for a message.
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// What the engine's thread is called.
const NAME: &str = "engine";

/// What callers tell the engine. Each holds a place, so that there is room for every one.
pub(crate) enum Message {
    Submit {
        beginning: Beginning,
        place: Permit,
        listener: Listener,
    },
    CancelAll(Place),
    /// Asks for a start.
    Ask(Ask),
    Order(Order),
    Look(oneshot::Sender<View>, Place),
    /// The engine's end; answered with the thread that ends.
    Stop(SyncSender<JoinHandle<()>>),
}

/// What the observer says holds from here on.
pub(crate) struct Order {
    pub(crate) limits: ResourceConfig,
    /// Whether work goes on.
    pub(crate) advances: bool,
    /// Whether every thread is to be replaced by a fresh one.
    pub(crate) renews: bool,
    /// Dropped by the last to be done with it.
    pub(crate) done: Renewal,
}

/// A caller that waits for a start.
pub(crate) struct Ask {
    answer: oneshot::Sender<()>,
    _place: Place,
}

impl Ask {
    pub(crate) fn new(answer: oneshot::Sender<()>, place: Place) -> Self {
        Self {
            answer,
            _place: place,
        }
    }
}

/// The engine is no more.
#[derive(Debug)]
pub(crate) struct Stopped;

/// What the engine knows at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) stats: ResourceStats,
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) degraded: Option<String>,
}

impl View {
    /// What is known of an engine that is no more.
    pub(crate) fn stopped() -> Self {
        Self {
            stats: ResourceStats::default(),
            queued: 0,
            running: 0,
            degraded: Some("the engine has stopped".to_owned()),
        }
    }
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) shape: Shape,
    pub(crate) limits: ResourceConfig,
    pub(crate) stages: Vec<PlacedStage>,
    /// The devices, by the index that the stages have.
    pub(crate) devices: Vec<Device>,
    /// Their paces.
    pub(crate) paces: Vec<Arc<DutyPace>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) threads: Threads,
    pub(crate) clock: Clock,
}

/// The callers' end of an engine. Dropping it ends every request and waits for the threads.
pub(crate) struct Engine {
    inbox: SyncSender<Box<Message>>,
    bell: Bell,
}

impl Engine {
    /// Starts the engine's thread and the drivers of the stages.
    pub(crate) fn start(parts: Parts) -> io::Result<Self> {
        let (inbox, messages) = sync_channel(EVENTS_MAX);
        let bell = Bell::new();
        let spawn = parts.threads.starter(None);
        let inside = Inside::new(parts, messages, bell.clone())?;
        hand_over(&*spawn, NAME, inside, Inside::run).map_err(|(_, error)| error)?;
        Ok(Self { inbox, bell })
    }

    pub(crate) fn send(&self, message: Message) -> Result<(), Stopped> {
        match self.inbox.try_send(Box::new(message)) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(_)) => unreachable!("there are fewer places than room"),
        }
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let (answer, ended) = sync_channel(1);
        // A thread that panicked, which it reported itself, is joined by nobody.
        if self.send(Message::Stop(answer)).is_ok()
            && let Ok(thread) = ended.recv()
        {
            let _ = thread.join();
        }
    }
}

/// What the engine's thread owns.
struct Inside {
    core: Core,
    runner: Runner,
    devices: Vec<Device>,
    paces: Vec<Arc<DutyPace>>,
    gate: Arc<Gate>,
    threads: Threads,
    clock: Clock,
    messages: Receiver<Box<Message>>,
    finished: Receiver<Finished>,
    bell: Bell,
    listeners: BTreeMap<u64, Listener>,
    /// Callers that wait for a start, by the number the core knows them by.
    asks: BTreeMap<u64, Ask>,
    asks_begun: u64,
    /// What could not be given to the runner yet; order matters.
    outbox: VecDeque<Outgoing>,
    /// Callers who look: they see what the next tick leaves.
    looks: Vec<oneshot::Sender<View>>,
    /// Orders that hold with the next tick.
    done: Vec<Renewal>,
    /// To go on in a fresh thread.
    renewal: Option<Renewal>,
    /// The thread that the engine ran on before.
    before: Option<JoinHandle<()>>,
    /// Set when it is to end: who waits for that.
    stop: Option<SyncSender<JoinHandle<()>>>,
}

/// What goes to the runner.
enum Outgoing {
    Job(Job),
    Release {
        group: usize,
        blocks: Arc<[gogrid_pipeline::BlockId]>,
    },
    Renew(Renewal),
}

impl Inside {
    fn new(parts: Parts, messages: Receiver<Box<Message>>, bell: Bell) -> io::Result<Self> {
        let Parts {
            shape,
            limits,
            stages,
            devices,
            paces,
            gate,
            threads,
            clock,
        } = parts;
        // Room for every job that can be in flight, so that a driver never waits.
        let (tell, finished) = sync_channel(shape.depth);
        let (its_bell, its_threads, its_devices) = (bell.clone(), threads.clone(), devices.clone());
        let hooks = Hooks {
            finished: Box::new(move |end| {
                // The engine is gone only while the runner is being dropped.
                let _ = tell.try_send(end);
                its_bell.ring();
            }),
            spawn: Box::new(move |index| its_threads.starter(Some(&its_devices[index]))),
        };
        let runner = Runner::start(stages, shape.depth, hooks)?;
        Ok(Self {
            core: Core::new(shape, &limits),
            runner,
            devices,
            paces,
            gate,
            threads,
            clock,
            messages,
            finished,
            bell,
            listeners: BTreeMap::new(),
            asks: BTreeMap::new(),
            asks_begun: 0,
            outbox: VecDeque::new(),
            looks: Vec::new(),
            done: Vec::new(),
            renewal: None,
            before: None,
            stop: None,
        })
    }

    /// Runs the engine on the calling thread, whose handle is `own`, until it is stopped or a fresh
    /// thread has taken over.
    fn run(mut self, mut own: JoinHandle<()>) {
        self.bell.wakes_this_thread();
        loop {
            // Who wants the core goes first: nothing here asks at pause points.
            thread::yield_now();
            let inputs = self.inputs();
            if let Some(answer) = self.stop.take() {
                return self.end(own, &answer);
            }
            // Orders come later than flags.
            self.core.hold_back(self.gate.is_shut());
            let actions = self.core.tick(self.clock.now(), inputs);
            self.done.clear();
            for action in actions {
                self.act(action);
            }
            self.gate.set_busy(self.core.counts() != (0, 0));
            for look in std::mem::take(&mut self.looks) {
                let _ = look.send(self.view());
            }
            self.send_out();
            // It runs on any of the devices' cores, so all answer for it.
            DutyPace::charge_thread(&self.paces);
            if let Some(renewal) = self.renewal.take() {
                match self.renew(own, renewal) {
                    Some(kept) => (self, own) = kept,
                    None => return,
                }
            }
            self.wait();
        }
    }

    /// Goes on in a fresh thread. Gives back what it took where there is none.
    fn renew(self, own: JoinHandle<()>, renewal: Renewal) -> Option<(Self, JoinHandle<()>)> {
        let spawn = self.threads.starter(None);
        let state = (self, own, renewal);
        let go_on = |(mut inside, before, renewal): (Self, _, _), own| {
            drop(renewal);
            // At most the last waits to be joined: it may take as long as its priority is low.
            if let Some(ended) = inside.before.replace(before) {
                let _ = ended.join();
            }
            inside.run(own);
        };
        let (inside, own, _) = hand_over(&*spawn, NAME, state, go_on).err()?.0;
        Some((inside, own))
    }

    fn end(mut self, own: JoinHandle<()>, answer: &SyncSender<JoinHandle<()>>) {
        // The runner, dropped with the rest, waits for the step that each driver is in.
        self.paces.iter().for_each(|pace| pace.stop());
        if let Some(ended) = self.before.take() {
            let _ = ended.join();
        }
        drop(self);
        let _ = answer.try_send(own);
    }

    fn inputs(&mut self) -> Vec<Input> {
        let mut inputs: Vec<Input> = self
            .finished
            .try_iter()
            .map(|f| ended(f, &self.devices))
            .collect();
        while let Ok(message) = self.messages.try_recv() {
            inputs.extend(self.take(*message));
        }
        let gone = self
            .listeners
            .iter()
            .filter(|(_, listener)| listener.is_gone());
        inputs.extend(gone.map(|(&id, _)| Input::Cancel(id)));
        let gone = self.asks.extract_if(.., |_, ask| ask.answer.is_canceled());
        inputs.extend(gone.map(|(id, _)| Input::TakeBack(id)));
        inputs
    }

    fn take(&mut self, message: Message) -> Option<Input> {
        match message {
            Message::Submit {
                beginning,
                place,
                listener,
            } => {
                self.listeners.insert(beginning.id, listener);
                Some(Input::Submit(beginning, place))
            }
            Message::CancelAll(place) => {
                drop(place);
                Some(Input::CancelAll)
            }
            Message::Ask(ask) => {
                self.asks_begun += 1;
                self.asks.insert(self.asks_begun, ask);
                Some(Input::Ask(self.asks_begun))
            }
            Message::Order(order) => {
                if order.renews {
                    self.outbox
                        .push_back(Outgoing::Renew(Arc::clone(&order.done)));
                    self.renewal = Some(Arc::clone(&order.done));
                }
                let Order {
                    limits,
                    advances,
                    done,
                    ..
                } = order;
                self.done.push(done);
                Some(Input::Limits { limits, advances })
            }
            Message::Look(answer, place) => {
                drop(place);
                self.looks.push(answer);
                None
            }
            Message::Stop(answer) => {
                self.stop = Some(answer);
                None
            }
        }
    }

    fn view(&self) -> View {
        let (queued, running) = self.core.counts();
        View {
            stats: self.core.stats(),
            queued,
            running,
            degraded: self.core.degraded().map(str::to_owned),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Run { id, step, ids } => {
                self.outbox.push_back(Outgoing::Job(Job { id, step, ids }))
            }
            Action::Release { group, blocks } => {
                self.outbox.push_back(Outgoing::Release {
                    group,
                    blocks: blocks.into(),
                });
            }
            Action::Start(id) => {
                if let Some(ask) = self.asks.remove(&id) {
                    let _ = ask.answer.send(());
                }
            }
            Action::Delta { id, ids, text } => {
                if let Some(listener) = self.listeners.get_mut(&id) {
                    listener.delta(ids, text);
                }
            }
            Action::End { id, end } => {
                if let Some(listener) = self.listeners.remove(&id) {
                    listener.end(end);
                }
            }
        }
    }

    /// Gives the runner what waits for it, in order, as far as it has room.
    fn send_out(&mut self) {
        while let Some(outgoing) = self.outbox.pop_front() {
            let back = match outgoing {
                Outgoing::Job(job) => self.runner.submit(job).err().map(Outgoing::Job),
                Outgoing::Release { group, blocks } => {
                    let back = self.runner.release(group, blocks).err();
                    back.map(|blocks| Outgoing::Release { group, blocks })
                }
                Outgoing::Renew(renewal) => self.runner.renew(renewal).err().map(Outgoing::Renew),
            };
            if let Some(back) = back {
                return self.outbox.push_front(back);
            }
        }
    }

    /// Sleeps until a bell rings or the core wants to be asked again.
    fn wait(&self) {
        let again = !self.outbox.is_empty() || self.core.is_held_back();
        let again = again.then_some(TRY_AGAIN);
        let now = self.clock.now();
        let until = |moment: Moment| Duration::from_nanos(moment.0.saturating_sub(now.0));
        let wake = self.core.wake().map(until);
        match again.into_iter().chain(wake).min() {
            Some(timeout) => thread::park_timeout(timeout),
            None => thread::park(),
        }
    }
}

/// A step's end in the core's words.
fn ended(finished: Finished, devices: &[Device]) -> Input {
    let Finished { id, result } = finished;
    let ended = match result {
        Ok(output) => Ended::Output(output),
        Err(StageFailure {
            error: StageError::Abandoned,
            ..
        }) => Ended::Abandoned,
        Err(StageFailure {
            stage,
            device,
            span,
            error,
        }) => Ended::Failed(GenerateError::Stage {
            stage,
            device: devices[device].to_string(),
            pieces: span.to_string(),
            problem: error.to_string(),
        }),
    };
    Input::Done(id, ended)
}
