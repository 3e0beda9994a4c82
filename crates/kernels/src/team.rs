//! The public face of a team of threads: made once for a device, woken once a step.
//!
//! The thread that calls [`Team::step`] is member 0, the leader; `crew` has the members' work.

use std::io;

use gogrid_units::{Bytes, OutOfMemory, TeamPace};

use crate::crew::Crew;
use crate::ops::Ops;
use crate::region::Abandoned;
use crate::simd::{Isa, Simd};
use crate::sync::{Nanos, Parker, Spawn, nanos, offer_core, sleep_nanos};
use crate::yielding::System;

/// Threads that compute together. The thread that calls [`step`](Team::step) is one of them.
/// Dropping the team ends and joins the others.
pub struct Team {
    crew: Crew,
}

impl Team {
    /// A team of `threads`, the caller's included, so at least one. `spawn` starts the others, under
    /// the names `worker 1`, `worker 2` and so on.
    ///
    /// # Errors
    /// When the system refuses a thread; those already started are ended.
    pub fn new(threads: usize, spawn: std::sync::Arc<dyn Spawn>) -> io::Result<Self> {
        let system = ThisSystem {
            spawn: spawn.clone(),
            parker: Parker::default(),
        };
        Self::on(Box::new(system), threads, spawn)
    }

    /// [`new`](Self::new) with `system` in place of the real one.
    fn on(
        system: Box<dyn System>,
        threads: usize,
        spawn: std::sync::Arc<dyn Spawn>,
    ) -> io::Result<Self> {
        let crew = Crew::new(system, threads, spawn)?;
        Ok(Self { crew })
    }

    /// Starts every thread but the caller's anew; the ones before leave and are joined later, so
    /// no thread waits for them. A member whose new thread is refused keeps the one it has.
    pub fn renew(&mut self) {
        self.crew.renew();
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.crew.threads()
    }

    /// Keeps `bytes` for attention, in place of what it kept before. Without them, or with too few,
    /// one row's attention over many positions is not shared out as finely; the results are equal.
    ///
    /// # Errors
    /// When the system has no memory for them; it then keeps what it kept.
    pub fn keep_scratch(&mut self, bytes: Bytes) -> Result<(), OutOfMemory> {
        let floats = usize::try_from(bytes.0).expect("fits the address space") / size_of::<f32>();
        self.crew.resize_scratch(floats)
    }

    /// Keeps nothing for attention.
    pub fn drop_scratch(&mut self) {
        drop(self.crew.take_scratch());
    }

    /// Wakes the team and runs `body`, whose operations the whole team works at, with the
    /// instructions of `isa` and as fast as `pace` lets it.
    ///
    /// # Errors
    /// [`Abandoned`] when the pace said so and `body` passed it on. The team can be used again.
    ///
    /// # Panics
    /// When this machine has not got `isa`, and when an operation panics on any member.
    pub fn step<T>(
        &mut self,
        pace: &dyn TeamPace,
        isa: Isa,
        body: impl FnOnce(&mut Ops<'_>) -> Result<T, Abandoned>,
    ) -> Result<T, Abandoned> {
        let simd = Simd::expect(isa);
        self.crew.begin_step(pace.width(), pace.insists());
        let done = body(&mut Ops::new(&mut self.crew, pace, simd));
        if done.is_ok() {
            self.crew.learn_neighbours(pace);
        }
        pace.gave_way(self.crew.end_step());
        done
    }
}

/// The operating system that the team runs on.
struct ThisSystem {
    spawn: std::sync::Arc<dyn Spawn>,
    parker: Parker,
}

impl System for ThisSystem {
    fn now(&self) -> Nanos {
        nanos()
    }

    fn offer_core(&self) {
        offer_core();
    }

    fn sleep(&self, nanos: Nanos) {
        sleep_nanos(nanos);
    }

    fn park_while(&self, most: Nanos, goes_on: &dyn Fn() -> bool) {
        self.parker.park_while(most, goes_on);
    }

    fn unpark_all(&self) {
        self.parker.unpark_all();
    }

    fn core(&self) -> Option<usize> {
        self.spawn.core()
    }

    fn keep_off(&self, core: usize) {
        self.spawn.keep_off(core);
    }

    fn are_siblings(&self, cores: [usize; 2]) -> Option<bool> {
        self.spawn.are_siblings(cores)
    }
}

#[cfg(test)]
mod tests;
