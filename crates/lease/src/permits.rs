use crate::sync::{Arc, AtomicU64, Ordering};

/// A number of places. Clones share them.
#[derive(Clone, Debug)]
pub struct Permits {
    /// The limit in the upper 32 bits, the places taken in the lower: one word, so that no place
    /// is taken under a limit that has been lowered since.
    word: Arc<AtomicU64>,
}

const TAKEN: u64 = u32::MAX as u64;

impl Permits {
    /// `limit` free places.
    pub fn new(limit: u32) -> Self {
        Self {
            word: Arc::new(AtomicU64::new(u64::from(limit) << 32)),
        }
    }

    /// Takes a place, or `None` when all are taken.
    pub fn take(&self) -> Option<Permit> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if free(word) == 0 {
                return None;
            }
            let swap = self.word.compare_exchange_weak(
                word,
                word + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match swap {
                Ok(_) => {
                    return Some(Permit {
                        word: Arc::clone(&self.word),
                    });
                }
                Err(seen) => word = seen,
            }
        }
    }

    /// Places free now; zero while more are taken than a lowered limit allows.
    pub fn available(&self) -> u32 {
        free(self.word.load(Ordering::Acquire))
    }

    /// Changes the number of places. Permits are never taken back: after a fall, none is given
    /// until enough have been dropped.
    pub fn set_limit(&self, limit: u32) {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let changed = u64::from(limit) << 32 | word & TAKEN;
            let swap =
                self.word
                    .compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Acquire);
            match swap {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }
}

/// Free places; the shift and the mask leave 32 bits each.
const fn free(word: u64) -> u32 {
    ((word >> 32) as u32).saturating_sub((word & TAKEN) as u32)
}

/// A place. Dropping it frees the place.
#[derive(Debug)]
#[must_use = "dropping a permit frees its place"]
pub struct Permit {
    word: Arc<AtomicU64>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.word.fetch_sub(1, Ordering::AcqRel);
    }
}
