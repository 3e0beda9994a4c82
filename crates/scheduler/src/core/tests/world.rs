//! Everything around the core: callers, the stages' drivers, the clock, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use gogrid_lease::{Kind, Permits};
use gogrid_pipeline::{BLOCK_TOKENS, BlockId, Step};
use gogrid_units::{Bytes, Each, Moment, Whose};

use super::fake::{
    Alone, BORDER, Dice, Extras, Letters, Told, VOCAB, Wish, alone, any_sample, any_wish,
};
use super::rig::{Chance, Memories, Op, Rig, Run, Site};
use crate::core::{
    Action, Beginning, Core, Deadline, End, Input, MoveLeases, Shape, Task, Text, Urgency,
};
use crate::error::{GenerateError, Refusal};
use crate::generation::Finish;
use crate::limits::{DRAFTED_ROWS_MAX, ROWS_IN_STEP_MAX};
use crate::pause::{Stop, Stops};
use crate::request::{Priority, PromptRows};
use crate::resource_manager::ResourceConfig;
use crate::sampling::{Sampler, StopWatch};

const MS: u64 = 1_000_000;

/// What may go wrong.
#[derive(Clone, Copy, Default)]
pub(super) struct Spice {
    pub(super) cancels: bool,
    pub(super) failures: bool,
    pub(super) abandons: bool,
    /// Limits change, and caps fall.
    pub(super) limits: bool,
    /// Memories are small.
    pub(super) tight: bool,
    pub(super) moves: bool,
    /// Devices are lost and others take their stages.
    pub(super) losses: bool,
    /// Devices are lost for good.
    pub(super) ends: bool,
    /// Requests have priorities and deadlines.
    pub(super) hurry: bool,
}

impl Spice {
    pub(super) fn everything() -> Self {
        Self {
            cancels: true,
            failures: true,
            abandons: true,
            limits: true,
            tight: true,
            moves: true,
            losses: true,
            ends: true,
            hurry: true,
        }
    }
}

/// A request and what came of it.
pub(super) struct Record {
    pub(super) wish: Wish,
    salt: Option<u64>,
    asked: Moment,
    pub(super) ids: Vec<u32>,
    text: String,
    urgency: Urgency,
    told: Told,
    /// Where it was told that it waits.
    position: Option<usize>,
    starts: u32,
    /// What its matcher has taken in, and whether it is asked something.
    matched: Vec<u32>,
    is_matching: bool,
    pub(super) end: Option<End>,
}

/// How far a move of the stages is.
enum Move {
    /// The steps in flight are to end first.
    Waits,
    /// Both places hold what the sequences need, for so many rounds.
    Copies(Site, MoveLeases, u64),
}

/// How often things happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) moves: u32,
    pub(super) moves_refused: u32,
    pub(super) replaced: u32,
    pub(super) failed: u32,
    pub(super) hits: u32,
    pub(super) kept: u32,
    pub(super) late: u32,
    /// Sequences of guests that were parked.
    pub(super) parked: u32,
    /// Tokens that were due before it was known which may be chosen.
    pub(super) due: u32,
    /// Tokens that were drafted and chosen.
    pub(super) accepted: u32,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.moves += more.moves;
        self.moves_refused += more.moves_refused;
        self.replaced += more.replaced;
        self.failed += more.failed;
        self.hits += more.hits;
        self.kept += more.kept;
        self.late += more.late;
        self.parked += more.parked;
        self.due += more.due;
        self.accepted += more.accepted;
    }
}

pub(super) struct World {
    pub(super) core: Core,
    dice: Dice,
    spice: Spice,
    now: Moment,
    limits: ResourceConfig,
    stops: Stops,
    /// Whether some of the requests are the owner's.
    has_owners: bool,
    places: Permits,
    pub(super) memories: Memories,
    /// The memories that the accounts of the core's room are of.
    accounts: Vec<usize>,
    rig: Rig,
    moving: Option<Move>,
    has_failed: bool,
    pub(super) tally: Tally,
    pub(super) records: BTreeMap<u64, Record>,
    asks_begun: u64,
    /// Callers that wait for a start.
    asks: BTreeSet<u64>,
    /// Requests whose matchers are at work.
    matching: Vec<u64>,
    done: Vec<Input>,
}

impl World {
    pub(super) fn new(seed: u64, spice: Spice) -> Self {
        let mut dice = Dice(seed);
        let limits = ResourceConfig {
            min_request_interval_ms: [0, 10, 50][dice.below(3) as usize],
            max_batch_size: 1 + dice.below(4) as usize,
            ..ResourceConfig::default()
        };
        let cap = if spice.tight { 200 } else { 100_000 };
        let memories = Memories::new((0..3).map(|_| cap + dice.below(600)));
        let Site {
            layout,
            memories: accounts,
        } = memories.any_site(&mut dice);
        let shape = Shape {
            vocab: VOCAB,
            width: 1,
            ends: Arc::new([0]),
            rotations_change_above: Some(BORDER),
            drafts: true,
        };
        Self {
            rig: Rig::new(layout.depth),
            core: Core::new(shape, layout, &limits),
            dice,
            spice,
            now: Moment(0),
            limits,
            stops: Stops::default(),
            has_owners: spice.hurry,
            places: Permits::new(1000),
            memories,
            accounts,
            moving: None,
            has_failed: false,
            tally: Tally::default(),
            records: BTreeMap::new(),
            asks_begun: 0,
            asks: BTreeSet::new(),
            matching: Vec::new(),
            done: Vec::new(),
        }
    }

    pub(super) fn set_caps(&mut self, cap: Bytes) {
        for ledger in self.memories.ledgers() {
            ledger.set_cap(cap);
        }
    }

    pub(super) fn submit(&mut self, wish: Wish) {
        self.submit_salted(wish, None);
    }

    pub(super) fn submit_salted(&mut self, wish: Wish, salt: Option<u64>) {
        let id = self.records.len() as u64;
        let urgency = self.any_urgency();
        let beginning = Beginning {
            urgency,
            cache_salt: salt,
            ..beginning(id, wish.clone(), self.now)
        };
        let place = self.places.take().expect("there are places");
        let record = Record {
            wish,
            salt,
            asked: self.now,
            ids: Vec::new(),
            text: String::new(),
            urgency,
            told: Told::default(),
            position: None,
            starts: 0,
            matched: Vec::new(),
            is_matching: false,
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
            for stage in 0..self.rig.len() {
                if self.dice.chance(80) {
                    self.advance(stage);
                }
            }
            self.match_some(50);
            self.trouble(false);
            inputs.append(&mut self.done);
            self.tick(inputs);
        }
    }

    /// Lets everything end; time passes only when nothing else can.
    pub(super) fn drain(&mut self) {
        self.spice = Spice::default();
        self.stops = Stops::default();
        self.done.push(self.order());
        loop {
            (0..self.rig.len()).for_each(|stage| self.advance(stage));
            self.match_some(100);
            self.trouble(true);
            let inputs = std::mem::take(&mut self.done);
            let is_matching = !self.matching.is_empty();
            let idle =
                inputs.is_empty() && self.rig.is_idle() && self.moving.is_none() && !is_matching;
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

    fn any_urgency(&mut self) -> Urgency {
        if !self.spice.hurry {
            return Urgency::default();
        }
        let whose = [Whose::Owner, Whose::Guest, Whose::Guest][self.dice.below(3) as usize];
        let classes = [Priority::Low, Priority::Normal, Priority::High];
        let after = Duration::from_millis(self.dice.below(600));
        let at = self.now.after(after);
        Urgency {
            whose,
            priority: classes[self.dice.below(3) as usize],
            deadline: self.dice.chance(30).then_some(Deadline { after, at }),
        }
    }

    /// Matchers answer, each with this chance.
    fn match_some(&mut self, percent: u64) {
        let asked = std::mem::take(&mut self.matching);
        for id in asked {
            if !self.dice.chance(percent) {
                self.matching.push(id);
                continue;
            }
            let record = self.record(id);
            record.is_matching = false;
            let rule = record.wish.extras().rule.expect("it has one");
            let allowed = rule.after(&record.matched);
            self.done.push(Input::Allowed(id, allowed));
        }
        let due = self.core.running.iter().filter(|s| s.due.is_some());
        self.tally.due += due.count() as u32;
    }

    fn advance(&mut self, stage: usize) {
        let (dice, spice) = (&mut self.dice, self.spice);
        let ended = self.rig.advance(stage, Chance { dice, spice });
        self.done.extend(ended);
    }

    fn outside(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        if self.dice.chance(35) {
            let wish = self.any_wish();
            let salt = [None, Some(1), Some(2), Some(2)][self.dice.below(4) as usize];
            self.submit_salted(wish, salt);
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
            let memory = self.dice.below(self.memories.ledgers().len() as u64) as usize;
            let cap = Bytes(60 + self.dice.below(600));
            self.memories.ledgers()[memory].set_cap(cap);
            let (guest, owner) = (!self.dice.chance(60), !self.dice.chance(90));
            self.stops = Stops {
                // What stops the owner stops all.
                each: Each {
                    owner: owner.then(Stop::by_hand),
                    guest: (guest || owner).then(Stop::by_hand),
                },
                owner_first: self.dice.chance(40),
            };
            inputs.push(self.order());
        }
        inputs
    }

    /// Some ask what was asked before, and some go on with what was answered, so that sequences have
    /// blocks in common.
    fn any_wish(&mut self) -> Wish {
        let back = self.dice.below(4) as usize;
        let before = self.records.values().rev().nth(back);
        let before = before.filter(|record| record.wish.prompt().rows.len() > 2 * BLOCK_TOKENS);
        let Some((mut prompt, ids)) = before.map(|r| (r.wish.prompt(), r.ids.clone())) else {
            return any_wish(&mut self.dice);
        };
        match self.dice.below(10) {
            0..3 => any_wish(&mut self.dice),
            3..6 => any_sample(&mut self.dice, prompt),
            6 => Wish::Score {
                ids: prompt.rows.ids,
            },
            _ => {
                let ids = prompt.rows.ids.into_iter().chain(ids);
                let more = self.dice.below(40) as u32;
                prompt = PromptRows::of_ids(ids.chain((0..more).map(|id| id % 20)).collect());
                any_sample(&mut self.dice, prompt)
            }
        }
    }

    fn order(&self) -> Input {
        Input::Limits {
            limits: self.limits.clone(),
            stops: self.stops.clone(),
        }
    }

    /// Whether work of a class is stopped, once the core has heard of it.
    fn is_stopped(&self, whose: Whose) -> bool {
        let owner_runs = || {
            let mut running = self.core.running.iter();
            running.any(|s| s.whose() == Whose::Owner)
        };
        let waits = whose == Whose::Guest && self.stops.owner_first && owner_runs();
        waits || self.stops.each.its(whose).is_some()
    }

    /// Devices go and stages move; what has begun ends soon where nothing else is to happen.
    fn trouble(&mut self, ends_soon: bool) {
        if self.spice.losses && !self.rig.is_lost() && self.dice.chance(2) {
            let stage = self.dice.below(self.rig.len() as u64) as usize;
            self.rig.lose(stage);
        }
        if self.spice.moves && self.moving.is_none() && self.dice.chance(8) {
            self.core.hold_still(true);
            self.moving = Some(Move::Waits);
        }
        if self.spice.ends && !self.has_failed && self.dice.below(3000) == 0 {
            self.fail();
        }
        let can_go_on = self.core.steps_in_flight() == 0 && (ends_soon || self.dice.chance(50));
        match (self.rig.is_lost(), self.moving.take()) {
            (true, _) if can_go_on => self.replace(),
            (false, Some(Move::Waits)) if can_go_on => self.begin_move(),
            (false, Some(Move::Copies(site, leases, 0))) => self.end_move(site, leases),
            (_, Some(Move::Copies(site, leases, rounds))) => {
                let left = rounds.saturating_sub(1);
                self.moving = Some(Move::Copies(site, leases, left));
            }
            (_, moving) => self.moving = moving,
        }
    }

    fn fail(&mut self) {
        let problem = "there is no device any more".to_owned();
        self.done
            .push(Input::Failed(GenerateError::BadOutput(problem)));
        self.has_failed = true;
        self.tally.failed += 1;
    }

    /// The stages of a lost device stand elsewhere, and so may the others; a move is off.
    fn replace(&mut self) {
        self.core.hold_still(false);
        if self.spice.ends && self.dice.chance(5) && !self.has_failed {
            return self.fail();
        }
        let Site { layout, memories } = self.memories.any_site(&mut self.dice);
        self.rig = Rig::new(layout.depth);
        self.accounts = memories;
        self.done.push(Input::Replaced(layout));
        self.tally.replaced += 1;
    }

    fn begin_move(&mut self) {
        let site = self.memories.any_site(&mut self.dice);
        let used = self.memories.used();
        match self.core.lease_for(&site.layout.room) {
            Ok(leases) => self.moving = Some(Move::Copies(site, leases, self.dice.below(4))),
            Err(_) => {
                self.core.hold_still(false);
                self.done.push(self.order());
                self.tally.moves_refused += 1;
                self.check_leases();
            }
        }
        self.check_caps(&used);
    }

    fn end_move(&mut self, site: Site, leases: MoveLeases) {
        while !self.rig.is_idle() {
            (0..self.rig.len()).for_each(|stage| self.advance(stage));
        }
        let written = self.core.written_blocks();
        let memory = self.rig.memories()[0].export(&written);
        self.rig = Rig::holding(&memory, site.layout.depth);
        self.accounts = site.memories;
        self.done.push(Input::Moved(site.layout, leases));
        self.core.hold_still(false);
        self.tally.moves += 1;
    }

    pub(super) fn tick(&mut self, mut inputs: Vec<Input>) {
        inputs.append(&mut self.done);
        let used = self.memories.used();
        let actions = self.core.tick(self.now, inputs);
        self.check_caps(&used);
        self.tally.kept = self.tally.kept.max(self.core.prefixes.len() as u32);
        for action in actions {
            self.act(action);
        }
        let parked = self.core.running.iter().filter(|s| s.is_parked);
        self.tally.parked += parked.count() as u32;
        self.check_is_given_back();
        self.check_blocks();
        self.check_leases();
        self.check_nobody_starves();
        self.check_order();
        self.check_deadlines();
    }

    /// What waits knows where, and stands by class; the classes of so short a time are the requests' own.
    fn check_order(&self) {
        let ids: Vec<u64> = self.core.queue.iter().map(super::Waiting::id).collect();
        for (position, id) in ids.iter().enumerate() {
            assert_eq!(self.records[id].position, Some(position));
        }
        let order = |id: &u64| {
            let Urgency {
                whose, priority, ..
            } = self.records[id].urgency;
            (whose, Reverse(priority), *id)
        };
        assert!(ids.is_sorted_by_key(order), "{ids:?}");
    }

    /// Nothing waits past its deadline for its first token, but for a step to end.
    fn check_deadlines(&self) {
        let wake = self.core.wake();
        let in_flight = |id: u64| {
            let running = &self.core.running;
            running.iter().any(|s| s.id == id && s.in_flight)
        };
        for (&id, record) in &self.records {
            let is_open = record.end.is_none() && record.ids.is_empty() && !in_flight(id);
            if let Some(Deadline { at, .. }) = record.urgency.deadline.filter(|_| is_open) {
                assert!(at > self.now, "{id} is late");
                assert!(wake.is_some_and(|wake| wake <= at), "{id} is forgotten");
            }
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
                assert_eq!(rows.len(), step.rows());
                self.check_step(id, &step, whose);
                self.rig.run(Run { id, step, rows });
            }
            Action::Release { group, blocks } => {
                self.rig.release(&Op::Release { group, blocks });
            }
            Action::Start(id) => assert!(self.asks.remove(&id), "nobody waits for it"),
            Action::Queued { id, position } => {
                let record = self.record(id);
                assert!(
                    record.end.is_none() && record.starts == 0,
                    "it waits no more"
                );
                assert_ne!(record.position, Some(position), "it is told twice");
                record.position = Some(position);
            }
            Action::Started { id, .. } => self.record(id).starts += 1,
            Action::Match { id, token } => {
                let record = self.record(id);
                assert!(!record.is_matching, "it has not answered");
                assert_eq!(record.matched, record.ids, "a token was left out");
                record.is_matching = true;
                record.matched.extend(token);
                self.matching.push(id);
            }
            Action::Prompt { id, log_probs } => {
                let record = self.record(id);
                assert!(record.ids.is_empty() && record.end.is_none());
                let before = record.told.prompt.replace(log_probs);
                assert_eq!(before, None, "it is told twice");
            }
            Action::Delta {
                id,
                ids,
                text,
                log_probs,
            } => {
                let record = self.record(id);
                assert!(record.end.is_none(), "a delta after the end");
                assert_eq!(record.starts, 1);
                record.ids.extend(ids);
                record.text += &text;
                record.told.tokens.extend(log_probs);
            }
            Action::End { id, end } => {
                let record = self.record(id);
                assert!(record.end.is_none(), "two ends");
                assert!(record.starts <= 1);
                let is_late = matches!(end, Err(GenerateError::Refused(Refusal::Deadline { .. })));
                record.end = Some(end);
                self.tally.late += u32::from(is_late);
            }
            Action::Reuse(_) => {}
        }
    }

    fn check_step(&self, id: u64, step: &Step, whose: Whose) {
        assert!(
            !self.is_stopped(whose),
            "a step begins though it is stopped"
        );
        let sequences = &self.core.steps[&id].sequences;
        let its = sequences.iter().map(|id| self.records[id].urgency.whose);
        assert_eq!(its.max(), Some(whose));
        assert!(self.moving.is_none(), "a step begins though stages move");
        assert!(!self.has_failed, "a step begins though nothing can run it");
        assert!(step.rows() <= ROWS_IN_STEP_MAX);
        self.check_drafts(id, step);
        assert!(step.sequences.len() <= self.limits.max_batch_size);
        assert!(self.core.steps.len() <= self.rig.len());
    }

    /// Nothing is drafted where a row may depend on those beside it, beside a prompt, under a constraint,
    /// or for a guest where the owner waits.
    fn check_drafts(&self, id: u64, step: &Step) {
        let flight = &self.core.steps[&id];
        if flight.drafts.iter().all(Vec::is_empty) {
            return;
        }
        assert!(self.core.layout.rows_are_alone);
        assert!(step.rows() <= DRAFTED_ROWS_MAX);
        let sequences = step.sequences.iter().zip(&flight.drafts);
        assert!(
            sequences
                .clone()
                .all(|(rows, draft)| rows.wants.len() == 1 + draft.len())
        );
        let has_owner = |id: &u64| self.records[id].urgency.whose == Whose::Owner;
        let owner_waits = flight.sequences.iter().any(has_owner);
        for (id, draft) in flight.sequences.iter().zip(&flight.drafts) {
            let may_draft = self.records[id].wish.extras().rule.is_none();
            assert!(draft.is_empty() || may_draft, "a draft under a constraint");
            assert!(
                draft.is_empty() || !owner_waits || has_owner(id),
                "a guest's draft"
            );
        }
    }

    fn record(&mut self, id: u64) -> &mut Record {
        self.records.get_mut(&id).expect("it was submitted")
    }

    /// Use rises to no more than the cap.
    fn check_caps(&self, before: &[Bytes]) {
        for (ledger, &before) in self.memories.ledgers().iter().zip(before) {
            assert!(
                ledger.used() <= before.max(ledger.cap()),
                "use rose above the cap"
            );
        }
    }

    /// Nothing is leased for the cache while more is held than a cap allows, once the core has heard of it.
    fn check_is_given_back(&self) {
        let over = |&memory: &usize| {
            let ledger = &self.memories.ledgers()[memory];
            ledger.used() > ledger.cap()
        };
        if self.accounts.iter().any(over) {
            // What a sequence refers to is under its own leases.
            let mut kept = self.core.prefixes.blocks();
            assert!(
                kept.all(|(.., has_leases)| !has_leases),
                "kept above the cap"
            );
        }
    }

    /// Blocks are out for as many as refer to them, a block that is written is one sequence's, and
    /// stages hold what they should.
    fn check_blocks(&self) {
        let mut owners: BTreeMap<(usize, BlockId), u32> = BTreeMap::new();
        for sequence in &self.core.running {
            for (group, table) in sequence.tables.iter().enumerate() {
                for &block in table.iter().flatten() {
                    *owners.entry((group, block)).or_default() += 1;
                }
            }
        }
        for table in self
            .core
            .queue
            .iter()
            .flat_map(|waiting| waiting.tables().iter().enumerate())
        {
            let (group, table) = table;
            for &block in table.iter().flatten() {
                *owners.entry((group, block)).or_default() += 1;
            }
        }
        self.core.prefixes.check();
        for (group, block, has_leases) in self.core.prefixes.blocks() {
            let count = owners.entry((group, block)).or_default();
            assert_eq!(has_leases, *count == 0, "{block:?} is leased once");
            *count += 1;
        }
        for (&(group, block), &count) in &owners {
            assert_eq!(
                self.core.numbers[group].references(block),
                count,
                "{block:?}"
            );
        }
        let out: usize = self.core.numbers.iter().map(|numbers| numbers.out()).sum();
        assert_eq!(out, owners.len(), "blocks are out that nobody has");
        let steps = self.core.steps.values();
        for sequence in steps.flat_map(|flight| &flight.step.sequences) {
            for (group, table) in sequence.tables.iter().enumerate() {
                for &block in table[sequence.start / BLOCK_TOKENS..].iter().flatten() {
                    assert_eq!(owners[&(group, block)], 1, "{block:?} is written");
                }
            }
        }
        if self.core.steps_in_flight() == 0 && self.rig.is_idle() && !self.rig.is_lost() {
            self.check_memory(&owners.into_keys().collect());
        }
    }

    /// With nothing under way, stages hold what was written and nothing that nobody has.
    fn check_memory(&self, out: &BTreeSet<(usize, BlockId)>) {
        let written = self.core.written_blocks();
        let groups = written.iter().enumerate();
        let written = groups.flat_map(|(group, blocks)| blocks.iter().map(move |&b| (group, b)));
        let written: BTreeSet<_> = written.collect();
        for memory in self.rig.memories() {
            let held = memory.held();
            assert!(
                written.is_subset(&held),
                "{written:?} was written, {held:?} is held"
            );
            assert!(held.is_subset(out), "{held:?} is held, {out:?} are out");
        }
    }

    /// What is leased is what sequences hold: those that run, the first that waits, and what a move
    /// holds besides.
    fn check_leases(&self) {
        let mut expected = vec![Bytes::ZERO; self.memories.ledgers().len()];
        let mut add = |(room, accounts): (&super::Room, &[usize]), rows: usize| {
            for (&memory, bytes) in accounts.iter().zip(room.needed(rows)) {
                expected[memory] += bytes;
            }
        };
        let here = (&self.core.layout.room, &self.accounts[..]);
        for sequence in self.core.running.iter().filter(|s| !s.is_parked) {
            add(here, sequence.rows_at_most());
        }
        for waiting in &self.core.queue {
            add(here, waiting.rows_leased());
        }
        if let Some(Move::Copies(site, leases, _)) = &self.moving {
            for id in leases.ids() {
                let rows = self.records[&id].wish.rows_at_most();
                add((&site.layout.room, &site.memories), rows);
            }
        }
        assert_eq!(self.memories.leased(Kind::Kv), expected);
        let mut kept = vec![Bytes::ZERO; self.memories.ledgers().len()];
        for (group, ..) in self
            .core
            .prefixes
            .blocks()
            .filter(|(.., has_leases)| *has_leases)
        {
            let accounts = self.core.layout.room.accounts.iter();
            for (account, &memory) in accounts.zip(&self.accounts) {
                kept[memory] += account.kv_block[group];
            }
        }
        assert_eq!(self.memories.leased(Kind::Prefix), kept);
    }

    /// A sequence that decodes is in a step again after a bounded number of steps.
    fn check_nobody_starves(&self) {
        let running = self.core.running.len() as u64;
        // Guests go where the owner leaves a place.
        let is_bound = |whose| whose == Whose::Owner || !self.has_owners;
        let places = self.core.running.iter().enumerate();
        let candidates = places.filter_map(|(i, s)| s.candidate(i));
        for candidate in candidates.filter(|candidate| is_bound(candidate.whose)) {
            let waited = self.core.steps_begun - candidate.last_step;
            let bound = running.max(20) + self.rig.len() as u64;
            assert!(
                candidate.prefill_left > 0 || waited <= bound,
                "waited {waited} steps"
            );
        }
    }

    /// Every request ended once, as it would have alone, and everything was given back.
    pub(super) fn check_all_ended(&mut self) {
        for record in self.records.values() {
            if let Some(Ok(ending)) = &record.end {
                let cached = ending.figures.cached_tokens;
                check_cached(record, cached);
                self.tally.hits += u32::from(cached > 0);
            }
            let alone = alone(&record.wish);
            match record.end.as_ref().expect("a request was lost") {
                Ok(ending) if ending.reason != Finish::Cancelled => {
                    let figures = &ending.figures;
                    let found = Alone {
                        ids: record.ids.clone(),
                        text: record.text.clone(),
                        reason: Some(ending.reason),
                        decode_steps: figures.decoded_tokens(),
                        scores: ending.values.clone(),
                        told: record.told.clone(),
                    };
                    assert_eq!(found, alone, "{:?}", record.wish);
                    assert_eq!(figures.generated_tokens, alone.ids.len());
                    assert_eq!(figures.prompt_tokens, record.wish.prompt().rows.len());
                    self.tally.accepted += figures.accepted_tokens as u32;
                }
                Err(GenerateError::Refused(Refusal::Deadline { deadline, .. })) => {
                    let given = record.urgency.deadline.expect("it had one");
                    assert_eq!((*deadline, record.ids.len()), (given.after, 0));
                }
                Err(GenerateError::Constraint(_)) => {
                    assert_eq!((alone.reason, &alone.ids), (None, &record.ids));
                }
                _ => {
                    assert!(alone.ids.starts_with(&record.ids));
                    let stopped = alone.text.starts_with(&record.text);
                    // Text held back for a stop string comes out when it is cancelled.
                    let told_more = record.text.starts_with(&alone.text);
                    let met = alone.reason == Some(Finish::StopString);
                    assert!(stopped || told_more || met);
                    assert!(alone.told.tokens.starts_with(&record.told.tokens));
                }
            }
        }
        assert_eq!(self.memories.leased(Kind::Kv), vec![Bytes::ZERO; 3]);
        let kept = self.core.prefixes.blocks().count();
        let out = self.core.numbers.iter().map(|numbers| numbers.out());
        assert_eq!(out.sum::<usize>(), kept, "all that is out is kept");
        self.core.evict_all();
        assert!(self.memories.used().iter().all(|&used| used == Bytes::ZERO));
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

    /// Every request went to its end.
    pub(super) fn check_none_failed(&self, seed: u64) {
        let finished = |r: &Record| match r.end.as_ref().expect("it ended") {
            Ok(ending) => ending.reason != Finish::Cancelled,
            Err(error) => matches!(error, GenerateError::Constraint(_)),
        };
        assert!(self.records.values().all(finished), "seed {seed}");
    }
}

/// Rows that were there already are whole blocks, and not the prompt's last.
fn check_cached(record: &Record, cached: usize) {
    assert!(cached.is_multiple_of(BLOCK_TOKENS) && cached < record.wish.prompt().rows.len());
    let may_hit = record.salt.is_some() && record.wish.prompt().is_plain();
    assert!(cached == 0 || may_hit, "{:?}", record.wish);
}

/// A request as the core takes it.
pub(super) fn beginning(id: u64, wish: Wish, asked: Moment) -> Beginning {
    let prompt = wish.prompt();
    let Extras { log_probs, rule } = wish.extras();
    let (task, stops) = match wish {
        Wish::Sample { most, sampling, .. } => {
            let stops = sampling.stop.clone();
            let sampler = Box::new(Sampler::new(sampling));
            (Task::Sample { sampler, most }, stops)
        }
        Wish::Force { fed, .. } => (Task::Force(fed), Vec::new()),
        Wish::Score { .. } => (Task::Score(Vec::new()), Vec::new()),
    };
    let text = Text {
        decoder: Box::new(Letters),
        stops: StopWatch::new(stops),
    };
    Beginning {
        id,
        prompt,
        task,
        text,
        asked,
        log_probs,
        urgency: Urgency::default(),
        is_constrained: rule.is_some(),
        cache_salt: None,
    }
}
