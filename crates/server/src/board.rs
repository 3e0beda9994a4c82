//! What a person sees of the server: who has the machine and why, what it holds and makes, and the
//! limits, which can be changed from here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use corpgrid_scheduler::status::busy_share;
use corpgrid_scheduler::{ChangeError, Changes, MachineStatus, Mode, Settings, Verdict};
use metrics::{counter, describe_counter, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::interval;

use crate::body::{json_response, read_json, read_json_if_any};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::keys::KeyOwner;
use crate::limits::{HISTORY_MAX, SAMPLE_EVERY, SNOOZE_MAX};
use crate::models::Models;
use crate::shared::{Shared, unix_seconds};

/// What the server has done so far, and how it went lately.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) cached_tokens: AtomicU64,
    pub(crate) tokens: AtomicU64,
    /// A lock, held for a copy or one more sample.
    history: Mutex<VecDeque<Sample>>,
}

/// How it stood at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Seconds since 1970.
    at: u64,
    /// Tokens a second since the sample before.
    tokens_s: f64,
    /// The share of the machine's compute that might be taken.
    compute_share: f64,
    /// The share that was, since the sample before.
    used_share: f64,
    /// `open`, `limited` or `shut`.
    verdict: &'static str,
    /// The most pressing reason, if there was one.
    reason: Option<&'static str>,
    /// Bytes held of all memories.
    used_bytes: u64,
    running: usize,
    queued: usize,
}

impl Counts {
    pub(crate) fn add(count: &AtomicU64, more: usize) {
        count.fetch_add(more as u64, Ordering::Relaxed);
    }

    /// The same as Prometheus text.
    pub(crate) fn prometheus(&self) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            let tell = |name: &'static str, help: &'static str, count: &AtomicU64| {
                describe_counter!(name, help);
                counter!(name).absolute(count.load(Ordering::Relaxed));
            };
            tell(
                "gogrid_requests_total",
                "Requests but those that only look",
                &self.requests,
            );
            tell(
                "gogrid_requests_failed_total",
                "Answers that were errors",
                &self.failed,
            );
            tell(
                "gogrid_prompt_tokens_total",
                "Tokens of prompts",
                &self.prompt_tokens,
            );
            tell(
                "gogrid_cached_tokens_total",
                "Those that were there already",
                &self.cached_tokens,
            );
            tell("gogrid_tokens_total", "Tokens generated", &self.tokens);
        });
        recorder.handle().render()
    }

    fn history(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, sample: Sample) {
        let mut history = self.history();
        while history.len() >= HISTORY_MAX {
            history.pop_front();
        }
        history.push_back(sample);
    }
}

/// Looks at the machine from time to time, for as long as the server runs.
pub(crate) async fn sample(shared: Arc<Shared>) {
    let (mut look, mut tokens_before) = (interval(SAMPLE_EVERY), 0);
    let mut before: Option<MachineStatus> = None;
    loop {
        look.tick().await;
        let tokens = shared.counts.tokens.load(Ordering::Relaxed);
        let made = tokens - tokens_before;
        tokens_before = tokens;
        let status = shared.models.machine().status().await;
        let used = before.as_ref().and_then(|before| {
            busy_share(&before.devices, &status.devices, status.at_s - before.at_s)
        });
        let (verdict, reason) = verdict(&status.ruling.verdict);
        shared.counts.keep(Sample {
            at: unix_seconds(),
            tokens_s: made as f64 / SAMPLE_EVERY.as_secs_f64(),
            compute_share: status.ruling.compute_share,
            used_share: used.unwrap_or(0.0),
            verdict,
            reason,
            used_bytes: status.memories.iter().map(|memory| memory.used_bytes).sum(),
            running: status.models.iter().map(|model| model.running).sum(),
            queued: status.models.iter().map(|model| model.queued).sum(),
        });
        before = Some(status);
    }
}

fn verdict(verdict: &Verdict) -> (&'static str, Option<&'static str>) {
    match verdict {
        Verdict::Open => ("open", None),
        Verdict::Limited { why, .. } => ("limited", why.first().map(|reason| reason.name())),
        Verdict::Shut(reason) => ("shut", Some(reason.name())),
    }
}

/// `GET /gogrid/status`: all that a view needs, at one moment.
pub(crate) async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let machine = shared.models.machine();
    let (status, settings) = (machine.status().await, machine.settings());
    let latest = shared.counts.history().back().cloned();
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let counts = &shared.counts;
    let words = match &status.ruling.verdict {
        Verdict::Open => Vec::new(),
        Verdict::Limited { why, .. } => why.iter().map(ToString::to_string).collect(),
        Verdict::Shut(reason) => vec![reason.to_string()],
    };
    json_response(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "at": unix_seconds(),
        "default_model": shared.options.default_model,
        "draining": shared.drain.has_begun(),
        "why": words,
        "latest": latest,
        "counts": {
            "requests": count(&counts.requests),
            "failed": count(&counts.failed),
            "prompt_tokens": count(&counts.prompt_tokens),
            "cached_tokens": count(&counts.cached_tokens),
            "tokens": count(&counts.tokens),
        },
        "models": models(&shared.models),
        "mode": mode(&settings).map(Mode::name),
        "settings": settings,
        "status": status,
    }))
}

/// The mode whose settings these are, if they are one's.
fn mode(settings: &Settings) -> Option<Mode> {
    let mut modes = Mode::ALL.into_iter();
    modes.find(|mode| Settings::of(*mode) == *settings)
}

/// Every model, with how it is used where it is open.
fn models(models: &Models) -> Vec<Value> {
    let open = models.opened();
    let cards = models.cards().into_iter().map(|(card, _)| {
        let model = open.iter().find(|model| model.name == card.name);
        json!({
            "name": card.name,
            "bytes": card.bytes,
            "here": card.is_here,
            "loaded": model.is_some(),
            "requests": model.map(|model| model.lent()),
            "closes_in_s": model.and_then(|model| model.closes_in()).map(|left| left.as_secs()),
        })
    });
    cards.collect()
}

/// `GET /gogrid/history`: the samples of the last hour, the oldest first.
pub(crate) async fn history(State(shared): State<Arc<Shared>>) -> Response {
    let samples: Vec<_> = shared.counts.history().iter().cloned().collect();
    let every = SAMPLE_EVERY.as_secs_f64();
    json_response(&json!({"every_s": every, "samples": samples}))
}

/// `POST /gogrid/settings`: what differs from the settings in force, in the shape of a file of settings:
/// `{"limits": {"max_compute_usage_percent": 0.4}}`.
pub(crate) async fn set(caller: Caller, body: HttpBody) -> Result<Response, ApiError> {
    check_may_change(&caller.owner)?;
    let changes: Changes = read_json(body).await?;
    let machine = caller.shared.models.machine();
    let settings = changes.onto(&machine.settings());
    let settings = settings.map_err(|error| ApiError::bad("", error.to_string()))?;
    machine.set_settings(settings).await.map_err(refused)?;
    Ok(json_response(&machine.settings()))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OrderBody {
    seconds: Option<u64>,
}

impl OrderBody {
    /// For how long, where it is told.
    fn time(&self) -> Result<Option<Duration>, ApiError> {
        let most = SNOOZE_MAX.as_secs();
        match self.seconds {
            None => Ok(None),
            Some(seconds @ 1..) if seconds <= most => Ok(Some(Duration::from_secs(seconds))),
            Some(seconds) => {
                let problem = format!("{seconds}; must be in 1..={most}");
                Err(ApiError::bad("seconds", problem))
            }
        }
    }
}

/// `POST /gogrid/{pause, resume, finish, snooze}`.
pub(crate) async fn order(
    caller: Caller,
    Path(order): Path<String>,
    body: HttpBody,
) -> Result<Response, ApiError> {
    check_may_change(&caller.owner)?;
    let body: OrderBody = read_json_if_any(body).await?;
    let machine = caller.shared.models.machine();
    let time = body.time()?;
    let done = match order.as_str() {
        "pause" => machine.pause().await,
        "resume" => machine.resume().await,
        "finish" => machine.finish().await,
        "snooze" => {
            let missing = || ApiError::bad("seconds", "is missing");
            machine.snooze(time.ok_or_else(missing)?).await
        }
        _ => {
            let message = format!("there is no order {order:?}");
            let status = StatusCode::NOT_FOUND;
            return Err(ApiError::new(status, "invalid_request_error", message));
        }
    };
    done.map_err(refused)?;
    Ok(json_response(&machine.ruling()))
}

/// The machine's limits are its owner's: where keys are asked for, only those that say so change them.
fn check_may_change(owner: &KeyOwner) -> Result<(), ApiError> {
    match owner.may_change {
        true => Ok(()),
        false => {
            let message = "this key may not change limits; one with `limits=yes` in the file may";
            Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "permission_error",
                message,
            ))
        }
    }
}

fn refused(error: ChangeError) -> ApiError {
    ApiError::bad("", error.to_string())
}
