use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

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
    waiting: BTreeMap<u64, Waker>,
    came: u64,
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
    pub(crate) async fn take(&self) -> Place {
        let mut wait = Wait {
            places: self,
            number: None,
        };
        poll_fn(move |context| wait.poll(context)).await
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        // Every write leaves the row sound, so a panic elsewhere does not matter.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the first caller that waits if there is a place; outside the lock, since a waker is the
    /// caller's own code.
    fn wake_first(&self) {
        let row = self.row();
        let first = row.waiting.values().next().filter(|_| row.free > 0);
        let first = first.cloned();
        drop(row);
        if let Some(first) = first {
            first.wake();
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
}

impl Wait<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Place> {
        let mut row = self.places.row();
        row.came += u64::from(self.number.is_none());
        let number = *self.number.get_or_insert(row.came);
        let first = row.waiting.keys().next();
        if row.free > 0 && first.is_none_or(|&first| first >= number) {
            row.free -= 1;
            return Poll::Ready(Place(self.places.clone()));
        }
        row.waiting.insert(number, context.waker().clone());
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
        future: std::pin::Pin<&mut impl Future<Output = Place>>,
        wakes: &Arc<Wakes>,
    ) -> Poll<Place> {
        let waker = Waker::from(Arc::clone(wakes));
        future.poll(&mut Context::from_waker(&waker))
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
