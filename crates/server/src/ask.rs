//! What a client wants, whatever protocol it speaks.

use std::hash::{BuildHasher, Hasher, RandomState};

use corpgrid_scheduler::{Constraint, GenerateRequest, LogProbs, Prompt, Refusal, Sampling};
use gogrid_grammar::Spec;
use serde::Deserialize;

use crate::caller::Terms;
use crate::error::ApiError;
use crate::limits::{CHOICES_MAX, DEFAULT_TOKENS};
use crate::reading::{Reading, ToolChoice};

/// One request for generated text.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The model's name as the client wrote it.
    pub(crate) model: String,
    pub(crate) prompt: Prompt,
    pub(crate) tokens: TokensWanted,
    pub(crate) sampling: Sampling,
    pub(crate) choices: usize,
    pub(crate) log_probs: Option<LogProbs>,
    /// What the answer must be, besides the tools.
    pub(crate) form: Option<Form>,
    pub(crate) tool_choice: ToolChoice,
    /// Calls of tools at most.
    pub(crate) calls_max: usize,
    pub(crate) terms: Terms,
    pub(crate) names: FieldNames,
}

/// The library's names of fields, each with the client's where it is another one.
pub(crate) type FieldNames = &'static [(&'static str, &'static str)];

/// What an answer must be, and the field that says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    pub(crate) spec: Spec,
    pub(crate) field: &'static str,
}

/// What must be known of the model before the library is asked.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) reading: Reading,
    pub(crate) constraint: Option<Constraint>,
}

/// How many tokens an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokensWanted {
    /// So many; 0 asks for the prompt's figures alone.
    Exactly(usize),
    /// The client did not say.
    Default,
}

impl Ask {
    pub(crate) fn check_choices(n: Option<usize>) -> Result<usize, ApiError> {
        match n.unwrap_or(1) {
            n @ 1..=CHOICES_MAX => Ok(n),
            n => Err(ApiError::bad(
                "n",
                format!("{n}; must be in 1..={CHOICES_MAX}"),
            )),
        }
    }

    /// A refusal, with the field that it names as the client calls it.
    pub(crate) fn refused(&self, refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::BadRequest { field, problem } => {
                let mut names = self.names.iter();
                let theirs = names.find(|(ours, _)| *ours == field);
                ApiError::bad(theirs.map_or(field, |(_, theirs)| *theirs), problem)
            }
            refusal => refusal.into(),
        }
    }

    /// What the library is asked for the choice of this number.
    pub(crate) fn request(&self, bound: &Bound, choice: usize, most: usize) -> GenerateRequest {
        let mut sampling = self.sampling.clone();
        sampling.seed = sampling.seed.wrapping_add(choice as u64);
        GenerateRequest {
            sampling,
            constraint: bound.constraint.clone(),
            shown_tokens: bound.reading.shown.clone(),
            log_probs: self.log_probs,
            whose: self.terms.owner.whose,
            priority: self.terms.priority,
            deadline: Some(self.terms.deadline),
            cache_salt: Some(self.terms.owner.salt),
            ..GenerateRequest::new(self.prompt.clone(), most)
        }
    }

    /// The tokens that the library is asked for at first.
    pub(crate) fn most_tokens(&self) -> usize {
        match self.tokens {
            TokensWanted::Exactly(most) => most.max(1),
            TokensWanted::Default => DEFAULT_TOKENS,
        }
    }

    /// Has the model not told of tools that it may not call.
    pub(crate) fn drop_tools_that_may_not_be_called(&mut self) {
        if let Prompt::Chat(conversation) = &mut self.prompt
            && self.tool_choice == ToolChoice::None
        {
            conversation.tools.clear();
        }
    }

    /// Whether there are tools that the model may call.
    pub(crate) fn has_tools(&self) -> bool {
        matches!(&self.prompt, Prompt::Chat(conversation) if !conversation.tools.is_empty())
    }

    /// Whether the client wants no generated token.
    pub(crate) fn wants_none(&self) -> bool {
        self.tokens == TokensWanted::Exactly(0)
    }
}

/// Text that ends an answer: one, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "must be a text or a list of texts")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// Stop strings; empty ones, which some clients send, end nothing.
pub(crate) fn stops(stop: Option<OneOrMany>) -> Vec<String> {
    let mut stops = stop.map_or_else(Vec::new, OneOrMany::into_vec);
    stops.retain(|stop| !stop.is_empty());
    stops
}

/// The seed asked for, or another one each time.
pub(crate) fn seed(asked: Option<i64>) -> u64 {
    match asked {
        // A negative one is as good as any but -1, by which clients mean none.
        Some(seed) if seed != -1 => seed.cast_unsigned(),
        _ => RandomState::new().build_hasher().finish(),
    }
}
