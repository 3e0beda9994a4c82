use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

use arc_swap::ArcSwap;

/// Wakes the engine. A ring while it is awake counts for its next sleep, so none is lost.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    /// The thread that the engine runs on, which another may take over from. Read without a lock:
    /// threads of any priority ring.
    thread: Arc<ArcSwap<Thread>>,
    /// Whether it rang since the engine last looked. A thread that waits for a channel meanwhile, as
    /// for a thread to be started, may use up the wake of a ring.
    has_rung: Arc<AtomicBool>,
}

/// Rings when it is dropped, so that the engine sees a channel whose receiver is gone.
#[derive(Debug)]
pub(crate) struct RingOnDrop(pub(crate) Bell);

impl Drop for RingOnDrop {
    fn drop(&mut self) {
        self.0.ring();
    }
}

impl Bell {
    /// A bell that wakes the calling thread, as long as no other wants it.
    pub(crate) fn new() -> Self {
        Self {
            thread: Arc::new(ArcSwap::from_pointee(thread::current())),
            has_rung: Arc::default(),
        }
    }

    /// Called after what the engine is to see was sent.
    pub(crate) fn ring(&self) {
        // Pairs with the fence in `wakes_this_thread`: either the ring finds the thread that took
        // over, or that thread finds what was sent before the ring.
        self.has_rung.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.thread.load().unpark();
    }

    /// For the engine, before it looks at what was sent.
    pub(crate) fn begin_look(&self) {
        self.has_rung.store(false, Ordering::SeqCst);
    }

    /// Sleeps the calling thread, which is the engine's, for this time at most, unless it rang since
    /// the look was begun.
    pub(crate) fn sleep(&self, timeout: Option<Duration>) {
        if self.has_rung.load(Ordering::SeqCst) {
            return;
        }
        match timeout {
            Some(timeout) => thread::park_timeout(timeout),
            None => thread::park(),
        }
    }

    /// Rings wake the calling thread from here on. It has yet to look at what was sent before.
    pub(crate) fn wakes_this_thread(&self) {
        self.thread.store(Arc::new(thread::current()));
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn no_word_is_lost_while_one_thread_takes_over_from_another() {
        const WORDS: usize = 20_000;
        let bell = Bell::new();
        let (say, heard) = sync_channel(WORDS);
        let rings = bell.clone();
        let caller = thread::spawn(move || {
            for word in 0..WORDS {
                say.send(word).expect("somebody listens");
                rings.ring();
            }
        });
        let mut state = (heard, 0);
        // Each listens for a hundred words and sleeps where there is none.
        while state.1 < WORDS {
            let bell = bell.clone();
            let listener = thread::spawn(move || {
                bell.wakes_this_thread();
                let (heard, mut count) = state;
                let until = count + 100;
                while count < until {
                    bell.begin_look();
                    match heard.try_recv() {
                        Ok(word) => {
                            assert_eq!(word, count);
                            count += 1;
                        }
                        Err(_) => bell.sleep(None),
                    }
                }
                (heard, count)
            });
            state = listener.join().expect("it hears every word");
        }
        caller.join().expect("it has said every word");
    }

    #[test]
    fn a_ring_counts_though_something_else_used_up_its_wake() {
        let bell = Bell::new();
        bell.begin_look();
        bell.ring();
        // As a wait for a channel would.
        thread::park();
        // Without the note of the ring this sleeps for ever.
        bell.sleep(None);
    }
}
