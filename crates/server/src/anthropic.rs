//! Anthropic's protocol: `/v1/messages` and `/v1/messages/count_tokens`.

mod body;
mod stream;

use axum::body::Body as HttpBody;
use axum::response::Response;
use corpgrid_scheduler::{Figures, Finish, Prompt};
use serde_json::{Value, json};

use crate::answer::{End, WholeChoice, whole_choice};
use crate::body::{json_or_text, json_response, read_json};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::openai::gogrid_figures;
use crate::sse::respond;
use body::MessagesBody;
use stream::MessagesShape;

/// `POST /v1/messages`.
pub(crate) async fn messages(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    let body: MessagesBody = read_json(body).await?;
    let streams = body.stream.unwrap_or(false);
    let ask = body.ask(&caller)?;
    let shared = &caller.shared;
    let id = format!("msg_{}", shared.request_id());
    let model = shared.model_name(&ask.model);
    if streams {
        let shape = MessagesShape::new(id, model);
        return respond(shared, ask, shape).await;
    }
    let stops = ask.sampling.stop.clone();
    let choice = whole_choice(shared, ask).await?;
    Ok(json_response(&message_value(&id, &model, &choice, &stops)))
}

/// `POST /v1/messages/count_tokens`.
pub(crate) async fn count_tokens(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    let body: MessagesBody = read_json(body).await?;
    let ask = body.ask(&caller)?;
    let shared = &caller.shared;
    let model = shared.lend(&ask.model).await?;
    let Prompt::Chat(conversation) = ask.prompt else {
        return Err(ApiError::internal("a conversation is what messages are"));
    };
    let work = move || {
        let text = model.pipeline.render_chat(&conversation)?;
        Ok(model.pipeline.tokenize(&text, true)?.len())
    };
    let tokens = shared.workers.run(work).await?;
    Ok(json_response(&json!({"input_tokens": tokens})))
}

/// Anthropic's name of an end.
fn stop_reason(end: &End) -> &'static str {
    match end.finish {
        Finish::Length => "max_tokens",
        _ if end.called => "tool_use",
        Finish::StopString => "stop_sequence",
        _ => "end_turn",
    }
}

fn usage(figures: &Figures) -> Value {
    json!({
        "input_tokens": figures.prompt_tokens - figures.cached_tokens,
        "cache_read_input_tokens": figures.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": figures.generated_tokens,
        "gogrid": gogrid_figures(figures),
    })
}

fn message_value(id: &str, model: &str, choice: &WholeChoice, stops: &[String]) -> Value {
    let mut content = Vec::new();
    if !choice.reasoning.is_empty() {
        content.push(json!({"type": "thinking", "thinking": choice.reasoning, "signature": ""}));
    }
    if !choice.text.is_empty() || choice.calls.is_empty() {
        content.push(json!({"type": "text", "text": choice.text}));
    }
    for call in &choice.calls {
        let input = json_or_text(&call.arguments);
        content.push(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}));
    }
    let reason = choice.end.as_ref().map_or("end_turn", stop_reason);
    // Which of several stop strings it was is not told; of one it is known.
    let met = match (reason, stops) {
        ("stop_sequence", [only]) => json!(only),
        _ => Value::Null,
    };
    let figures = choice.end.map(|end| end.figures).unwrap_or_default();
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": met,
        "usage": usage(&figures),
    })
}
