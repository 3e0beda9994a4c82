//! Which path is whose.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};

use crate::body::json_response;
use crate::error::ApiError;
use crate::guard::guard;
use crate::shared::Shared;
use crate::{anthropic, board, ollama, openai, openapi, page, probes, responses};

/// Routes, and their paths, which the server's document describes.
#[derive(Default)]
pub(crate) struct Table {
    router: Router<Arc<Shared>>,
    pub(crate) paths: Vec<String>,
}

impl Table {
    fn route(mut self, path: &str, methods: MethodRouter<Arc<Shared>>) -> Self {
        self.paths.push(path.to_owned());
        Self {
            router: self.router.route(path, methods),
            ..self
        }
    }
}

/// Every path of the server, with the document that describes them.
pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    let table = table();
    let document = openapi::document(&table.paths, shared.options.keys.is_some());
    let document = Arc::new(document);
    let document = move || async move { json_response(&*document) };
    table
        .router
        .route("/", get(page::page))
        .route(openapi::PATH, get(document))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

/// Every path but the document's own.
pub(crate) fn table() -> Table {
    let open_ai = |router: Table, prefix: &str| {
        let path = |tail: &str| format!("{prefix}{tail}");
        router
            .route(&path("/chat/completions"), post(openai::chat))
            .route(&path("/completions"), post(openai::completions))
            .route(&path("/embeddings"), post(openai::embeddings))
            .route(&path("/responses"), post(responses::responses))
            .route(&path("/models"), get(openai::models))
            .route(&path("/models/{*id}"), get(openai::model))
    };
    // Some clients leave the version out.
    let table = open_ai(open_ai(Table::default(), "/v1"), "");
    table
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/embed", post(ollama::embed))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/api/version", get(ollama::version))
        .route("/gogrid/status", get(board::status))
        .route("/gogrid/history", get(board::history))
        .route("/gogrid/settings", post(board::set))
        .route("/gogrid/{order}", post(board::order))
        .route("/tokenize", post(openai::tokenize))
        .route("/detokenize", post(openai::detokenize))
        .route("/tokenizer_info", get(openai::tokenizer_info))
        .route("/health", get(probes::health))
        .route("/v1/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .route("/version", get(probes::version))
}

async fn unknown(request: Request) -> ApiError {
    let path = request.uri().path();
    let message = format!("there is nothing at {} {path}", request.method());
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
}

async fn wrong_method(request: Request) -> ApiError {
    let path = request.uri().path();
    let message = format!("{path} does not take {}", request.method());
    let status = StatusCode::METHOD_NOT_ALLOWED;
    ApiError::new(status, "invalid_request_error", message)
}
