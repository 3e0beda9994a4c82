use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore};

use crate::board::Counts;
use crate::caller::Terms;
use crate::error::ApiError;
use crate::limits::LARGE_BODIES_MAX;
use crate::models::{Lent, Models};
use crate::options::ServeOptions;
use crate::work::Workers;

/// What every request sees of the server.
pub(crate) struct Shared {
    pub(crate) options: ServeOptions,
    pub(crate) models: Arc<Models>,
    pub(crate) drain: Drain,
    pub(crate) tokens: LastToken,
    pub(crate) counts: Counts,
    pub(crate) workers: Workers,
    /// Places for requests whose bodies are large.
    pub(crate) large_bodies: Arc<Semaphore>,
    requests: AtomicU64,
    /// What makes the ids of this server differ from those of the one before.
    started: u64,
}

/// Whether the server ends.
#[derive(Default)]
pub(crate) struct Drain {
    begun: AtomicBool,
    over: AtomicBool,
    is_over: Notify,
}

/// When a token was made.
pub(crate) struct LastToken(Mutex<Instant>);

impl Shared {
    pub(crate) fn new(options: ServeOptions, models: Arc<Models>) -> Self {
        Self {
            options,
            models,
            drain: Drain::default(),
            tokens: LastToken::new(),
            counts: Counts::default(),
            workers: Workers::new(),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
            requests: AtomicU64::new(0),
            started: unix_seconds(),
        }
    }

    /// How long a model stays open after a request: as it asks, or as the server was told. Only those who may
    /// change limits keep one for longer than that.
    fn keep_alive(&self, terms: &Terms) -> Option<Duration> {
        let own = self.options.keep_alive;
        match (terms.keep_alive, own) {
            (None, _) => own,
            (Some(asked), _) if terms.owner.may_change => asked,
            (Some(asked), own) => match (asked, own) {
                (Some(asked), Some(own)) => Some(asked.min(own)),
                (Some(asked), None) => Some(asked),
                (None, own) => own,
            },
        }
    }

    /// The model that a client means. Names of OpenAI's, which programs have built in, and no name mean
    /// the default one.
    pub(crate) fn model_name(&self, asked: &str) -> String {
        let asked = asked.strip_suffix(":latest").unwrap_or(asked);
        let is_theirs = || asked.starts_with("gpt-") && !self.models.knows(asked);
        let is_default = asked.is_empty() || asked == "default" || is_theirs();
        match is_default {
            true => self.options.default_model.clone(),
            false => asked.to_owned(),
        }
    }

    /// The model that a client means, opened if it is not.
    pub(crate) async fn lend(&self, asked: &str) -> Result<Lent, ApiError> {
        Ok(self.models.lend(&self.model_name(asked)).await?)
    }

    /// The same, with the time that it is to stay.
    pub(crate) async fn lend_for(&self, asked: &str, terms: &Terms) -> Result<Lent, ApiError> {
        let model = self.lend(asked).await?;
        model.keep_alive(self.keep_alive(terms));
        Ok(model)
    }

    /// A name for a request that no other has.
    pub(crate) fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}{number:08x}", self.started)
    }
}

impl Drain {
    /// No request is taken any more.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Those that run end with an error.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.is_over.notify_waiters();
    }

    /// Resolves when they are to end.
    pub(crate) async fn over(&self) {
        let notified = self.is_over.notified();
        let mut notified = std::pin::pin!(notified);
        // Registered before the look, so that no end is missed in between.
        notified.as_mut().enable();
        if !self.over.load(Ordering::SeqCst) {
            notified.await;
        }
    }
}

impl LastToken {
    fn new() -> Self {
        Self(Mutex::new(now()))
    }

    /// A token was made, or the first request for one came.
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now();
    }

    pub(crate) fn since(&self) -> Duration {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }
}

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "clients are told when an answer was made"
)]
pub(crate) fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A time of day as Ollama's and other clients read it.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    // A time past the calendar's end is its end.
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    time.to_string()
}

pub(crate) fn rfc3339_now() -> String {
    rfc3339(unix_seconds())
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether tokens come is a matter of the wall's clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
