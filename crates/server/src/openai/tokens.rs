use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::response::Response;
use corpgrid_scheduler::Conversation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::messages::ChatMessage;
use crate::body::{json_response, read_json};
use crate::error::ApiError;
use crate::limits::{DETOKENIZED_MAX, TOKENIZED_BYTES_MAX};
use crate::models::Lent;
use crate::shared::Shared;

/// What `/tokenize` takes, with the names of vLLM and of llama.cpp.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizeBody {
    model: Option<String>,
    #[serde(alias = "content")]
    prompt: Option<String>,
    messages: Option<Vec<ChatMessage>>,
    #[serde(alias = "add_special")]
    add_special_tokens: Option<bool>,
    with_pieces: Option<bool>,
    return_token_strs: Option<bool>,
}

/// `POST /tokenize`.
pub(crate) async fn tokenize(
    State(shared): State<Arc<Shared>>,
    body: HttpBody,
) -> Result<Response, ApiError> {
    let body: TokenizeBody = read_json(body).await?;
    let model = shared
        .lend(body.model.as_deref().unwrap_or_default())
        .await?;
    let bytes = body.prompt.as_ref().map_or(0, String::len);
    if bytes > TOKENIZED_BYTES_MAX {
        let problem = format!("{bytes} bytes; at most {TOKENIZED_BYTES_MAX}");
        return Err(ApiError::bad("prompt", problem));
    }
    let value = shared.workers.run(move || tokenized(&model, body)).await?;
    Ok(json_response(&value))
}

fn tokenized(model: &Lent, body: TokenizeBody) -> Result<Value, ApiError> {
    let pipeline = &model.pipeline;
    let ids = match (body.messages, body.prompt) {
        (Some(messages), _) => {
            let mut chat = Body {
                messages: Some(messages),
                ..Body::default()
            };
            let conversation: Conversation = chat.conversation()?;
            let text = pipeline.render_chat(&conversation)?;
            pipeline.tokenize(&text, true)?
        }
        (None, text) => {
            let bos = body.add_special_tokens.unwrap_or(false);
            pipeline.tokenize(&text.unwrap_or_default(), bos)?
        }
    };
    let tokenizer = pipeline.model().tokenizer();
    let piece = |id: u32| {
        let bytes = tokenizer.piece(id).unwrap_or_default();
        String::from_utf8(bytes).map_or_else(|error| json!(error.into_bytes()), Value::String)
    };
    let tokens: Value = match body.with_pieces.unwrap_or(false) {
        true => ids
            .iter()
            .map(|&id| json!({"id": id, "piece": piece(id)}))
            .collect(),
        false => json!(ids),
    };
    let mut value = json!({
        "tokens": tokens,
        "count": ids.len(),
        "max_model_len": pipeline.model().decoder().context,
    });
    if body.return_token_strs.unwrap_or(false) {
        value["token_strs"] = ids.iter().map(|&id| piece(id)).collect();
    }
    Ok(value)
}

/// What `/detokenize` takes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DetokenizeBody {
    model: Option<String>,
    tokens: Vec<u32>,
}

/// `POST /detokenize`.
pub(crate) async fn detokenize(
    State(shared): State<Arc<Shared>>,
    body: HttpBody,
) -> Result<Response, ApiError> {
    let body: DetokenizeBody = read_json(body).await?;
    let model = shared
        .lend(body.model.as_deref().unwrap_or_default())
        .await?;
    if body.tokens.len() > DETOKENIZED_MAX {
        let problem = format!("{} tokens; at most {DETOKENIZED_MAX}", body.tokens.len());
        return Err(ApiError::bad("tokens", problem));
    }
    let work = move || detokenized(&model, &body.tokens);
    let text = shared.workers.run(work).await?;
    Ok(json_response(&json!({"prompt": text, "content": text})))
}

fn detokenized(model: &Lent, tokens: &[u32]) -> Result<String, ApiError> {
    let tokenizer = model.pipeline.model().tokenizer();
    let mut bytes = Vec::new();
    for &id in tokens {
        let unknown = || ApiError::bad("tokens", format!("{id}; the model has no such token"));
        bytes.extend(tokenizer.piece(id).ok_or_else(unknown)?);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `GET /tokenizer_info`: what evaluation harnesses ask of a tokenizer that is elsewhere.
pub(crate) async fn tokenizer_info(
    State(shared): State<Arc<Shared>>,
) -> Result<Response, ApiError> {
    let model = shared.lend("").await?;
    let model_ = model.pipeline.model();
    let tokenizer = model_.tokenizer();
    let bos = tokenizer.bos();
    let end = (0..tokenizer.vocab() as u32).find(|&id| tokenizer.ends(id));
    Ok(json_response(&json!({
        "model": model.name,
        "vocab_size": tokenizer.vocab(),
        "bos_token_id": bos,
        "eos_token_id": end,
        "max_model_len": model_.decoder().context,
        "chat_template": model_.chat_template().is_some(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::parse_json;

    #[test]
    fn both_spellings_are_read() {
        let theirs: TokenizeBody = parse_json(br#"{"content": "a", "add_special": true}"#).unwrap();
        assert_eq!(
            (theirs.prompt.as_deref(), theirs.add_special_tokens),
            (Some("a"), Some(true))
        );
    }
}
