use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use corpgrid_scheduler::{GenerateError, OpenError, Reason, Refusal};

use crate::models::NotOpened;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken, is not this machine's, or may not be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Others than this machine would be served without a key.
    #[error(
        "{0} can be reached from other machines, and no key is asked for; name a file of keys, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The system refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// What a client is told instead of an answer. Each protocol has its own shape for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// OpenAI's `type`.
    pub(crate) kind: &'static str,
    /// What programs tell errors apart by.
    pub(crate) code: Option<&'static str>,
    /// The field of the request that is wrong.
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A request that makes no sense, with the field that is wrong.
    pub(crate) fn bad(param: impl Into<String>, problem: impl AsRef<str>) -> Self {
        let param = param.into();
        let message = match param.is_empty() {
            true => problem.as_ref().to_owned(),
            false => format!("{param}: {}", problem.as_ref()),
        };
        Self {
            param: Some(param).filter(|param| !param.is_empty()),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
        }
    }

    /// What is not built, by name.
    pub(crate) fn unsupported(param: &str, what: &str) -> Self {
        Self::bad(param, format!("{what} is not supported")).coded("unsupported")
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>, code: &'static str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            message,
        )
        .coded(code)
    }

    pub(crate) fn no_model(name: &str, known: &[String]) -> Self {
        let known = known.join(", ");
        let message = format!("The model `{name}` does not exist here; there are: {known}");
        let error = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        Self {
            param: Some("model".to_owned()),
            ..error.coded("model_not_found")
        }
    }

    pub(crate) fn draining() -> Self {
        Self::unavailable("the server is shutting down", "finishing").after(Duration::from_secs(5))
    }

    pub(crate) fn coded(self, code: &'static str) -> Self {
        let code = Some(code);
        Self { code, ..self }
    }

    pub(crate) fn after(self, retry_after: Duration) -> Self {
        let retry_after = Some(retry_after);
        Self {
            retry_after,
            ..self
        }
    }

    /// While all work is stopped, for a client that would wait for longer than it may.
    pub(crate) fn stopped(reason: &Reason, left: Option<Duration>) -> Self {
        let message = format!("the owner of this machine has it for now: {reason}");
        let retry_after = left.unwrap_or(Duration::from_secs(30));
        Self::unavailable(message, reason_code(reason)).after(retry_after)
    }
}

impl IntoResponse for ApiError {
    /// An answer that carries the error, for `Protocol::written` to put into words.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The name of a reason in codes and comments.
pub(crate) fn reason_code(reason: &Reason) -> &'static str {
    match reason {
        Reason::Paused | Reason::Snoozed { .. } => "paused_by_owner",
        Reason::Schedule => "outside_schedule",
        other => other.name(),
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::PromptTooLong { tokens, context } => {
                let message = format!(
                    "This model's maximum context length is {context} tokens. However, your messages \
                     have at least {tokens}, and one more is to be made, which exceeds the context window: \
                     prompt is too long (context_length_exceeded)"
                );
                Self::bad("", message).coded("context_length_exceeded")
            }
            Refusal::TooManyQueued { retry_after, .. } => {
                let kind = "rate_limit_error";
                Self::new(StatusCode::TOO_MANY_REQUESTS, kind, message)
                    .coded("queue_full")
                    .after(retry_after)
            }
            Refusal::NoRoomForText { retry_after, .. } => {
                Self::unavailable(message, "memory_cap").after(retry_after)
            }
            Refusal::MemoryCap { .. } | Refusal::OverCap { .. } => {
                Self::unavailable(message, "memory_cap").after(Duration::from_secs(10))
            }
            Refusal::Deadline {
                why, retry_after, ..
            } => {
                let code = why.as_ref().map_or("deadline", reason_code);
                Self::unavailable(message, code).after(retry_after)
            }
            Refusal::Finishing => {
                Self::unavailable(message, "finishing").after(Duration::from_secs(30))
            }
            Refusal::BadRequest { field, problem } => Self::bad(field, problem),
            _ => Self::internal(message),
        }
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Refused(refusal) => refusal.into(),
            other => Self::internal(other.to_string()),
        }
    }
}

impl From<NotOpened> for ApiError {
    fn from(error: NotOpened) -> Self {
        let words = error.to_string();
        match error {
            NotOpened::Unknown { name, known } => Self::no_model(&name, &known),
            NotOpened::Open(problem) if matches!(*problem, OpenError::DoesNotFit(_)) => {
                Self::unavailable(problem.to_string(), "memory_cap").after(Duration::from_secs(10))
            }
            NotOpened::Open(problem) => Self::internal(problem.to_string()),
            NotOpened::NotHere(_) => {
                let status = StatusCode::NOT_FOUND;
                let gone = Self::new(status, "invalid_request_error", words);
                Self {
                    param: Some("model".to_owned()),
                    ..gone.coded("model_not_here")
                }
            }
            NotOpened::Full(_) => {
                Self::unavailable(words, "models_full").after(Duration::from_secs(10))
            }
            NotOpened::Other(problem) => Self::internal(problem),
        }
    }
}
