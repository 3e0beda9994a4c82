//! Signals that ask the program to end: Ctrl-C, a terminal that is closed, an owner's order. They end
//! it at once, or, while a [`InterruptGuard`] is held, ask its holder to end first.

use std::future::poll_fn;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::thread::Builder;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::task::AtomicWaker;
use gogrid_host::{EndSignal, hear_signals, remember_terminal, tidy_up};
use gogrid_units::contain;

use crate::exit::INTERRUPTED;
use crate::out;

const UNWATCHED: u8 = 0;
const WATCHED: u8 = 1;
const ASKED: u8 = 2;

/// A second signal this soon is the same Ctrl-C, passed on by a wrapper that the terminal told too.
const ECHO_MAX: Duration = Duration::from_millis(300);

/// A holder that was asked has so long to end.
const END_MAX: Duration = Duration::from_secs(5);

/// A little more than that, for a holder that was promised a time of its own.
const END_SPARE: Duration = Duration::from_secs(10);

/// The program's one listener to signals.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: AtomicU8,
    waker: AtomicWaker,
    /// Whether the whole program was told to end, and not only what it does at the moment.
    must_end: AtomicBool,
    /// How long the holder has, where that is more than usual.
    patience: OnceLock<Duration>,
    /// When the holder was asked; none while nobody is. A lock, held for a copy: the thread that
    /// hears signals, the one that counts the time, and the holder take turns.
    asked_at: Mutex<Option<Instant>>,
    /// Told when a time begins to be counted, or ends.
    counts: Condvar,
}

impl Interrupt {
    pub(crate) fn install() -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        remember_terminal();
        let (hears, counts) = (Arc::clone(&shared), Arc::clone(&shared));
        let thread = Builder::new().name("gogrid-ending".to_owned());
        let counting = thread.spawn(move || counts.count());
        counting.context("cannot start a thread")?;
        hear_signals(move |signal| hears.signal(signal)).context("cannot handle signals")?;
        Ok(Self(shared))
    }

    /// From here until the guard is dropped, the first signal only asks; a second one still ends the
    /// program at once, and so does the time when the holder takes too long.
    pub(crate) fn watch(&self) -> InterruptGuard {
        let order = Ordering::SeqCst;
        // A program that was told to end stays so.
        let _ = self
            .0
            .state
            .compare_exchange(UNWATCHED, WATCHED, order, order);
        InterruptGuard(Arc::clone(&self.0))
    }

    /// From here on a holder that is asked has so long to end, and a little more.
    pub(crate) fn be_patient(&self, time: Duration) {
        // The first to ask is the only one: a server runs until the program ends.
        let _ = self.0.patience.set(time + END_SPARE);
    }

    /// What was asked for has ended, and the program goes on; false where it must end itself.
    pub(crate) fn go_on(&self) -> bool {
        if self.0.must_end.load(Ordering::SeqCst) {
            return false;
        }
        *self.0.asked_at() = None;
        self.0.state.store(UNWATCHED, Ordering::SeqCst);
        self.0.counts.notify_all();
        // A signal that came in between was meant for the program.
        !self.0.must_end.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn asked_at(&self) -> MutexGuard<'_, Option<Instant>> {
        // Every write leaves it sound.
        self.asked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "signals are told apart by when they come"
    )]
    fn signal(&self, signal: EndSignal) {
        let now = Instant::now();
        if signal != EndSignal::Interrupt {
            self.must_end.store(true, Ordering::SeqCst);
        }
        let mut asked_at = self.asked_at();
        let order = Ordering::SeqCst;
        let asks = self.state.compare_exchange(WATCHED, ASKED, order, order);
        if asks.is_ok() {
            *asked_at = Some(now);
            drop(asked_at);
            self.counts.notify_all();
            self.wake();
        } else if asked_at.is_none_or(|at| now.duration_since(at) > ECHO_MAX) {
            drop(asked_at);
            end_at_once();
        }
    }

    fn end_max(&self) -> Duration {
        self.patience.get().copied().unwrap_or(END_MAX)
    }

    /// A waker is code of others, and this thread must hear the next signal.
    fn wake(&self) {
        let _ = contain(|| self.waker.wake());
    }

    /// Ends the program when a holder that was asked takes too long.
    fn count(&self) {
        let mut asked_at = self.asked_at();
        loop {
            let waited = match *asked_at {
                None => {
                    let woken = self.counts.wait(asked_at);
                    asked_at = woken.unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Some(at) => self.end_max().saturating_sub(at.elapsed()),
            };
            if waited.is_zero() {
                drop(asked_at);
                return end_at_once();
            }
            let woken = self.counts.wait_timeout(asked_at, waited);
            asked_at = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Threads are left as they are; what others would find of this process is set right.
fn end_at_once() {
    tidy_up();
    out::flush();
    process::exit(i32::from(INTERRUPTED));
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
    /// One that was asked stays so: the rest of the program's end has its time too.
    fn drop(&mut self) {
        let order = Ordering::SeqCst;
        let _ = self
            .0
            .state
            .compare_exchange(WATCHED, UNWATCHED, order, order);
    }
}
