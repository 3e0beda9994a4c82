//! Ollama's protocol: `/api/…`, streamed as lines of JSON.

mod body;
mod lists;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::response::Response;
use corpgrid_scheduler::{Figures, Finish};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{End, WholeChoice, whole_choice};
use crate::ask::Ask;
use crate::body::{json_or_text, json_response, read_json};
use crate::caller::Caller;
use crate::embedding::{embed_texts, refuse_dimensions};
use crate::error::ApiError;
use crate::limits::TEXTS_MAX;
use crate::shared::{Shared, rfc3339_now};
use crate::sse::respond;
use crate::texts::texts;
use body::{ChatBody, GenerateBody, terms};
use stream::OllamaShape;

pub(crate) use lists::{ps, show, tags, version};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EmbedBody {
    model: String,
    input: Option<Value>,
    dimensions: Option<usize>,
    keep_alive: Option<Value>,
}

/// `POST /api/embed`.
pub(crate) async fn embed(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    let body: EmbedBody = read_json(body).await?;
    refuse_dimensions(body.dimensions)?;
    let texts = texts(body.input.as_ref(), "input", TEXTS_MAX)?;
    let terms = terms(&caller, body.keep_alive.as_ref())?;
    let shared = &caller.shared;
    let model = shared.lend_for(&body.model, &terms).await?;
    let embedded = embed_texts(shared, &model, texts, &terms).await?;
    Ok(json_response(&json!({
        "model": body.model,
        "embeddings": embedded.vectors,
        "prompt_eval_count": embedded.tokens,
    })))
}

/// Which of the two ways of asking: they differ in the name of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Chat,
    Generate,
}

/// `POST /api/chat`.
pub(crate) async fn chat(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    let body: ChatBody = read_json(body).await?;
    let (streams, says_nothing) = (body.stream.unwrap_or(true), body.says_nothing());
    // Read as closely where it only opens a model.
    let ask = body.ask(&caller)?;
    match says_nothing {
        true => load(&caller.shared, ask, Way::Chat).await,
        false => answer(&caller.shared, ask, (Way::Chat, streams)).await,
    }
}

/// `POST /api/generate`.
pub(crate) async fn generate(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    let body: GenerateBody = read_json(body).await?;
    let (streams, says_nothing) = (body.stream.unwrap_or(true), body.says_nothing());
    let ask = body.ask(&caller)?;
    match says_nothing {
        true => load(&caller.shared, ask, Way::Generate).await,
        false => answer(&caller.shared, ask, (Way::Generate, streams)).await,
    }
}

async fn answer(
    shared: &Arc<Shared>,
    ask: Ask,
    (way, streams): (Way, bool),
) -> Result<Response, ApiError> {
    let model = ask.model.clone();
    if streams {
        let shape = OllamaShape::new(way, model);
        return respond(shared, ask, shape).await;
    }
    let choice = whole_choice(shared, ask).await?;
    Ok(json_response(&whole_value(way, &model, &choice)))
}

/// A request without a prompt opens its model, or closes it.
async fn load(shared: &Shared, ask: Ask, way: Way) -> Result<Response, ApiError> {
    let closes = ask.terms.keep_alive == Some(Some(Duration::ZERO));
    let reason = match closes {
        true => {
            shared.models.close_soon(&shared.model_name(&ask.model));
            "unload"
        }
        false => {
            shared.lend_for(&ask.model, &ask.terms).await?;
            "load"
        }
    };
    let mut value = line(way, &ask.model, &json!(""));
    value["done"] = json!(true);
    value["done_reason"] = json!(reason);
    Ok(json_response(&value))
}

/// A line with this text.
fn line(way: Way, model: &str, text: &Value) -> Value {
    let mut line = json!({"model": model, "created_at": rfc3339_now()});
    match way {
        Way::Chat => line["message"] = json!({"role": "assistant", "content": text}),
        Way::Generate => line["response"] = text.clone(),
    }
    line["done"] = json!(false);
    line
}

/// Where thoughts stand in a line.
fn set_thinking(way: Way, line: &mut Value, thoughts: &str) {
    match way {
        Way::Chat => line["message"]["thinking"] = json!(thoughts),
        Way::Generate => line["thinking"] = json!(thoughts),
    }
}

/// A call as Ollama has it: its arguments are JSON, not text.
fn call_value(name: &str, arguments: &str) -> Value {
    json!({"function": {"name": name, "arguments": json_or_text(arguments)}})
}

/// The figures of the last line, in nanoseconds.
fn put_figures(line: &mut Value, end: &End) {
    let Figures {
        prompt_tokens,
        generated_tokens,
        queue_s,
        prefill_s,
        decode_s,
        ..
    } = end.figures;
    let nanoseconds = |seconds: f64| Duration::from_secs_f64(seconds.max(0.0)).as_nanos() as u64;
    line["done"] = json!(true);
    line["done_reason"] = json!(match end.finish {
        Finish::Length => "length",
        _ => "stop",
    });
    line["total_duration"] = json!(nanoseconds(queue_s + prefill_s + decode_s));
    line["load_duration"] = json!(nanoseconds(queue_s));
    line["prompt_eval_count"] = json!(prompt_tokens);
    line["prompt_eval_duration"] = json!(nanoseconds(prefill_s));
    line["eval_count"] = json!(generated_tokens);
    line["eval_duration"] = json!(nanoseconds(decode_s));
}

fn whole_value(way: Way, model: &str, choice: &WholeChoice) -> Value {
    let mut value = line(way, model, &json!(choice.text));
    if !choice.reasoning.is_empty() {
        set_thinking(way, &mut value, &choice.reasoning);
    }
    if !choice.calls.is_empty() && way == Way::Chat {
        let calls = choice
            .calls
            .iter()
            .map(|call| call_value(&call.name, &call.arguments));
        value["message"]["tool_calls"] = calls.collect();
    }
    if let Some(end) = &choice.end {
        put_figures(&mut value, end);
    }
    value
}
