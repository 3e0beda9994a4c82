use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use gogrid_host::CoreSet;

use super::threads::{ThreadPlace, Threads};

/// Threads of one kind that a pipeline starts as it needs them, and waits for at its end.
pub(crate) struct Crew {
    name: &'static str,
    threads: Threads,
    /// Tells its threads from those of other pipelines.
    place: Option<ThreadPlace>,
    /// The cores they are kept to.
    cores: Option<CoreSet>,
    /// Threads that were started so far.
    started: AtomicU64,
    /// A lock, held to put a handle in or to take all out.
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Crew {
    pub(crate) fn new(name: &'static str, threads: Threads, place: Option<ThreadPlace>) -> Self {
        Self {
            name,
            threads,
            place,
            cores: None,
            started: AtomicU64::new(0),
            handles: Mutex::default(),
        }
    }

    /// The same, with its threads kept to these cores.
    pub(crate) fn on_cores(self, cores: Option<CoreSet>) -> Self {
        Self { cores, ..self }
    }

    /// Has `work` done on a fresh thread that has the priorities asked for.
    pub(crate) fn start(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let spawn = self
            .threads
            .starter_on(self.place.as_ref(), self.cores.clone());
        // A name that is given twice is that of a thread that takes over.
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let handle = spawn.spawn(&format!("{} {number}", self.name), Box::new(work))?;
        let mut handles = self.lock();
        handles.retain(|handle| !handle.is_finished());
        handles.push(handle);
        Ok(())
    }

    /// Waits until none of them is left, nor any that they have started meanwhile.
    pub(crate) fn join(&self) {
        loop {
            let handles = std::mem::take(&mut *self.lock());
            if handles.is_empty() {
                return;
            }
            for handle in handles {
                // What it panicked with, it has told.
                let _ = handle.join();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        // Every write leaves it sound.
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use gogrid_host::allowed_cores;

    use super::*;
    use crate::fixture::free;

    #[test]
    fn its_threads_are_kept_to_its_cores() {
        let threads = Threads::new(&free().limits).expect("a thread");
        let allowed = allowed_cores().expect("this system tells");
        let last = CoreSet::new(allowed.cores().last().copied()).expect("there is one");
        let seen_by = |crew: &Crew| {
            let (tell, told) = sync_channel(1);
            crew.start(move || drop(tell.send(allowed_cores())))
                .expect("it starts");
            let seen = told.recv().expect("it tells");
            crew.join();
            seen.expect("this system tells")
        };
        let crew = || Crew::new("worker", threads.clone(), None);
        assert_eq!(seen_by(&crew()), allowed);
        assert_eq!(seen_by(&crew().on_cores(Some(last.clone()))), last);
    }
}
