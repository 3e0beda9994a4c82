use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::response::Response;
use gogrid_reply::{ReasoningTags, ToolFormat};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::{json_response, read_json};
use crate::error::ApiError;
use crate::models::ModelCard;
use crate::shared::{Shared, rfc3339, rfc3339_now, unix_seconds};

/// The version of Ollama's protocol that is spoken: clients ask for it to know what they may use.
const SPOKEN: &str = "0.12.0";

/// `GET /api/version`.
pub(crate) async fn version() -> Response {
    json_response(&json!({"version": SPOKEN, "gogrid": env!("CARGO_PKG_VERSION")}))
}

/// `GET /api/tags`: the models that are here.
pub(crate) async fn tags(State(shared): State<Arc<Shared>>) -> Response {
    let cards = shared.models.cards().into_iter();
    let here = cards.filter(|(card, _)| card.is_here);
    let values: Vec<_> = here.map(|(card, _)| card_value(&card)).collect();
    json_response(&json!({"models": values}))
}

/// `GET /api/ps`: those that are open.
pub(crate) async fn ps(State(shared): State<Arc<Shared>>) -> Response {
    let cards = shared.models.cards();
    let open = shared.models.opened().into_iter().map(|model| {
        let card = cards.iter().find(|(card, _)| card.name == model.name);
        let mut value = card.map_or_else(|| json!({}), |(card, _)| card_value(card));
        let bytes = model.pipeline.model().weight_bytes().0;
        let context = model.pipeline.model().decoder().context;
        // A model that stays for ever has no end; clients read a time all the same.
        let year = 365 * 24 * 60 * 60;
        let left = model.closes_in().map_or(year, |left| left.as_secs());
        value["name"] = json!(model.name);
        value["model"] = json!(model.name);
        value["size"] = json!(bytes);
        value["size_vram"] = json!(0);
        value["context_length"] = json!(context);
        value["expires_at"] = json!(rfc3339(unix_seconds().saturating_add(left)));
        value
    });
    json_response(&json!({"models": open.collect::<Vec<_>>()}))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ShowBody {
    #[serde(alias = "name")]
    model: String,
}

/// `POST /api/show`. Opens the model: what it is stands in its file.
pub(crate) async fn show(
    State(shared): State<Arc<Shared>>,
    body: HttpBody,
) -> Result<Response, ApiError> {
    let body: ShowBody = read_json(body).await?;
    let model = shared.lend(&body.model).await?;
    let cards = shared.models.cards();
    let card = cards.iter().find(|(card, _)| card.name == model.name);
    let card = card.map_or_else(|| json!({}), |(card, _)| card_value(card));
    let known = model.pipeline.model();
    let mut capabilities = vec!["completion"];
    let template = known.chat_template().map(|template| template.source());
    if template.is_some_and(|source| ToolFormat::of_template(source) != ToolFormat::None) {
        capabilities.push("tools");
    }
    if template.is_some_and(|source| ReasoningTags::of_template(source).is_some()) {
        capabilities.push("thinking");
    }
    if known.pooling().is_some() {
        capabilities.push("embedding");
    }
    Ok(json_response(&json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "license": card["license"],
        "details": details(),
        "capabilities": capabilities,
        "modified_at": card["modified_at"],
        "model_info": {
            "general.name": known.name(),
            "general.context_length": known.decoder().context,
        },
    })))
}

fn details() -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": "",
    })
}

fn card_value(card: &ModelCard) -> Value {
    let modified = match card.created {
        0 => rfc3339_now(),
        seconds => rfc3339(seconds),
    };
    json!({
        "name": card.name,
        "model": card.name,
        "modified_at": modified,
        "size": card.bytes,
        "digest": "",
        "license": card.licence,
        "details": details(),
    })
}
