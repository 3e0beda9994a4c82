use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use gogrid_lease::Permit;
use gogrid_pipeline::{Cancel, Hooks};
use gogrid_units::Renewal;

use super::bell::Bell;
use super::listener::Listener;
use super::matchers::{Matched, Seat};
use super::placement::Placement;
use super::relocation::{HoldStill, Relocated};
use crate::caller::{self, Answerer, NoAnswer, WakerPanicked};
use crate::core::Beginning;
use crate::machine::ThreadFailure;
use crate::pause::Stops;
use crate::places::{Place, Places};
use crate::resource_manager::{ResourceConfig, ResourceStats};
use crate::status::ModelStatus;

/// What an engine is told. Each message has a place, so that there is room for every one.
pub(crate) enum Message {
    Submit {
        beginning: Box<Beginning>,
        place: Permit,
        listener: Listener,
        /// The matcher of a request with a constraint.
        seat: Option<Seat>,
    },
    CancelAll(Place),
    /// Asks for a start.
    Ask(Ask),
    Order(Order),
    Look(Answerer<View>, Place),
    /// Give back what is kept for requests to come. Dropped when it is done.
    GiveCacheBack(Renewal),
    /// Begin no step, and answer when none is in flight.
    HoldStill(HoldStill),
    /// The stages stand somewhere, and the engine goes on. The sender is dropped when it does.
    Relocated(Box<Relocated>, SyncSender<()>),
    /// The engine's end; answered with the thread that ends.
    Stop(SyncSender<JoinHandle<()>>),
    /// A fault, for tests.
    #[cfg(test)]
    Panic,
}

/// What the observer says holds from here on.
pub(crate) struct Order {
    pub(crate) limits: ResourceConfig,
    /// Who is stopped, and why.
    pub(crate) stops: Stops,
    /// Whether the engine's thread is to be replaced by a fresh one.
    pub(crate) renews: bool,
    /// Dropped when it holds.
    pub(crate) done: Renewal,
}

/// A caller that waits for a start.
pub(crate) struct Ask {
    pub(crate) answer: Answerer<()>,
    pub(crate) _place: Place,
}

/// The engine is no more.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Why an engine was not told.
#[derive(Debug)]
pub(crate) enum Untold {
    Stopped,
    WakerPanicked(WakerPanicked),
}

/// What the engine knows at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) stats: ResourceStats,
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) degraded: Option<String>,
}

/// The callers' end of an engine; clones are the same. What it publishes is read without a lock.
#[derive(Clone)]
pub(crate) struct EngineInbox {
    pub(super) sender: SyncSender<Box<Message>>,
    pub(super) matched: SyncSender<Matched>,
    pub(super) bell: Bell,
    pub(super) published: Arc<Published>,
    /// What the runner of its stages calls.
    pub(super) hooks: Hooks,
}

/// What an engine makes known.
pub(super) struct Published {
    pub(super) model: String,
    pub(super) context: usize,
    /// Where its stages stand.
    pub(super) placement: ArcSwap<Placement>,
    /// Makes its steps end, for good.
    pub(super) cancel: Cancel,
    /// Whether it has requests.
    pub(super) is_busy: AtomicBool,
    /// Whether its stages are to stand where they would if the model were opened now.
    pub(super) seeks_place: AtomicBool,
    /// Whether it keeps something for requests to come.
    pub(super) has_cache: AtomicBool,
    /// Whether somebody waits for the room that this takes.
    pub(super) wants_cache: AtomicBool,
    /// How often its thread came out of its sleep.
    pub(super) wake_ups: AtomicU64,
    /// Why nothing runs any more.
    pub(super) failure: OnceLock<ThreadFailure>,
    /// Places for callers that look or tell.
    pub(super) tells: Places,
}

impl EngineInbox {
    pub(crate) fn send(&self, message: Message) -> Result<(), Stopped> {
        match self.sender.try_send(Box::new(message)) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(_)) => unreachable!("there are fewer places than room"),
        }
    }

    /// Tells what a matcher said; gives it back where the engine has ended.
    pub(super) fn tell_matched(&self, matched: Matched) -> Result<(), Matched> {
        self.matched.send(matched).map_err(|unsent| unsent.0)?;
        self.bell.ring();
        Ok(())
    }

    /// Tells the engine something, once there is a place for it.
    pub(crate) async fn tell(&self, message: impl FnOnce(Place) -> Message) -> Result<(), Untold> {
        let place = self.published.tells.take().await;
        let place = place.map_err(Untold::WakerPanicked)?;
        self.send(message(place)).map_err(|Stopped| Untold::Stopped)
    }

    /// Whether both are of one engine.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.published, &other.published)
    }

    /// Wakes it to look at what has changed.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// Has its stages stand where they would if the model were opened now: a device is back.
    pub(crate) fn seek_place(&self) {
        self.published.seeks_place.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Whether it keeps something for requests to come.
    pub(crate) fn has_cache(&self) -> bool {
        self.published.has_cache.load(Ordering::Relaxed)
    }

    /// Has it give that back soon.
    pub(crate) fn want_cache(&self) {
        self.published.wants_cache.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Has it give that back, and waits until it has.
    pub(crate) async fn give_cache_back(&self) {
        let (answer, done) = caller::answer::<()>();
        let message = |place| Message::GiveCacheBack(Arc::new((answer, place)));
        if self.tell(message).await.is_ok() {
            // There is nothing to say: the answerer is dropped when it is done.
            let _ = done.await;
        }
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    pub(crate) fn hooks(&self) -> Hooks {
        self.hooks.clone()
    }

    /// Where its stages stand now.
    pub(crate) fn placement(&self) -> Arc<Placement> {
        self.published.placement.load_full()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.published.is_busy.load(Ordering::Relaxed)
    }

    /// How often its thread came out of its sleep so far.
    #[cfg(test)]
    pub(crate) fn wake_ups(&self) -> u64 {
        self.published.wake_ups.load(Ordering::Relaxed)
    }

    /// Has it end everything with an error, for good.
    pub(crate) fn fail(&self, failure: ThreadFailure) {
        // The first failure is the one that counts.
        let _ = self.published.failure.set(failure);
        self.cancel();
        self.bell.ring();
    }

    pub(crate) fn failure(&self) -> Option<&ThreadFailure> {
        self.published.failure.get()
    }

    /// Makes the step that its stages are in end at the next pause point.
    pub(super) fn cancel(&self) {
        self.published.cancel.cancel();
    }

    /// What its stages are opened with, to end with it.
    pub(crate) fn cancellation(&self) -> Cancel {
        self.published.cancel.clone()
    }

    pub(crate) async fn view(&self) -> View {
        let (answer, view) = caller::answer();
        let told = self.tell(|place| Message::Look(answer, place)).await;
        let seen = match told {
            Ok(()) => view.await,
            Err(Untold::Stopped) => Err(NoAnswer::Gone),
            Err(Untold::WakerPanicked(panicked)) => Err(NoAnswer::WakerPanicked(panicked)),
        };
        seen.unwrap_or_else(|unseen| View {
            degraded: Some(match (unseen, self.failure()) {
                (NoAnswer::WakerPanicked(panicked), _) => panicked.to_string(),
                (NoAnswer::Gone, Some(failure)) => failure.to_string(),
                (NoAnswer::Gone, None) => "the engine has stopped".to_owned(),
            }),
            ..View::default()
        })
    }

    pub(crate) async fn status(&self) -> ModelStatus {
        let view = self.view().await;
        ModelStatus {
            model: self.published.model.clone(),
            context: self.published.context,
            stages: self.placement().stages.clone(),
            stats: view.stats,
            queued: view.queued,
            running: view.running,
            degraded: view.degraded,
        }
    }
}
