use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gogrid_lease::{Kind, Lease, Ledger};
use gogrid_model::{EncodeLimit, Model};
use gogrid_units::{Bytes, Each, Go, Pace, Whose};

use super::text::Written;
use crate::caller::{self, Answerer, NoAnswer, WakerPanicked};
use crate::engine::EngineInbox;
use crate::error::Refusal;
use crate::limits::{TEXT_RETRY_AFTER, TEXT_WORKERS_MAX};
use crate::machine::{Crew, DutyPace, Engines, TextWork, ThreadPlace};
use crate::opening::Opener;
use crate::places::{Place, Places};

/// While all work is stopped, a thread that is in the middle of a text looks so often whether it may
/// go on.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tokenises long prompts on threads of their own, at the priorities asked for, on the devices' cores
/// and within the share of time: a caller's thread is free meanwhile. At most [`TEXT_WORKERS_MAX`] of
/// each class at a time, each with a lease for the memory it may take.
pub(crate) struct TextWorkers {
    shared: Arc<Shared>,
    /// For each class, so that guests whose work is stopped keep none from the owner's texts.
    places: Each<Places>,
    crew: Crew,
}

/// What every text is worked on with.
struct Shared {
    model: Arc<Model>,
    paces: Vec<Arc<DutyPace>>,
    memory: TextMemory,
    /// Tells why nothing runs any more.
    engine: EngineInbox,
    /// How often all requests were cancelled.
    engines: Arc<Engines>,
    cancels: AtomicU64,
    /// Whether the pipeline is being dropped.
    is_closing: AtomicBool,
    /// A fault, for tests: the next pause point panics.
    #[cfg(test)]
    panics: AtomicBool,
}

/// The account of the memory that texts are in.
struct TextMemory {
    name: String,
    ledger: Ledger,
}

/// One text on its thread.
struct Job {
    shared: Arc<Shared>,
    written: Written,
    whose: Whose,
    tokens_max: usize,
    /// The cancels before it came.
    cancels: u64,
    lease: Lease,
    _work: TextWork,
    _place: Place,
}

/// Why a prompt has no rows.
pub(crate) enum NoPrompt {
    Refused(Refusal),
    Cancelled,
}

impl From<Refusal> for NoPrompt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl TextWorkers {
    /// Texts of the model that `opener` opens, for the requests of this engine.
    pub(crate) fn new(opener: &Opener, engine: EngineInbox, place: Option<ThreadPlace>) -> Self {
        let hardware = &opener.hardware;
        // The first is the system's.
        let memory = &hardware.memories[0];
        let shared = Shared {
            model: Arc::clone(&opener.model),
            paces: hardware.thread_paces.clone(),
            memory: TextMemory {
                name: memory.name.clone(),
                ledger: memory.ledger.clone(),
            },
            engine,
            engines: Arc::clone(&hardware.engines),
            cancels: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            #[cfg(test)]
            panics: AtomicBool::new(false),
        };
        let crew = Crew::new("tokenizer", hardware.threads.clone(), place);
        Self {
            shared: Arc::new(shared),
            places: Each::of(|_| Places::new(TEXT_WORKERS_MAX)),
            crew: crew.on_cores(hardware.pinned()),
        }
    }

    /// The ids of a prompt that may have `tokens_max`. Dropping the future ends the work.
    pub(crate) async fn tokenize(
        &self,
        written: Written,
        whose: Whose,
        tokens_max: usize,
    ) -> Result<Vec<u32>, NoPrompt> {
        let cancels = self.shared.cancels.load(Ordering::SeqCst);
        let unheard = |WakerPanicked(problem)| Refusal::Waker(problem);
        let place = self.places.its(whose).take().await.map_err(unheard)?;
        self.shared.check(cancels)?;
        let mut leased = self.shared.memory.lease(written.memory());
        if leased.is_err() {
            // What is kept for requests to come goes for it.
            self.shared.engines.give_caches_back().await;
            leased = self.shared.memory.lease(written.memory());
        }
        let lease = leased?;
        let (answerer, answer) = caller::answer();
        let job = Job {
            shared: Arc::clone(&self.shared),
            written,
            whose,
            tokens_max,
            cancels,
            lease,
            _work: self.shared.engines.begin_text(),
            _place: place,
        };
        let started = self.crew.start(move || {
            let ids = job.run(&answerer);
            answerer.answer(ids);
        });
        started.map_err(|error| Refusal::NoThread(error.to_string()))?;
        let answered = answer.await;
        // Before any other reason, which this may be the cause of.
        self.shared.check(cancels)?;
        match answered {
            Ok(ids) => Ok(ids?),
            Err(NoAnswer::Gone) => Err(Refusal::Stopped.into()),
            Err(NoAnswer::WakerPanicked(panicked)) => Err(unheard(panicked).into()),
        }
    }

    /// Ends every text that waits or is worked on.
    pub(crate) fn cancel_all(&self) {
        self.shared.cancels.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends what runs, and waits for its threads.
    pub(crate) fn close(&self) {
        self.shared.is_closing.store(true, Ordering::Release);
        self.crew.join();
    }

    /// Has the next pause point of a text panic.
    #[cfg(test)]
    pub(crate) fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.panics.store(true, Ordering::SeqCst)
    }
}

impl Shared {
    /// Whether a text that came after so many cancels is to be worked on, or why not.
    fn check(&self, cancels: u64) -> Result<(), NoPrompt> {
        if let Some(failure) = self.engine.failure() {
            return Err(Refusal::ThreadFailed(failure.clone()).into());
        }
        match self.cancels.load(Ordering::SeqCst) == cancels {
            true => Ok(()),
            false => Err(NoPrompt::Cancelled),
        }
    }
}

impl TextMemory {
    /// A lease for the next step of a text.
    fn lease(&self, asked: Bytes) -> Result<Lease, Refusal> {
        let leased = self.ledger.reserve(Kind::Text, asked);
        leased.map_err(|refusal| {
            let gogrid_lease::Refusal {
                asked, used, cap, ..
            } = refusal;
            let room = cap.saturating_sub(used);
            match asked > cap {
                true => Refusal::MemoryCap {
                    device: format!("{} memory", self.name),
                    needed: asked,
                    room,
                    cap,
                },
                false => Refusal::NoRoomForText {
                    memory: self.name.clone(),
                    needed: asked,
                    room,
                    cap,
                    retry_after: TEXT_RETRY_AFTER,
                },
            }
        })
    }
}

impl Job {
    fn run(self, answerer: &Answerer<Result<Vec<u32>, Refusal>>) -> Result<Vec<u32>, Refusal> {
        // What the thread has used so far is no text's.
        DutyPace::charge_thread(&self.shared.paces);
        // Given back in the reverse order: the memory before the work is said to be done.
        let Self {
            _place,
            _work,
            mut lease,
            shared,
            written,
            whose,
            tokens_max,
            cancels,
        } = self;
        let goes_on = || shared.goes_on(whose, cancels, answerer);
        let is_chat = matches!(written, Written::Chat(_));
        let plain = written.rendered(&shared.model, &goes_on)?;
        if is_chat {
            let mut leased = shared.memory.lease(plain.memory());
            if leased.is_err() {
                drop(shared.engines.clear_caches());
                leased = shared.memory.lease(plain.memory());
            }
            lease = leased?;
        }
        let limit = EncodeLimit {
            tokens_max,
            goes_on: &goes_on,
        };
        let ids = plain.tokenize(&shared.model, limit);
        drop((plain, lease));
        ids
    }
}

impl Shared {
    /// A text's pause point: rests as the limits ask, waits while work of its class is stopped, and says
    /// whether anybody wants the rest.
    fn goes_on(
        &self,
        whose: Whose,
        cancels: u64,
        answerer: &Answerer<Result<Vec<u32>, Refusal>>,
    ) -> bool {
        let Some(pace) = self.paces.first() else {
            return true;
        };
        while !answerer.is_unwanted()
            && !self.is_closing.load(Ordering::Acquire)
            && self.check(cancels).is_ok()
        {
            #[cfg(test)]
            assert!(
                !self.panics.swap(false, Ordering::SeqCst),
                "as a test asked"
            );
            // It runs on any of the CPUs' cores, so all answer for it.
            DutyPace::charge_thread(&self.paces);
            match pace.point_of(whose) {
                Go::Go => return true,
                Go::Rest(until) => pace.rest(until),
                Go::Abandon => pace.rest_for(LOOK_EVERY),
            }
        }
        false
    }
}
