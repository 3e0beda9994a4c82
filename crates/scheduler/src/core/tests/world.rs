//! Everything around the core: callers, the stages' drivers, and the clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use gogrid_lease::{Kind, Ledger, Permits};
use gogrid_pipeline::{BlockId, OutputBuf, Step};
use gogrid_units::{Bytes, Moment};

use super::fake::{Dice, Letters, Memory, VOCAB, WINDOWS, Wish, alone, any_wish};
use crate::core::{Account, Action, Beginning, Core, End, Ended, Input, Room, Shape, Task, Text};
use crate::error::GenerateError;
use crate::generation::Finish;
use crate::limits::ROWS_IN_STEP_MAX;
use crate::resource_manager::ResourceConfig;
use crate::sampling::{Sampler, StopWatch};

const MS: u64 = 1_000_000;

/// What may go wrong.
#[derive(Clone, Copy, Default)]
pub(super) struct Spice {
    pub(super) cancels: bool,
    pub(super) failures: bool,
    pub(super) abandons: bool,
    pub(super) limits: bool,
}

impl Spice {
    pub(super) fn everything() -> Self {
        Self {
            cancels: true,
            failures: true,
            abandons: true,
            limits: true,
        }
    }
}

/// A request and what came of it.
pub(super) struct Record {
    wish: Wish,
    asked: Moment,
    pub(super) ids: Vec<u32>,
    text: String,
    pub(super) end: Option<End>,
}

pub(super) struct World {
    pub(super) core: Core,
    dice: Dice,
    spice: Spice,
    now: Moment,
    limits: ResourceConfig,
    advances: bool,
    places: Permits,
    stages: Vec<Memory>,
    /// What each stage's driver has to do, in order.
    lines: Vec<VecDeque<Op>>,
    pub(super) records: BTreeMap<u64, Record>,
    asks_begun: u64,
    /// Callers that wait for a start.
    asks: BTreeSet<u64>,
    done: Vec<Input>,
}

#[derive(Clone)]
enum Op {
    Run {
        id: u64,
        step: Arc<Step>,
        ids: Vec<u32>,
    },
    Release {
        group: usize,
        blocks: Vec<BlockId>,
    },
}

impl World {
    pub(super) fn new(seed: u64, spice: Spice) -> Self {
        let mut dice = Dice(seed);
        let stages = 1 + dice.below(3) as usize;
        let limits = ResourceConfig {
            min_request_interval_ms: [0, 10, 50][dice.below(3) as usize],
            max_batch_size: 1 + dice.below(4) as usize,
            ..ResourceConfig::default()
        };
        let kv_block = vec![Bytes(10), Bytes(1)];
        let ledger = Ledger::new(Bytes(200 + dice.below(600)));
        let account = Account {
            device: "fake".into(),
            ledger,
            kv_block,
        };
        let room = Room {
            accounts: vec![account],
            windows: WINDOWS.to_vec(),
        };
        let shape = Shape {
            vocab: VOCAB,
            ends: Arc::new([0]),
            depth: stages,
            room,
        };
        Self {
            core: Core::new(shape, &limits),
            dice,
            spice,
            now: Moment(0),
            limits,
            advances: true,
            places: Permits::new(1000),
            stages: (0..stages).map(|_| Memory::default()).collect(),
            lines: vec![VecDeque::new(); stages],
            records: BTreeMap::new(),
            asks_begun: 0,
            asks: BTreeSet::new(),
            done: Vec::new(),
        }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.core.shape.room.accounts[0].ledger
    }

    pub(super) fn set_cap(&mut self, cap: Bytes) {
        self.ledger().set_cap(cap);
    }

    pub(super) fn submit(&mut self, wish: Wish) {
        let id = self.records.len() as u64;
        let beginning = beginning(id, wish.clone(), self.now);
        let place = self.places.take().expect("there are places");
        let record = Record {
            wish,
            asked: self.now,
            ids: Vec::new(),
            text: String::new(),
            end: None,
        };
        self.records.insert(id, record);
        self.done.push(Input::Submit(beginning, place));
    }

    /// Lets things happen at random.
    pub(super) fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.now.0 += self.dice.below(20 * MS);
            let mut inputs = self.outside();
            for stage in 0..self.lines.len() {
                if self.dice.chance(80) {
                    self.advance(stage);
                }
            }
            inputs.append(&mut self.done);
            self.tick(inputs);
        }
    }

    /// Lets everything end; time passes only when nothing else can.
    pub(super) fn drain(&mut self) {
        self.spice.failures = false;
        self.spice.abandons = false;
        self.advances = true;
        self.done.push(self.order());
        loop {
            (0..self.lines.len()).for_each(|stage| self.advance(stage));
            let inputs = std::mem::take(&mut self.done);
            let idle = inputs.is_empty() && self.lines.iter().all(VecDeque::is_empty);
            if idle && self.core.counts() == (0, 0) && self.asks.is_empty() {
                return;
            }
            if idle {
                self.now = self.core.wake().expect("the core is stuck").max(self.now);
            }
            self.now.0 += 1000;
            self.tick(inputs);
        }
    }

    fn outside(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        if self.dice.chance(35) {
            let wish = any_wish(&mut self.dice);
            self.submit(wish);
        }
        if self.dice.chance(5) {
            inputs.push(Input::Ask(self.asks_begun));
            self.asks.insert(self.asks_begun);
            self.asks_begun += 1;
        }
        if self.spice.cancels && self.dice.chance(10) && !self.records.is_empty() {
            inputs.push(Input::Cancel(self.dice.below(self.records.len() as u64)));
        }
        if self.spice.cancels
            && self.dice.chance(5)
            && let Some(gone) = self.asks.pop_first()
        {
            inputs.push(Input::TakeBack(gone));
        }
        if self.spice.cancels && self.dice.chance(1) {
            inputs.push(Input::CancelAll);
        }
        if self.spice.limits && self.dice.chance(8) {
            self.limits.max_batch_size = 1 + self.dice.below(5) as usize;
            self.limits.enable_auto_throttle = self.dice.chance(70);
            self.limits.min_request_interval_ms = self.dice.below(40);
            let cap = Bytes(60 + self.dice.below(600));
            self.set_cap(cap);
            self.advances = self.dice.chance(70);
            inputs.push(self.order());
        }
        inputs
    }

    fn order(&self) -> Input {
        Input::Limits {
            limits: self.limits.clone(),
            advances: self.advances,
        }
    }

    pub(super) fn tick(&mut self, mut inputs: Vec<Input>) {
        inputs.append(&mut self.done);
        let (used, cap) = (self.ledger().used(), self.ledger().cap());
        let actions = self.core.tick(self.now, inputs);
        assert!(
            self.ledger().used() <= used.max(cap),
            "use rose above the cap"
        );
        for action in actions {
            self.act(action);
        }
        self.check_blocks();
        self.check_nobody_starves();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Run { id, step, ids } => {
                assert_eq!(ids.len(), step.rows());
                assert!(self.advances, "a step begins though work is stopped");
                assert!(step.rows() <= ROWS_IN_STEP_MAX);
                assert!(step.sequences.len() <= self.limits.max_batch_size);
                assert!(self.core.steps.len() <= self.stages.len());
                self.lines[0].push_back(Op::Run { id, step, ids });
            }
            Action::Release { group, blocks } => {
                let release = Op::Release { group, blocks };
                self.lines
                    .iter_mut()
                    .for_each(|line| line.push_back(release.clone()));
            }
            Action::Start(id) => assert!(self.asks.remove(&id), "nobody waits for it"),
            Action::Delta { id, ids, text } => {
                let record = self.record(id);
                assert!(record.end.is_none(), "a delta after the end");
                record.ids.extend(ids);
                record.text += &text;
            }
            Action::End { id, end } => {
                let record = self.record(id);
                assert!(record.end.is_none(), "two ends");
                record.end = Some(end);
            }
        }
    }

    fn record(&mut self, id: u64) -> &mut Record {
        self.records.get_mut(&id).expect("it was submitted")
    }

    /// A stage's driver does the next thing in its line.
    fn advance(&mut self, stage: usize) {
        match self.lines[stage].pop_front() {
            None => {}
            Some(Op::Release { group, blocks }) => {
                self.stages[stage].release(group, blocks.iter().map(|block| block.0));
            }
            Some(Op::Run { id, step, ids }) => self.run_step(stage, id, (step, ids)),
        }
    }

    fn run_step(&mut self, stage: usize, id: u64, (step, ids): (Arc<Step>, Vec<u32>)) {
        if self.spice.failures && self.dice.chance(1) {
            let problem = "it broke".to_owned();
            return self.done.push(Input::Done(
                id,
                Ended::Failed(GenerateError::BadOutput(problem)),
            ));
        }
        let abandons = self.spice.abandons && self.dice.chance(5);
        let mut out = OutputBuf::default();
        let mut rest = &ids[..];
        for rows in &step.sequences {
            let its = rest
                .split_off(..rows.wants.len())
                .expect("an id for each row");
            let (logits, log_probs) = self.stages[stage].run(rows, its);
            out.logits.extend(logits);
            out.log_probs.extend(log_probs);
            if abandons {
                return self.done.push(Input::Done(id, Ended::Abandoned));
            }
        }
        match self.lines.get_mut(stage + 1) {
            Some(next) => next.push_back(Op::Run { id, step, ids }),
            None => self.done.push(Input::Done(id, Ended::Output(out))),
        }
    }

    /// No block belongs to two sequences, and no sequence is in two steps.
    fn check_blocks(&self) {
        let mut seen = std::collections::HashSet::new();
        let steps = self.core.steps.values();
        for sequence in steps.flat_map(|flight| &flight.step.sequences) {
            for (group, table) in sequence.tables.iter().enumerate() {
                for block in table.iter().flatten() {
                    assert!(
                        seen.insert((group, block.0)),
                        "block {block:?} has two owners"
                    );
                }
            }
        }
        let out = self.core.numbers.iter().zip([10, 1]);
        let bytes: u64 = out
            .map(|(numbers, bytes)| numbers.out() as u64 * bytes)
            .sum();
        assert!(
            Bytes(bytes) <= self.ledger().used_by(Kind::Kv),
            "more blocks than leased"
        );
    }

    /// A sequence that decodes is in a step again after a bounded number of steps.
    fn check_nobody_starves(&self) {
        let running = self.core.running.len() as u64;
        let places = self.core.running.iter().enumerate();
        for candidate in places.filter_map(|(i, s)| s.candidate(i)) {
            let waited = self.core.steps_begun - candidate.last_step;
            let bound = running.max(20) + self.stages.len() as u64;
            assert!(
                candidate.prompt_left > 0 || waited <= bound,
                "waited {waited} steps"
            );
        }
    }

    /// Every request ended once, as it would have alone, and everything was given back.
    pub(super) fn check_all_ended(&self) {
        for record in self.records.values() {
            let (ids, text, reason) = alone(&record.wish);
            match record.end.as_ref().expect("a request was lost") {
                Ok(ending) if ending.reason != Finish::Cancelled => {
                    assert_eq!(
                        (&record.ids, &record.text),
                        (&ids, &text),
                        "{:?}",
                        record.wish
                    );
                    assert_eq!(ending.reason, reason);
                    assert_eq!(ending.figures.generated_tokens, ids.len());
                }
                _ => {
                    assert!(ids.starts_with(&record.ids));
                    let stopped = text.starts_with(&record.text);
                    // Text held back for a stop string comes out when it is cancelled.
                    assert!(
                        stopped || record.text.starts_with(&text) || reason == Finish::StopString
                    );
                }
            }
        }
        assert_eq!(self.ledger().used(), Bytes::ZERO);
        assert!(self.core.numbers.iter().all(|numbers| numbers.out() == 0));
        assert_eq!(self.places.available(), 1000);
    }

    pub(super) fn check_starts_apart(&self) {
        let start = |record: &Record| {
            let ending = record.end.as_ref()?.as_ref().ok()?;
            Some(record.asked.0 + (ending.figures.queue_s * 1e9).round() as u64)
        };
        let mut starts: Vec<u64> = self.records.values().filter_map(start).collect();
        starts.sort_unstable();
        let interval = self.limits.min_request_interval_ms * MS;
        // A start is worked back from seconds in a double: right to a nanosecond.
        assert!(
            starts
                .windows(2)
                .all(|pair| pair[1] - pair[0] + 2 >= interval),
            "{starts:?}"
        );
    }
}

/// A request as the core takes it.
pub(super) fn beginning(id: u64, wish: Wish, asked: Moment) -> Beginning {
    let (ids, task, stops) = match wish {
        Wish::Sample {
            ids,
            most,
            sampling,
        } => {
            let stops = sampling.stop.clone();
            (
                ids,
                Task::Sample {
                    sampler: Box::new(Sampler::new(sampling)),
                    most,
                },
                stops,
            )
        }
        Wish::Force { ids, fed } => (ids, Task::Force(fed), Vec::new()),
        Wish::Score { ids } => (ids, Task::Score(Vec::new()), Vec::new()),
    };
    let text = Text {
        decoder: Box::new(Letters),
        stops: StopWatch::new(stops),
    };
    Beginning {
        id,
        ids,
        task,
        text,
        asked,
    }
}
