use std::sync::Arc;

use gogrid_lease::Lease;
use gogrid_pipeline::{BLOCK_TOKENS, BlockId, Rows, SequenceRows, Want};
use gogrid_units::Moment;

use super::Ending;
use super::batch::Candidate;
use super::blocks::BlockNumbers;
use super::content::Content;
use crate::error::GenerateError;
use crate::generation::{Figures, Finish};
use crate::request::PromptRows;
use crate::sampling::{Sampler, StopWatch};

/// Turns token ids into text.
pub(crate) trait Decode: Send {
    /// The text that is whole with this token: valid UTF-8, maybe empty.
    fn push(&mut self, id: u32) -> String;

    /// The text that is left when no token follows.
    fn finish(&mut self) -> String;
}

/// What a sequence is for.
pub(crate) enum Task {
    /// Tokens are chosen, at most `most`.
    Sample { sampler: Box<Sampler>, most: usize },
    /// Tokens are given.
    Force(Vec<u32>),
    /// The prompt's own log-probabilities are wanted.
    Score(Vec<f32>),
}

impl Task {
    /// Tokens it may add to the prompt.
    pub(crate) fn adds(&self) -> usize {
        match self {
            Self::Sample { most, .. } => *most,
            Self::Force(ids) => ids.len(),
            Self::Score(_) => 0,
        }
    }
}

/// A sequence that advances.
pub(crate) struct Sequence {
    pub(crate) id: u64,
    /// The prompt and what was generated.
    pub(super) content: Content,
    /// Rows to write before it decodes: those of its prompt, or all it had when it began again.
    prefill: usize,
    /// Rows whose keys and values are in the blocks.
    pub(super) written: usize,
    pub(crate) task: Task,
    text: Text,
    pub(super) tables: Arc<Vec<Vec<Option<BlockId>>>>,
    /// Held for what dropping them does.
    pub(crate) leases: Vec<Lease>,
    pub(crate) last_step: u64,
    pub(crate) in_flight: bool,
    /// Cancelled while in flight: ends with the step.
    pub(crate) cancelled: bool,
    times: Times,
    decode_steps: usize,
}

/// Ids to text that is certain.
pub(crate) struct Text {
    pub(crate) decoder: Box<dyn Decode>,
    pub(crate) stops: StopWatch,
}

/// When things happened to a sequence.
#[derive(Clone, Copy)]
struct Times {
    asked: Moment,
    started: Moment,
    first: Option<Moment>,
    last: Moment,
}

/// How a sequence begins.
pub(crate) struct Beginning {
    pub(crate) id: u64,
    pub(crate) prompt: PromptRows,
    pub(crate) task: Task,
    pub(crate) text: Text,
    pub(crate) asked: Moment,
}

impl Beginning {
    /// Rows that it may have at most.
    pub(crate) fn rows_at_most(&self) -> usize {
        self.prompt.rows.len() + self.task.adds()
    }
}

/// What a step gave one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// `[vocab]` if the last row wanted them, else empty.
    pub(crate) logits: &'a [f32],
    /// One for each row that wanted one.
    pub(crate) log_probs: &'a [f32],
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Gain {
    pub(crate) ids: Vec<u32>,
    pub(crate) text: String,
    pub(crate) finish: Option<Finish>,
}

impl Sequence {
    pub(crate) fn begin(
        beginning: Beginning,
        leases: Vec<Lease>,
        groups: usize,
        (now, step): (Moment, u64),
    ) -> Self {
        let Beginning {
            id,
            prompt,
            task,
            text,
            asked,
        } = beginning;
        Self {
            id,
            prefill: prompt.rows.len(),
            content: Content::new(prompt),
            written: 0,
            task,
            text,
            tables: Arc::new(vec![Vec::new(); groups]),
            leases,
            last_step: step,
            in_flight: false,
            cancelled: false,
            times: Times {
                asked,
                started: now,
                first: None,
                last: now,
            },
            decode_steps: 0,
        }
    }

    /// Rows that it may have at most.
    pub(crate) fn rows_at_most(&self) -> usize {
        self.content.prompt() + self.task.adds()
    }

    /// How it stands for the next step; `None` while it is in one.
    pub(crate) fn candidate(&self, place: usize) -> Option<Candidate> {
        let prefill_left = self.prefill.saturating_sub(self.written);
        let last_step = self.last_step;
        (!self.in_flight).then_some(Candidate {
            place,
            prefill_left,
            last_step,
        })
    }

    /// Its next rows, which it appends to `into`, and the blocks of each group that the stages are
    /// to forget.
    pub(crate) fn rows(
        &mut self,
        count: usize,
        numbers: &mut [BlockNumbers],
        into: &mut Rows,
    ) -> (SequenceRows, Vec<Vec<BlockId>>) {
        let (start, end) = (self.written, self.written + count);
        let tables = Arc::make_mut(&mut self.tables);
        let groups = tables.iter_mut().zip(numbers);
        let gone = groups.map(|(table, numbers)| numbers.cover(table, start..end));
        let gone = gone.collect();
        let rows = SequenceRows {
            tables: Arc::clone(&self.tables),
            start,
            // All its rows are turned alike, whatever the chunks: by what it had when its first rows
            // were written, or since it last began again.
            length: self.content.len(),
            positions: self.content.feed(start..end, into),
            wants: (start..end).map(|row| self.want(row)).collect(),
        };
        (rows, gone)
    }

    fn want(&self, row: usize) -> Want {
        match (&self.task, self.content.id(row + 1)) {
            (Task::Score(_), Some(next)) => Want::LogProb(next),
            (Task::Score(_), None) | (_, Some(_)) => Want::Nothing,
            (_, None) => Want::Logits,
        }
    }

    /// Takes in the end of a step with `rows` rows of it.
    pub(crate) fn advance(
        &mut self,
        rows: usize,
        given: Given<'_>,
        (now, ends): (Moment, &[u32]),
    ) -> Result<Gain, GenerateError> {
        self.written += rows;
        if let Task::Score(found) = &mut self.task {
            found.extend_from_slice(given.log_probs);
        }
        if self.written < self.content.len() {
            return Ok(Gain::default());
        }
        self.times.first.get_or_insert(now);
        self.times.last = now;
        let generated = self.content.added();
        self.decode_steps += usize::from(generated > 0);
        let (next, most, ignore_eos) = match &mut self.task {
            Task::Score(_) => return Ok(self.last_text(Finish::Stop)),
            Task::Force(ids) => match ids.get(generated) {
                Some(&next) => (next, usize::MAX, true),
                None => return Ok(self.last_text(Finish::Stop)),
            },
            Task::Sample { sampler, most } => {
                // A fold without a way out early, which the compiler makes vectors of.
                let is_bad = |bad, logit: &f32| bad | logit.is_nan() | (*logit == f32::INFINITY);
                if given.logits.iter().fold(false, is_bad) {
                    return Err(meaningless(self.written));
                }
                let next = sampler.choose(given.logits, self.content.tokens(), generated as u64);
                let next = next.ok_or_else(|| meaningless(self.written))?;
                (next, *most, sampler.settings().ignore_eos)
            }
        };
        if !ignore_eos && ends.binary_search(&next).is_ok() {
            return Ok(self.last_text(Finish::Stop));
        }
        Ok(self.add(next, most))
    }

    fn add(&mut self, id: u32, most: usize) -> Gain {
        self.content.push(id);
        let decoded = self.text.decoder.push(id);
        let (text, met) = self.text.stops.push(&decoded);
        let mut gain = Gain {
            ids: vec![id],
            text,
            finish: None,
        };
        if met {
            gain.finish = Some(Finish::StopString);
        } else if self.content.added() >= most {
            let last = self.last_text(Finish::Length);
            gain.text += &last.text;
            gain.finish = last.finish;
        }
        gain
    }

    /// The end, with the text that was held back; a stop string in that counts.
    pub(crate) fn last_text(&mut self, finish: Finish) -> Gain {
        let rest = self.text.decoder.finish();
        let (mut text, met) = self.text.stops.push(&rest);
        let finish = if met { Finish::StopString } else { finish };
        if !met {
            text += &self.text.stops.finish();
        }
        Gain {
            ids: Vec::new(),
            text,
            finish: Some(finish),
        }
    }

    /// What its owner is told at the end.
    pub(crate) fn ending(&mut self, reason: Finish) -> Ending {
        let scores = match &mut self.task {
            Task::Score(found) => std::mem::take(found),
            Task::Sample { .. } | Task::Force(_) => Vec::new(),
        };
        Ending {
            reason,
            figures: self.figures(),
            scores,
        }
    }

    fn figures(&self) -> Figures {
        let Times {
            asked,
            started,
            first,
            last,
        } = self.times;
        let seconds = |from: Moment, to: Moment| to.since(from).as_secs_f64();
        Figures {
            prompt_tokens: self.content.prompt(),
            cached_tokens: 0,
            generated_tokens: self.content.added(),
            decode_steps: self.decode_steps,
            queue_s: seconds(asked, started),
            prefill_s: first.map_or(0.0, |first| seconds(started, first)),
            decode_s: first.map_or(0.0, |first| seconds(first, last)),
            paused_s: 0.0,
        }
    }

    /// Blocks of each group in which it has written a row.
    pub(crate) fn written_blocks(&self) -> impl Iterator<Item = impl Iterator<Item = BlockId>> {
        let blocks = self.written.div_ceil(BLOCK_TOKENS);
        let groups = self.tables.iter();
        groups.map(move |table| table.iter().take(blocks).flatten().copied())
    }

    /// Begins again from its rows, without leases: no stage has keys and values of it any more. Says
    /// which blocks of each group it held. It must not be in a step.
    pub(crate) fn begin_again(&mut self) -> Vec<Vec<BlockId>> {
        self.leases.clear();
        self.rewind()
    }

    /// Begins again from its rows, with its leases.
    pub(crate) fn rewind(&mut self) -> Vec<Vec<BlockId>> {
        self.written = 0;
        self.prefill = self.content.len();
        if let Task::Score(found) = &mut self.task {
            found.clear();
        }
        self.take_blocks()
    }

    /// Whether rows of it were written as a sequence of at most `border` tokens, and it has more. It is
    /// then in no step.
    pub(crate) fn has_outgrown(&self, border: usize) -> bool {
        let was_short = (1..=border).contains(&self.written);
        // A chunk of a prompt is written as part of all of it.
        let decodes = self.written >= self.prefill;
        !self.in_flight && was_short && decodes && self.content.len() > border
    }

    /// Takes the blocks it holds in each group from it. It must not be in a step.
    pub(crate) fn take_blocks(&mut self) -> Vec<Vec<BlockId>> {
        debug_assert!(!self.in_flight, "its blocks are in use");
        let tables = Arc::make_mut(&mut self.tables).iter_mut();
        tables
            .map(|table| table.drain(..).flatten().collect())
            .collect()
    }
}

fn meaningless(written: usize) -> GenerateError {
    let problem = format!("the logits after {written} tokens are not finite");
    GenerateError::BadOutput(problem)
}
