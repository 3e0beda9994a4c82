//! OpenAI's protocol.

mod body;
mod chat;
mod completions;
mod embeddings;
mod form;
mod messages;
mod models;
mod tokens;

pub(crate) use chat::chat;
pub(crate) use completions::completions;
pub(crate) use embeddings::embeddings;
pub(crate) use models::{model, models};
pub(crate) use tokens::{detokenize, tokenize, tokenizer_info};

use corpgrid_scheduler::{Figures, Finish};
use serde_json::{Value, json};

use crate::answer::End;

/// OpenAI's name of an end.
pub(crate) fn finish_reason(end: &End) -> &'static str {
    match end.finish {
        Finish::Length => "length",
        _ if end.called => "tool_calls",
        // A request that was cancelled has no name there, and every choice has one.
        _ => "stop",
    }
}

/// What answered: a change of it may change answers to the same seed.
pub(crate) fn fingerprint() -> String {
    format!("gogrid-{}", env!("CARGO_PKG_VERSION"))
}

/// OpenAI's figures, with ours beside them.
pub(crate) fn usage(figures: &Figures) -> Value {
    json!({
        "prompt_tokens": figures.prompt_tokens,
        "completion_tokens": figures.generated_tokens,
        "total_tokens": figures.prompt_tokens + figures.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": figures.cached_tokens},
        "gogrid": gogrid_figures(figures),
    })
}

/// How a request went: seconds, and the tokens that were drafted and came beside others in one step.
pub(crate) fn gogrid_figures(figures: &Figures) -> Value {
    json!({
        "queue_s": figures.queue_s,
        "prefill_s": figures.prefill_s,
        "decode_s": figures.decode_s,
        "paused_s": figures.paused_s,
        "accepted_tokens": figures.accepted_tokens,
    })
}
