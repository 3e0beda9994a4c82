use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::response::Response;
use corpgrid_scheduler::{Figures, LogProbs, Prompt};
use serde_json::{Map, Value, json};

use super::body::Body;
use super::chat::Head;
use super::{fingerprint, finish_reason, usage};
use crate::answer::{Likely, Part, Piece, Whole, WholeChoice, begin, sum_figures, whole};
use crate::ask::Ask;
use crate::body::{Protocol, json_response, read_json};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::limits::PROMPTS_MAX;
use crate::shared::Shared;
use crate::sse::{Frames, Shape, respond};
use crate::texts::{TextOrIds, texts};

/// `POST /v1/completions`.
pub(crate) async fn completions(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    let body: Body = read_json(body).await?;
    let prompts = texts(body.prompt.as_ref(), "prompt", PROMPTS_MAX)?;
    let log_probs = legacy_log_probs(&body)?;
    refuse_what_is_not_built(&body)?;
    let asks = prompts.into_iter().map(|prompt| {
        let prompt = match prompt {
            TextOrIds::Text(text) => Prompt::Text(text),
            TextOrIds::Ids(ids) => Prompt::Ids(ids),
        };
        body.ask(prompt, log_probs, &caller)
    });
    let asks: Vec<Ask> = asks.collect::<Result<_, _>>()?;
    let shared = &caller.shared;
    let head = Head::new(shared, &asks[0], "cmpl-");
    let shape = CompletionShape::new(head, &body);
    match (body.streams(), asks.len()) {
        (true, 1) if body.echo.unwrap_or(false) => Err(ApiError::unsupported(
            "echo",
            "a prompt told again in a stream",
        )),
        (true, 1) => {
            let ask = asks.into_iter().next().expect("there is one");
            respond(shared, ask, shape).await
        }
        (true, _) => Err(ApiError::unsupported(
            "prompt",
            "a stream of several prompts",
        )),
        (false, _) => all(shared, asks, shape).await,
    }
}

/// Every prompt's choices, one prompt after the other: they wait in one queue anyway.
async fn all(
    shared: &Arc<Shared>,
    asks: Vec<Ask>,
    shape: CompletionShape,
) -> Result<Response, ApiError> {
    let (mut values, mut figures) = (Vec::new(), Vec::new());
    for ask in asks {
        let echoed = shape.echoed(&ask.prompt);
        let answer = begin(Arc::clone(shared), ask).await?;
        let echoed = echoed.map(|prompt| prompt_text(&answer, prompt));
        let whole: Whole = whole(answer).await?;
        figures.push(whole.figures());
        for choice in whole.choices {
            values.push(shape.choice_value(values.len(), choice, echoed.as_deref()));
        }
    }
    let prompt_tokens = figures.iter().map(|one| one.prompt_tokens).sum();
    let together = Figures {
        prompt_tokens,
        ..sum_figures(figures.into_iter())
    };
    let mut value = shape.frame(values);
    value["usage"] = usage(&together);
    Ok(json_response(&value))
}

/// The prompt's text, for a client that wants it before the answer.
fn prompt_text(answer: &crate::answer::Answer, prompt: Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text,
        Prompt::Ids(ids) => {
            let tokenizer = answer.model.pipeline.model().tokenizer();
            let bytes = ids.iter().filter_map(|&id| tokenizer.piece(id));
            String::from_utf8_lossy(&bytes.collect::<Vec<_>>().concat()).into_owned()
        }
        _ => String::new(),
    }
}

/// Those of the older shape: a number of likeliest tokens; with `echo` of the prompt too.
fn legacy_log_probs(body: &Body) -> Result<Option<LogProbs>, ApiError> {
    let prompt = body.echo.unwrap_or(false);
    if body.top_logprobs.is_some_and(|top| top > 0) && body.logprobs != Some(Value::Bool(true)) {
        let problem = "needs logprobs to be set to true";
        return Err(ApiError::bad("top_logprobs", problem));
    }
    let top = match &body.logprobs {
        None | Some(Value::Null | Value::Bool(false)) => return Ok(None),
        Some(Value::Bool(true)) => body.top_logprobs.unwrap_or(0),
        Some(value) => {
            let top = value.as_u64().and_then(|top| usize::try_from(top).ok());
            top.ok_or_else(|| ApiError::bad("logprobs", "must be a number of tokens"))?
        }
    };
    Ok(Some(LogProbs { top, prompt }))
}

fn refuse_what_is_not_built(body: &Body) -> Result<(), ApiError> {
    if body
        .suffix
        .as_ref()
        .is_some_and(|suffix| !suffix.is_empty())
    {
        return Err(ApiError::unsupported(
            "suffix",
            "filling in before a suffix",
        ));
    }
    if body.best_of.is_some_and(|best| best > body.n.unwrap_or(1)) {
        return Err(ApiError::unsupported(
            "best_of",
            "choosing the best of several",
        ));
    }
    Ok(())
}

/// A completion, streamed or not.
struct CompletionShape {
    head: Head,
    wants_usage: bool,
    echo: bool,
    figures: Vec<Figures>,
    /// Bytes of text told so far, by choice.
    told: Vec<usize>,
}

impl CompletionShape {
    fn new(head: Head, body: &Body) -> Self {
        Self {
            head,
            wants_usage: body.wants_usage(),
            echo: body.echo.unwrap_or(false),
            figures: Vec::new(),
            told: vec![0; body.n.unwrap_or(1)],
        }
    }

    fn echoed(&self, prompt: &Prompt) -> Option<Prompt> {
        self.echo.then(|| prompt.clone())
    }

    fn frame(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.head.id,
            "object": "text_completion",
            "created": self.head.created,
            "model": self.head.model,
            "system_fingerprint": fingerprint(),
            "choices": choices,
        })
    }

    fn choice_value(&self, index: usize, choice: WholeChoice, echoed: Option<&str>) -> Value {
        let finish = choice.end.map_or("stop", |end| finish_reason(&end));
        let log_probs = match choice.log_probs.is_empty() && choice.prompt.is_empty() {
            true => Value::Null,
            false => {
                let generated = choice.log_probs.into_iter().map(Some);
                let all: Vec<_> = choice.prompt.into_iter().chain(generated).collect();
                legacy_value(&all, 0)
            }
        };
        json!({
            "index": index,
            "text": format!("{}{}", echoed.unwrap_or_default(), choice.text),
            "logprobs": log_probs,
            "finish_reason": finish,
        })
    }

    fn chunk(&self, choice: usize, text: &str, rest: (Value, Value)) -> Value {
        let (log_probs, finish) = rest;
        self.frame(vec![json!({
            "index": choice,
            "text": text,
            "logprobs": log_probs,
            "finish_reason": finish,
        })])
    }
}

/// Log-probabilities in lists beside each other; offsets count bytes of text from `offset` on.
fn legacy_value(all: &[Option<Likely>], offset: usize) -> Value {
    let (mut tokens, mut log_probs) = (Vec::new(), Vec::new());
    let (mut tops, mut offsets, mut at) = (Vec::new(), Vec::new(), offset);
    for one in all {
        offsets.push(at);
        let Some(one) = one else {
            tokens.push(String::new());
            log_probs.push(Value::Null);
            tops.push(Value::Null);
            continue;
        };
        at += one.token.bytes.len();
        tokens.push(one.token.text());
        log_probs.push(json!(one.log_prob));
        let mut top = Map::new();
        for (token, log_prob) in &one.top {
            // Parts of characters look alike; the likeliest of them counts.
            top.entry(token.text()).or_insert_with(|| json!(log_prob));
        }
        tops.push(Value::Object(top));
    }
    json!({
        "tokens": tokens,
        "token_logprobs": log_probs,
        "top_logprobs": tops,
        "text_offset": offsets,
    })
}

impl Shape for CompletionShape {
    fn piece(&mut self, choice: usize, piece: Piece, frames: &mut Frames) {
        match piece {
            Piece::Standing(_) => {}
            Piece::Prompt(likely) => {
                let log_probs = legacy_value(&likely, 0);
                frames.data(&self.chunk(choice, "", (log_probs, Value::Null)));
            }
            Piece::Delta { parts, log_probs } => {
                // A completion is not taken apart.
                let texts = parts.iter().filter_map(|part| match part {
                    Part::Text(text) => Some(text.as_str()),
                    _ => None,
                });
                let text: String = texts.collect();
                if text.is_empty() && log_probs.is_empty() {
                    return;
                }
                let likely: Vec<_> = log_probs.into_iter().map(Some).collect();
                let log_probs = match likely.is_empty() {
                    true => Value::Null,
                    false => legacy_value(&likely, self.told[choice]),
                };
                self.told[choice] += text.len();
                frames.data(&self.chunk(choice, &text, (log_probs, Value::Null)));
            }
            Piece::End(end) => {
                self.figures.push(end.figures);
                let finish = json!(finish_reason(&end));
                frames.data(&self.chunk(choice, "", (Value::Null, finish)));
            }
        }
    }

    fn heartbeat(&mut self, frames: &mut Frames) {
        frames.data(&self.chunk(0, "", (Value::Null, Value::Null)));
    }

    fn error(&mut self, error: &ApiError, frames: &mut Frames) {
        frames.data(&Protocol::OpenAi.error_value(error));
    }

    fn end(&mut self, frames: &mut Frames) {
        if self.wants_usage {
            let mut last = self.frame(Vec::new());
            last["usage"] = usage(&sum_figures(self.figures.iter().copied()));
            frames.data(&last);
        }
        frames.text("[DONE]");
    }
}
