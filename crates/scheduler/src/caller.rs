//! Where callers wait for threads of ours, and the one border to their wakers.
//!
//! A waker is the caller's own code. It may panic when it is cloned, woken or dropped, on whichever
//! thread of ours does that. So channels and rows of callers that wait are given a waker of ours in
//! its place, which contains what the caller's does and remembers it: that caller's request ends,
//! and nothing else does.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use gogrid_units::contain;

use crate::engine::Bell;

/// The caller's waker panicked; with what it said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller's waker panicked: {0}")]
pub(crate) struct WakerPanicked(pub(crate) String);

/// Whether a caller's waker panicked so far.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    first: OnceLock<WakerPanicked>,
    /// Rung at the first, so that the engine sees to the caller's request.
    bell: Option<Bell>,
}

impl Fault {
    pub(crate) fn check(&self) -> Result<(), WakerPanicked> {
        self.first.get().cloned().map_or(Ok(()), Err)
    }

    fn note(&self, problem: String) {
        let is_first = self.first.set(WakerPanicked(problem)).is_ok();
        if let Some(bell) = self.bell.as_ref().filter(|_| is_first) {
            bell.ring();
        }
    }
}

/// Wakers of ours that stand for those of one caller.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    fault: Arc<Fault>,
    /// For the waker that was seen last: most callers have the same at every poll.
    last: Option<Arc<StandIn>>,
}

/// Wakes a caller's waker.
#[derive(Debug)]
struct StandIn {
    /// `None` only while it is dropped.
    theirs: Option<Waker>,
    fault: Arc<Fault>,
}

impl Wakers {
    fn ringing(bell: Bell) -> Self {
        let fault = Fault {
            bell: Some(bell),
            ..Fault::default()
        };
        Self {
            fault: Arc::new(fault),
            last: None,
        }
    }

    pub(crate) fn fault(&self) -> &Arc<Fault> {
        &self.fault
    }

    /// What is stored in the place of the caller's waker.
    pub(crate) fn stand_in(&mut self, context: &Context<'_>) -> Result<Waker, WakerPanicked> {
        self.stand_in_for(context.waker(), Waker::clone)
    }

    fn stand_in_for(
        &mut self,
        theirs: &Waker,
        clone: impl FnOnce(&Waker) -> Waker,
    ) -> Result<Waker, WakerPanicked> {
        self.fault.check()?;
        let is_its = |one: &&Arc<StandIn>| {
            let stands_for = one.theirs.as_ref();
            stands_for.is_some_and(|waker| waker.will_wake(theirs))
        };
        if let Some(last) = self.last.as_ref().filter(is_its) {
            return Ok(Waker::from(Arc::clone(last)));
        }
        let cloned = contain(|| clone(theirs)).map_err(|problem| {
            self.fault.note(problem.clone());
            WakerPanicked(problem)
        })?;
        let fresh = Arc::new(StandIn {
            theirs: Some(cloned),
            fault: Arc::clone(&self.fault),
        });
        self.last = Some(Arc::clone(&fresh));
        Ok(Waker::from(fresh))
    }
}

impl Wake for StandIn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = contain(|| self.theirs.iter().for_each(Waker::wake_by_ref));
        if let Err(problem) = woken {
            self.fault.note(problem);
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let theirs = self.theirs.take();
        if let Err(problem) = contain(|| drop(theirs)) {
            self.fault.note(problem);
        }
    }
}

/// Why a caller gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Nobody is left to give one.
    Gone,
    WakerPanicked(WakerPanicked),
}

/// The end that answers, once. Dropping it is an answer too.
#[derive(Debug)]
pub(crate) struct Answerer<T>(oneshot::Sender<T>);

/// The end that waits for an answer.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    answer: oneshot::Receiver<T>,
    wakers: Wakers,
}

/// A channel for one answer.
pub(crate) fn answer<T>() -> (Answerer<T>, Answer<T>) {
    let (sender, answer) = oneshot::channel();
    let wakers = Wakers::default();
    (Answerer(sender), Answer { answer, wakers })
}

impl<T> Answerer<T> {
    /// Answers a caller, which may have gone.
    pub(crate) fn answer(self, with: T) {
        drop(self.0.send(with));
    }

    /// Whether the caller waits no more.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.0.is_canceled()
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, NoAnswer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = match self.wakers.stand_in(context) {
            Ok(waker) => waker,
            Err(panicked) => return Poll::Ready(Err(NoAnswer::WakerPanicked(panicked))),
        };
        let mut context = Context::from_waker(&waker);
        let polled = Pin::new(&mut self.answer).poll(&mut context);
        polled.map_err(|oneshot::Canceled| NoAnswer::Gone)
    }
}

/// The end that tells, as often as there was said to be room for.
#[derive(Debug)]
pub(crate) struct Teller<T> {
    events: mpsc::Sender<T>,
    fault: Arc<Fault>,
}

/// The end that is told.
#[derive(Debug)]
pub(crate) struct Told<T> {
    events: mpsc::Receiver<T>,
    wakers: Wakers,
}

/// A channel with room for so many events; the engine of this bell looks when the caller's waker
/// panics.
pub(crate) fn events<T>(room: usize, bell: Bell) -> (Teller<T>, Told<T>) {
    let (sender, events) = mpsc::channel(room);
    let wakers = Wakers::ringing(bell);
    let teller = Teller {
        events: sender,
        fault: Arc::clone(wakers.fault()),
    };
    (teller, Told { events, wakers })
}

impl<T> Teller<T> {
    /// Whether the caller hears no more, or cannot be woken.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.events.is_closed() || self.fault.check().is_err()
    }

    pub(crate) fn tell(&mut self, event: T) {
        // A caller that is gone misses nothing, and there is room for every event.
        drop(self.events.try_send(event));
    }
}

impl<T> Told<T> {
    /// The next event, or `None` where no other can come.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<T>, WakerPanicked>> {
        let waker = match self.wakers.stand_in(context) {
            Ok(waker) => waker,
            Err(panicked) => return Poll::Ready(Err(panicked)),
        };
        let mut context = Context::from_waker(&waker);
        Pin::new(&mut self.events).poll_next(&mut context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_stand_in_is_enough_for_one_waker_and_wakes_it() {
        let counts = Arc::<Counts>::default();
        let theirs = Waker::from(Arc::clone(&counts));
        let mut wakers = Wakers::default();
        let mut stand_in = || {
            wakers
                .stand_in(&Context::from_waker(&theirs))
                .expect("it is sound")
        };
        let (first, second) = (stand_in(), stand_in());
        assert!(first.will_wake(&second));
        first.wake();
        second.wake_by_ref();
        assert_eq!(counts.0.load(Ordering::Relaxed), 2);
    }

    /// A waker's clone can panic only where its table is written by hand.
    #[test]
    fn a_clone_that_panics_is_remembered() {
        let mut wakers = Wakers::default();
        let panicked = wakers.stand_in_for(Waker::noop(), |_| panic!("as a test asked"));
        let expected = WakerPanicked("as a test asked".to_owned());
        assert_eq!(panicked.map(drop), Err(expected.clone()));
        assert_eq!(wakers.fault().check(), Err(expected.clone()));
        let later = wakers.stand_in(&Context::from_waker(Waker::noop()));
        assert_eq!(later.map(drop), Err(expected));
    }
}
