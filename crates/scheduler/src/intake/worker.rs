use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gogrid_model::{EncodeLimit, Model};
use gogrid_units::{Go, Pace, Work};

use super::text::Written;
use crate::caller::{self, Answerer, NoAnswer, WakerPanicked};
use crate::error::Refusal;
use crate::limits::TEXT_WORKERS_MAX;
use crate::machine::{Crew, DutyPace, Hardware, ThreadPlace};
use crate::places::Places;

/// While all work is stopped, a thread that is in the middle of a text looks so often whether it may
/// go on.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tokenises long prompts on threads of their own, at the priorities asked for and within the share
/// of time: a caller's thread is free meanwhile. At most [`TEXT_WORKERS_MAX`] at a time.
pub(crate) struct TextWorkers {
    model: Arc<Model>,
    paces: Vec<Arc<DutyPace>>,
    places: Places,
    crew: Crew,
    /// Whether the pipeline is being dropped.
    is_closing: Arc<AtomicBool>,
}

/// One text on its thread.
struct Job {
    model: Arc<Model>,
    written: Written,
    tokens_max: usize,
    paces: Vec<Arc<DutyPace>>,
    is_closing: Arc<AtomicBool>,
}

impl TextWorkers {
    pub(crate) fn new(model: Arc<Model>, hardware: &Hardware, place: Option<ThreadPlace>) -> Self {
        Self {
            model,
            paces: hardware.paces(),
            places: Places::new(TEXT_WORKERS_MAX),
            crew: Crew::new("tokenizer", hardware.threads.clone(), place),
            is_closing: Arc::default(),
        }
    }

    /// The ids of a prompt that may have `tokens_max`. Dropping the future ends the work.
    pub(crate) async fn tokenize(
        &self,
        written: Written,
        tokens_max: usize,
    ) -> Result<Vec<u32>, Refusal> {
        let unheard = |WakerPanicked(problem)| Refusal::Waker(problem);
        let place = self.places.take().await.map_err(unheard)?;
        let (answerer, answer) = caller::answer();
        let job = Job {
            model: Arc::clone(&self.model),
            written,
            tokens_max,
            paces: self.paces.clone(),
            is_closing: Arc::clone(&self.is_closing),
        };
        let started = self.crew.start(move || {
            let ids = job.run(&answerer);
            drop(place);
            answerer.answer(ids);
        });
        started.map_err(|error| Refusal::NoThread(error.to_string()))?;
        match answer.await {
            Ok(ids) => ids,
            Err(NoAnswer::Gone) => Err(Refusal::Stopped),
            Err(NoAnswer::WakerPanicked(panicked)) => Err(unheard(panicked)),
        }
    }

    /// Ends what runs, and waits for its threads.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.crew.join();
    }
}

impl Job {
    fn run(&self, answerer: &Answerer<Result<Vec<u32>, Refusal>>) -> Result<Vec<u32>, Refusal> {
        // What the thread has used so far is no text's.
        DutyPace::charge_thread(&self.paces);
        let goes_on = || self.goes_on(answerer);
        let limit = EncodeLimit {
            tokens_max: self.tokens_max,
            goes_on: &goes_on,
        };
        self.written.tokenize(&self.model, limit)
    }

    /// Its pause point: rests as the limits ask, waits while all work is stopped, and says whether
    /// anybody wants the rest.
    fn goes_on(&self, answerer: &Answerer<Result<Vec<u32>, Refusal>>) -> bool {
        let Some(pace) = self.paces.first() else {
            return true;
        };
        while !answerer.is_unwanted() && !self.is_closing.load(Ordering::Acquire) {
            // It runs on any of the devices' cores, so all answer for it.
            DutyPace::charge_thread(&self.paces);
            match pace.point(Work::default()) {
                Go::Go => return true,
                Go::Rest(until) => pace.rest(until),
                Go::Abandon => pace.rest_for(LOOK_EVERY),
            }
        }
        false
    }
}
