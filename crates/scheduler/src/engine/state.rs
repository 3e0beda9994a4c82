//! What the engine's thread owns, and its turn: hear, think, act, sleep.

mod caches;
mod stages;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};

use gogrid_pipeline::{
    BlockId, CostKey, Finished, Job, PlacedSpan, Runner, StageError, StageFailure, Step,
};
use gogrid_units::{Each, LoopEnd, Moment, OutOfMemory, Renewal, Spawn, ThreadLoop, Whose};

use super::ears::Ears;
use super::inbox::{Ask, EngineInbox, Message, Order, View};
use super::learning::Learning;
use super::listener::Listener;
use super::matchers::{Matched, Seat};
use super::placement::Standing;
use super::relocation::{HoldStill, Relocated, Relocator};
use crate::caller::Answerer;
use crate::core::{Action, Core, Ended, Input, MoveLeases, Shape};
use crate::error::GenerateError;
use crate::log;
use crate::machine::{DutyPace, Hardware, OwnerRuns, ThreadPlace};
use crate::resource_manager::ResourceConfig;

/// What an engine is made of.
pub(crate) struct EngineParts {
    pub(crate) hardware: Arc<Hardware>,
    pub(crate) inbox: EngineInbox,
    pub(crate) ears: Ears,
    pub(crate) shape: Shape,
    pub(crate) limits: ResourceConfig,
    pub(crate) standing: Standing,
    pub(crate) relocator: Arc<Relocator>,
    /// What each device's costs are kept under, by its index.
    pub(crate) cost_keys: Vec<CostKey>,
    /// Tells its thread from those of other engines.
    pub(crate) place: Option<ThreadPlace>,
}

/// What the engine's thread owns.
pub(super) struct State {
    core: Core,
    /// `None` while its stages are on their way elsewhere.
    runner: Option<Runner>,
    hardware: Arc<Hardware>,
    paces: Vec<Arc<DutyPace>>,
    relocator: Arc<Relocator>,
    inbox: EngineInbox,
    ears: Ears,
    place: Option<ThreadPlace>,
    /// Who listens to each request, and whose it is.
    listeners: BTreeMap<u64, (Whose, Listener)>,
    owner_runs: OwnerRuns,
    /// The matchers of requests with constraints.
    seats: BTreeMap<u64, Seat>,
    /// Callers that wait for a start, by the number the core knows them by.
    asks: BTreeMap<u64, Ask>,
    asks_begun: u64,
    /// What could not be given to the runner yet; order matters.
    outbox: VecDeque<Outgoing>,
    /// Callers that look at the engine: they are shown what the next tick leaves.
    looks: Vec<Answerer<View>>,
    /// Orders that hold with the next tick.
    done: Vec<Renewal>,
    /// To go on in a fresh thread.
    renewal: Option<Renewal>,
    /// The thread that moves layers waits for no step to be in flight.
    still: Option<HoldStill>,
    /// Where the stages stand, once the steps of the old line have ended.
    relocated: Option<(Box<Relocated>, SyncSender<()>)>,
    /// What sequences have leased where their stages are on their way to.
    move_leases: Option<MoveLeases>,
    learning: Learning,
    /// Steps that the runner has, by number.
    in_flight: BTreeMap<u64, Arc<Step>>,
    /// Which device or stage was lost in this turn.
    lost: Option<String>,
    /// Set when it is to end: where the caller waits for that.
    stop: Option<SyncSender<JoinHandle<()>>>,
}

/// What goes to the runner.
enum Outgoing {
    Job(Job),
    Release {
        group: usize,
        blocks: Arc<[BlockId]>,
    },
}

impl ThreadLoop for State {
    const NAME: &'static str = "engine";

    fn spawn(&self) -> Arc<dyn Spawn> {
        self.hardware.threads.starter(self.place.as_ref())
    }

    fn run(&mut self) -> LoopEnd {
        self.inbox.bell.wakes_this_thread();
        loop {
            // Other programs that want the core go first: nothing here asks at pause points. Beside one that
            // never rests that takes seconds, for which the owner does not wait.
            if self.core.owners_running() == 0 {
                thread::yield_now();
            }
            self.inbox.bell.begin_look();
            self.turn();
            if let Some(answer) = self.stop.take() {
                return LoopEnd::Stopped(answer);
            }
            if let Some(renewal) = self.renewal.take() {
                return LoopEnd::Renewed(renewal);
            }
            self.sleep();
        }
    }

    /// Every request that it has ends with an error, and later ones are refused with the same.
    fn failed(&mut self, problem: &str) {
        let failure = self.hardware.health.note(Self::NAME, problem);
        self.inbox.fail(failure.clone());
        let heard = self.ears.messages.try_iter();
        let unheard = heard.filter_map(|message| match *message {
            Message::Submit { listener, .. } => Some(listener),
            _ => None,
        });
        let listening = std::mem::take(&mut self.listeners).into_values();
        for listener in listening.map(|(_, its)| its).chain(unheard) {
            listener.end(Err(GenerateError::ThreadFailed(failure.clone())));
        }
        log::error(&failure);
    }
}

impl State {
    pub(super) fn new(parts: EngineParts) -> Self {
        let EngineParts {
            hardware,
            inbox,
            ears,
            shape,
            limits,
            standing: Standing { runner, placement },
            relocator,
            cost_keys,
            place,
        } = parts;
        let core = Core::new(shape, placement.layout.clone(), &limits);
        inbox.published.placement.store(Arc::new(placement));
        Self {
            core,
            runner: Some(runner),
            paces: hardware.thread_paces.clone(),
            owner_runs: OwnerRuns::none(&hardware.gate, {
                // Guests of every model go on.
                let engines = Arc::downgrade(&hardware.engines);
                move || {
                    if let Some(engines) = engines.upgrade() {
                        engines.ring();
                    }
                }
            }),
            hardware,
            relocator,
            inbox,
            ears,
            place,
            listeners: BTreeMap::new(),
            seats: BTreeMap::new(),
            asks: BTreeMap::new(),
            asks_begun: 0,
            outbox: VecDeque::new(),
            looks: Vec::new(),
            done: Vec::new(),
            renewal: None,
            still: None,
            relocated: None,
            move_leases: None,
            learning: Learning::new(cost_keys),
            in_flight: BTreeMap::new(),
            lost: None,
            stop: None,
        }
    }

    fn turn(&mut self) {
        let inputs = self.inputs();
        if self.stop.is_some() {
            return;
        }
        // Orders come later than flags.
        self.core.hold_back(self.hardware.gate.hold());
        let gives_back = self.give_cache_back_if_wanted();
        let now = self.hardware.clock.now();
        let actions = self.core.tick(now, inputs);
        self.done.clear();
        let ends_one = actions.iter().any(|a| matches!(a, Action::End { .. }));
        for action in actions {
            self.act(action);
        }
        self.tell_states(now);
        // Others that are rung look at what is published.
        self.publish();
        self.owner_runs.set(self.core.owners_running());
        self.tell_of_room(ends_one, gives_back);
        for look in std::mem::take(&mut self.looks) {
            look.answer(self.view());
        }
        self.recover_if_lost();
        self.go_back_if_asked();
        self.send_out();
        self.free_spares_if_idle();
        self.give_up_stages_if_still();
        // It runs on any of the CPUs' cores, so all answer for it.
        DutyPace::charge_thread(&self.paces);
    }

    fn publish(&self) {
        let published = &self.inbox.published;
        let is_busy = self.core.counts() != (0, 0);
        published.is_busy.store(is_busy, Ordering::Relaxed);
        let has_cache = self.core.has_cache();
        published.has_cache.store(has_cache, Ordering::Relaxed);
    }

    fn inputs(&mut self) -> Vec<Input> {
        let mut inputs = self.ended_steps();
        while let Ok(message) = self.ears.messages.try_recv() {
            self.take(*message, &mut inputs);
        }
        self.hear_matchers(&mut inputs);
        self.go_on_if_relocated(&mut inputs);
        let gone = self
            .listeners
            .iter()
            .filter(|(_, (_, listener))| listener.is_gone());
        inputs.extend(gone.map(|(&id, _)| Input::Cancel(id)));
        let gone = self.asks.extract_if(.., |_, ask| ask.answer.is_unwanted());
        inputs.extend(gone.map(|(id, _)| Input::TakeBack(id)));
        if let Some(failure) = self.inbox.failure() {
            let failure = GenerateError::ThreadFailed(failure.clone());
            inputs.push(Input::Failed(failure));
            // The gate is shut for good, so no start would ever come.
            let unasked = std::mem::take(&mut self.asks);
            inputs.extend(unasked.into_keys().map(Input::TakeBack));
        }
        inputs
    }

    /// What matchers have said since the last look.
    fn hear_matchers(&mut self, inputs: &mut Vec<Input>) {
        for Matched { id, held, allowed } in self.ears.matched.try_iter() {
            match (self.seats.get_mut(&id), held) {
                (Some(seat), held) => {
                    seat.take_back(held);
                    inputs.push(Input::Allowed(id, allowed));
                }
                // Its request has ended.
                (None, Some(held)) => held.dispose(),
                (None, None) => {}
            }
        }
    }

    /// Tells every caller that listens how its request stands.
    fn tell_states(&mut self, now: Moment) {
        let stops = Each::of(|whose| self.core.stop(whose));
        for (whose, listener) in self.listeners.values_mut() {
            listener.tell_state(stops.its(*whose).as_ref(), now);
        }
    }

    /// The ends of steps since the last look.
    fn ended_steps(&mut self) -> Vec<Input> {
        let ended: Vec<_> = self.ears.finished.try_iter().collect();
        let inputs = ended.into_iter().map(|Finished { id, result }| {
            let step = self.in_flight.remove(&id);
            let ended = match result {
                Ok(output) => {
                    self.learn_from(step);
                    Ended::Output(output)
                }
                Err(failure) => self.failed_step(failure),
            };
            Input::Done(id, ended)
        });
        inputs.collect()
    }

    /// A step that ended well tells what its rows take.
    fn learn_from(&mut self, step: Option<Arc<Step>>) {
        let engines = &self.hardware.engines;
        let alone = engines.busy() <= 1;
        if let Some(step) = step {
            let placement = self.inbox.placement();
            self.learning
                .step_ended(&step, &self.hardware, (&placement, alone));
        }
    }

    /// A step's failure in the core's words.
    fn failed_step(&mut self, failure: StageFailure) -> Ended {
        let StageFailure {
            stage,
            device,
            span,
            error,
        } = failure;
        let placement = self.inbox.placement();
        let is_outlived = placement.is_outlived(&self.hardware, PlacedSpan { device, span });
        let device = &self.hardware.devices[device];
        match &error {
            StageError::Abandoned => return Ended::Abandoned,
            // The stage is of an opening that was lost; the device is back since.
            StageError::Lost(_) if is_outlived => self.inbox.seek_place(),
            StageError::Lost(problem) => device.note_lost(problem),
            StageError::Broken(_) => {}
            StageError::OutOfMemory(OutOfMemory { asked }) => {
                return Ended::Failed(GenerateError::OutOfMemory {
                    device: device.name.clone(),
                    asked: *asked,
                });
            }
            _ => {
                return Ended::Failed(GenerateError::Stage {
                    stage,
                    device: device.name.clone(),
                    pieces: span.to_string(),
                    problem: error.to_string(),
                });
            }
        }
        let failure = GenerateError::Stage {
            stage,
            device: device.name.clone(),
            pieces: span.to_string(),
            problem: error.to_string(),
        };
        log::warn(&failure);
        self.lost.get_or_insert_with(|| failure.to_string());
        Ended::Lost(failure)
    }

    fn take(&mut self, message: Message, inputs: &mut Vec<Input>) {
        match message {
            Message::Submit {
                beginning,
                place,
                listener,
                seat,
            } => {
                let whose = beginning.urgency.whose;
                self.listeners.insert(beginning.id, (whose, listener));
                let seat = seat.map(|seat| (beginning.id, seat));
                self.seats.extend(seat);
                inputs.push(Input::Submit(*beginning, place));
            }
            Message::CancelAll(place) => {
                drop(place);
                inputs.push(Input::CancelAll);
            }
            Message::Ask(ask) => {
                self.asks_begun += 1;
                self.asks.insert(self.asks_begun, ask);
                inputs.push(Input::Ask(self.asks_begun));
            }
            Message::Order(order) => inputs.push(self.obey(order)),
            Message::Look(answer, place) => {
                drop(place);
                self.looks.push(answer);
            }
            Message::GiveCacheBack(done) => {
                self.core.evict_all();
                self.done.push(done);
            }
            Message::HoldStill(still) => {
                let stands = self.inbox.placement();
                // The mover hears that it is over where the stages are on their way elsewhere, or are
                // not those that the move began with.
                if self.runner.is_some() && Arc::ptr_eq(&still.before, &stands) {
                    self.core.hold_still(true);
                    self.still = Some(still);
                }
            }
            Message::Relocated(relocated, goes_on) => self.relocated = Some((relocated, goes_on)),
            Message::Stop(answer) => self.stop = Some(answer),
            #[cfg(test)]
            Message::Panic => panic!("as a test asked"),
        }
    }

    fn obey(&mut self, order: Order) -> Input {
        let Order {
            limits,
            stops,
            renews,
            done,
        } = order;
        if renews {
            self.renewal = Some(Arc::clone(&done));
        }
        self.done.push(done);
        Input::Limits { limits, stops }
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
            Action::Run {
                id,
                step,
                rows,
                whose,
            } => {
                self.in_flight.insert(id, Arc::clone(&step));
                self.outbox.push_back(Outgoing::Job(Job {
                    id,
                    step,
                    rows,
                    whose,
                }));
            }
            Action::Release { group, blocks } => {
                let blocks = blocks.into();
                self.outbox.push_back(Outgoing::Release { group, blocks });
            }
            Action::Start(id) => {
                if let Some(ask) = self.asks.remove(&id) {
                    ask.answer.answer(());
                }
            }
            Action::Queued { id, .. }
            | Action::Started { id, .. }
            | Action::Prompt { id, .. }
            | Action::Delta { id, .. } => {
                if let Some((_, listener)) = self.listeners.get_mut(&id) {
                    listener.hear(action);
                }
            }
            Action::Match { id, token } => {
                if let Some(seat) = self.seats.get_mut(&id) {
                    seat.take_in(id, token);
                }
            }
            Action::End { id, end } => {
                drop(self.seats.remove(&id));
                if let Some((_, listener)) = self.listeners.remove(&id) {
                    listener.end(end);
                }
            }
            Action::Reuse(output) => {
                if let Some(runner) = &self.runner {
                    runner.reuse(output);
                }
            }
        }
    }

    /// Gives the runner what waits for it, in order, as far as it has room. It calls when it has
    /// more.
    fn send_out(&mut self) {
        let Some(runner) = &self.runner else { return };
        while let Some(outgoing) = self.outbox.pop_front() {
            let back = match outgoing {
                Outgoing::Job(job) => runner.submit(job).err().map(Outgoing::Job),
                Outgoing::Release { group, blocks } => {
                    let back = runner.release(group, blocks).err();
                    back.map(|blocks| Outgoing::Release { group, blocks })
                }
            };
            if let Some(back) = back {
                return self.outbox.push_front(back);
            }
        }
    }

    /// With no step in flight none comes before something happens: between requests, and in a pause.
    fn free_spares_if_idle(&self) {
        if let (Some(runner), true) = (&self.runner, self.in_flight.is_empty()) {
            runner.free_spares();
        }
    }

    /// Sleeps until a bell rings or the core wants to be asked again.
    fn sleep(&self) {
        let now = self.hardware.clock.now();
        let return_at = self.relocator.return_at().filter(|_| self.may_go_back());
        let wake = [self.core.wake(), return_at].into_iter().flatten().min();
        let timeout = wake.map(|wake| wake.since(now));
        self.inbox.bell.sleep(timeout);
        self.inbox
            .published
            .wake_ups
            .fetch_add(1, Ordering::Relaxed);
    }
}
