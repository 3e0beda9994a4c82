//! The engine's mind: a deterministic function of what happened and when. No clock, no thread and
//! no chance in here; [`Core::tick`] takes the moment and the events and says what to do.

mod batch;
mod blocks;
mod room;
mod sequence;
mod starts;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gogrid_lease::{Lease, Permit};
use gogrid_pipeline::{BlockId, OutputBuf, Step, Want};
use gogrid_units::Moment;

use crate::error::{GenerateError, Refusal};
use crate::generation::{Figures, Finish};
use crate::resource_manager::{ResourceConfig, ResourceStats};
use blocks::BlockNumbers;
use sequence::{Gain, Given, Sequence};
use starts::{Credit, Starts, Turn};

pub(crate) use blocks::blocks_at_most;
pub(crate) use room::{Account, Room};
pub(crate) use sequence::{Beginning, Decode, Task, Text};

/// What never changes while a pipeline runs.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Logits of a row.
    pub(crate) vocab: usize,
    /// Tokens that end a generation, in order.
    pub(crate) ends: Arc<[u32]>,
    /// Steps that may be in flight.
    pub(crate) depth: usize,
    pub(crate) room: Room,
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
        advances: bool,
    },
    /// A step ended.
    Done(u64, Ended),
}

/// How a step ended.
pub(crate) enum Ended {
    Output(OutputBuf),
    /// It left no trace and can be run again.
    Abandoned,
    Failed(GenerateError),
}

/// What to do, in this order.
pub(crate) enum Action {
    /// Run a step. One that is abandoned comes again under another number.
    Run {
        id: u64,
        step: Arc<Step>,
        ids: Vec<u32>,
    },
    /// Tell the stages to forget blocks of a group.
    Release { group: usize, blocks: Vec<BlockId> },
    /// The start that a caller asked for has come.
    Start(u64),
    /// Tell a request's owner that tokens came.
    Delta {
        id: u64,
        ids: Vec<u32>,
        text: String,
    },
    /// Tell a request's owner that it ended.
    End { id: u64, end: End },
}

/// How a request ended.
pub(crate) type End = Result<Ending, GenerateError>;

/// The end of a request that did not fail.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) reason: Finish,
    pub(crate) figures: Figures,
    /// Of a request to score, what it found.
    pub(crate) scores: Vec<f32>,
}

/// See the module.
pub(crate) struct Core {
    shape: Shape,
    batch_max: usize,
    /// Whether steps and starts begin.
    advances: bool,
    held_back: bool,
    ticked: Moment,
    starts: Starts,
    queue: VecDeque<Waiting>,
    /// In the order they started.
    running: Vec<Sequence>,
    steps: BTreeMap<u64, Flight>,
    steps_begun: u64,
    numbers: Vec<BlockNumbers>,
    actions: Vec<Action>,
    degraded: Option<String>,
}

/// A request in the queue. Only the first holds leases.
struct Waiting {
    beginning: Beginning,
    _place: Permit,
    /// The start it already has, since it was submitted.
    credit: Option<Credit>,
    ready: Option<Ready>,
}

/// What a request that waits only for its start holds.
struct Ready {
    leases: Vec<Lease>,
    since: Moment,
}

impl Waiting {
    fn turn(&self) -> Option<Turn> {
        let Ready { since, .. } = *self.ready.as_ref()?;
        let counted = self.credit.is_some();
        Some(Turn { since, counted })
    }
}

/// A step in flight.
struct Flight {
    step: Arc<Step>,
    /// The sequences in it, by id, in the step's order.
    sequences: Vec<u64>,
}

impl Core {
    pub(crate) fn new(shape: Shape, limits: &ResourceConfig) -> Self {
        let numbers = shape
            .room
            .windows
            .iter()
            .map(|_| BlockNumbers::default())
            .collect();
        Self {
            shape,
            batch_max: limits.max_batch_size,
            advances: true,
            held_back: false,
            ticked: Moment::default(),
            starts: Starts::new(limits),
            queue: VecDeque::new(),
            running: Vec::new(),
            steps: BTreeMap::new(),
            steps_begun: 0,
            numbers,
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
        }
        self.ticked = now;
        for input in inputs {
            self.take(input, now);
        }
        if self.advances && !self.held_back {
            while self.start_next(now) || self.grant_next(now) {}
            while self.steps.len() < self.shape.depth && self.begin_step() {}
        }
        std::mem::take(&mut self.actions)
    }

    /// When to tick again if nothing happens before.
    pub(crate) fn wake(&self) -> Option<Moment> {
        if !self.advances || self.held_back {
            return None;
        }
        let head = self.head();
        let opens = head.and_then(|turn| self.starts.opens(turn));
        self.starts.ask_opens(head).into_iter().chain(opens).min()
    }

    /// Begins nothing while `held`, for as long as no order says the same.
    pub(crate) fn hold_back(&mut self, held: bool) {
        self.held_back = held;
    }

    /// Whether it would begin something if it were not held back.
    pub(crate) fn is_held_back(&self) -> bool {
        self.held_back && self.advances && self.counts() != (0, 0)
    }

    pub(crate) fn stats(&self) -> ResourceStats {
        self.starts.stats()
    }

    /// Requests that wait, and sequences that advance.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.queue.len(), self.running.len())
    }

    /// The last failure, until a step passes again.
    pub(crate) fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }

    fn take(&mut self, input: Input, now: Moment) {
        match input {
            Input::Submit(beginning, place) => {
                let credit = self.starts.credit(beginning.asked);
                let waiting = Waiting {
                    beginning,
                    _place: place,
                    credit,
                    ready: None,
                };
                self.queue.push_back(waiting);
                self.shed();
            }
            Input::Cancel(id) => self.cancel(|other| other == id),
            Input::CancelAll => self.cancel(|_| true),
            Input::Ask(id) => self.starts.ask(id, now),
            Input::TakeBack(id) => self.starts.take_back(id),
            Input::Limits { limits, advances } => {
                self.batch_max = limits.max_batch_size;
                self.starts.set_limits(&limits);
                self.advances = advances;
                self.shed();
            }
            Input::Done(id, ended) => self.finish_step(id, ended, now),
        }
    }

    fn running_max(&self) -> usize {
        self.batch_max * self.shape.depth
    }

    /// The turn of the first of the queue, if nothing but its start is missing.
    fn head(&self) -> Option<Turn> {
        let first = self.queue.front()?;
        first
            .turn()
            .filter(|_| self.running.len() < self.running_max())
    }

    /// Starts the first of the queue if all it needs is there; says whether it went.
    fn start_next(&mut self, now: Moment) -> bool {
        if self.running.len() >= self.running_max() {
            return false;
        }
        if let Err(refusal) = self.make_ready(now) {
            self.refuse_first(refusal);
            return true;
        }
        let Some(turn) = self.head() else {
            return false;
        };
        let Some(opened) = self.starts.opens(turn).filter(|&opens| opens <= now) else {
            return false;
        };
        self.starts.begin(turn, opened, now);
        let Waiting {
            beginning, ready, ..
        } = self.queue.pop_front().expect("it was looked at");
        let Ready { leases, .. } = ready.expect("it had a turn");
        let groups = self.numbers.len();
        let started = Sequence::begin(beginning, leases, groups, (now, self.steps_begun));
        self.running.push(started);
        true
    }

    /// Leases what the first of the queue needs if there is room for it.
    fn make_ready(&mut self, now: Moment) -> Result<(), Refusal> {
        let waits = |first: &&mut Waiting| first.ready.is_none();
        let Some(first) = self.queue.front_mut().filter(waits) else {
            return Ok(());
        };
        let tokens = first.beginning.ids.len() + first.beginning.task.adds();
        self.shape.room.refuse_what_never_fits(tokens)?;
        let leases = self.shape.room.lease(tokens);
        first.ready = leases.map(|leases| Ready { leases, since: now });
        Ok(())
    }

    /// Refuses all that wait while more is held than a lowered cap allows: it takes what runs to end
    /// before there is room again, and who asks then may fare better elsewhere.
    fn shed(&mut self) {
        while !self.queue.is_empty()
            && let Err(refusal) = self.shape.room.refuse_while_over()
        {
            self.refuse_first(refusal);
        }
    }

    fn refuse_first(&mut self, refusal: Refusal) {
        let refused = self.queue.pop_front().expect("it was refused");
        if let Some(credit) = refused.credit {
            self.starts.give_back(credit);
        }
        let id = refused.beginning.id;
        self.actions.push(Action::End {
            id,
            end: Err(refusal.into()),
        });
    }

    /// Gives the next caller its start if it has come; says whether one got it.
    fn grant_next(&mut self, now: Moment) -> bool {
        let granted = self.starts.grant(now, self.head());
        self.actions.extend(granted.map(Action::Start));
        granted.is_some()
    }

    /// Begins one step if a sequence is free for it.
    fn begin_step(&mut self) -> bool {
        let places = self.running.iter().enumerate();
        let candidates: Vec<_> = places.filter_map(|(i, s)| s.candidate(i)).collect();
        let chosen = batch::choose(&candidates, self.batch_max);
        if chosen.is_empty() {
            return false;
        }
        self.steps_begun += 1;
        let (mut rows, mut ids, mut in_it) = (Vec::new(), Vec::new(), Vec::new());
        for (place, count) in chosen {
            let sequence = &mut self.running[place];
            sequence.in_flight = true;
            sequence.last_step = self.steps_begun;
            in_it.push(sequence.id);
            let windows = &self.shape.room.windows;
            let (its_rows, its_ids, gone) = sequence.rows(count, windows, &mut self.numbers);
            rows.push(its_rows);
            ids.extend_from_slice(its_ids);
            release(&mut self.actions, gone);
        }
        let (id, step) = (self.steps_begun, Arc::new(Step { sequences: rows }));
        self.steps.insert(
            id,
            Flight {
                step: Arc::clone(&step),
                sequences: in_it,
            },
        );
        self.actions.push(Action::Run { id, step, ids });
        true
    }

    fn finish_step(&mut self, id: u64, ended: Ended, now: Moment) {
        let flight = self.steps.remove(&id).expect("a step ends once");
        for &id in &flight.sequences {
            self.sequence(id).in_flight = false;
        }
        match ended {
            Ended::Output(out) => {
                self.degraded = None;
                self.share_out(&flight, &out, now);
            }
            Ended::Abandoned => {}
            Ended::Failed(error) => {
                self.degraded = Some(error.to_string());
                for &id in &flight.sequences {
                    self.end(id, |_| Err(error.clone()));
                }
            }
        }
        // Those that were cancelled meanwhile and did not end by themselves.
        self.end_cancelled();
    }

    /// Gives each sequence its part of a step's output.
    fn share_out(&mut self, flight: &Flight, out: &OutputBuf, now: Moment) {
        let (mut logits, mut log_probs) = (&out.logits[..], &out.log_probs[..]);
        for (&id, rows) in flight.sequences.iter().zip(&flight.step.sequences) {
            let wants = rows.wants.iter();
            let row_logits = wants.clone().filter(|&&want| want == Want::Logits).count();
            let row_probs = wants
                .filter(|want| matches!(want, Want::LogProb(_)))
                .count();
            let its_logits = logits.split_off(..row_logits * self.shape.vocab);
            let its_probs = log_probs.split_off(..row_probs);
            let (Some(logits), Some(log_probs)) = (its_logits, its_probs) else {
                let problem = "the last stage gave fewer values than the step wants".to_owned();
                self.fail(id, GenerateError::BadOutput(problem));
                continue;
            };
            let ends = Arc::clone(&self.shape.ends);
            let given = Given { logits, log_probs };
            let rows = rows.wants.len();
            match self.sequence(id).advance(rows, given, (now, &ends)) {
                Ok(gain) => self.tell(id, gain),
                Err(error) => self.fail(id, error),
            }
        }
    }

    fn fail(&mut self, id: u64, error: GenerateError) {
        self.degraded = Some(error.to_string());
        self.end(id, |_| Err(error));
    }

    fn tell(&mut self, id: u64, gain: Gain) {
        let Gain { ids, text, finish } = gain;
        if !ids.is_empty() || !text.is_empty() {
            self.actions.push(Action::Delta { id, ids, text });
        }
        if let Some(reason) = finish {
            self.end(id, |sequence| Ok(sequence.ending(reason)));
        }
    }

    /// The one way out: the owner is told, the blocks and the leases go.
    fn end(&mut self, id: u64, end: impl FnOnce(&mut Sequence) -> End) {
        let place = self
            .running
            .iter()
            .position(|s| s.id == id)
            .expect("it is running");
        let mut sequence = self.running.remove(place);
        debug_assert!(!sequence.in_flight, "its blocks are in use");
        self.actions.push(Action::End {
            id,
            end: end(&mut sequence),
        });
        let gone = sequence.into_blocks();
        for (blocks, numbers) in gone.iter().zip(&mut self.numbers) {
            blocks.iter().for_each(|&block| numbers.give_back(block));
        }
        release(&mut self.actions, gone);
    }

    fn cancel(&mut self, is_meant: impl Fn(u64) -> bool) {
        let (gone, kept): (VecDeque<_>, _) = self
            .queue
            .drain(..)
            .partition(|waiting| is_meant(waiting.beginning.id));
        self.queue = kept;
        for waiting in gone {
            if let Some(credit) = waiting.credit {
                self.starts.give_back(credit);
            }
            let figures = Figures {
                prompt_tokens: waiting.beginning.ids.len(),
                ..Figures::default()
            };
            let ending = Ending {
                reason: Finish::Cancelled,
                figures,
                scores: Vec::new(),
            };
            self.actions.push(Action::End {
                id: waiting.beginning.id,
                end: Ok(ending),
            });
        }
        for sequence in self.running.iter_mut().filter(|s| is_meant(s.id)) {
            sequence.cancelled = true;
        }
        self.end_cancelled();
    }

    fn end_cancelled(&mut self) {
        let cancelled = self.running.iter().filter(|s| s.cancelled && !s.in_flight);
        let ids: Vec<u64> = cancelled.map(|s| s.id).collect();
        for id in ids {
            let last = self.sequence(id).last_text(Finish::Cancelled);
            self.tell(
                id,
                Gain {
                    finish: Some(Finish::Cancelled),
                    ..last
                },
            );
        }
    }

    fn sequence(&mut self, id: u64) -> &mut Sequence {
        let found = self.running.iter_mut().find(|s| s.id == id);
        found.expect("a sequence in flight is running")
    }
}

fn release(actions: &mut Vec<Action>, gone: Vec<Vec<BlockId>>) {
    for (group, blocks) in gone.into_iter().enumerate() {
        if !blocks.is_empty() {
            actions.push(Action::Release { group, blocks });
        }
    }
}

#[cfg(test)]
mod tests;
