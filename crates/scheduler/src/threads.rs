use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use gogrid_host::{CoreSet, IoPriority, Priority, pin_thread, restrain_thread, thread_cpu_time};

use crate::device::Device;
use crate::error::OpenError;
use crate::resource_manager::ResourceConfig;
use crate::status::ThreadStatus;

/// The threads a pipeline made, and the priorities they asked for and got.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    /// A lock, held for a push or a copy: by each thread once, as it starts, and by callers who
    /// look or change the limits.
    log: Arc<Mutex<Log>>,
}

#[derive(Debug)]
struct Log {
    asked: ResourceConfig,
    threads: Vec<Began>,
}

/// A thread with what it asked for when it began.
#[derive(Debug)]
struct Began {
    asked: Priority,
    status: ThreadStatus,
}

impl Threads {
    pub(crate) fn new(limits: &ResourceConfig) -> Self {
        let log = Log {
            asked: limits.clone(),
            threads: Vec::new(),
        };
        Self {
            log: Arc::new(Mutex::new(log)),
        }
    }

    /// Called first thing on a thread: sets its priorities, keeps it to the device's cores, and
    /// remembers what took effect.
    pub(crate) fn begin(&self, name: &str, device: Option<&Device>) {
        let held = restrain_thread(self.priority());
        let part = device.filter(|device| !device.whole);
        let pinned = part.and_then(|device| CoreSet::new(device.cores.iter().copied()));
        let pinned = pinned.and_then(|cores| pin_thread(&cores).problem);
        let problems = [held.nice.problem, held.io.problem, pinned];
        let status = ThreadStatus {
            name: name.to_owned(),
            nice: held.nice.in_effect,
            io: held.io.in_effect.map(|io| (io.class, io.level)),
            problems: problems.into_iter().flatten().collect(),
        };
        let began = Began {
            asked: self.priority(),
            status,
        };
        self.log().threads.push(began);
    }

    fn priority(&self) -> Priority {
        let ResourceConfig {
            process_priority,
            io_priority_class,
            io_priority_level,
            ..
        } = self.asked();
        let io = IoPriority {
            class: io_priority_class,
            level: io_priority_level,
        };
        Priority {
            nice: process_priority,
            io,
        }
    }

    /// Runs `work` on a thread of its own that has the priorities asked for, so that loading does
    /// not run at the caller's, nor changes them.
    pub(crate) fn on_loader<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, OpenError> + Send,
    ) -> Result<T, OpenError> {
        thread::scope(|scope| {
            let loader = thread::Builder::new().name("gogrid-loader".to_owned());
            let spawned = loader.spawn_scoped(scope, || {
                // Its threads report the same problems, and stay.
                let _ = restrain_thread(self.priority());
                work()
            });
            let spawned = spawned.map_err(|e| OpenError::Device {
                device: "loader".to_owned(),
                problem: format!("its thread could not be started: {e}"),
            })?;
            spawned.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    pub(crate) fn asked(&self) -> ResourceConfig {
        self.log().asked.clone()
    }

    pub(crate) fn set_limits(&self, limits: &ResourceConfig) {
        self.log().asked = limits.clone();
    }

    pub(crate) fn statuses(&self) -> Vec<ThreadStatus> {
        self.log()
            .threads
            .iter()
            .map(|thread| thread.status.clone())
            .collect()
    }

    /// What of the limits is not held, by name, with the reason.
    pub(crate) fn not_enforced(&self) -> Vec<String> {
        let log = self.log();
        let share = log.asked.max_compute_usage_percent;
        drop(log);
        let mut named = Vec::new();
        if share < 1.0
            && let Err(error) = thread_cpu_time()
        {
            named.push(format!(
                "max_compute_usage_percent: {share} is not held, since this system does not tell a \
                 thread's CPU time: {error}"
            ));
        }
        let asked = self.priority();
        for Began { asked: its, status } in &self.log().threads {
            let name = &status.name;
            if *its != asked {
                named.push(format!(
                    "priorities: {name} keeps those it was started with"
                ));
            }
            named.extend(
                status
                    .problems
                    .iter()
                    .map(|problem| format!("priorities: {name}: {problem}")),
            );
        }
        named
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // Every write leaves it sound.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
