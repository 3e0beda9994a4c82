use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

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
    threads: Vec<ThreadStatus>,
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

    /// Called first thing on a thread: sets its priorities and remembers what took effect.
    pub(crate) fn begin(&self, name: &str, device: Option<&Device>) {
        let _ = device;
        let status = ThreadStatus {
            name: name.to_owned(),
            nice: None,
            io: None,
            problems: Vec::new(),
        };
        self.log().threads.push(status);
    }

    /// Runs `work` on a thread of its own that has the priorities asked for, so that loading does
    /// not run at the caller's, nor changes them.
    pub(crate) fn on_loader<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, OpenError> + Send,
    ) -> Result<T, OpenError> {
        thread::scope(|scope| {
            let loader = thread::Builder::new().name("gogrid-loader".to_owned());
            let spawned = loader.spawn_scoped(scope, work);
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
        self.log().threads.clone()
    }

    /// What of the limits is not held, by name, with the reason.
    pub(crate) fn not_enforced(&self) -> Vec<String> {
        let share = self.log().asked.max_compute_usage_percent;
        let mut named = Vec::new();
        if share < 1.0 {
            named.push(format!(
                "max_compute_usage_percent: no duty cycle yet, so {share} is not held"
            ));
        }
        for field in ["process_priority", "io_priority_class", "io_priority_level"] {
            named.push(format!(
                "{field}: threads keep the priority they were started with"
            ));
        }
        named
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // Every write leaves it sound.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
