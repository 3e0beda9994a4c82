use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use gogrid_lease::{Permit, Permits};
use gogrid_units::Whose;

use crate::caller::{Fault, WakerPanicked, Wakers};
use crate::limits::OWNER_PLACES;

/// A number of places that callers take one each of. A caller that finds none waits; places go to
/// callers in the order they came.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Mutex<Row>>);

/// Behind a lock, because callers take places and the engine gives them back. It is held for a few
/// instructions, and never by a thread that computes.
#[derive(Debug)]
struct Row {
    free: usize,
    /// Callers that wait, by number in the order they came: one for each future that is kept.
    waiting: BTreeMap<u64, Waiting>,
    came: u64,
}

/// A caller that waits.
#[derive(Clone, Debug)]
struct Waiting {
    waker: Waker,
    fault: Arc<Fault>,
}

/// A place. Dropping it wakes the caller that has waited longest.
#[derive(Debug)]
pub(crate) struct Place(Places);

impl Places {
    pub(crate) fn new(free: usize) -> Self {
        Self(Arc::new(Mutex::new(Row {
            free,
            waiting: BTreeMap::new(),
            came: 0,
        })))
    }

    /// Takes a place, once there is one.
    pub(crate) async fn take(&self) -> Result<Place, WakerPanicked> {
        let mut wait = Wait {
            places: self,
            number: None,
            wakers: Wakers::default(),
        };
        poll_fn(move |context| wait.poll(context)).await
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        // Every write leaves the row sound, so a panic elsewhere does not matter.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the first caller that waits if there is a place; outside the lock, since a waker is the
    /// caller's own code. One that cannot be woken leaves the row, and the next is the first.
    fn wake_first(&self) {
        loop {
            let row = self.row();
            let first = row.waiting.iter().next().filter(|_| row.free > 0);
            let first = first.map(|(&number, waiting)| (number, waiting.clone()));
            drop(row);
            let Some((number, Waiting { waker, fault })) = first else {
                return;
            };
            waker.wake();
            if fault.check().is_ok() {
                return;
            }
            let gone = self.row().waiting.remove(&number);
            drop(gone);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.row().free += 1;
        self.0.wake_first();
    }
}

/// A caller on the way to a place.
struct Wait<'a> {
    places: &'a Places,
    number: Option<u64>,
    wakers: Wakers,
}

impl Wait<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Place, WakerPanicked>> {
        let waker = match self.wakers.stand_in(context) {
            Ok(waker) => waker,
            Err(panicked) => return Poll::Ready(Err(panicked)),
        };
        let mut row = self.places.row();
        row.came += u64::from(self.number.is_none());
        let number = *self.number.get_or_insert(row.came);
        let first = row.waiting.keys().next();
        if row.free > 0 && first.is_none_or(|&first| first >= number) {
            row.free -= 1;
            return Poll::Ready(Ok(Place(self.places.clone())));
        }
        let fault = Arc::clone(self.wakers.fault());
        let before = row.waiting.insert(number, Waiting { waker, fault });
        drop(row);
        // Outside the lock, as a waker of another task may go with it.
        drop(before);
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    /// With it gone, the next in the row may be the first, whether this caller got a place or not.
    fn drop(&mut self) {
        let gone = self.number.map(|n| self.places.row().waiting.remove(&n));
        drop(gone);
        self.places.wake_first();
    }
}

/// One of the permits, of which guests leave some to the owner.
pub(crate) fn take_for(whose: Whose, permits: &Permits) -> Option<Permit> {
    match whose == Whose::Guest && permits.available() <= OWNER_PLACES {
        true => None,
        false => permits.take(),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(
        future: std::pin::Pin<&mut impl Future<Output = Result<Place, WakerPanicked>>>,
        wakes: &Arc<Wakes>,
    ) -> Poll<Place> {
        let waker = Waker::from(Arc::clone(wakes));
        let polled = future.poll(&mut Context::from_waker(&waker));
        polled.map(|taken| taken.expect("no waker here panics"))
    }

    /// Panics when it is woken.
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as a test asked");
        }
    }

    #[test]
    fn a_caller_that_cannot_be_woken_keeps_nobody_waiting() {
        let places = Places::new(1);
        let good = Arc::default();
        let mut held = pin!(places.take());
        let Poll::Ready(held) = poll(held.as_mut(), &good) else {
            panic!("there was a place")
        };
        let (mut bad, mut next) = (pin!(places.take()), pin!(places.take()));
        let panics = Waker::from(Arc::new(Panics));
        let mut context = Context::from_waker(&panics);
        assert!(bad.as_mut().poll(&mut context).is_pending());
        assert!(poll(next.as_mut(), &good).is_pending());
        drop(held);
        assert_eq!(good.0.load(Ordering::Relaxed), 1, "the next is woken");
        assert!(poll(next.as_mut(), &good).is_ready());
        let Poll::Ready(Err(WakerPanicked(problem))) = bad.as_mut().poll(&mut context) else {
            panic!("it hears why it got none")
        };
        assert_eq!(problem, "as a test asked");
    }

    #[test]
    fn a_place_goes_to_who_came_first_and_wakes_nobody_else() {
        let places = Places::new(1);
        let (first, second) = (Arc::default(), Arc::default());
        let (mut a, mut b) = (pin!(places.take()), pin!(places.take()));
        let mut held = pin!(places.take());
        let Poll::Ready(held) = poll(held.as_mut(), &first) else {
            panic!("there was a place")
        };
        assert!(poll(a.as_mut(), &first).is_pending());
        assert!(poll(b.as_mut(), &second).is_pending());
        drop(held);
        let wakes = |of: &Arc<Wakes>| of.0.load(Ordering::Relaxed);
        assert_eq!((wakes(&first), wakes(&second)), (1, 0));
        assert!(poll(b.as_mut(), &second).is_pending(), "it is not its turn");
        let Poll::Ready(held) = poll(a.as_mut(), &first) else {
            panic!("it is its turn")
        };
        assert_eq!(wakes(&second), 0, "nothing is free");
        drop(held);
        assert_eq!(wakes(&second), 1);
        assert!(poll(b.as_mut(), &second).is_ready());
    }

    #[test]
    fn who_goes_away_passes_the_place_on() {
        let places = Places::new(1);
        let (first, second) = (Arc::default(), Arc::default());
        let mut held = pin!(places.take());
        let Poll::Ready(held) = poll(held.as_mut(), &first) else {
            panic!("there was a place")
        };
        let mut gone = Box::pin(places.take());
        let mut stays = pin!(places.take());
        assert!(poll(gone.as_mut(), &first).is_pending());
        assert!(poll(stays.as_mut(), &second).is_pending());
        drop(held);
        drop(gone);
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
        assert!(poll(stays.as_mut(), &second).is_ready());
        assert!(places.row().waiting.is_empty());
    }
}
