use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use gogrid_host::{
    CoreSet, CoreSiblings, IoPriority, Priority, current_core, pin_thread, thread_cpu_time,
};
use gogrid_units::{Spawn, ThreadBody, contain};

use super::spawner::{Birth, Spawner};
use crate::error::OpenError;
use crate::resource_manager::ResourceConfig;
use crate::status::ThreadStatus;

/// The threads of a pipeline: how they are started, the priorities asked for, and those they got.
/// The last clone, dropped when all other threads have ended, ends the one that started them.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spawner: Spawner,
    /// Models and loaders so far: their threads are told apart by number.
    models: AtomicU64,
    loaders: AtomicU64,
    /// A lock, held for a copy: by the observer when the limits change, and by callers that look.
    asked: Mutex<ResourceConfig>,
}

/// Where the threads of a device run.
#[derive(Clone, Debug)]
pub(crate) struct ThreadPlace {
    /// The device's name.
    pub(crate) name: String,
    /// The cores they are kept to from their start.
    pub(crate) pinned: Option<CoreSet>,
    /// The cores they may run on.
    pub(crate) cores: Option<CoreSet>,
}

/// Starts threads of one device, or of none.
struct Starter {
    threads: Threads,
    place: Option<ThreadPlace>,
    /// The cores its threads are kept to from their start.
    pinned: Option<CoreSet>,
    /// Why its threads keep the priorities that the process had, where they do.
    excepted: Option<&'static str>,
    /// Of the device's cores.
    siblings: CoreSiblings,
}

impl Spawn for Starter {
    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<JoinHandle<()>> {
        let place = self.place.as_ref();
        self.threads.shared.spawner.spawn(Birth {
            name: place.map_or(name.to_owned(), |place| format!("{} {name}", place.name)),
            short_name: name.to_owned(),
            cores: self.pinned.clone(),
            excepted: self.excepted,
            body,
        })
    }

    fn core(&self) -> Option<usize> {
        current_core()
    }

    fn keep_off(&self, core: usize) {
        let cores = self.place.as_ref().and_then(|place| place.cores.as_ref());
        let Some(cores) = cores else { return };
        let others = cores.cores().iter().copied().filter(|&c| c != core);
        if let Some(others) = CoreSet::new(others) {
            // Where it is not so, the system places threads by itself.
            pin_thread(&others);
        }
    }

    fn are_siblings(&self, cores: [usize; 2]) -> Option<bool> {
        self.siblings.are_siblings(cores)
    }
}

impl Threads {
    /// Starts the thread that starts the others, with what the calling thread has.
    pub(crate) fn new(limits: &ResourceConfig) -> Result<Self, OpenError> {
        let spawner = Spawner::start(priority(limits)).map_err(|e| refused("spawner", e))?;
        let shared = Shared {
            spawner,
            models: AtomicU64::new(0),
            loaders: AtomicU64::new(0),
            asked: Mutex::new(limits.clone()),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// What starts threads that have the priorities asked for and are kept to the device's cores,
    /// each listed before it is handed out.
    pub(crate) fn starter(&self, place: Option<&ThreadPlace>) -> Arc<dyn Spawn> {
        let pinned = place.and_then(|place| place.pinned.clone());
        self.starter_on(place, pinned)
    }

    /// The same, for threads that are kept to these cores.
    pub(crate) fn starter_on(
        &self,
        place: Option<&ThreadPlace>,
        pinned: Option<CoreSet>,
    ) -> Arc<dyn Spawn> {
        let cores = place.and_then(|place| place.cores.as_ref());
        Arc::new(Starter {
            threads: self.clone(),
            place: place.cloned(),
            pinned,
            excepted: None,
            siblings: cores.map(CoreSiblings::read).unwrap_or_default(),
        })
    }

    /// The same, for threads of a device that keep the priorities that the process had, for this reason.
    pub(crate) fn excepted_starter(
        &self,
        place: &ThreadPlace,
        why: &'static str,
    ) -> Arc<dyn Spawn> {
        Arc::new(Starter {
            threads: self.clone(),
            place: Some(place.clone()),
            pinned: place.pinned.clone(),
            excepted: Some(why),
            siblings: CoreSiblings::default(),
        })
    }

    /// What tells the threads of the next model that is opened from those of others. The first has
    /// plain names.
    pub(crate) fn place_of_model(&self) -> Option<ThreadPlace> {
        let number = self.shared.models.fetch_add(1, Ordering::Relaxed) + 1;
        (number > 1).then(|| ThreadPlace {
            name: format!("model {number}"),
            pinned: None,
            cores: None,
        })
    }

    /// Runs `work` on a thread of its own that has the priorities asked for, so that loading does
    /// not run at the caller's, nor changes them. A panic in it is an error.
    pub(crate) fn on_loader<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
    ) -> Result<T, OpenError> {
        let (give, take) = sync_channel(1);
        let guarded = move || {
            contain(work).unwrap_or_else(|problem| {
                Err(OpenError::Device {
                    device: "loader".to_owned(),
                    problem: format!("its thread panicked: {problem}"),
                })
            })
        };
        let body = Box::new(move || drop(give.send(guarded())));
        let number = self.shared.loaders.fetch_add(1, Ordering::Relaxed);
        let name = format!("loader {number}");
        let loader = self.starter(None).spawn(&name, body);
        let loader = loader.map_err(|e| refused("loader", e))?;
        // What it panicked with, it has answered with.
        let _ = loader.join();
        take.recv().unwrap_or_else(|_| {
            let ended = io::Error::other("it ended without an answer");
            Err(refused("loader", ended))
        })
    }

    /// For a thread that a library starts: called first thing on it, gives it the priorities asked
    /// for and lists it under this name until it ends.
    pub(crate) fn adoption(&self, name: &str) -> impl FnOnce() + Send + 'static {
        let priority = priority(&self.lock());
        self.shared.spawner.adoption(name, priority)
    }

    pub(crate) fn asked(&self) -> ResourceConfig {
        self.lock().clone()
    }

    /// Holds other limits. False where the priorities are others and some thread could not be given
    /// them, so that one started in its place may do better.
    pub(crate) fn set_limits(&self, limits: &ResourceConfig) -> bool {
        let before = std::mem::replace(&mut *self.lock(), limits.clone());
        let asked = priority(limits);
        asked == priority(&before) || self.shared.spawner.restrain(asked)
    }

    /// How many threads are listed, also when this is gone.
    #[cfg(test)]
    pub(crate) fn count(&self) -> impl Fn() -> usize + Send + 'static {
        self.shared.spawner.count()
    }

    /// Kills the thread that starts the others.
    #[cfg(test)]
    pub(crate) fn kill_spawner(&self) {
        self.shared.spawner.kill();
    }

    pub(crate) fn statuses(&self) -> Vec<ThreadStatus> {
        self.shared.spawner.statuses()
    }

    /// What of the limits is not held, by name, with the reason.
    pub(crate) fn not_enforced(&self) -> Vec<String> {
        let share = self.lock().max_compute_usage_percent;
        let mut named = Vec::new();
        if share < 1.0
            && let Err(error) = thread_cpu_time()
        {
            named.push(format!(
                "max_compute_usage_percent: {share} is not held, since this system does not tell a \
                 thread's CPU time: {error}"
            ));
        }
        for ThreadStatus { name, problems, .. } in self.statuses() {
            let problems = problems.iter();
            named.extend(problems.map(|problem| format!("priorities: {name}: {problem}")));
        }
        named
    }

    fn lock(&self) -> MutexGuard<'_, ResourceConfig> {
        // Every write leaves it sound.
        let asked = self.shared.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner)
    }
}

fn priority(limits: &ResourceConfig) -> Priority {
    let io = IoPriority {
        class: limits.io_priority_class,
        level: limits.io_priority_level,
    };
    Priority {
        nice: limits.process_priority,
        io,
    }
}

fn refused(thread: &str, source: io::Error) -> OpenError {
    OpenError::NoThread {
        thread: thread.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use gogrid_host::{AbilityState, abilities};

    use super::*;

    /// How the calling thread is held back.
    fn nice() -> AbilityState {
        let found = abilities()
            .into_iter()
            .find(|ability| ability.name == "thread nice values");
        found.expect("it is listed on every system").state
    }

    #[test]
    fn an_excepted_thread_keeps_the_priorities_that_it_finds_and_says_why() {
        let limits = ResourceConfig::conservative();
        let threads = Threads::new(&limits).expect("a thread");
        let place = ThreadPlace {
            name: "gpu:0".to_owned(),
            pinned: None,
            cores: None,
        };
        let seen_on = |spawn: &Arc<dyn Spawn>| {
            let (tell, told) = sync_channel(2);
            let (go_on, waits) = sync_channel::<()>(0);
            let body = move || {
                let _ = tell.send(nice());
                // Until the limits are others.
                let _ = waits.recv();
                let _ = tell.send(nice());
            };
            let thread = spawn.spawn("driver", Box::new(body)).expect("it starts");
            let status = threads.statuses().pop().expect("it is listed");
            let other = ResourceConfig {
                process_priority: limits.process_priority + 1,
                ..limits.clone()
            };
            // What the system refuses is in the status.
            threads.set_limits(&other);
            drop(go_on);
            thread.join().expect("no panic");
            let before = told.recv().expect("it tells");
            (status, [before, told.recv().expect("it tells again")])
        };
        let excepted = threads.excepted_starter(&place, "it submits");
        let (status, seen) = seen_on(&excepted);
        assert_eq!((&*status.name, status.nice), ("gpu:0 driver", None));
        assert_eq!(status.excepted.as_deref(), Some("it submits"));
        assert_eq!(seen, [nice(), nice()]);
        let (status, _) = seen_on(&threads.starter(Some(&place)));
        assert_eq!(status.excepted, None);
        assert!(
            status.nice.is_some() || !status.problems.is_empty(),
            "{status:?}"
        );
    }
}
