use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::response::Response;
use corpgrid_scheduler::{Figures, LogProbs, Prompt};
use serde_json::{Value, json};

use super::body::Body;
use super::{fingerprint, finish_reason, usage};
use crate::answer::{
    Likely, Part, Piece, Standing, TokenBytes, Whole, WholeChoice, begin, sum_figures, whole,
};
use crate::ask::Ask;
use crate::body::{Protocol, json_response, read_json};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::shared::{Shared, unix_seconds};
use crate::sse::{Frames, Shape, respond};

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    let mut body: Body = read_json(body).await?;
    let prompt = Prompt::Chat(body.conversation()?);
    let ask = body.ask(prompt, chat_log_probs(&body)?, &caller)?;
    let shared = &caller.shared;
    let head = Head::new(shared, &ask, "chatcmpl-");
    if body.streams() {
        return respond(shared, ask, ChatShape::new(head, &body)).await;
    }
    let answer = begin(Arc::clone(shared), ask).await?;
    Ok(json_response(&chat_value(&head, whole(answer).await?)))
}

/// Those of the chat's shape: a switch, and how many beside each.
fn chat_log_probs(body: &Body) -> Result<Option<LogProbs>, ApiError> {
    let wanted = match &body.logprobs {
        None | Some(Value::Null) => false,
        Some(Value::Bool(wanted)) => *wanted,
        Some(_) => return Err(ApiError::bad("logprobs", "must be true or false")),
    };
    match (wanted, body.top_logprobs) {
        (false, Some(1..)) => {
            let problem = "needs logprobs to be set to true";
            Err(ApiError::bad("top_logprobs", problem))
        }
        (false, _) => Ok(None),
        (true, top) => Ok(Some(LogProbs {
            top: top.unwrap_or(0),
            prompt: false,
        })),
    }
}

/// What every chunk of an answer says.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

impl Head {
    pub(crate) fn new(shared: &Shared, ask: &Ask, prefix: &str) -> Self {
        Self {
            id: format!("{prefix}{}", shared.request_id()),
            created: unix_seconds(),
            model: shared.model_name(&ask.model),
        }
    }

    fn chunk(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": fingerprint(),
            "choices": choices,
        })
    }
}

/// A token's log-probabilities as a chat has them.
fn log_prob(one: &Likely) -> Value {
    let entry = |token: &TokenBytes, log_prob: f32| {
        json!({
            "token": token.text(),
            "logprob": log_prob,
            "bytes": token.bytes,
        })
    };
    let top = one
        .top
        .iter()
        .map(|(token, log_prob)| entry(token, *log_prob));
    let top: Value = top.collect();
    let mut value = entry(&one.token, one.log_prob);
    value["top_logprobs"] = top;
    value
}

fn log_probs_value(all: &[Likely]) -> Value {
    match all.is_empty() {
        true => Value::Null,
        false => {
            let content: Vec<_> = all.iter().map(log_prob).collect();
            json!({"content": content, "refusal": null})
        }
    }
}

fn chat_value(head: &Head, whole: Whole) -> Value {
    let figures = whole.figures();
    let choices = whole
        .choices
        .into_iter()
        .enumerate()
        .map(|(index, choice)| {
            json!({
                "index": index,
                "message": message(&choice),
                "logprobs": log_probs_value(&choice.log_probs),
                "finish_reason": choice.end.map_or("stop", |end| finish_reason(&end)),
            })
        });
    json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "service_tier": "default",
        "system_fingerprint": fingerprint(),
        "choices": choices.collect::<Vec<_>>(),
        "usage": usage(&figures),
    })
}

/// The assistant's message. Without text its content is none, as OpenAI has it beside calls.
fn message(choice: &WholeChoice) -> Value {
    let content = match choice.text.is_empty() && !choice.calls.is_empty() {
        true => Value::Null,
        false => json!(choice.text),
    };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !choice.reasoning.is_empty() {
        message["reasoning_content"] = json!(choice.reasoning);
    }
    if !choice.calls.is_empty() {
        let calls = choice.calls.iter().map(|call| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"id": call.id, "type": "function", "function": function})
        });
        message["tool_calls"] = calls.collect();
    }
    message
}

/// What a part adds to a message; nothing where a call ends.
fn part_delta(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Reasoning(text) => json!({"reasoning_content": text}),
        Part::Text(text) => json!({"content": text}),
        Part::CallBegin { index, id, name } => {
            let function = json!({"name": name, "arguments": ""});
            json!({"tool_calls": [
                {"index": index, "id": id, "type": "function", "function": function},
            ]})
        }
        Part::CallArguments { index, json } => {
            json!({"tool_calls": [{"index": index, "function": {"arguments": json}}]})
        }
        Part::CallEnd { .. } => return None,
    })
}

/// A chat that streams.
struct ChatShape {
    head: Head,
    choices: usize,
    wants_usage: bool,
    /// Whether the client asked for more than comments by `"gogrid": true`.
    tells_standing: bool,
    figures: Vec<Figures>,
}

impl ChatShape {
    fn new(head: Head, body: &Body) -> Self {
        Self {
            head,
            choices: body.n.unwrap_or(1),
            wants_usage: body.wants_usage(),
            tells_standing: body.gogrid.unwrap_or(false),
            figures: Vec::new(),
        }
    }

    fn delta(&self, choice: usize, delta: Value, log_probs: &[Likely]) -> Value {
        self.head.chunk(vec![json!({
            "index": choice,
            "delta": delta,
            "logprobs": log_probs_value(log_probs),
            "finish_reason": null,
        })])
    }
}

impl Shape for ChatShape {
    fn begin(&mut self, _: Option<usize>, frames: &mut Frames) {
        for choice in 0..self.choices {
            let delta = json!({"role": "assistant", "content": ""});
            frames.data(&self.delta(choice, delta, &[]));
        }
    }

    fn piece(&mut self, choice: usize, piece: Piece, frames: &mut Frames) {
        match piece {
            Piece::Standing(_) | Piece::Prompt(_) => {}
            Piece::Delta { parts, log_probs } => {
                let mut log_probs = &log_probs[..];
                for delta in parts.iter().filter_map(part_delta) {
                    frames.data(&self.delta(choice, delta, log_probs));
                    log_probs = &[];
                }
                if !log_probs.is_empty() {
                    frames.data(&self.delta(choice, json!({"content": ""}), log_probs));
                }
            }
            Piece::End(end) => {
                self.figures.push(end.figures);
                frames.data(&self.head.chunk(vec![json!({
                    "index": choice,
                    "delta": {},
                    "logprobs": null,
                    "finish_reason": finish_reason(&end),
                })]));
            }
        }
    }

    fn standing(&mut self, standing: &Standing, frames: &mut Frames) {
        if self.tells_standing {
            let mut chunk = self.delta(0, json!({}), &[]);
            chunk["gogrid"] = standing.value();
            frames.data(&chunk);
        }
    }

    fn heartbeat(&mut self, frames: &mut Frames) {
        frames.data(&self.delta(0, json!({}), &[]));
    }

    fn error(&mut self, error: &ApiError, frames: &mut Frames) {
        frames.data(&Protocol::OpenAi.error_value(error));
    }

    fn end(&mut self, frames: &mut Frames) {
        if self.wants_usage {
            let mut last = self.head.chunk(Vec::new());
            last["usage"] = usage(&sum_figures(self.figures.iter().copied()));
            frames.data(&last);
        }
        frames.text("[DONE]");
    }
}
