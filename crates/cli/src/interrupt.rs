//! Ctrl-C: ends the program at once, or, while a [`InterruptGuard`] is held, asks its holder to end first.

use std::future::poll_fn;
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::task::AtomicWaker;

const UNWATCHED: u8 = 0;
const WATCHED: u8 = 1;
const ASKED: u8 = 2;

/// A second signal this soon is the same Ctrl-C, passed on by a wrapper that the terminal told too.
const ECHO_MAX: Duration = Duration::from_millis(300);

/// The program's one signal handler.
pub(crate) struct Interrupt(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: AtomicU8,
    waker: AtomicWaker,
    /// When the holder was asked. Only the signal handler's thread locks it, and the compiler
    /// cannot know that.
    asked_at: Mutex<Option<Instant>>,
}

impl Interrupt {
    pub(crate) fn install() -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let handler = Arc::clone(&shared);
        ctrlc::set_handler(move || handler.signal()).context("cannot handle Ctrl-C")?;
        Ok(Self(shared))
    }

    /// From here until the watch is dropped, the first Ctrl-C only asks; a second one still ends
    /// the program at once.
    pub(crate) fn watch(&self) -> InterruptGuard {
        self.0.state.store(WATCHED, Ordering::SeqCst);
        InterruptGuard(Arc::clone(&self.0))
    }
}

impl Shared {
    #[expect(
        clippy::disallowed_methods,
        reason = "signals are told apart by when they come"
    )]
    fn signal(&self) {
        let now = Instant::now();
        let mut asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let order = Ordering::SeqCst;
        if self
            .state
            .compare_exchange(WATCHED, ASKED, order, order)
            .is_ok()
        {
            *asked_at = Some(now);
            self.waker.wake();
        } else if asked_at.is_none_or(|at| now.duration_since(at) > ECHO_MAX) {
            process::exit(130);
        }
    }
}

/// Held by code that ends in good order when asked.
pub(crate) struct InterruptGuard(Arc<Shared>);

impl InterruptGuard {
    pub(crate) fn asked(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) == ASKED
    }

    /// Resolves when asked. One task at a time may wait.
    pub(crate) async fn wait(&self) {
        poll_fn(|context| {
            self.0.waker.register(context.waker());
            if self.asked() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for InterruptGuard {
    fn drop(&mut self) {
        self.0.state.store(UNWATCHED, Ordering::SeqCst);
    }
}
