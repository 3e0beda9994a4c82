//! What operators and their programs ask: does it live, does it answer, what does it hold.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use corpgrid_scheduler::Verdict;
use serde_json::json;

use crate::body::json_response;
use crate::error::ApiError;
use crate::limits::TOKEN_LATELY;
use crate::shared::Shared;

/// `GET /health`: it lives.
pub(crate) async fn health() -> Response {
    json_response(&json!({"status": "ok"}))
}

/// `GET /ready`: a token was made lately, or can be.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Result<Response, ApiError> {
    match not_ready(&shared).await {
        None => Ok(json_response(&json!({"status": "ready"}))),
        Some(error) => Err(error),
    }
}

async fn not_ready(shared: &Shared) -> Option<ApiError> {
    if shared.drain.has_begun() {
        return Some(ApiError::draining());
    }
    let ruling = shared.models.machine().ruling();
    if !ruling.admits {
        return Some(corpgrid_scheduler::Refusal::Finishing.into());
    }
    if let Verdict::Shut(reason) = &ruling.verdict {
        return Some(ApiError::stopped(reason, None));
    }
    let status = shared.models.machine().status().await;
    if let Some(failure) = status.failures.first() {
        return Some(ApiError::internal(failure.to_string()));
    }
    let runs = status.models.iter().any(|model| model.running > 0);
    let since = shared.tokens.since();
    let stuck = runs && since > TOKEN_LATELY;
    stuck.then(|| {
        let message = format!(
            "requests run, and no token came for {:.0} s",
            since.as_secs_f64()
        );
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            message,
        )
        .coded("no_progress")
    })
}

/// `GET /metrics`, as Prometheus reads it.
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let of_machine = shared.models.status().await.prometheus();
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, of_machine + &shared.counts.prometheus()).into_response()
}

/// `GET /version`.
pub(crate) async fn version() -> Response {
    json_response(&json!({"version": env!("CARGO_PKG_VERSION")}))
}
