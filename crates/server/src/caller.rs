//! Who asks, of which server, and on what terms.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::extract::rejection::ExtensionRejection;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use corpgrid_scheduler::Priority;

use crate::error::ApiError;
use crate::keys::{KeyOwner, tier_class};
use crate::shared::Shared;

/// What a request comes with besides its body.
pub(crate) struct Caller {
    pub(crate) shared: Arc<Shared>,
    /// Of the key that was shown.
    pub(crate) owner: KeyOwner,
    headers: HeaderMap,
}

/// Who asks, and how long they wait.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) owner: KeyOwner,
    pub(crate) priority: Priority,
    pub(crate) deadline: Duration,
    /// How long the model stays open afterwards, where the client says so; inner `None` for ever.
    pub(crate) keep_alive: Option<Option<Duration>>,
}

/// The client's header for how many seconds it waits for a first token.
const DEADLINE_HEADER: &str = "x-gogrid-deadline";

/// The longest time that may be asked for.
pub(crate) const DEADLINE_MAX_S: f64 = 86_400.0;

impl FromRequestParts<Arc<Shared>> for Caller {
    /// Where nobody looked at the key.
    type Rejection = ExtensionRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        let Extension(owner) = Extension::from_request_parts(parts, shared).await?;
        Ok(Self {
            shared: Arc::clone(shared),
            owner,
            headers: parts.headers.clone(),
        })
    }
}

impl Caller {
    /// The class is what was asked for, as far as the key may ask for it.
    pub(crate) fn terms(&self, tier: Option<&str>) -> Result<Terms, ApiError> {
        let asked = tier.map_or(Some(Priority::Normal), tier_class);
        let asked = asked.ok_or_else(|| {
            ApiError::bad("service_tier", "must be auto, default, flex or priority")
        })?;
        Ok(Terms {
            priority: asked.min(self.owner.ceiling),
            owner: self.owner.clone(),
            deadline: deadline(&self.headers, self.shared.options.deadline)?,
            keep_alive: None,
        })
    }
}

/// How long the client waits for a first token.
fn deadline(headers: &HeaderMap, default: Duration) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(DEADLINE_HEADER) else {
        return Ok(default);
    };
    let text = value.to_str().ok();
    let seconds = text.and_then(|text| text.parse::<f64>().ok());
    let seconds = seconds.filter(|seconds| (0.0..=DEADLINE_MAX_S).contains(seconds));
    let wrong = || {
        let problem = format!("must be seconds in 0..={DEADLINE_MAX_S}");
        ApiError::bad("X-GoGrid-Deadline", problem)
    };
    Ok(Duration::from_secs_f64(seconds.ok_or_else(wrong)?))
}
