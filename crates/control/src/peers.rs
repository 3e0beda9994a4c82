//! Other processes of the same user, as they tell of themselves over their control sockets.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use corpgrid_scheduler::{Peers, SeenPeers};

use crate::control::bounded;
use crate::limits::{
    ROUND_EVERY_BUSY, ROUND_EVERY_BUSY_BESIDE, ROUND_EVERY_IDLE, ROUND_EVERY_IDLE_BESIDE,
};
use crate::server::ServerError;
use crate::turns::take_turns;

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

    /// Says that a round has failed. What others held, they are taken to hold still.
    fn fail(&self, problem: &str) {
        let problem = format!("other gogrids: asking them failed: {problem}");
        let unknown = vec![bounded(problem)];
        self.keep(SeenPeers {
            unknown,
            ..self.seen()
        });
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
            .spawn(move || {
                let mut ask = |is_over: &dyn Fn() -> bool| {
                    let seen = asker.round(is_over);
                    (seen, asker.has_new())
                };
                follow(&mut ask, &its, &woken);
            })?;
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

/// One round of asking: what it found, and whether some process has answered once only.
type Round<'a> = dyn FnMut(&dyn Fn() -> bool) -> (SeenPeers, bool) + 'a;

fn follow(ask: &mut Round<'_>, shared: &Shared, woken: &Receiver<()>) {
    let is_over = || shared.is_over.load(Ordering::Relaxed);
    let mut has_new = true;
    let turn = || {
        if woken.recv_timeout(shared.pause(has_new)) == Err(RecvTimeoutError::Disconnected) {
            return ControlFlow::Break(());
        }
        let found = ask(&is_over);
        has_new = found.1;
        shared.keep(found.0);
        ControlFlow::Continue(())
    };
    take_turns(turn, &mut |problem| shared.fail(problem));
}

#[cfg(test)]
mod tests {
    use corpgrid_scheduler::PeerUse;

    use super::*;

    fn shared() -> Shared {
        let held = PeerUse {
            pid: 7,
            is_busy: true,
            ..PeerUse::default()
        };
        Shared {
            seen: Mutex::new(SeenPeers {
                peers: vec![held],
                unknown: Vec::new(),
            }),
            is_busy: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
        }
    }

    #[test]
    fn a_round_that_panics_at_any_moment_shows_and_is_followed_by_the_next() {
        const ROUNDS: usize = 4;
        for moment in 1..=ROUNDS {
            let shared = shared();
            let (wake, woken) = sync_channel(ROUNDS);
            (0..ROUNDS).for_each(|_| wake.send(()).unwrap());
            let (mut wake, mut round, mut shown) = (Some(wake), 0, Vec::new());
            let mut ask = |_: &dyn Fn() -> bool| {
                // What the round before left to be seen.
                shown.push(shared.seen());
                round += 1;
                if round == ROUNDS {
                    drop(wake.take());
                }
                assert!(round != moment, "fault in round {moment}");
                (SeenPeers::default(), false)
            };
            follow(&mut ask, &shared, &woken);
            assert_eq!(round, ROUNDS);
            shown.push(shared.seen());
            let told = &shown[moment].unknown;
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].contains(&format!("fault in round {moment}")),
                "{told:?}"
            );
            if moment == 1 {
                assert_eq!(shown[1].peers[0].pid, 7, "what they held, they hold still");
            }
            if moment < ROUNDS {
                assert!(
                    shown[moment + 1].unknown.is_empty(),
                    "the next round is good"
                );
            }
        }
    }
}
