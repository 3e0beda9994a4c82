use std::sync::Arc;
use std::time::Duration;

use gogrid_lease::Lease;
use gogrid_pipeline::{BLOCK_TOKENS, BlockId, Rows, SequenceRows, Want};
use gogrid_units::{Moment, Whose};

use super::Ending;
use super::batch::Candidate;
use super::blocks::{BlockNumbers, Left};
use super::content::Content;
use super::draft::Acceptance;
use super::due::{Due, Mask, check_finite};
use super::embed::Embedding;
use super::gain::{Gain, Given};
use super::moment::{Deadline, Instance, Urgency};
use super::prefix::{EntryId, Root};
use super::told::ToldLogProbs;
use crate::error::GenerateError;
use crate::generation::{Figures, Finish, TokenLogProb};
use crate::limits::LOGIT_ROWS_IN_CHUNK_MAX;
use crate::request::{LogProbs, PromptRows};
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
    /// The prompt's vector is wanted.
    Embed(Box<Embedding>),
}

impl Task {
    /// Tokens it may add to the prompt.
    pub(crate) fn adds(&self) -> usize {
        match self {
            Self::Sample { most, .. } => *most,
            Self::Force(ids) => ids.len(),
            Self::Score(_) | Self::Embed(_) => 0,
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
    pub(super) text: Text,
    pub(super) log_probs: Option<ToldLogProbs>,
    pub(super) acceptance: Acceptance,
    /// Tokens that took no step of their own.
    pub(super) accepted: usize,
    /// The token whose logits are there and that is not chosen yet.
    pub(super) due: Option<Due>,
    /// Which token may be the next.
    pub(super) mask: Mask,
    pub(super) urgency: Urgency,
    pub(super) tables: Arc<Vec<Vec<Option<BlockId>>>>,
    /// Held for what dropping them does.
    pub(crate) leases: Vec<Lease>,
    pub(crate) last_step: u64,
    pub(crate) in_flight: bool,
    /// Whether its leases went to a request of the owner: it waits until it has others.
    pub(super) is_parked: bool,
    /// Cancelled while in flight: ends with the step.
    pub(crate) cancelled: bool,
    times: Times,
    /// Tokens that came after the first, and the end.
    decoded: usize,
    /// Sequences with this in common share blocks.
    salt: Option<u64>,
    /// Rows that were there when it began.
    pub(crate) cached: usize,
    pub(super) kept: Kept,
}

/// How far the whole blocks of a sequence are in the prefix cache.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) blocks: usize,
    /// The entry of the last of them, as long as it is there.
    pub(super) tip: Option<EntryId>,
}

/// What a sequence begins with.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) leases: Vec<Lease>,
    pub(super) hit: Hit,
}

/// Blocks that others wrote, in which a sequence's first rows are.
#[derive(Debug, Default)]
pub(super) struct Hit {
    /// By KV group.
    pub(super) tables: Vec<Vec<Option<BlockId>>>,
    pub(super) kept: Kept,
}

impl Hit {
    /// The blocks of each group.
    pub(super) fn into_blocks(self) -> Vec<Vec<BlockId>> {
        let tables = self.tables.into_iter();
        tables
            .map(|table| table.into_iter().flatten().collect())
            .collect()
    }
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
    /// The time in which work had been stopped before its start, and before its last token.
    stopped_at_start: Duration,
    stopped_at_last: Duration,
}

/// How a sequence begins.
pub(crate) struct Beginning {
    pub(crate) id: u64,
    pub(crate) prompt: PromptRows,
    pub(crate) task: Task,
    pub(crate) text: Text,
    pub(crate) asked: Moment,
    pub(crate) log_probs: Option<LogProbs>,
    pub(crate) urgency: Urgency,
    /// Whether a matcher says which tokens may be chosen.
    pub(crate) is_constrained: bool,
    /// Requests with this in common share blocks.
    pub(crate) cache_salt: Option<u64>,
}

impl Beginning {
    /// Where blocks are that it may begin with.
    pub(super) fn root_to_read(&self, border: Option<usize>) -> Option<Root> {
        // Every row of a request to score gives something, and so does every row of a prompt that is told.
        let tells_prompt = self.log_probs.is_some_and(|wanted| wanted.prompt);
        let reads = matches!(self.task, Task::Score(_) | Task::Embed(_));
        let wants_every_row = reads || tells_prompt;
        let is_long = is_long(self.prompt.rows.len(), border);
        let root = self.cache_salt.map(|salt| Root { salt, is_long });
        root.filter(|_| self.prompt.is_plain() && !wants_every_row)
    }

    /// Rows that it may have at most.
    pub(crate) fn rows_at_most(&self) -> usize {
        self.prompt.rows.len() + self.task.adds()
    }
}

impl Sequence {
    pub(crate) fn begin(
        beginning: Beginning,
        Held { leases, hit }: Held,
        (at, step): (Instance<'_>, u64),
    ) -> Self {
        let Beginning {
            id,
            prompt,
            task,
            text,
            asked,
            log_probs,
            urgency,
            is_constrained,
            cache_salt,
        } = beginning;
        let Instance { now, stopped, .. } = at;
        let Hit { tables, kept } = hit;
        let cached = kept.blocks * BLOCK_TOKENS;
        Self {
            id,
            prefill: prompt.rows.len(),
            log_probs: log_probs.map(|asked| ToldLogProbs::new(asked, prompt.rows.len())),
            acceptance: Acceptance::default(),
            accepted: 0,
            due: None,
            mask: Mask::first(is_constrained),
            urgency,
            content: Content::new(prompt),
            written: cached,
            task,
            text,
            tables: Arc::new(tables),
            leases,
            last_step: step,
            in_flight: false,
            is_parked: false,
            cancelled: false,
            times: Times {
                asked,
                started: now,
                first: None,
                last: now,
                stopped_at_start: stopped,
                stopped_at_last: stopped,
            },
            decoded: 0,
            salt: cache_salt,
            cached,
            kept,
        }
    }

    /// Where its blocks are kept.
    pub(super) fn root(&self, border: Option<usize>) -> Option<Root> {
        // The rows of a prompt, or of all it had when it began again, are turned for as many; those after them
        // for as many as there were.
        let is_long = is_long(self.prefill.max(self.written), border);
        let root = self.salt.map(|salt| Root { salt, is_long });
        root.filter(|_| self.content.is_plain())
    }

    /// Rows that it may have at most.
    pub(crate) fn rows_at_most(&self) -> usize {
        self.content.prompt() + self.task.adds()
    }

    /// How it stands for the next step; `None` while it is in one, and while the token that the next
    /// is to feed is not chosen.
    pub(crate) fn candidate(&self, place: usize) -> Option<Candidate> {
        let mut prefill_left = self.prefill.saturating_sub(self.written);
        if self
            .log_probs
            .as_ref()
            .is_some_and(ToldLogProbs::wants_prompt)
        {
            prefill_left = prefill_left.min(LOGIT_ROWS_IN_CHUNK_MAX);
        }
        let last_step = self.last_step;
        let is_free = !self.in_flight && self.due.is_none() && !self.is_parked;
        is_free.then_some(Candidate {
            place,
            prefill_left,
            last_step,
            whose: self.whose(),
        })
    }

    pub(super) fn whose(&self) -> Whose {
        self.urgency.whose
    }

    /// Its next rows and then those of a draft, which it appends to `into`, and the blocks of each group
    /// that it refers to no more.
    pub(crate) fn rows(
        &mut self,
        (count, draft): (usize, &[u32]),
        numbers: &mut [BlockNumbers],
        into: &mut Rows,
    ) -> (SequenceRows, Vec<Left>) {
        let count = count + draft.len();
        let (start, end) = (self.written, self.written + count);
        let tables = Arc::make_mut(&mut self.tables);
        let groups = tables.iter_mut().zip(numbers);
        let left = groups.map(|(table, numbers)| numbers.cover(table, start..end));
        let left = left.collect();
        let rows = SequenceRows {
            tables: Arc::clone(&self.tables),
            start,
            // All its rows are turned alike, whatever the chunks: by what it had when its first rows
            // were written, or since it last began again.
            length: self.content.len() + draft.len(),
            positions: self.content.feed(start..end, draft, into),
            wants: (start..end).map(|row| self.want(row)).collect(),
        };
        (rows, left)
    }

    pub(super) fn want(&self, row: usize) -> Want {
        match (&self.task, self.content.id(row + 1)) {
            (Task::Score(_), Some(next)) => Want::LogProb(next),
            (Task::Score(_), None) => Want::Nothing,
            (Task::Embed(embedding), next) => embedding.wants(next.is_none()),
            (_, Some(_)) if self.tells_token(row + 1).is_none() => Want::Nothing,
            (_, Some(_) | None) => Want::Logits,
        }
    }

    /// Takes in the end of a step with `rows` rows of it.
    pub(crate) fn advance(
        &mut self,
        rows: usize,
        given: Given<'_>,
        at: Instance<'_>,
    ) -> Result<Gain, GenerateError> {
        if !given.draft.is_empty() {
            return self.verify(given, at);
        }
        let fed = self.written..self.written + rows;
        let last = self.take_prompt_logits(fed, given.logits)?;
        self.written += rows;
        match &mut self.task {
            Task::Score(found) => found.extend_from_slice(given.log_probs),
            Task::Embed(embedding) => embedding.take(given.hidden),
            Task::Sample { .. } | Task::Force(_) => {}
        }
        if self.written < self.content.len() {
            return Ok(Gain::default());
        }
        match self.task {
            Task::Score(_) | Task::Embed(_) => {
                self.token_came(at);
                Ok(self.last_text(Finish::Stop))
            }
            Task::Force(_) => self.force(last, at),
            Task::Sample { .. } => {
                self.hold(last)?;
                self.choose_due(at)
            }
        }
    }

    /// Adds the next of the tokens that are given.
    fn force(&mut self, logits: &[f32], at: Instance<'_>) -> Result<Gain, GenerateError> {
        let next = match &self.task {
            Task::Force(ids) => ids.get(self.content.added()).copied(),
            Task::Sample { .. } | Task::Score(_) | Task::Embed(_) => None,
        };
        self.token_came(at);
        let Some(next) = next else {
            return Ok(self.last_text(Finish::Stop));
        };
        let mut told = None;
        if let Some(log_probs) = &self.log_probs {
            check_finite(logits, self.written)?;
            told = Some(log_probs.of(logits).token(next, logits[next as usize]));
        }
        Ok(self.add((next, told), usize::MAX))
    }

    /// A token was chosen or given, or the end was.
    pub(super) fn token_came(&mut self, at: Instance<'_>) {
        self.times.first.get_or_insert(at.now);
        self.times.last = at.now;
        self.times.stopped_at_last = at.stopped;
        self.decoded += usize::from(self.content.added() > 0);
    }

    /// When its first token must have come, where it has not.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.urgency.deadline.filter(|_| self.times.first.is_none())
    }

    /// Adds a token, with what is told of it.
    pub(super) fn add(&mut self, (id, told): (u32, Option<TokenLogProb>), most: usize) -> Gain {
        self.content.push(id);
        let decoded = self.text.decoder.push(id);
        let (text, met) = self.text.stops.push(&decoded);
        let mut gain = Gain {
            ids: vec![id],
            text,
            log_probs: told.into_iter().collect(),
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
            text,
            finish: Some(finish),
            ..Gain::default()
        }
    }

    /// What its owner is told at the end.
    pub(crate) fn ending(&mut self, reason: Finish) -> Ending {
        let values = match &mut self.task {
            Task::Score(found) => std::mem::take(found),
            Task::Embed(embedding) => embedding.vector(),
            Task::Sample { .. } | Task::Force(_) => Vec::new(),
        };
        Ending {
            reason,
            figures: self.figures(),
            values,
        }
    }

    fn figures(&self) -> Figures {
        let Times {
            asked,
            started,
            first,
            last,
            stopped_at_start,
            stopped_at_last,
        } = self.times;
        let seconds = |from: Moment, to: Moment| to.since(from).as_secs_f64();
        Figures {
            prompt_tokens: self.content.prompt(),
            cached_tokens: self.cached,
            generated_tokens: self.content.added(),
            decode_steps: self.decoded - self.accepted,
            accepted_tokens: self.accepted,
            queue_s: seconds(asked, started),
            prefill_s: first.map_or(0.0, |first| seconds(started, first)),
            decode_s: first.map_or(0.0, |first| seconds(first, last)),
            paused_s: stopped_at_last
                .saturating_sub(stopped_at_start)
                .as_secs_f64(),
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
        self.kept = Kept::default();
        // All of them are computed again.
        self.cached = 0;
        self.prefill = self.content.len();
        // Its logits come again.
        self.due = None;
        match &mut self.task {
            Task::Score(found) => found.clear(),
            Task::Embed(embedding) => embedding.clear(),
            Task::Sample { .. } | Task::Force(_) => {}
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

/// Whether the rows of a sequence of so many tokens are turned as those of a long one.
fn is_long(tokens: usize, border: Option<usize>) -> bool {
    border.is_some_and(|border| tokens > border)
}
