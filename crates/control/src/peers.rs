//! Other processes of the same user, as they tell of themselves over their control sockets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use corpgrid_scheduler::{Peers, SeenPeers};

use crate::limits::{
    ROUND_EVERY_BUSY, ROUND_EVERY_BUSY_BESIDE, ROUND_EVERY_IDLE, ROUND_EVERY_IDLE_BESIDE,
};
use crate::server::ServerError;

mod asker;

use asker::Asker;

/// Asks the other processes that listen under the program's name what they take, in rounds, until it
/// is dropped. Between two rounds its thread sleeps.
pub struct PeerWatch {
    shared: Arc<Shared>,
    was_busy: bool,
    /// Asks for a round at once. Dropped to say that it is over.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// What the last round found. A lock, held for a copy.
    seen: Mutex<SeenPeers>,
    is_busy: AtomicBool,
    /// Whether a round is to be broken off.
    is_over: AtomicBool,
}

impl Shared {
    fn seen(&self) -> SeenPeers {
        // Every write leaves it sound.
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    fn keep(&self, found: SeenPeers) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The time to the next round.
    fn pause(&self, has_new: bool) -> Duration {
        let alone = self.seen().peers.is_empty();
        match (self.is_busy.load(Ordering::Relaxed), alone) {
            // Their CPU time is known from the second answer on.
            _ if has_new => ROUND_EVERY_BUSY_BESIDE,
            (true, false) => ROUND_EVERY_BUSY_BESIDE,
            (true, true) => ROUND_EVERY_BUSY,
            (false, false) => ROUND_EVERY_IDLE_BESIDE,
            (false, true) => ROUND_EVERY_IDLE,
        }
    }
}

impl PeerWatch {
    /// Asks once before it returns, which takes a second at most where processes do not answer.
    ///
    /// # Errors
    /// When the program's name cannot be one, the cores are not told, or there is no thread.
    pub fn start(program: &str) -> Result<Self, ServerError> {
        let mut asker = Asker::new(program)?;
        let shared = Arc::new(Shared {
            seen: Mutex::new(asker.round(&|| false)),
            is_busy: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let (wake, woken) = sync_channel(1);
        let its = Arc::clone(&shared);
        let thread = Builder::new()
            .name("gogrid-peers".to_owned())
            .spawn(move || follow(&mut asker, &its, &woken))?;
        Ok(Self {
            shared,
            was_busy: false,
            wake: Some(wake),
            thread: Some(thread),
        })
    }
}

impl Peers for PeerWatch {
    fn look(&mut self, is_busy: bool) -> SeenPeers {
        self.shared.is_busy.store(is_busy, Ordering::Relaxed);
        if is_busy
            && !self.was_busy
            && let Some(wake) = &self.wake
        {
            // Where a round is asked for already, that one is enough.
            let _ = wake.try_send(());
        }
        self.was_busy = is_busy;
        let mut seen = self.shared.seen();
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            let problem = "other gogrids: the thread that asks them has ended";
            seen.unknown.push(problem.to_owned());
        }
        seen
    }
}

impl Drop for PeerWatch {
    /// Waits for an answer that is being waited for.
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn follow(asker: &mut Asker, shared: &Shared, woken: &Receiver<()>) {
    let is_over = || shared.is_over.load(Ordering::Relaxed);
    loop {
        let pause = shared.pause(asker.has_new());
        if woken.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        shared.keep(asker.round(&is_over));
    }
}
