//! Threads that say which tokens may follow, beside the forward pass: a request's matcher goes to one of
//! them with the token that was chosen, and comes back with what it says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gogrid_lease::{Permit, Permits};
use gogrid_units::{Go, Pace, Whose, contain};

use super::inbox::EngineInbox;
use crate::constraint::{Allowed, Constraint, Matcher};
use crate::error::Refusal;
use crate::limits::{MATCHER_THREADS_MAX, MATCHERS_MAX};
use crate::log;
use crate::machine::{Crew, DutyPace, ThreadPlace};
use crate::opening::Opener;
use crate::places::take_for;

/// While work of a class is stopped whose matchers have a token to take in, a thread looks so often whether
/// they may.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tokens after which a fresh thread takes over: it has the priorities that are asked for by then.
const JOBS_OF_A_THREAD: usize = 256;

/// Runs the matchers of a pipeline's requests, at the priorities asked for, on the devices' cores and
/// within the share of time, on at most [`MATCHER_THREADS_MAX`] threads. There are none before the
/// first request that needs them.
pub(crate) struct Matchers {
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
    /// Those that are waited for, wherever they are: so there is room for each in the channels.
    places: Permits,
}

struct Shared {
    paces: Vec<Arc<DutyPace>>,
    engine: EngineInbox,
    crew: Crew,
    threads: AtomicUsize,
    /// A lock, held by the one thread that waits for work.
    jobs: Mutex<Receiver<Job>>,
    /// Those whose class is stopped: they keep no thread from matchers of the other. A lock, held to look.
    parked: Mutex<Vec<Next>>,
    /// Whether the thread that waits for work has been told of one of these.
    is_told: AtomicBool,
    /// Whether the pipeline is being dropped.
    is_closing: AtomicBool,
}

/// A request's matcher as the engine has it. Dropping it drops the matcher, on a thread of its own.
pub(crate) struct Seat {
    whose: Whose,
    /// `None` while it is on a thread, and for good when it has panicked.
    held: Option<Held>,
    /// Whether anybody waits for what it says.
    is_wanted: Arc<AtomicBool>,
}

/// A matcher on its way.
pub(crate) struct Held {
    text: Text,
    jobs: SyncSender<Job>,
    place: Permit,
}

/// A text on its way through a grammar.
enum Text {
    /// It has not begun.
    Of(Constraint),
    At(Box<dyn Matcher>),
}

enum Job {
    Next(Next),
    Drop(Held),
    /// There is one that is parked.
    Look,
    /// The thread that takes it ends.
    Close,
}

struct Next {
    id: u64,
    whose: Whose,
    held: Held,
    token: Option<u32>,
    is_wanted: Arc<AtomicBool>,
}

/// What a matcher said of the next token of a request.
pub(crate) struct Matched {
    pub(crate) id: u64,
    pub(crate) held: Option<Held>,
    pub(crate) allowed: Result<Allowed, String>,
}

impl Matchers {
    /// For the requests of this engine.
    pub(crate) fn new(opener: &Opener, engine: EngineInbox, place: Option<ThreadPlace>) -> Self {
        let hardware = &opener.hardware;
        let (jobs, heard) = sync_channel(MATCHERS_MAX + MATCHER_THREADS_MAX + 1);
        let crew = Crew::new("matcher", hardware.threads.clone(), place);
        let shared = Shared {
            paces: hardware.thread_paces.clone(),
            engine,
            crew: crew.on_cores(hardware.pinned()),
            threads: AtomicUsize::new(0),
            jobs: Mutex::new(heard),
            parked: Mutex::default(),
            is_told: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            jobs,
            places: Permits::new(MATCHERS_MAX as u32),
        }
    }

    /// A matcher of this constraint, for one request of this class; `None` where there are as many as may be.
    pub(crate) fn seat(
        &self,
        constraint: Constraint,
        whose: Whose,
    ) -> Result<Option<Seat>, Refusal> {
        let Some(place) = take_for(whose, &self.places) else {
            return Ok(None);
        };
        self.start_thread()?;
        let held = Held {
            text: Text::Of(constraint),
            jobs: self.jobs.clone(),
            place,
        };
        Ok(Some(Seat {
            whose,
            held: Some(held),
            is_wanted: Arc::new(AtomicBool::new(true)),
        }))
    }

    /// Starts a thread, where there are fewer than may be.
    fn start_thread(&self) -> Result<(), Refusal> {
        let threads = &self.shared.threads;
        let more = |threads| (threads < MATCHER_THREADS_MAX).then_some(threads + 1);
        let Ok(before) = threads.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) else {
            return Ok(());
        };
        let started = self.shared.start();
        if started.is_err() {
            threads.fetch_sub(1, Ordering::AcqRel);
        }
        match started {
            Err(error) if before == 0 => Err(Refusal::NoThread(error.to_string())),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Ends what runs, once the engine has ended, and waits for its threads.
    pub(crate) fn close(&self) {
        self.shared.is_closing.store(true, Ordering::Release);
        for _ in 0..MATCHER_THREADS_MAX {
            // There is room for these beside all matchers.
            let _ = self.jobs.try_send(Job::Close);
        }
        self.shared.crew.join();
        let jobs = self.shared.lock();
        jobs.try_iter().for_each(drop_contained);
        let parked = std::mem::take(&mut *self.shared.parked());
        parked.into_iter().for_each(drop_contained);
    }

    /// Nothing waits for what they say any more.
    pub(crate) fn stop(&self) {
        self.shared.is_closing.store(true, Ordering::Release);
    }
}

impl Shared {
    fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        self.crew.start(move || shared.work())
    }

    /// A thread's life.
    fn work(self: Arc<Self>) {
        // What the thread has used so far is no request's.
        DutyPace::charge_thread(&self.paces);
        loop {
            for _ in 0..JOBS_OF_A_THREAD {
                match self.next() {
                    Job::Close => return,
                    Job::Look => {}
                    Job::Drop(held) => drop_contained(held),
                    Job::Next(next) => self.run(next),
                }
                // It runs on any of the CPUs' cores, so all answer for it.
                DutyPace::charge_thread(&self.paces);
            }
            match self.start() {
                Ok(()) => return,
                Err(error) => log::warn(&format_args!("matcher: no fresh thread: {error}")),
            }
        }
    }

    fn next(&self) -> Job {
        let jobs = self.lock();
        loop {
            let mut parked = self.parked();
            if let Some(place) = parked.iter().position(|next| self.may_try(next)) {
                return Job::Next(parked.remove(place));
            }
            let is_none_parked = parked.is_empty();
            drop(parked);
            let job = match is_none_parked {
                // Senders are gone only with the pipeline, which has closed it before.
                true => jobs.recv().unwrap_or(Job::Close),
                false => match jobs.recv_timeout(LOOK_EVERY) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => Job::Close,
                },
            };
            match job {
                Job::Look => self.is_told.store(false, Ordering::SeqCst),
                job => return job,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Receiver<Job>> {
        // Nothing panics that holds it.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parked(&self) -> MutexGuard<'_, Vec<Next>> {
        // Every write leaves it sound.
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one aside until its class goes on.
    fn park(&self, next: Next) {
        let jobs = next.held.jobs.clone();
        self.parked().push(next);
        if !self.is_told.swap(true, Ordering::SeqCst) {
            // There is room for one of these beside all matchers.
            let _ = jobs.try_send(Job::Look);
        }
    }

    /// Whether one that is parked goes on, or is not wanted any more.
    fn may_try(&self, next: &Next) -> bool {
        let is_shut = |pace: &Arc<DutyPace>| pace.is_shut(next.whose);
        !self.is_wanted(next) || !self.paces.first().is_some_and(is_shut)
    }

    fn is_wanted(&self, next: &Next) -> bool {
        next.is_wanted.load(Ordering::Acquire) && !self.is_closing.load(Ordering::Acquire)
    }

    fn run(&self, next: Next) {
        match self.may_go(&next) {
            Some(Go::Abandon) => return self.park(next),
            None => return drop_contained(next),
            Some(Go::Go | Go::Rest(_)) => {}
        }
        let Next {
            id, held, token, ..
        } = next;
        let Held { text, jobs, place } = held;
        let said = contain(move || {
            let mut matcher = match text {
                Text::Of(constraint) => constraint.begin(),
                Text::At(matcher) => matcher,
            };
            let allowed = matcher.next(token);
            (matcher, allowed)
        });
        let (held, allowed) = match said {
            Ok((matcher, allowed)) => {
                let text = Text::At(matcher);
                (Some(Held { text, jobs, place }), allowed)
            }
            Err(problem) => (None, Err(format!("it panicked: {problem}"))),
        };
        let matched = Matched { id, held, allowed };
        self.engine
            .tell_matched(matched)
            .unwrap_or_else(drop_contained);
    }

    /// Rests as the limits ask; says whether to go on or that work of its class is stopped, or `None` where
    /// nobody wants the rest.
    fn may_go(&self, next: &Next) -> Option<Go> {
        let Some(pace) = self.paces.first() else {
            return Some(Go::Go);
        };
        while self.is_wanted(next) {
            match pace.point_of(next.whose) {
                Go::Rest(until) => pace.rest(until),
                go => return Some(go),
            }
        }
        None
    }
}

impl Seat {
    /// Has it take in the token that was chosen, or none before the first. It has answered what was
    /// asked of it before.
    pub(super) fn take_in(&mut self, id: u64, token: Option<u32>) {
        // One that has panicked is asked nothing: its request has ended, or does when that is heard.
        let Some(held) = self.held.take() else { return };
        let jobs = held.jobs.clone();
        let is_wanted = Arc::clone(&self.is_wanted);
        let next = Next {
            id,
            whose: self.whose,
            held,
            token,
            is_wanted,
        };
        if let Err(unsent) = jobs.try_send(Job::Next(next)) {
            unreachable!("there is room for every matcher: {unsent}");
        }
    }

    /// It is back from its thread.
    pub(super) fn take_back(&mut self, held: Option<Held>) {
        self.held = held;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Release);
        if let Some(held) = self.held.take() {
            held.dispose();
        }
    }
}

impl Held {
    /// Has a thread drop it: that is the caller's own code too.
    pub(super) fn dispose(self) {
        let jobs = self.jobs.clone();
        if let Err(unsent) = jobs.try_send(Job::Drop(self)) {
            drop_contained(unsent);
        }
    }
}

/// A panic of what is dropped anyway changes nothing.
fn drop_contained<T>(gone: T) {
    let _ = contain(|| drop(gone));
}
