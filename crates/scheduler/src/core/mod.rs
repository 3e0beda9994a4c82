//! The engine's mind: a deterministic function of what happened and when. No clock, no thread and
//! no chance in here; [`Core::tick`] takes the moment and the events and says what to do.

mod batch;
mod blocks;
mod content;
mod draft;
mod due;
mod embed;
mod gain;
mod keeping;
mod layout;
mod moment;
mod prefix;
mod queue;
mod room;
mod sequence;
mod starts;
mod steps;
mod told;
mod verify;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gogrid_lease::Permit;
use gogrid_pipeline::{BlockId, OutputBuf, Rows, Step};
use gogrid_units::{Each, Moment, Whose};

use crate::constraint::Allowed;
use crate::error::GenerateError;
use crate::generation::{Figures, Finish, TokenLogProb};
use crate::pause::{Stop, StoppedTime, Stops};
use crate::resource_manager::{ResourceConfig, ResourceStats};
use blocks::BlockNumbers;
use draft::StepTimes;
use layout::Stages;
use moment::StoppedUntil;
use prefix::PrefixCache;
use queue::Waiting;
use sequence::Sequence;
use starts::Starts;
use steps::Flight;

pub(crate) use blocks::blocks_at_most;
pub(crate) use embed::{Embedding, FinalNorm};
pub(crate) use layout::{Layout, MoveLeases};
pub(crate) use moment::{Deadline, Urgency};
pub(crate) use room::{Account, Room};
pub(crate) use sequence::{Beginning, Decode, Task, Text};

/// What never changes while a pipeline runs.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Logits of a row.
    pub(crate) vocab: usize,
    /// Values of a row of the residual stream.
    pub(crate) width: usize,
    /// Tokens that end a generation, in order.
    pub(crate) ends: Arc<[u32]>,
    /// The most tokens of a sequence before the model turns all its rows otherwise.
    pub(crate) rotations_change_above: Option<usize>,
    /// Whether tokens are drafted.
    pub(crate) drafts: bool,
}

/// What happened.
pub(crate) enum Input {
    /// A request that was admitted, with its place in the queue.
    Submit(Beginning, Permit),
    /// Nobody wants this request any more.
    Cancel(u64),
    /// No request is wanted any more.
    CancelAll,
    /// A caller asks for a start to use later.
    Ask(u64),
    /// The caller does not wait for it any more.
    TakeBack(u64),
    /// Other limits hold, and work goes on or stops: of whom it stops no start and no step begins.
    Limits {
        limits: ResourceConfig,
        stops: Stops,
    },
    /// What the matcher of a request says of the token that it is to choose next, asked for by
    /// [`Action::Match`].
    Allowed(u64, Result<Allowed, String>),
    /// A step ended.
    Done(u64, Ended),
    /// Stages stand elsewhere and hold all the keys and values of [`Core::written_blocks`]; the
    /// leases are those of [`Core::lease_for`] for the same room. No step is in flight.
    Moved(Layout, MoveLeases),
    /// Stages stand elsewhere and hold no keys and values. No step is in flight, and what was still
    /// to be released is not.
    Replaced(Layout),
    /// Nothing can run any more, for this reason. Where it comes again, the first counts; one for want of a
    /// place counts until stages stand elsewhere or another comes.
    Failed(GenerateError),
}

/// How a step ended.
pub(crate) enum Ended {
    Output(OutputBuf),
    /// It left no trace and can be run again.
    Abandoned,
    /// Its sequences are lost.
    Failed(GenerateError),
    /// A device is gone, with what its stages held. The sequences begin again on other stages.
    Lost(GenerateError),
}

/// What to do, in this order.
pub(crate) enum Action {
    /// Run a step. One that is abandoned comes again under another number.
    Run {
        id: u64,
        step: Arc<Step>,
        rows: Rows,
        whose: Whose,
    },
    /// Tell the stages to forget blocks of a group. Those never written are among them.
    Release { group: usize, blocks: Vec<BlockId> },
    /// The start that a caller asked for has come.
    Start(u64),
    /// Tell a request's owner that it waits in this place.
    Queued { id: u64, position: usize },
    /// Tell a request's owner that it has started.
    Started { id: u64, cached_tokens: usize },
    /// Have the matcher of a request take in the token that was chosen, or none before the first, and
    /// tell [`Input::Allowed`]. It has answered what was asked of it before.
    Match { id: u64, token: Option<u32> },
    /// Tell a request's owner of the tokens of its prompt.
    Prompt {
        id: u64,
        log_probs: Vec<Option<TokenLogProb>>,
    },
    /// Tell a request's owner that tokens came.
    Delta {
        id: u64,
        ids: Vec<u32>,
        text: String,
        log_probs: Vec<TokenLogProb>,
    },
    /// Tell a request's owner that it ended.
    End { id: u64, end: End },
    /// Give the memory of an output that was read to a step to come.
    Reuse(OutputBuf),
}

/// What keeps work of a class from beginning beside the limits, at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hold {
    #[default]
    Nothing,
    /// A stop by hand.
    ByHand,
    /// Requests of the owner run, in this engine or another.
    OwnerFirst,
    /// Something else, of which an order is on its way.
    Other,
}

/// How a request ended.
pub(crate) type End = Result<Ending, GenerateError>;

/// The end of a request that did not fail.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) reason: Finish,
    pub(crate) figures: Figures,
    /// Of a request to score, the log-probabilities; of one to embed, the vector.
    pub(crate) values: Vec<f32>,
}

/// See the module.
pub(crate) struct Core {
    shape: Shape,
    layout: Layout,
    stages: Stages,
    batch_max: usize,
    /// Of whom the limits let no step and no start begin, and why.
    ordered: Stops,
    hold: Each<Hold>,
    stopped: Each<StoppedTime>,
    held_still: bool,
    ticked: Moment,
    starts: Starts,
    queue: VecDeque<Waiting>,
    /// Requests that were submitted so far.
    submitted: u64,
    /// In the order they started.
    running: Vec<Sequence>,
    steps: BTreeMap<u64, Flight>,
    steps_begun: u64,
    step_times: StepTimes,
    numbers: Vec<BlockNumbers>,
    prefixes: PrefixCache,
    keeps_nothing: bool,
    actions: Vec<Action>,
    degraded: Option<String>,
}

impl Core {
    pub(crate) fn new(shape: Shape, layout: Layout, limits: &ResourceConfig) -> Self {
        let windows = layout.room.windows.iter();
        Self {
            numbers: windows.map(|&window| BlockNumbers::new(window)).collect(),
            prefixes: PrefixCache::new(layout.room.windows.len()),
            keeps_nothing: false,
            shape,
            layout,
            stages: Stages::Standing,
            batch_max: limits.max_batch_size,
            ordered: Stops::default(),
            hold: Each::default(),
            stopped: Each::default(),
            held_still: false,
            ticked: Moment::default(),
            starts: Starts::new(limits),
            queue: VecDeque::new(),
            submitted: 0,
            running: Vec::new(),
            steps: BTreeMap::new(),
            steps_begun: 0,
            step_times: StepTimes::default(),
            actions: Vec::new(),
            degraded: None,
        }
    }

    /// Takes in what happened up to `now`, and says what to do.
    pub(crate) fn tick(
        &mut self,
        now: Moment,
        inputs: impl IntoIterator<Item = Input>,
    ) -> Vec<Action> {
        if now < self.ticked {
            self.starts.went_back(now);
            self.stopped.owner.went_back(now);
            self.stopped.guest.went_back(now);
            self.queue.iter_mut().for_each(|w| w.went_back(now));
            self.running
                .iter_mut()
                .for_each(|s| s.urgency.went_back(now));
        }
        self.ticked = now;
        for input in inputs {
            self.take(input, now);
        }
        let is_stopped = Each::of(|whose| self.is_stopped(whose));
        for (whose, time) in self.stopped.iter_mut() {
            time.set(*is_stopped.its(whose), now);
        }
        self.end_late(now);
        self.order_queue(now);
        if self.layout.room.is_over() {
            // What sequences refer to is leased by them, and frees nothing.
            self.evict_leased();
        }
        if self.may_begin() {
            self.unpark();
            while self.start_next(now) || self.grant_next(now) {}
            while self.steps.len() < self.layout.depth && self.begin_step() {}
        }
        self.tell_positions();
        std::mem::take(&mut self.actions)
    }

    /// Whether steps and starts begin, of those that are not stopped.
    fn may_begin(&self) -> bool {
        match self.stages {
            Stages::Standing => !self.held_still,
            Stages::Lost => false,
            // There is nothing left to run, and callers that wait for a start get it.
            Stages::Failed(_) => true,
        }
    }

    /// Whether no step and no start of this class begins.
    fn is_stopped(&self, whose: Whose) -> bool {
        self.ordered.each.its(whose).is_some()
            || *self.hold.its(whose) != Hold::Nothing
            || whose == Whose::Guest && self.is_owners()
    }

    /// Whether guests wait for requests of the owner that run here.
    fn is_owners(&self) -> bool {
        self.ordered.owner_first && self.owners_running() > 0
    }

    /// Sequences of the owner that advance.
    pub(crate) fn owners_running(&self) -> usize {
        let owners = self.running.iter().filter(|s| s.whose() == Whose::Owner);
        owners.count()
    }

    /// When to tick again if nothing happens before.
    pub(crate) fn wake(&self) -> Option<Moment> {
        let deadline = self.next_deadline();
        if !self.may_begin() {
            return deadline;
        }
        let head = self.head();
        let opens = head.and_then(|turn| self.starts.opens(turn));
        let ask_opens = self.starts.ask_opens(head);
        // Callers that ask for a start are guests.
        let ask_opens = ask_opens.filter(|_| !self.is_stopped(Whose::Guest));
        [deadline, opens, ask_opens].into_iter().flatten().min()
    }

    /// Begins nothing of a class while something holds, for as long as no order says the same.
    pub(crate) fn hold_back(&mut self, hold: Each<Hold>) {
        self.hold = hold;
    }

    /// Why requests of this class may take nothing of the machine, as far as it is known.
    pub(crate) fn stop(&self, whose: Whose) -> Option<Stop> {
        let ordered = self.ordered.each.its(whose).clone();
        ordered.or_else(|| match self.hold.its(whose) {
            Hold::ByHand => Some(Stop::by_hand()),
            Hold::OwnerFirst => Some(Stop::owner_first()),
            Hold::Nothing | Hold::Other => {
                let waits = whose == Whose::Guest && self.is_owners();
                waits.then(Stop::owner_first)
            }
        })
    }

    pub(crate) fn stats(&self) -> ResourceStats {
        self.starts.stats()
    }

    /// Requests that wait, and sequences that advance.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.queue.len(), self.running.len())
    }

    /// The last failure, until a step passes again; the one after which nothing can run for good.
    pub(crate) fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }

    fn take(&mut self, input: Input, now: Moment) {
        match input {
            Input::Submit(beginning, place) => self.submit(beginning, place),
            Input::Cancel(id) => self.cancel(|other| other == id),
            Input::CancelAll => self.cancel(|_| true),
            Input::Ask(id) => self.starts.ask(id, now),
            Input::TakeBack(id) => self.starts.take_back(id),
            Input::Limits { limits, stops } => {
                self.batch_max = limits.max_batch_size;
                self.starts.set_limits(&limits);
                self.ordered = stops;
                self.shed();
            }
            Input::Allowed(id, allowed) => self.allow(id, allowed, now),
            Input::Done(id, ended) => self.finish_step(id, ended, now),
            Input::Moved(layout, leases) => self.go_on_in(layout, leases),
            Input::Replaced(layout) => self.replace(layout),
            Input::Failed(error) => self.fail_for_good(error),
        }
    }

    /// The matcher of a request has answered. One that has ended meanwhile does not need it.
    fn allow(&mut self, id: u64, allowed: Result<Allowed, String>, now: Moment) {
        let ends = Arc::clone(&self.shape.ends);
        let stopped = self.stopped_until(now);
        let Some(sequence) = self.running.iter_mut().find(|s| s.id == id) else {
            return;
        };
        let at = stopped.instance(sequence.whose(), &ends);
        let gained = sequence.allow(allowed, at);
        self.gain(id, gained);
    }

    fn stopped_until(&self, now: Moment) -> StoppedUntil {
        StoppedUntil {
            now,
            times: Each::of(|whose| self.stopped.its(whose).total(now)),
        }
    }

    fn running_max(&self) -> usize {
        self.batch_max * self.layout.depth
    }
}

#[cfg(test)]
mod tests;
