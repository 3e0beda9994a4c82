//! What the actors of a soak share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corpgrid_scheduler::{HeterogeneousPipeline, Machine};
use futures_util::future::AbortHandle;

use super::limits::{FAULTS_SHOWN, STUCK_AFTER_S};
use crate::clock::{now, sleep};

/// The machine under test with what stands on it, and what was seen so far. Its locks are held for a
/// look or a count; actors and checks are threads of their own.
pub(super) struct World {
    pub(super) machine: Arc<Machine>,
    /// Open for the whole soak.
    pub(super) first: Arc<HeterogeneousPipeline>,
    /// Opened and closed meanwhile.
    second: Mutex<Option<Arc<HeterogeneousPipeline>>>,
    tally: Mutex<Tally>,
    flights: Mutex<BTreeMap<u64, Flight>>,
    flown: AtomicU64,
    /// Milliseconds of the whole machine that might be taken so far.
    allowed_ms: AtomicU64,
    goes_on: AtomicBool,
}

/// A request that has not ended.
struct Flight {
    began_ms: u64,
    what: String,
    abort: AbortHandle,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: BTreeMap<&'static str, u64>,
    pub(super) changes: BTreeMap<&'static str, u64>,
    pub(super) stuck: u64,
    /// Faults in all, and how often each of the first kinds of them came, in words.
    pub(super) faults: u64,
    pub(super) shown: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn fault(&mut self, what: String) {
        self.faults += 1;
        if self.shown.len() < FAULTS_SHOWN || self.shown.contains_key(&what) {
            *self.shown.entry(what).or_default() += 1;
        }
    }
}

impl World {
    pub(super) fn new(machine: Arc<Machine>, first: Arc<HeterogeneousPipeline>) -> Self {
        Self {
            machine,
            first,
            second: Mutex::default(),
            tally: Mutex::default(),
            flights: Mutex::default(),
            flown: AtomicU64::new(0),
            allowed_ms: AtomicU64::new(0),
            goes_on: AtomicBool::new(false),
        }
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

    pub(super) fn second(&self) -> Option<Arc<HeterogeneousPipeline>> {
        lock(&self.second).clone()
    }

    /// Puts another in the place of the second model, which is closed when its last caller is done.
    pub(super) fn replace_second(&self, other: Option<HeterogeneousPipeline>) {
        let before = std::mem::replace(&mut *lock(&self.second), other.map(Arc::new));
        drop(before);
    }

    pub(super) fn count_request(&self, outcome: &'static str) {
        *lock(&self.tally).requests.entry(outcome).or_default() += 1;
    }

    pub(super) fn count_change(&self, change: &'static str) {
        *lock(&self.tally).changes.entry(change).or_default() += 1;
    }

    pub(super) fn fault(&self, what: String) {
        lock(&self.tally).fault(what);
    }

    pub(super) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Lists a request until [`landed`](Self::landed).
    pub(super) fn launched(&self, what: String, abort: AbortHandle) -> u64 {
        let number = self.flown.fetch_add(1, Ordering::Relaxed);
        let began_ms = self.allowed_ms.load(Ordering::Relaxed);
        let flight = Flight {
            began_ms,
            what,
            abort,
        };
        lock(&self.flights).insert(number, flight);
        number
    }

    pub(super) fn landed(&self, number: u64) {
        lock(&self.flights).remove(&number);
    }

    /// So much of the whole machine might be taken since the last look; ends what is stuck.
    pub(super) fn allow(&self, seconds: f64) {
        let more = (seconds * 1e3) as u64;
        let allowed = self.allowed_ms.fetch_add(more, Ordering::Relaxed) + more;
        let age_s = |flight: &Flight| (allowed - flight.began_ms) as f64 / 1e3;
        let mut stuck = Vec::new();
        lock(&self.flights).retain(|_, flight| {
            let is_stuck = age_s(flight) > STUCK_AFTER_S;
            if is_stuck {
                flight.abort.abort();
                stuck.push(flight.what.clone());
            }
            !is_stuck
        });
        for what in stuck {
            lock(&self.tally).stuck += 1;
            self.fault(format!("stuck: {what}"));
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every write leaves it sound.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
