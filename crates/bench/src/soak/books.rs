//! What a soak has seen so far. It holds nothing of the machine, so that it can be told while the
//! machine answers nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gogrid_host::thread_cpu_time;

use super::checks::Extremes;
use super::limits::{
    CHANGE_MAX, CLOSE_MAX, FAULTS_SHOWN, LOAD_MAX, REQUEST_MAX, STATUS_MAX, TEMPLATE_MAX,
};
use super::report::{Course, SoakReport};
use crate::clock::now;

/// The figures and what is under way. Its locks are held for a look or a count; actors, checks and the
/// wall clock are threads of their own.
#[derive(Default)]
pub(super) struct Books {
    tally: Mutex<Tally>,
    course: Mutex<Course>,
    extremes: Mutex<Extremes>,
    under_way: Mutex<UnderWay>,
    /// CPU time of the soak's own threads, in nanoseconds.
    own_cpu_ns: AtomicU64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: BTreeMap<&'static str, u64>,
    /// Requests that came to the end that their caller meant them to have.
    pub(super) ended: u64,
    pub(super) changes: BTreeMap<&'static str, u64>,
    pub(super) stuck: u64,
    /// Faults in all, and how often each of the first kinds of them came, in words.
    pub(super) faults: u64,
    pub(super) shown: BTreeMap<String, u64>,
}

/// The operations that have begun and not ended.
#[derive(Default)]
struct UnderWay {
    flights: BTreeMap<u64, Flight>,
    begun: u64,
    loads_begun: u64,
}

struct Flight {
    operation: Operation,
    what: String,
    began: Instant,
}

/// A call that may wait. Each has a bound, after which it is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A request, from its call to its last event.
    Request,
    /// A chat with a model whose template is hostile.
    HostileChat,
    /// Limits, settings, a pause and their like.
    Change,
    /// A model that opens.
    Open,
    /// Stages that move.
    Move,
    /// A model or a machine that closes.
    Close,
    /// A question of what is held.
    Status,
}

impl Operation {
    fn bound(self) -> Duration {
        match self {
            Self::Request => REQUEST_MAX,
            Self::HostileChat => TEMPLATE_MAX,
            Self::Change => CHANGE_MAX,
            Self::Open | Self::Move => LOAD_MAX,
            Self::Close => CLOSE_MAX,
            Self::Status => STATUS_MAX,
        }
    }

    /// Whether weights are read and placed meanwhile, which no share of time holds back.
    fn loads(self) -> bool {
        matches!(self, Self::Open | Self::Move)
    }
}

/// How many loads have begun, and whether one is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loads {
    pub(super) begun: u64,
    pub(super) under_way: bool,
}

/// Lists an operation until it is dropped.
pub(super) struct InFlight<'a> {
    books: &'a Books,
    number: u64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        lock(&self.books.under_way).flights.remove(&self.number);
        self.books.spent();
    }
}

impl Tally {
    pub(super) fn fault(&mut self, what: String) {
        self.faults += 1;
        if self.shown.len() < FAULTS_SHOWN || self.shown.contains_key(&what) {
            *self.shown.entry(what).or_default() += 1;
        }
    }
}

impl Books {
    pub(super) fn begin(&self, operation: Operation, what: impl Into<String>) -> InFlight<'_> {
        self.begin_at(operation, what.into(), now())
    }

    fn begin_at(&self, operation: Operation, what: String, began: Instant) -> InFlight<'_> {
        let mut under_way = lock(&self.under_way);
        under_way.begun += 1;
        under_way.loads_begun += u64::from(operation.loads());
        let number = under_way.begun;
        let flight = Flight {
            operation,
            what,
            began,
        };
        under_way.flights.insert(number, flight);
        InFlight {
            books: self,
            number,
        }
    }

    #[cfg(test)]
    pub(super) fn begin_long_ago(&self, operation: Operation, what: &str) -> InFlight<'_> {
        let began = now() - operation.bound() - Duration::from_secs(1);
        self.begin_at(operation, what.to_owned(), began)
    }

    /// Counts every operation that is over its bound at `at`; whether there is one.
    pub(super) fn count_stuck(&self, at: Instant) -> bool {
        let mut stuck = Vec::new();
        for flight in lock(&self.under_way).flights.values() {
            let age = at.saturating_duration_since(flight.began);
            if age > flight.operation.bound() {
                stuck.push(format!(
                    "stuck for {:.0} s: {}",
                    age.as_secs_f64(),
                    flight.what
                ));
            }
        }
        let mut tally = lock(&self.tally);
        tally.stuck += stuck.len() as u64;
        let is_any = !stuck.is_empty();
        stuck.into_iter().for_each(|what| tally.fault(what));
        is_any
    }

    pub(super) fn loads(&self) -> Loads {
        let under_way = lock(&self.under_way);
        let mut flights = under_way.flights.values();
        Loads {
            begun: under_way.loads_begun,
            under_way: flights.any(|flight| flight.operation.loads()),
        }
    }

    /// Adds what the calling thread, one of the soak's own, has taken of the CPU since its last call.
    pub(super) fn spent(&self) {
        thread_local!(static BEFORE: Cell<Duration> = const { Cell::new(Duration::ZERO) });
        // Where the system does not tell, the devices are held to account for it.
        let Ok(cpu) = thread_cpu_time() else { return };
        let more = cpu.saturating_sub(BEFORE.replace(cpu));
        // A sum below 2^64 ns: 584 years.
        let more = more.as_nanos() as u64;
        self.own_cpu_ns.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn own_cpu_s(&self) -> f64 {
        self.own_cpu_ns.load(Ordering::Relaxed) as f64 / 1e9
    }

    pub(super) fn count_request(&self, outcome: &'static str, as_meant: bool) {
        let mut tally = lock(&self.tally);
        *tally.requests.entry(outcome).or_default() += 1;
        tally.ended += u64::from(as_meant);
    }

    pub(super) fn count_change(&self, change: &'static str) {
        *lock(&self.tally).changes.entry(change).or_default() += 1;
    }

    pub(super) fn fault(&self, what: String) {
        lock(&self.tally).fault(what);
    }

    pub(super) fn set_extremes(&self, extremes: Extremes) {
        *lock(&self.extremes) = extremes;
    }

    /// Changes the course, and gives what it is then in one line.
    pub(super) fn advance(&self, change: impl FnOnce(&mut Course)) -> String {
        let mut course = lock(&self.course);
        change(&mut course);
        course.line(&lock(&self.tally))
    }

    /// Resident MiB at the last rest, or before anything was open.
    pub(super) fn floor_mib(&self) -> f64 {
        lock(&self.course).floor_mib()
    }

    /// As far as it goes.
    pub(super) fn report(&self) -> SoakReport {
        let course = lock(&self.course).clone();
        let tally = lock(&self.tally).clone();
        course.report(tally, *lock(&self.extremes))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every write leaves it sound.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Operation; 7] = [
        Operation::Request,
        Operation::HostileChat,
        Operation::Change,
        Operation::Open,
        Operation::Move,
        Operation::Close,
        Operation::Status,
    ];

    #[test]
    fn each_operation_that_is_over_its_bound_is_stuck_by_its_name() {
        for operation in ALL {
            let (books, began) = (Books::default(), now());
            let _flight = books.begin_at(operation, "the call".to_owned(), began);
            assert!(!books.count_stuck(began + operation.bound()));
            assert_eq!(books.report().faults(), 0);
            let late = began + operation.bound() + Duration::from_secs(1);
            assert!(books.count_stuck(late), "{operation:?}");
            let table = books.report().table();
            assert!(table.contains("stuck: 1\n"), "{table}");
            assert!(table.contains("s: the call"), "{table}");
        }
    }

    #[test]
    fn an_operation_that_has_ended_is_not_stuck() {
        let (books, began) = (Books::default(), now());
        drop(books.begin_at(Operation::Status, "the call".to_owned(), began));
        assert!(!books.count_stuck(began + Duration::from_secs(1 << 20)));
    }

    #[test]
    fn loads_are_seen_while_they_last_and_counted_afterwards() {
        let books = Books::default();
        let before = books.loads();
        let flight = books.begin(Operation::Move, "a move");
        assert!(books.loads().under_way);
        drop(flight);
        drop(books.begin(Operation::Request, "a request"));
        let after = books.loads();
        assert!(!after.under_way && after.begun == before.begun + 1);
    }
}
