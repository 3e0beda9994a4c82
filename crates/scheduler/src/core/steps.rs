//! Steps: what goes into one, and what comes of it.

use std::fmt;
use std::sync::Arc;

use gogrid_pipeline::{BlockId, OutputBuf, RowFault, Rows, Step, Want};
use gogrid_units::{Each, Moment, Whose};

use super::batch;
use super::draft::{Candidate, draft_lengths};
use super::gain::{Gain, Given};
use super::layout::Stages;
use super::sequence::Sequence;
use super::{Action, Core, End, Ended, Shape};
use crate::error::GenerateError;
use crate::generation::Finish;

/// A step in flight.
pub(super) struct Flight {
    pub(super) step: Arc<Step>,
    /// The sequences in it, by id, in the step's order.
    pub(super) sequences: Vec<u64>,
    /// Tokens that were drafted for each.
    pub(super) drafts: Vec<Vec<u32>>,
    begun: Moment,
    /// Whether all of them decode.
    decodes: bool,
}

impl Core {
    /// Begins one step if a sequence is free for it.
    pub(super) fn begin_step(&mut self) -> bool {
        self.turn_anew();
        let stopped = Each::of(|whose| self.is_stopped(whose));
        let places = self.running.iter().enumerate();
        let free = places.filter(|(_, s)| !stopped.its(s.whose()));
        let candidates: Vec<_> = free.filter_map(|(i, s)| s.candidate(i)).collect();
        let chosen = batch::choose(&candidates, self.batch_max);
        if chosen.is_empty() {
            return false;
        }
        self.steps_begun += 1;
        let (mut sequences, mut in_it, mut rows) = (Vec::new(), Vec::new(), Rows::default());
        let mut whose = Whose::Owner;
        let decodes = chosen
            .iter()
            .all(|&(place, _)| self.running[place].decodes());
        let drafts = match decodes {
            true => self.drafts(&chosen),
            false => vec![Vec::new(); chosen.len()],
        };
        for ((place, count), draft) in chosen.into_iter().zip(&drafts) {
            let sequence = &mut self.running[place];
            sequence.in_flight = true;
            sequence.last_step = self.steps_begun;
            in_it.push(sequence.id);
            // What stops one of them stops the step.
            whose = whose.max(sequence.whose());
            let (its_rows, left) = sequence.rows((count, draft), &mut self.numbers, &mut rows);
            sequences.push(its_rows);
            self.leave(left);
        }
        let (id, step) = (self.steps_begun, Arc::new(Step { sequences }));
        let flight = Flight {
            step: Arc::clone(&step),
            sequences: in_it,
            drafts,
            begun: self.ticked,
            decodes,
        };
        self.steps.insert(id, flight);
        self.actions.push(Action::Run {
            id,
            step,
            rows,
            whose,
        });
        true
    }

    /// What is drafted for the sequences at these places, which all decode. Guests draft nothing where the
    /// owner waits for the same step.
    fn drafts(&mut self, chosen: &[(usize, usize)]) -> Vec<Vec<u32>> {
        let mut drafts = vec![Vec::new(); chosen.len()];
        let may_draft = self.shape.drafts && self.layout.rows_are_alone;
        if !may_draft || !self.step_times.may_draft(chosen.len()) {
            return drafts;
        }
        let border = self.shape.rotations_change_above;
        let sequences = chosen.iter().map(|&(place, _)| &self.running[place]);
        let first = sequences.clone().map(Sequence::whose).min();
        for (draft, sequence) in drafts.iter_mut().zip(sequences) {
            if Some(sequence.whose()) == first {
                *draft = sequence.drafts(border);
            }
        }
        let mut candidates = Vec::with_capacity(chosen.len());
        for (&(place, _), draft) in chosen.iter().zip(&drafts) {
            let sequence = &self.running[place];
            candidates.push(Candidate {
                acceptance: sequence.acceptance,
                drafted: draft.len(),
                comes_first: Some(sequence.whose()) == first,
            });
        }
        let lengths = draft_lengths(&mut candidates, &mut self.step_times);
        for (at, &(place, _)) in chosen.iter().enumerate() {
            drafts[at].truncate(lengths[at]);
            self.running[place].acceptance = candidates[at].acceptance;
        }
        drafts
    }

    /// Has sequences begin again that grew past the border from which on the model turns all rows of a
    /// sequence otherwise: their keys are turned for a short one. They keep their leases.
    fn turn_anew(&mut self) {
        let Some(border) = self.shape.rotations_change_above else {
            return;
        };
        let outgrown = self.running.iter_mut().filter(|s| s.has_outgrown(border));
        let left: Vec<_> = outgrown.map(Sequence::rewind).collect();
        left.into_iter().for_each(|blocks| self.let_go(blocks));
    }

    pub(super) fn finish_step(&mut self, id: u64, ended: Ended, now: Moment) {
        let flight = self.steps.remove(&id).expect("a step ends once");
        for &id in &flight.sequences {
            self.sequence(id).in_flight = false;
        }
        match ended {
            Ended::Output(out) => {
                if flight.decodes {
                    let tokens = (
                        flight.sequences.len(),
                        flight.drafts.iter().map(Vec::len).sum(),
                    );
                    self.step_times.learn(tokens, now.since(flight.begun));
                }
                if matches!(self.stages, Stages::Standing) {
                    self.degraded = None;
                }
                self.share_out(&flight, &out, now);
                self.actions.push(Action::Reuse(out));
            }
            Ended::Abandoned => {}
            Ended::Failed(error) => {
                for &id in &flight.sequences {
                    self.fail(id, error.clone());
                }
            }
            Ended::Lost(error) => self.lose(&error),
        }
        // Those that were meant to end meanwhile and did not end by themselves.
        self.end_cancelled();
        self.end_failed();
    }

    /// Gives each sequence its part of a step's output.
    fn share_out(&mut self, flight: &Flight, out: &OutputBuf, now: Moment) {
        let shape = self.shape.clone();
        let stopped = self.stopped_until(now);
        let parts = parts(flight, out, &shape);
        let sequences = flight.sequences.iter().zip(&flight.step.sequences);
        for ((&id, rows), part) in sequences.zip(parts) {
            let rows = rows.wants.len();
            if self.end_if_late(id, now) {
                continue;
            }
            let sequence = self.sequence(id);
            let at = stopped.instance(sequence.whose(), &shape.ends);
            let gained = part
                .map_err(GenerateError::BadOutput)
                .and_then(|given| sequence.advance(rows, given, at));
            if gained.is_ok() {
                self.keep_blocks(id);
            }
            self.gain(id, gained);
        }
    }

    /// Tells a request's owner what came of it.
    pub(super) fn gain(&mut self, id: u64, gained: Result<Gain, GenerateError>) {
        match gained {
            Ok(gain) => self.tell(id, gain),
            Err(error) => self.fail(id, error),
        }
    }

    fn fail(&mut self, id: u64, error: GenerateError) {
        // A constraint is the request's own, and says nothing of the stages.
        if !matches!(error, GenerateError::Constraint(_)) {
            self.degrade(&error);
            self.forget_blocks(id);
        }
        self.end(id, |_| Err(error));
    }

    pub(super) fn tell(&mut self, id: u64, gain: Gain) {
        let Gain {
            ids,
            text,
            log_probs,
            finish,
        } = gain;
        let sequence = self.sequence(id);
        let prompt = sequence.take_prompt_log_probs();
        let is_constrained = sequence.mask.is_constrained();
        let prompt = prompt.map(|log_probs| Action::Prompt { id, log_probs });
        self.actions.extend(prompt);
        if let (&[.., token], true, None) = (&ids[..], is_constrained, finish) {
            let token = Some(token);
            self.actions.push(Action::Match { id, token });
        }
        if !ids.is_empty() || !text.is_empty() {
            self.actions.push(Action::Delta {
                id,
                ids,
                text,
                log_probs,
            });
        }
        if let Some(reason) = finish {
            self.end(id, |sequence| Ok(sequence.ending(reason)));
        }
    }

    /// The one way out: the owner is told, the leases go, and the blocks as far as they are not kept.
    pub(super) fn end(&mut self, id: u64, end: impl FnOnce(&mut Sequence) -> End) {
        let place = self
            .running
            .iter()
            .position(|s| s.id == id)
            .expect("it is running");
        let mut sequence = self.running.remove(place);
        self.actions.push(Action::End {
            id,
            end: end(&mut sequence),
        });
        let blocks = sequence.take_blocks();
        // What is kept of them takes some of the room that it leaves.
        drop(sequence);
        self.let_go(blocks);
    }

    pub(super) fn end_cancelled(&mut self) {
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

    pub(super) fn sequence(&mut self, id: u64) -> &mut Sequence {
        let found = self.running.iter_mut().find(|s| s.id == id);
        found.expect("a sequence in flight is running")
    }
}

pub(super) fn release(actions: &mut Vec<Action>, gone: Vec<Vec<BlockId>>) {
    for (group, blocks) in gone.into_iter().enumerate() {
        if !blocks.is_empty() {
            actions.push(Action::Release { group, blocks });
        }
    }
}

/// What a step gave each of its sequences, in the step's order, or what is wrong with it. Where the
/// output has another number of values than the step wants, no value can be told to be a sequence's
/// own, so all sequences of the step fail. A fault in a draft's row is no fault of the sequence.
fn parts<'o>(
    Flight { step, drafts, .. }: &'o Flight,
    out: &'o OutputBuf,
    shape: &'o Shape,
) -> impl Iterator<Item = Result<Given<'o>, String>> {
    let fits = check_counts(step, out, shape);
    let (mut logits, mut log_probs) = (&out.logits[..], &out.log_probs[..]);
    let mut hidden = &out.hidden[..];
    let mut first_row = 0;
    step.sequences.iter().zip(drafts).map(move |(rows, draft)| {
        let its_rows = first_row..first_row + rows.wants.len();
        first_row = its_rows.end;
        let wanted = Values::wanted(rows.wants.iter().copied(), shape);
        let mut given = Given {
            draft,
            sound: its_rows.len(),
            logits: take_first(&mut logits, wanted.logits),
            log_probs: take_first(&mut log_probs, wanted.log_probs),
            hidden: take_first(&mut hidden, wanted.hidden),
        };
        let its_fault = |fault: &&RowFault| its_rows.contains(&fault.row);
        let faults = out.faults.iter().filter(its_fault);
        if let Some(RowFault { row, what }) = faults.min_by_key(|fault| fault.row) {
            given.sound = row - its_rows.start;
            if given.sound < its_rows.len() - draft.len() {
                let position = rows.start + given.sound;
                return Err(format!("{what}, at position {position}"));
            }
        }
        fits.clone().map(|()| given)
    })
}

/// How many values of each sort.
#[derive(Default, PartialEq)]
struct Values {
    hidden: usize,
    logits: usize,
    log_probs: usize,
}

impl Values {
    /// Those that rows want.
    fn wanted(wants: impl Iterator<Item = Want>, shape: &Shape) -> Self {
        let mut wanted = Self::default();
        for want in wants {
            match want {
                Want::Nothing => {}
                Want::Hidden => wanted.hidden += shape.width,
                Want::Logits => wanted.logits += shape.vocab,
                Want::LogProb(_) => wanted.log_probs += 1,
            }
        }
        wanted
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            hidden,
            logits,
            log_probs,
        } = self;
        write!(
            f,
            "{hidden} hidden values, {logits} logits and {log_probs} log-probabilities"
        )
    }
}

fn check_counts(step: &Step, out: &OutputBuf, shape: &Shape) -> Result<(), String> {
    let wanted = Values::wanted(step.wants(), shape);
    let given = Values {
        hidden: out.hidden.len(),
        logits: out.logits.len(),
        log_probs: out.log_probs.len(),
    };
    match wanted == given {
        true => Ok(()),
        false => Err(format!(
            "the last stage gave {given}, where the step wants {wanted}"
        )),
    }
}

/// The first `count` values of the rest, or all where it has fewer.
fn take_first<'o>(rest: &mut &'o [f32], count: usize) -> &'o [f32] {
    let (first, after) = rest.split_at(count.min(rest.len()));
    *rest = after;
    first
}
