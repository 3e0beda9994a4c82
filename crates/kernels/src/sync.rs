//! The standard library's primitives, or loom's when it explores the interleavings.

use std::sync::PoisonError;

#[cfg(not(loom))]
pub(crate) use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    thread::{JoinHandle, Thread, current, park},
};

#[cfg(not(loom))]
pub(crate) use gogrid_units::Spawn;

#[cfg(loom)]
pub use of_loom::{PlainThreads, Spawn};

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    thread::{JoinHandle, Thread, current, park},
};

/// A value that members act on sooner or later, and that orders nothing: only ever relaxed, so loom
/// is spared its orders.
pub(crate) type Hint = std::sync::atomic::AtomicU64;

/// `gogrid_units::Spawn` for loom's threads.
#[cfg(loom)]
mod of_loom {
    use std::io;

    use loom::thread::{Builder, JoinHandle};

    pub trait Spawn: Send + Sync {
        fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

        fn core(&self) -> Option<usize> {
            None
        }

        fn keep_off(&self, _core: usize) {}

        fn are_siblings(&self, _cores: [usize; 2]) -> Option<bool> {
            None
        }
    }

    pub struct PlainThreads;

    impl Spawn for PlainThreads {
        fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
            Builder::new().name(name.to_owned()).spawn(body)
        }
    }
}

/// The standard cell with the access calls of loom's, which checks that accesses never overlap.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Parks for so long at most; under loom, which has no time, until unparked.
pub(crate) fn park_for(most: Nanos) {
    #[cfg(not(loom))]
    std::thread::park_timeout(std::time::Duration::from_nanos(most));
    #[cfg(loom)]
    {
        let _ = most;
        park();
    }
}

/// Nanoseconds of a clock that never goes back; under loom, which has no time, always 0.
pub(crate) type Nanos = u64;

#[cfg(not(loom))]
#[expect(
    clippy::disallowed_methods,
    reason = "members tell by it whether their core was wanted"
)]
pub(crate) fn nanos() -> Nanos {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // 2^64 nanoseconds are 584 years.
    START.elapsed().as_nanos() as Nanos
}

#[cfg(loom)]
pub(crate) fn nanos() -> Nanos {
    0
}

/// Lets another thread that wants the calling thread's core have it; comes back at once when there
/// is none, as always under loom.
pub(crate) fn offer_core() {
    #[cfg(not(loom))]
    std::thread::yield_now();
}

/// Sleeps for `nanos`; under loom, lets others go on.
#[cfg_attr(
    not(loom),
    expect(clippy::disallowed_methods, reason = "a member stays away by it")
)]
pub(crate) fn sleep_nanos(nanos: Nanos) {
    #[cfg(not(loom))]
    std::thread::sleep(std::time::Duration::from_nanos(nanos));
    #[cfg(loom)]
    {
        let _ = nanos;
        loom::thread::yield_now();
    }
}

/// Where threads sleep until another wakes them; under loom, none sleeps.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    lock: std::sync::Mutex<()>,
    woken: std::sync::Condvar,
}

impl Parker {
    /// Sleeps for `most` at most, while `goes_on`; asks it again after each
    /// [`unpark_all`](Self::unpark_all).
    pub(crate) fn park_while(&self, most: Nanos, goes_on: &dyn Fn() -> bool) {
        let most = std::time::Duration::from_nanos(most);
        #[cfg(not(loom))]
        {
            let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            let woke = self.woken.wait_timeout_while(lock, most, |()| goes_on());
            drop(woke);
        }
        #[cfg(loom)]
        {
            let _ = (most, goes_on);
            loom::thread::yield_now();
        }
    }

    /// Has every sleeping thread ask `goes_on` again; it sees what was written before.
    pub(crate) fn unpark_all(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_all();
    }
}

/// A value with cache lines of its own, so that writing it slows no reader of another value.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_parked_thread_goes_on_when_another_unparks_it() {
        const HOUR: Nanos = 3_600_000_000_000;
        let (parker, goes_on) = (Parker::default(), AtomicBool::new(true));
        std::thread::scope(|scope| {
            // Whichever of the two comes first.
            scope.spawn(|| parker.park_while(HOUR, &|| goes_on.load(Ordering::Relaxed)));
            goes_on.store(false, Ordering::Relaxed);
            parker.unpark_all();
        });
    }

    #[test]
    fn parking_ends_by_itself() {
        Parker::default().park_while(1, &|| true);
    }
}
