//! What the actors of a soak share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corpgrid_scheduler::{HeterogeneousPipeline, Machine, ResourceConfig};

use super::books::{Books, Operation};
use super::watched::Watched;
use crate::clock::{now, sleep};

/// The machine under test with what stands on it. Its locks are held for a look.
pub(super) struct World {
    pub(super) machine: Arc<Machine>,
    pub(super) books: Arc<Books>,
    /// What a person may write limits to meanwhile.
    pub(super) watched: Watched,
    /// The least nice value that this process can have its threads go back to.
    pub(super) least_nice: i32,
    /// Open for a whole round.
    first: Mutex<Option<Arc<HeterogeneousPipeline>>>,
    /// Opened and closed meanwhile: on the same machine, or on one of its own.
    second: Mutex<Option<Arc<HeterogeneousPipeline>>>,
    /// A second machine, from before a model opens on it until that has closed.
    beside: Mutex<Option<Arc<Machine>>>,
    goes_on: AtomicBool,
}

impl World {
    pub(super) fn new(
        machine: Arc<Machine>,
        books: Arc<Books>,
        watched: Watched,
        least_nice: i32,
    ) -> Self {
        Self {
            machine,
            books,
            watched,
            least_nice,
            first: Mutex::default(),
            second: Mutex::default(),
            beside: Mutex::default(),
            goes_on: AtomicBool::new(false),
        }
    }

    /// Limits under which everything that was asked comes to its end soon.
    pub(super) fn at_rest_limits(&self) -> ResourceConfig {
        at_rest_limits(self.least_nice)
    }

    /// Whether actors begin anything more.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on.load(Ordering::Relaxed)
    }

    pub(super) fn set_going(&self, goes_on: bool) {
        self.goes_on.store(goes_on, Ordering::Relaxed);
    }

    /// Sleeps, but not past the end of the round.
    pub(super) fn wait(&self, time: Duration) {
        let until = now() + time;
        while self.goes_on() && now() < until {
            sleep(Duration::from_millis(20).min(until - now().min(until)));
        }
    }

    pub(super) fn first(&self) -> Option<Arc<HeterogeneousPipeline>> {
        lock(&self.first).clone()
    }

    pub(super) fn second(&self) -> Option<Arc<HeterogeneousPipeline>> {
        lock(&self.second).clone()
    }

    /// Puts another in the place of the first model, which is closed when its last caller is done.
    pub(super) fn replace_first(&self, other: Option<HeterogeneousPipeline>) {
        self.replace(&self.first, other);
    }

    /// The same with the second model.
    pub(super) fn replace_second(&self, other: Option<HeterogeneousPipeline>) {
        self.replace(&self.second, other);
    }

    pub(super) fn beside(&self) -> Option<Arc<Machine>> {
        lock(&self.beside).clone()
    }

    /// Puts another in the place of the second machine, which closes with the last model on it.
    pub(super) fn replace_beside(&self, other: Option<Arc<Machine>>) {
        let before = std::mem::replace(&mut *lock(&self.beside), other);
        let _flight = self.books.begin(Operation::Close, "a machine that closes");
        drop(before);
    }

    fn replace(
        &self,
        place: &Mutex<Option<Arc<HeterogeneousPipeline>>>,
        other: Option<HeterogeneousPipeline>,
    ) {
        let before = std::mem::replace(&mut *lock(place), other.map(Arc::new));
        let _flight = self.books.begin(Operation::Close, "a model that closes");
        drop(before);
    }
}

/// The machine's limits at rest, with the least nice value that can be held.
pub(super) fn at_rest_limits(least_nice: i32) -> ResourceConfig {
    ResourceConfig {
        process_priority: least_nice,
        ..ResourceConfig::aggressive()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every write leaves it sound.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
