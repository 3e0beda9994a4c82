//! OpenAI's newer protocol, `/v1/responses`, without memory: each request says all of its conversation.

mod body;
mod output;
mod stream;

use axum::body::Body as HttpBody;
use axum::response::Response;
use corpgrid_scheduler::Finish;
use serde_json::{Value, json};

use crate::answer::{End, whole_choice};
use crate::body::{json_response, read_json};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::shared::unix_seconds;
use crate::sse::respond;
use body::ResponsesBody;
use output::Output;
use stream::ResponsesShape;

/// `POST /v1/responses`.
pub(crate) async fn responses(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    let body: ResponsesBody = read_json(body).await?;
    let streams = body.stream.unwrap_or(false);
    let echoed = body.echoed();
    let ask = body.ask(&caller)?;
    let shared = &caller.shared;
    let head = Head {
        id: shared.request_id(),
        created: unix_seconds(),
        model: shared.model_name(&ask.model),
        echoed,
    };
    if streams {
        let shape = ResponsesShape::new(head);
        return respond(shared, ask, shape).await;
    }
    let choice = whole_choice(shared, ask).await?;
    let end = choice.end;
    let output = Output::of(head.id.clone(), choice);
    let is_cut = end.is_some_and(|end| end.finish == Finish::Length);
    Ok(json_response(
        &head.response(&output.whole(is_cut), end.as_ref()),
    ))
}

/// What every form of a response says.
struct Head {
    id: String,
    created: u64,
    model: String,
    /// What the client asked for, which it gets back.
    echoed: Value,
}

impl Head {
    /// The response with what it has so far; without an end it is in progress.
    fn response(&self, output: &[Value], end: Option<&End>) -> Value {
        let is_cut = end.is_some_and(|end| end.finish == Finish::Length);
        let status = match end {
            None => "in_progress",
            Some(_) if is_cut => "incomplete",
            Some(_) => "completed",
        };
        let details = match is_cut {
            true => json!({"reason": "max_output_tokens"}),
            false => Value::Null,
        };
        let mut response = self.echoed.clone();
        let ours = json!({
            "id": format!("resp_{}", self.id),
            "object": "response",
            "created_at": self.created,
            "model": self.model,
            "status": status,
            "error": null,
            "incomplete_details": details,
            "output": output,
            "usage": end.map(usage),
            "previous_response_id": null,
            "store": false,
            "truncation": "disabled",
        });
        if let (Value::Object(response), Value::Object(ours)) = (&mut response, ours) {
            response.extend(ours);
        }
        response
    }
}

fn usage(end: &End) -> Value {
    let figures = &end.figures;
    json!({
        "input_tokens": figures.prompt_tokens,
        "input_tokens_details": {"cached_tokens": figures.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": figures.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": figures.prompt_tokens + figures.generated_tokens,
        "gogrid": crate::openai::gogrid_figures(figures),
    })
}
