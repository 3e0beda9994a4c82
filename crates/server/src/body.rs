//! Bodies in and out: bounded reading, and an error in each protocol's shape.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::runtime::RuntimeFlavor::MultiThread;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::error::ApiError;
use crate::limits::{
    BODY_BYTES_MAX, BODY_TIMEOUT, LARGE_BODY_WAIT, RETRY_AFTER_PATIENCE, SMALL_BODY_BYTES,
};

/// Whose shape errors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Protocol {
    /// By the path that was asked for.
    pub(crate) fn of_path(path: &str) -> Self {
        match path {
            path if path.starts_with("/api/") => Self::Ollama,
            path if path.starts_with("/v1/messages") => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }

    /// What an error is written as.
    pub(crate) fn error_value(self, error: &ApiError) -> Value {
        match self {
            Self::OpenAi => json!({"error": {
                "message": error.message,
                "type": error.kind,
                "param": error.param,
                "code": error.code,
            }}),
            Self::Anthropic => json!({"type": "error", "error": {
                "type": anthropic_kind(error.status),
                "message": error.message,
            }}),
            Self::Ollama => json!({"error": error.message}),
        }
    }

    /// An answer as it goes out: an error that it carries is written in this protocol's shape.
    pub(crate) fn written(self, mut response: Response) -> Response {
        let Some(error) = response.extensions_mut().remove::<ApiError>() else {
            return response;
        };
        let mut written = self.error(&error);
        let mut headers = std::mem::take(response.headers_mut());
        // That of a body without words.
        headers.remove(CONTENT_LENGTH);
        written.headers_mut().extend(headers);
        written
    }

    /// The answer that says what went wrong, and when to come back.
    fn error(self, error: &ApiError) -> Response {
        let mut response = json_response(&self.error_value(error));
        *response.status_mut() = error.status;
        if let Some(after) = error.retry_after {
            let headers = response.headers_mut();
            let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            if after > RETRY_AFTER_PATIENCE {
                // Some clients would sleep for as long as they are told.
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
        }
        response
    }
}

/// Anthropic's names of errors.
fn anthropic_kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        _ => "api_error",
    }
}

/// A value as the body of an answer.
pub(crate) fn json_response(value: &impl Serialize) -> Response {
    let written = serde_json::to_vec(value).expect("plain data with text for keys");
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (kind, written).into_response()
}

/// A request with its body read, within a time and a size. A large one has a place, which it holds until it
/// has been made sense of.
pub(crate) async fn read_body(
    places: &Arc<Semaphore>,
    request: Request,
) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let is_small = |most: u64| most <= SMALL_BODY_BYTES;
    let place = match body.size_hint().upper().is_some_and(is_small) {
        true => None,
        false => {
            let place = timeout(LARGE_BODY_WAIT, Arc::clone(places).acquire_owned()).await;
            let none = ApiError::unavailable("too many large requests are being read", "busy");
            Some(place.map_err(|_| none.after(Duration::from_secs(5)))?)
        }
    };
    let read = timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await;
    let read = read.map_err(|_| {
        let message = "the body of the request did not arrive in time";
        let status = StatusCode::REQUEST_TIMEOUT;
        ApiError::new(status, "invalid_request_error", message)
    })?;
    let bytes = read.map_err(|problem| {
        let message =
            format!("the body cannot be read, or is over {BODY_BYTES_MAX} bytes: {problem}");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        ApiError::new(status, "invalid_request_error", message)
    })?;
    let bytes = Bytes::from_owner(Placed {
        bytes,
        _place: place,
    });
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Bytes with their place among the large.
struct Placed {
    bytes: Bytes,
    _place: Option<Result<OwnedSemaphorePermit, AcquireError>>,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A request's body as JSON of this shape. Fields that are not known are left out; one of another type
/// is an error that names it. It was read before, within the bounds.
pub(crate) async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    parse_json(&bytes_of(body).await?)
}

/// The same of a body that may be left out.
pub(crate) async fn read_json_if_any<T>(body: Body) -> Result<T, ApiError>
where
    T: DeserializeOwned + Default,
{
    match bytes_of(body).await? {
        bytes if bytes.is_empty() => Ok(T::default()),
        bytes => parse_json(&bytes),
    }
}

async fn bytes_of(body: Body) -> Result<Bytes, ApiError> {
    let bytes = to_bytes(body, BODY_BYTES_MAX).await;
    bytes.map_err(|problem| ApiError::internal(problem.to_string()))
}

pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let is_large = bytes.len() as u64 > SMALL_BODY_BYTES;
    let is_among_others =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == MultiThread);
    match is_large && is_among_others() {
        // It takes a while, and the streams of others go on meanwhile.
        true => block_in_place(|| parse_at_once(bytes)),
        false => parse_at_once(bytes),
    }
}

fn parse_at_once<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Fields in a list, without their names, would be taken in their order.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        return Err(ApiError::bad(
            "",
            "the body is a list; it must be an object",
        ));
    }
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner().to_string();
        // Names of no field: the whole, and what cannot be told.
        let path = if path == "." || path == "?" {
            String::new()
        } else {
            path
        };
        ApiError::bad(path, problem)
    })?;
    source
        .end()
        .map_err(|problem| ApiError::bad("", format!("after the JSON value: {problem}")))?;
    Ok(parsed)
}

/// The JSON that a text is. One that is none stays as it is: a call's arguments are what a model wrote.
pub(crate) fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Asked {
        n: Option<u32>,
        parts: Option<Vec<String>>,
    }

    #[test]
    fn unknown_fields_are_left_out_and_wrong_types_named() {
        let asked: Asked = parse_json(br#"{"n": 3, "other": {}}"#).unwrap();
        assert_eq!(
            asked,
            Asked {
                n: Some(3),
                parts: None
            }
        );
        let wrong = |text: &str| parse_json::<Asked>(text.as_bytes()).unwrap_err();
        assert_eq!(wrong(r#"{"n": "x"}"#).param.as_deref(), Some("n"));
        assert_eq!(
            wrong(r#"{"parts": ["a", 1]}"#).param.as_deref(),
            Some("parts[1]")
        );
        for broken in ["", "{", "{}x", "[]"] {
            let error = wrong(broken);
            assert_eq!(
                (error.status, error.param),
                (StatusCode::BAD_REQUEST, None),
                "{broken}"
            );
        }
    }

    #[test]
    fn an_error_says_when_to_come_back_and_that_waiting_is_of_no_use() {
        let mut error = ApiError::draining();
        let header = |error: &ApiError, name: &str| {
            let response = Protocol::OpenAi.error(error);
            let value = response.headers().get(name).cloned();
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        error.retry_after = Some(Duration::from_millis(1500));
        assert_eq!(header(&error, "retry-after").as_deref(), Some("2"));
        assert_eq!(header(&error, "x-should-retry"), None);
        error.retry_after = Some(Duration::from_secs(3600));
        assert_eq!(header(&error, "x-should-retry").as_deref(), Some("false"));
    }

    #[test]
    fn an_error_is_written_over_an_empty_answer_and_keeps_its_headers() {
        let mut response = ApiError::bad("n", "9; too many").into_response();
        let headers = response.headers_mut();
        headers.insert("x-request-id", HeaderValue::from_static("7"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let written = Protocol::Anthropic.written(response);
        assert_eq!(written.status(), StatusCode::BAD_REQUEST);
        assert_eq!(written.headers()["x-request-id"], "7");
        assert_eq!(written.headers()[CONTENT_TYPE], "application/json");
        assert!(!written.headers().contains_key(CONTENT_LENGTH));
        let plain = StatusCode::IM_A_TEAPOT.into_response();
        assert_eq!(Protocol::Ollama.written(plain).status(), 418);
    }
}
