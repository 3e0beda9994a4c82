//! The engine's mind: a deterministic function of what happened and when. No clock, no thread and
//! no chance in here; [`Core::tick`] takes the moment and the events and says what to do.

mod batch;
mod blocks;
mod content;
mod due;
mod embed;
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
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gogrid_lease::Permit;
use gogrid_pipeline::{BlockId, OutputBuf, Rows, Step};
use gogrid_units::Moment;

use crate::constraint::Allowed;
use crate::error::GenerateError;
use crate::generation::{Figures, Finish, TokenLogProb};
use crate::pause::{Stop, StoppedTime};
use crate::resource_manager::{ResourceConfig, ResourceStats};
use blocks::BlockNumbers;
use layout::Stages;
use moment::Instance;
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
    /// Other limits hold, and work goes on or stops: then no start and no step begins.
    Limits {
        limits: ResourceConfig,
        stop: Option<Stop>,
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

/// What keeps everything from beginning beside the limits, at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Nothing,
    /// A stop by hand.
    ByHand,
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
    /// Why the limits let no step and no start begin.
    ordered_stop: Option<Stop>,
    hold: Hold,
    stopped: StoppedTime,
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
            ordered_stop: None,
            hold: Hold::Nothing,
            stopped: StoppedTime::default(),
            held_still: false,
            ticked: Moment::default(),
            starts: Starts::new(limits),
            queue: VecDeque::new(),
            submitted: 0,
            running: Vec::new(),
            steps: BTreeMap::new(),
            steps_begun: 0,
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
            self.stopped.went_back(now);
            self.queue.iter_mut().for_each(|w| w.went_back(now));
            self.running
                .iter_mut()
                .for_each(|s| s.urgency.went_back(now));
        }
        self.ticked = now;
        for input in inputs {
            self.take(input, now);
        }
        let is_stopped = self.ordered_stop.is_some() || self.is_held_back();
        self.stopped.set(is_stopped, now);
        self.end_late(now);
        self.order_queue(now);
        if self.layout.room.is_over() {
            // What sequences refer to is leased by them, and frees nothing.
            self.evict_leased();
        }
        if self.may_begin() && !self.is_held_back() {
            while self.start_next(now) || self.grant_next(now) {}
            while self.steps.len() < self.layout.depth && self.begin_step() {}
        }
        self.tell_positions();
        std::mem::take(&mut self.actions)
    }

    /// Whether steps and starts begin, but for the gate.
    fn may_begin(&self) -> bool {
        let stands = match self.stages {
            Stages::Standing => !self.held_still,
            Stages::Lost => false,
            // There is nothing left to run, and callers that wait for a start get it.
            Stages::Failed(_) => true,
        };
        self.ordered_stop.is_none() && stands
    }

    /// When to tick again if nothing happens before.
    pub(crate) fn wake(&self) -> Option<Moment> {
        let deadline = self.next_deadline();
        if !self.may_begin() || self.is_held_back() {
            return deadline;
        }
        let head = self.head();
        let opens = head.and_then(|turn| self.starts.opens(turn));
        let ask_opens = self.starts.ask_opens(head);
        [deadline, opens, ask_opens].into_iter().flatten().min()
    }

    /// Begins nothing while something holds, for as long as no order says the same.
    pub(crate) fn hold_back(&mut self, hold: Hold) {
        self.hold = hold;
    }

    fn is_held_back(&self) -> bool {
        self.hold != Hold::Nothing
    }

    /// Why nothing may be taken of the machine, as far as it is known.
    pub(crate) fn stop(&self) -> Option<Stop> {
        let by_hand = (self.hold == Hold::ByHand).then(Stop::by_hand);
        self.ordered_stop.clone().or(by_hand)
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
            Input::Limits { limits, stop } => {
                self.batch_max = limits.max_batch_size;
                self.starts.set_limits(&limits);
                self.ordered_stop = stop;
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
        let at = self.instance(now, &ends);
        let Some(sequence) = self.running.iter_mut().find(|s| s.id == id) else {
            return;
        };
        let gained = sequence.allow(allowed, at);
        self.gain(id, gained);
    }

    fn instance<'a>(&self, now: Moment, ends: &'a [u32]) -> Instance<'a> {
        let stopped = self.stopped.total(now);
        Instance { now, stopped, ends }
    }

    fn running_max(&self) -> usize {
        self.batch_max * self.layout.depth
    }
}

#[cfg(test)]
mod tests;
