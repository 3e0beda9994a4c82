use axum::body::Body as HttpBody;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::{json_response, read_json};
use crate::caller::Caller;
use crate::embedding::{embed_texts, refuse_dimensions};
use crate::error::ApiError;
use crate::limits::TEXTS_MAX;
use crate::texts::texts;

/// What `/v1/embeddings` takes. What is not named here is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EmbeddingsBody {
    model: Option<String>,
    input: Option<Value>,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    let body: EmbeddingsBody = read_json(body).await?;
    let in_base64 = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::bad("encoding_format", "must be float or base64")),
    };
    refuse_dimensions(body.dimensions)?;
    let texts = texts(body.input.as_ref(), "input", TEXTS_MAX)?;
    let terms = caller.terms(None)?;
    let shared = &caller.shared;
    let name = shared.model_name(body.model.as_deref().unwrap_or_default());
    let model = shared.lend(&name).await?;
    let embedded = embed_texts(shared, &model, texts, &terms).await?;
    let data = embedded.vectors.iter().enumerate().map(|(index, vector)| {
        let value = match in_base64 {
            true => {
                let bytes = vector.iter().flat_map(|value| value.to_le_bytes());
                json!(STANDARD.encode(bytes.collect::<Vec<_>>()))
            }
            false => json!(vector),
        };
        json!({"object": "embedding", "index": index, "embedding": value})
    });
    let tokens = embedded.tokens;
    Ok(json_response(&json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}
