//! Work for requests that the library does not do: rendering to look, compiling forms, tokenising for its
//! own sake. It has few threads, and what waits for them is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::error::ApiError;
use crate::limits::{WORK_WAITING_MAX, WORKERS_MAX};

/// See the module.
pub(crate) struct Workers {
    threads: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Counts one that waits or is worked for, until it is dropped.
struct Counted<'w>(&'w AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self {
            threads: Arc::new(Semaphore::new(WORKERS_MAX)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Does `work` on one of the threads. What has begun is done to its end, though its client is gone.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.waiting);
        if before >= WORK_WAITING_MAX {
            let message = "too many requests are being prepared";
            let status = StatusCode::TOO_MANY_REQUESTS;
            let error = ApiError::new(status, "rate_limit_error", message).coded("queue_full");
            return Err(error.after(Duration::from_secs(1)));
        }
        let place = Arc::clone(&self.threads).acquire_owned().await;
        let done = spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await
            .map_err(|panic| ApiError::internal(panic.to_string()))?
    }
}
