//! A model that is a hash, a stage that remembers rows in blocks, and what a request alone gives.

use std::collections::{BTreeMap, BTreeSet};

use gogrid_pipeline::{
    BLOCK_TOKENS, BlockId, EmbeddedRows, Positions, Rows, SequenceRows, Step, Want,
};

use crate::constraint::Allowed;
use crate::core::sequence::Decode;
use crate::generation::{Finish, TokenLogProb};
use crate::request::{LogProbs, PromptRows, Sampling};
use crate::sampling::{Distribution, Sampler};

pub(super) const VOCAB: usize = 23;
pub(super) const WINDOWS: [Option<usize>; 2] = [None, Some(40)];
/// The model turns rows of sequences of more tokens otherwise.
pub(super) const BORDER: usize = 100;
/// Values of an embedding.
const WIDTH: usize = 2;

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One row as the model takes it: a hash of its id or its embedding, and of where it stands.
fn row(id: u32, embedding: Option<&[f32]>, positions: &[u32]) -> u64 {
    let fold = |h: u64, &value: &u32| (h ^ u64::from(value)).wrapping_mul(0x0100_0000_01B3);
    let content: Vec<u32> = match embedding {
        None => vec![0, id],
        Some(values) => values.iter().map(|value| value.to_bits()).collect(),
    };
    content
        .iter()
        .chain(positions)
        .fold(0xCBF2_9CE4_8422_2325, fold)
}

fn embedding(rows: &Rows, row: usize) -> Option<&[f32]> {
    let run = rows.embedded.iter().find(|run| run.rows.contains(&row))?;
    Some(&run.values[(row - run.rows.start) * WIDTH..][..WIDTH])
}

/// The rows of a step, in order.
pub(super) fn rows_of(step: &Step, rows: &Rows) -> Vec<u64> {
    let mut found = Vec::new();
    for sequence in &step.sequences {
        for at in 0..sequence.wants.len() {
            let place = found.len();
            let positions = match &sequence.positions {
                Positions::Sequential => vec![(sequence.start + at) as u32],
                Positions::Given { axes, values } => values[at * axes..][..*axes].to_vec(),
            };
            found.push(row(rows.ids[place], embedding(rows, place), &positions));
        }
    }
    found
}

/// A row of a prompt, or of the tokens after it.
fn row_alone(prompt: &PromptRows, tokens: &[u32], at: usize) -> u64 {
    let PromptRows { rows, positions } = prompt;
    let token = at.checked_sub(rows.len());
    let id = token.map_or_else(|| rows.ids[at], |token| tokens[token]);
    let places = match (positions, token) {
        (Positions::Sequential, _) => vec![at as u32],
        (Positions::Given { axes, values }, None) => values[at * axes..][..*axes].to_vec(),
        (Positions::Given { axes, values }, Some(token)) => {
            let past = values.iter().max().expect("a prompt has rows") + 1;
            vec![past + token as u32; *axes]
        }
    };
    row(id, embedding(rows, at), &places)
}

pub(super) fn prompt_alone(prompt: &PromptRows) -> Vec<u64> {
    let rows = 0..prompt.rows.len();
    rows.map(|at| row_alone(prompt, &[], at)).collect()
}

/// Logits after a history: a hash of all of it. After some first rows most tokens are those of a text that
/// goes round.
pub(super) fn logits(history: &[u64]) -> Vec<f32> {
    let fold = |h: u64, &row: &u64| {
        (h ^ row)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29)
    };
    let mut dice = Dice(history.iter().fold(0, fold));
    let mut logits: Vec<_> = (0..VOCAB)
        .map(|_| dice.below(8000) as f32 / 1000.0 - 4.0)
        .collect();
    if history[0].is_multiple_of(3) && dice.chance(90) {
        logits[1 + history.len() * 3 % 8] += 20.0;
    }
    logits
}

/// What a row was, and whether it was turned for a long sequence.
type WrittenRow = (u64, bool);

/// Blocks of all groups, by group and number, with each row that was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    blocks: BTreeMap<(usize, BlockId), [Option<WrittenRow>; BLOCK_TOKENS]>,
}

impl Memory {
    pub(super) fn release(&mut self, group: usize, blocks: &[BlockId]) {
        for &block in blocks {
            self.blocks.remove(&(group, block));
        }
    }

    /// The blocks it holds.
    pub(super) fn held(&self) -> BTreeSet<(usize, BlockId)> {
        self.blocks.keys().copied().collect()
    }

    /// A memory elsewhere with the same rows in the blocks of each group.
    pub(super) fn export(&self, groups: &[Vec<BlockId>]) -> Self {
        let mut copy = Self::default();
        for (group, blocks) in groups.iter().enumerate() {
            for &block in blocks {
                let rows = self.blocks[&(group, block)];
                assert!(rows.iter().any(Option::is_some), "a block without a row");
                copy.blocks.insert((group, block), rows);
            }
        }
        copy
    }

    /// Writes rows, and gives the values that were wanted: logits, log-probabilities.
    pub(super) fn run(&mut self, rows: &SequenceRows, contents: &[u64]) -> (Vec<f32>, Vec<f32>) {
        let (mut all_logits, mut log_probs) = (Vec::new(), Vec::new());
        for (row, (&content, want)) in contents.iter().zip(&rows.wants).enumerate() {
            let index = rows.start + row;
            for (group, table) in rows.tables.iter().enumerate() {
                let block = table[index / BLOCK_TOKENS].expect("a block for what is written");
                let slots = self.blocks.entry((group, block)).or_default();
                slots[index % BLOCK_TOKENS] = Some((content, rows.length > BORDER));
            }
            match *want {
                Want::Nothing | Want::Hidden => {}
                Want::Logits => all_logits.extend(logits(&self.history(rows, index))),
                Want::LogProb(next) => {
                    log_probs.push(logits(&self.history(rows, index))[next as usize]);
                }
            }
        }
        (all_logits, log_probs)
    }

    /// The rows up to one; a window's blocks must hold the same ones.
    fn history(&self, rows: &SequenceRows, last: usize) -> Vec<u64> {
        let read = |group: usize, first: usize| {
            let mut found = Vec::new();
            for index in first / BLOCK_TOKENS..=last / BLOCK_TOKENS {
                let block = rows.tables[group][index].expect("a block for what is read");
                let slots = &self.blocks[&(group, block)];
                let before = index * BLOCK_TOKENS;
                let read = first.saturating_sub(before)..BLOCK_TOKENS.min(last + 1 - before);
                found.extend(slots[read].iter().map(|slot| {
                    let (content, long) = slot.expect("it was written");
                    assert_eq!(long, rows.length > BORDER, "turned for another length");
                    content
                }));
            }
            found
        };
        let all = read(0, 0);
        let window = WINDOWS[1].expect("the second group has one");
        let first = (last + 1).saturating_sub(window);
        assert_eq!(read(1, first), all[first..], "the groups disagree");
        all
    }
}

/// A request of the simulation.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Sample {
        prompt: PromptRows,
        most: usize,
        sampling: Sampling,
        extras: Extras,
    },
    Force {
        prompt: PromptRows,
        fed: Vec<u32>,
    },
    Score {
        ids: Vec<u32>,
    },
}

/// What few requests ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extras {
    pub(super) log_probs: Option<LogProbs>,
    pub(super) rule: Option<Rule>,
}

/// A constraint: which tokens may follow is a hash of those before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// One token of so many is ruled out.
    pub(super) out_of: u32,
    /// Nothing may follow so many tokens.
    pub(super) ends_after: usize,
    /// It fails after so many.
    pub(super) fails_after: usize,
}

impl Rule {
    pub(super) fn after(&self, tokens: &[u32]) -> Result<Allowed, String> {
        if tokens.len() >= self.fails_after {
            return Err("as a test asked".to_owned());
        }
        if tokens.len() >= self.ends_after {
            return Ok(Allowed::Nothing);
        }
        let sum = tokens
            .iter()
            .fold(7, |sum: u32, &id| sum.wrapping_mul(31) ^ id);
        let may_be = |id: &u32| !id.wrapping_add(sum).is_multiple_of(self.out_of);
        Ok(Allowed::Tokens((0..VOCAB as u32).filter(may_be).collect()))
    }
}

fn any_extras(dice: &mut Dice) -> Extras {
    let log_probs = LogProbs {
        top: dice.below(4) as usize,
        prompt: dice.chance(50),
    };
    let rule = Rule {
        out_of: 2 + dice.below(4) as u32,
        ends_after: 1 + dice.below(60) as usize,
        fails_after: 1 + dice.below(300) as usize,
    };
    Extras {
        log_probs: dice.chance(25).then_some(log_probs),
        rule: dice.chance(30).then_some(rule),
    }
}

impl Wish {
    pub(super) fn extras(&self) -> Extras {
        match self {
            Self::Sample { extras, .. } => *extras,
            Self::Force { .. } | Self::Score { .. } => Extras::default(),
        }
    }

    pub(super) fn prompt(&self) -> PromptRows {
        match self {
            Self::Sample { prompt, .. } | Self::Force { prompt, .. } => prompt.clone(),
            Self::Score { ids } => PromptRows::of_ids(ids.clone()),
        }
    }

    pub(super) fn rows_at_most(&self) -> usize {
        match self {
            Self::Sample { prompt, most, .. } => prompt.rows.len() + most,
            Self::Force { prompt, fed } => prompt.rows.len() + fed.len(),
            Self::Score { ids } => ids.len(),
        }
    }
}

pub(super) fn greedy(ids: Vec<u32>, most: usize) -> Wish {
    Wish::Sample {
        prompt: PromptRows::of_ids(ids),
        most,
        sampling: Sampling::default(),
        extras: Extras::default(),
    }
}

pub(super) fn any_wish(dice: &mut Dice) -> Wish {
    let prompt = any_prompt(dice);
    match dice.below(10) {
        0 => Wish::Score {
            ids: prompt.rows.ids,
        },
        1 => Wish::Force {
            prompt,
            fed: vec![2; 1 + dice.below(20) as usize],
        },
        _ => any_sample(dice, prompt),
    }
}

pub(super) fn any_sample(dice: &mut Dice, prompt: PromptRows) -> Wish {
    let sampling = Sampling {
        temperature: dice.below(3) as f32 * 0.7,
        top_p: 0.9,
        repetition_penalty: 1.1,
        seed: dice.next(),
        stop: if dice.chance(50) {
            vec!["bc".into(), "dd".into()]
        } else {
            Vec::new()
        },
        logit_bias: match dice.chance(20) {
            true => [(3, 4.0), (5, -100.0)].into(),
            false => [].into(),
        },
        ignore_eos: dice.chance(30),
        ..Sampling::default()
    };
    Wish::Sample {
        prompt,
        most: 1 + dice.below(60) as usize,
        sampling,
        extras: any_extras(dice),
    }
}

/// Ids, some with embeddings in their place, and some with positions of their own.
fn any_prompt(dice: &mut Dice) -> PromptRows {
    let len = 1 + if dice.chance(20) {
        dice.below(400)
    } else {
        dice.below(50)
    };
    let ids: Vec<u32> = (0..len).map(|_| dice.below(VOCAB as u64) as u32).collect();
    let mut prompt = PromptRows::of_ids(ids);
    let len = len as usize;
    let mut at = 0;
    while dice.chance(25) && at < len {
        let start = at + dice.below((len - at) as u64) as usize;
        let end = start + 1 + dice.below((len - start) as u64) as usize;
        let values = (0..(end - start) * WIDTH).map(|_| dice.below(100) as f32);
        prompt.rows.embedded.push(EmbeddedRows {
            rows: start..end,
            values: values.collect(),
        });
        at = end;
    }
    if dice.chance(30) {
        let axes = 1 + dice.below(3) as usize;
        let values = (0..len * axes).map(|_| dice.below(500) as u32);
        prompt.positions = Positions::Given {
            axes,
            values: values.collect(),
        };
    }
    prompt
}

/// One letter for each token.
pub(super) struct Letters;

impl Decode for Letters {
    fn push(&mut self, id: u32) -> String {
        letter(id).to_string()
    }

    fn finish(&mut self) -> String {
        String::new()
    }
}

fn letter(id: u32) -> char {
    char::from(b'a' + id as u8)
}

/// What a request gives when nothing else runs.
#[derive(Debug, PartialEq)]
pub(super) struct Alone {
    pub(super) ids: Vec<u32>,
    pub(super) text: String,
    /// `None` where its constraint fails.
    pub(super) reason: Option<Finish>,
    pub(super) decode_steps: usize,
    pub(super) scores: Vec<f32>,
    pub(super) told: Told,
}

/// The log-probabilities that it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) prompt: Option<Vec<Option<TokenLogProb>>>,
    pub(super) tokens: Vec<TokenLogProb>,
}

impl Alone {
    fn ended(ids: &[u32], text: String, reason: Option<Finish>) -> Self {
        // The step that chooses an end token is one more.
        let decode_steps =
            ids.len() - usize::from(reason != Some(Finish::Stop) && reason.is_some());
        Self {
            ids: ids.to_vec(),
            text,
            reason,
            decode_steps,
            scores: Vec::new(),
            told: Told::default(),
        }
    }
}

pub(super) fn alone(wish: &Wish) -> Alone {
    let text = |ids: &[u32]| ids.iter().map(|&id| letter(id)).collect::<String>();
    match wish {
        Wish::Sample {
            prompt,
            most,
            sampling,
            extras,
        } => sampled_alone(prompt, *most, (sampling, *extras)),
        Wish::Force { fed, .. } => Alone::ended(fed, text(fed), Some(Finish::Stop)),
        Wish::Score { ids } => {
            let rows = prompt_alone(&wish.prompt());
            let score = |at: usize| logits(&rows[..at])[ids[at] as usize];
            Alone {
                scores: (1..ids.len()).map(score).collect(),
                ..Alone::ended(&[], String::new(), Some(Finish::Stop))
            }
        }
    }
}

fn sampled_alone(
    prompt: &PromptRows,
    most: usize,
    (sampling, extras): (&Sampling, Extras),
) -> Alone {
    let is_token = |&row: &usize| embedding(&prompt.rows, row).is_none();
    let tokens = (0..prompt.rows.len()).filter(is_token);
    let mut seen: Vec<u32> = tokens.map(|row| prompt.rows.ids[row]).collect();
    let mut sampler = Sampler::new(sampling.clone());
    let (mut made, mut history) = (Vec::new(), prompt_alone(prompt));
    let mut told = told_of_prompt(prompt, extras);
    let text = |made: &[u32]| made.iter().map(|&id| letter(id)).collect::<String>();
    let ended = |made: &[u32], text, reason, told: Told| Alone {
        told,
        ..Alone::ended(made, text, reason)
    };
    loop {
        let allowed = match extras.rule.map(|rule| rule.after(&made)) {
            None => None,
            Some(Ok(Allowed::Tokens(set))) => Some(set),
            Some(Ok(Allowed::Nothing)) => {
                return ended(&made, text(&made), Some(Finish::Stop), told);
            }
            Some(Err(_)) => return ended(&made, text(&made), None, told),
        };
        let logits = logits(&history);
        sampler.hold(&logits).expect("the logits are finite");
        let next = sampler.choose(&seen, made.len() as u64, allowed.as_ref());
        let next = next.expect("some token may be").id;
        if next == 0 && !sampling.ignore_eos {
            return ended(&made, text(&made), Some(Finish::Stop), told);
        }
        made.push(next);
        seen.push(next);
        history.push(row_alone(prompt, &made, history.len()));
        let of_token = extras.log_probs.map(|wanted| of(&logits, wanted, next));
        told.tokens.extend(of_token);
        let text = text(&made);
        let met = sampling.stop.iter().filter_map(|stop| text.find(stop));
        if let Some(at) = met.min() {
            let text = text[..at].to_owned();
            return ended(&made, text, Some(Finish::StopString), told);
        }
        if made.len() == most {
            return ended(&made, text, Some(Finish::Length), told);
        }
    }
}

fn of(logits: &[f32], wanted: LogProbs, id: u32) -> TokenLogProb {
    Distribution::of(logits, wanted.top).token(id, logits[id as usize])
}

fn told_of_prompt(prompt: &PromptRows, extras: Extras) -> Told {
    let Some(wanted) = extras.log_probs.filter(|wanted| wanted.prompt) else {
        return Told::default();
    };
    let rows = prompt_alone(prompt);
    let of_row = |row: usize| {
        let is_token = row > 0 && embedding(&prompt.rows, row).is_none();
        is_token.then(|| of(&logits(&rows[..row]), wanted, prompt.rows.ids[row]))
    };
    Told {
        prompt: Some((0..rows.len()).map(of_row).collect()),
        tokens: Vec::new(),
    }
}
