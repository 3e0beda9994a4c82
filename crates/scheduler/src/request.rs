use std::collections::BTreeMap;
use std::time::Duration;

use gogrid_model::{Conversation, Message};
use gogrid_pipeline::{Positions, Rows};
use gogrid_units::Whose;
use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;

/// What to generate, from what, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// What comes before.
    pub prompt: Prompt,
    /// Tokens to generate at most, at least 1. Memory for all of them is leased before the start;
    /// where the model's context has room for fewer, the generation ends there.
    pub max_tokens: usize,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Whether tokens are chosen or given.
    pub continuation: Continuation,
    /// Which tokens may be chosen.
    pub constraint: Option<Constraint>,
    /// The log-probabilities that are told.
    pub log_probs: Option<LogProbs>,
    /// Control tokens whose names are part of the text that is told, such as the marks of tool calls. Others
    /// give no text.
    pub shown_tokens: Vec<u32>,
    /// Whose it is. An owner's is shut out by neither presence nor others' load, and goes before guests'.
    pub whose: Whose,
    /// Before which of the others that wait it starts.
    pub priority: Priority,
    /// The longest time from the request to its first token; a request whose first token has not come
    /// by then ends with [`Refusal::Deadline`](crate::Refusal::Deadline). `None` waits for as long as it takes.
    pub deadline: Option<Duration>,
    /// Requests with an equal salt share the keys and values of equal beginnings of their prompts.
    /// `None` neither uses what is kept nor leaves anything to keep.
    pub cache_salt: Option<u64>,
}

impl GenerateRequest {
    /// `prompt` continued by at most `max_tokens` tokens, with the default sampling, for a guest.
    pub fn new(prompt: impl Into<Prompt>, max_tokens: usize) -> Self {
        let sampling = Sampling::default();
        Self {
            prompt: prompt.into(),
            max_tokens,
            sampling,
            continuation: Continuation::Sample,
            constraint: None,
            log_probs: None,
            shown_tokens: Vec::new(),
            whose: Whose::Guest,
            priority: Priority::Normal,
            deadline: None,
            cache_salt: Some(0),
        }
    }
}

/// The log-probabilities that a request wants to be told: those of the distribution that the model
/// gives, before penalties, bias and temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogProbs {
    /// Beside that of each token, those of so many of the likeliest, at most 20.
    pub top: usize,
    /// Those of the prompt's tokens too.
    pub prompt: bool,
}

/// Which of the requests that wait starts first. Of one class, the one that came first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// After all others.
    Low,
    /// In its turn.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// What comes before the generated tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Text to go on with; special tokens in it count as such, and BOS is put before it where the
    /// model says so.
    Text(String),
    /// A conversation, written out by the model's own chat template.
    Chat(Conversation),
    /// Token ids, taken as they are.
    Ids(Vec<u32>),
    /// Token ids and embeddings, taken as they are.
    Rows(PromptRows),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Conversation> for Prompt {
    fn from(chat: Conversation) -> Self {
        Self::Chat(chat)
    }
}

impl From<Vec<Message>> for Prompt {
    /// A conversation of these messages, which the assistant answers.
    fn from(messages: Vec<Message>) -> Self {
        Self::Chat(messages.into())
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(ids: Vec<u32>) -> Self {
        Self::Ids(ids)
    }
}

impl From<PromptRows> for Prompt {
    fn from(rows: PromptRows) -> Self {
        Self::Rows(rows)
    }
}

/// The rows of a prompt as they go into the model: token ids, embeddings from elsewhere such as an
/// image's, or both. The generated tokens stand after the largest position, on every axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptRows {
    /// The rows, in order.
    pub rows: Rows,
    /// Where they stand for the rotation of queries and keys.
    pub positions: Positions,
}

impl PromptRows {
    /// Rows of token ids, one after the other.
    pub fn of_ids(ids: Vec<u32>) -> Self {
        Self {
            rows: Rows::of_ids(ids),
            positions: Positions::Sequential,
        }
    }

    /// Whether every row is a token in its place, so that tokens alone say what the rows are.
    pub(crate) fn is_plain(&self) -> bool {
        self.rows.embedded.is_empty() && matches!(self.positions, Positions::Sequential)
    }

    /// The ids that the model is given as tokens: those of rows without embeddings. The embedded
    /// rows are in order.
    pub(crate) fn tokens(&self) -> Vec<u32> {
        let Rows { ids, embedded } = &self.rows;
        let ends = embedded.iter().map(|run| run.rows.end);
        let starts = embedded.iter().map(|run| run.rows.start).chain([ids.len()]);
        let between = [0].into_iter().chain(ends).zip(starts);
        between
            .flat_map(|(end, start)| &ids[end..start])
            .copied()
            .collect()
    }
}

/// Whether tokens are chosen or given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Continuation {
    /// The model's logits and [`Sampling`] choose each token.
    #[default]
    Sample,
    /// After the prompt, each decode step is fed the next of these instead, and the generation
    /// ends when all have been fed: one decode step for each. For benchmarks and for tests that
    /// must not depend on what a model says; steps, kernels and logits are those of `Sample`.
    /// `max_tokens` and `sampling` have no effect.
    Forced(Vec<u32>),
}

/// How the next token is chosen from the logits: penalties, then `top_k`, `top_p` and `min_p` on
/// the distribution at `temperature`, then a draw that depends on the request alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// 0 takes the likeliest token, of equals the lowest id. At least 0.
    pub temperature: f32,
    /// Only the `k` likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability, 0..=1.
    pub top_p: f32,
    /// Only tokens at least this share as likely as the likeliest, 0..=1.
    pub min_p: f32,
    /// Logits of tokens seen are divided by this where positive, else multiplied
    /// (Keskar et al. 2019); 1 for none.
    pub repetition_penalty: f32,
    /// Taken from a token's logit for each time it was seen, -2..=2.
    pub frequency_penalty: f32,
    /// Taken from a token's logit if it was seen, -2..=2.
    pub presence_penalty: f32,
    /// How many of the last tokens, prompt included, count as seen.
    pub last_n: usize,
    /// What the draws depend on.
    pub seed: u64,
    /// Text that ends the generation; it is not part of the output.
    pub stop: Vec<String>,
    /// Goes on past the model's end tokens.
    pub ignore_eos: bool,
    /// Added to the logits of tokens, by id, -100..=100.
    pub logit_bias: BTreeMap<u32, f32>,
}

impl Default for Sampling {
    /// Greedy, without penalties or stop strings.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            last_n: 64,
            seed: 0,
            stop: Vec::new(),
            ignore_eos: false,
            logit_bias: BTreeMap::new(),
        }
    }
}
