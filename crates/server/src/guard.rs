//! Who may ask: looked at before anything of a request is read.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    AUTHORIZATION, HOST, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use corpgrid_scheduler::Whose;

use crate::board::Counts;
use crate::body::{Protocol, read_body};
use crate::error::ApiError;
use crate::keys::KeyOwner;
use crate::shared::{Shared, now};

/// Paths that need no key: they say nothing of models or requests. The page asks for one itself.
const OPEN_PATHS: [&str; 4] = ["/", "/health", "/v1/health", "/ready"];

/// Lets a request in, and writes what went wrong with it in the shape of its path's protocol.
pub(crate) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let protocol = Protocol::of_path(request.uri().path());
    let answered = let_in(&shared, request, next).await;
    protocol.written(answered.into_response())
}

/// Host and origin, then the key; the owner goes along with the request.
async fn let_in(shared: &Shared, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let headers = request.headers();
    check_host(shared, headers)?;
    let origin = allowed_origin(shared, headers)?;
    if request.method() == Method::OPTIONS {
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let mut response = with_cors(StatusCode::OK.into_response(), origin);
        if let Some(wanted) = wanted
            && response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
        {
            // Clients' libraries send many of their own.
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted);
        }
        return Ok(response);
    }
    let owner = match owner(shared, request.uri().path(), headers) {
        Ok(owner) => owner,
        Err(error) => {
            let mut refused = error.into_response();
            let bearer = HeaderValue::from_static("Bearer");
            refused.headers_mut().insert(WWW_AUTHENTICATE, bearer);
            return Ok(with_cors(refused, origin));
        }
    };
    let asked = Asked {
        id: shared.request_id(),
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        owner: owner.name.clone(),
        began: now(),
    };
    request.extensions_mut().insert(owner);
    let mut response = match read_body(&shared.large_bodies, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    asked.note(shared, response.status());
    if let Ok(id) = HeaderValue::from_str(&asked.id) {
        response.headers_mut().insert("x-request-id", id);
    }
    Ok(with_cors(response, origin))
}

/// A request, for the log.
struct Asked {
    id: String,
    method: Method,
    path: String,
    owner: String,
    began: Instant,
}

impl Asked {
    /// Counts a request that generates or fails, and writes a line about it. What is asked every second by
    /// those that look on is not worth one.
    fn note(&self, shared: &Shared, status: StatusCode) {
        let failed = status.is_client_error() || status.is_server_error();
        Counts::add(&shared.counts.failed, usize::from(failed));
        if self.method == Method::GET && !failed {
            return;
        }
        Counts::add(&shared.counts.requests, 1);
        let milliseconds = self.began.elapsed().as_millis() as u64;
        let (id, owner, path) = (self.id.as_str(), self.owner.as_str(), self.path.as_str());
        let status = status.as_u16();
        tracing::info!(id, owner, path, status, milliseconds, "request");
    }
}

/// Without keys only names of this machine's own are served, so that a web page cannot reach the
/// server by a name of its own that leads here (DNS rebinding).
fn check_host(shared: &Shared, headers: &HeaderMap) -> Result<(), ApiError> {
    if shared.options.keys.is_some() {
        return Ok(());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match host.is_some_and(|host| is_here(host_name(host))) {
        true => Ok(()),
        false => Err(forbidden(
            "Host: must be localhost or an address of this machine's own",
        )),
    }
}

/// The origin of a web page that may read the answer; none where no page asks.
fn allowed_origin(shared: &Shared, headers: &HeaderMap) -> Result<Option<HeaderValue>, ApiError> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(None);
    };
    let text = origin.to_str().unwrap_or_default();
    let named = shared.options.origins.iter().any(|allowed| allowed == text);
    let authority = text.split_once("://").map(|(_, authority)| authority);
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    // The page's own requests come with the name that the page was opened by.
    let is_own = authority.is_some() && authority == own;
    match named || is_own || authority.map(host_name).is_some_and(is_here) {
        true => Ok(Some(origin.clone())),
        false => Err(forbidden(
            "Origin: pages of this origin may not ask; see --origin",
        )),
    }
}

fn forbidden(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "permission_error", message)
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_here(name: &str) -> bool {
    let is_loopback = |address: IpAddr| address.is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

fn with_cors(mut response: Response, origin: Option<HeaderValue>) -> Response {
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        let methods = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        let allowed =
            "authorization, content-type, x-api-key, anthropic-version, x-gogrid-deadline";
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(allowed),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        let exposed = "retry-after, x-should-retry, x-request-id";
        let exposed = HeaderValue::from_static(exposed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// The owner of the key that a request shows: as a bearer, or as Anthropic's clients do.
fn owner(shared: &Shared, path: &str, headers: &HeaderMap) -> Result<KeyOwner, ApiError> {
    let Some(keys) = &shared.options.keys else {
        return Ok(KeyOwner::local(shared.options.without_key));
    };
    if OPEN_PATHS.contains(&path) {
        return Ok(KeyOwner::local(Whose::Guest));
    }
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let shown = bearer.or_else(|| headers.get("x-api-key")?.to_str().ok());
    let found = shown.and_then(|key| keys.owner(key));
    found.cloned().ok_or_else(|| {
        let message = "Invalid API key: show one of the server's as `Authorization: Bearer …`";
        let error = ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", message);
        error.coded("invalid_api_key")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_told_from_others() {
        for here in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]:1",
            "[::1]",
            "127.9.9.9",
        ] {
            assert!(is_here(host_name(here)), "{here}");
        }
        for elsewhere in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "[fe80::1]:80",
        ] {
            assert!(!is_here(host_name(elsewhere)), "{elsewhere}");
        }
    }
}
