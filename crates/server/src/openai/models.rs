use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::body::json_response;
use crate::error::ApiError;
use crate::models::ModelCard;
use crate::shared::Shared;

/// `GET /v1/models`: answered at once, whatever the models do.
pub(crate) async fn models(State(shared): State<Arc<Shared>>) -> Response {
    let cards = shared.models.cards();
    let values: Vec<_> = cards
        .iter()
        .filter(|(card, _)| card.is_here)
        .map(|(card, open)| value(&shared, card, *open))
        .collect();
    json_response(&json!({"object": "list", "data": values}))
}

/// `GET /v1/models/{id}`.
pub(crate) async fn model(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let cards = shared.models.cards();
    let name = shared.model_name(&id);
    match cards.iter().find(|(card, _)| card.name == name) {
        Some((card, open)) => Ok(json_response(&value(&shared, card, *open))),
        None => {
            let here = cards.into_iter().filter(|(card, _)| card.is_here);
            let known: Vec<_> = here.map(|(card, _)| card.name).collect();
            Err(ApiError::no_model(&id, &known))
        }
    }
}

fn value(shared: &Shared, card: &ModelCard, is_open: bool) -> Value {
    let context = shared.models.context(&card.name);
    json!({
        "id": card.name,
        "object": "model",
        "created": card.created,
        "owned_by": "gogrid",
        "max_model_len": context,
        "gogrid": {
            "loaded": is_open,
            "here": card.is_here,
            "bytes": card.bytes,
            "licence": card.licence,
        },
    })
}
