use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use gogrid_governor::Policy;
use gogrid_pipeline::CostBook;

use super::device::{Device, specs};
use super::hardware::Hardware;
use super::observer::{self, Answer, Command, Observer};
use super::peers::{PeerUse, Peers};
use super::process::{Process, Shown};
use super::senses::{Probes, Senses};
use super::threads::Threads;
use crate::engine::EngineInbox;
use crate::error::OpenError;
use crate::limits::TELLS_MAX;
use crate::log;
use crate::places::Places;
use crate::resource_manager::ResourceConfig;
use crate::settings::Settings;

/// The computer, as far as this process may take of it: devices, a ledger for each memory, an account
/// of busy time for each device, the limits and what holds them. Pipelines opened on it share all of
/// it, so that two models together stay under each cap. It ends, with every thread, when the last
/// pipeline and the last clone of its [`Arc`] have gone.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use corpgrid_scheduler::{HeterogeneousPipeline, Machine, MachineOptions, Options, devices};
///
/// let machine = Arc::new(Machine::open(&devices(), MachineOptions::default())?);
/// let small = HeterogeneousPipeline::open_on(&machine, "small.gguf", &Options::default())?;
/// let large = HeterogeneousPipeline::open_on(&machine, "large.gguf", &Options::default())?;
/// # Ok::<(), corpgrid_scheduler::OpenError>(())
/// ```
pub struct Machine {
    /// Ends before what it holds does.
    pub(super) observer: Observer,
    /// For what the observer is told.
    pub(super) commands: Places,
    pub(crate) hardware: Arc<Hardware>,
    /// Lists it among those of its process.
    _shown: Arc<Shown>,
}

/// How a machine is opened, beyond its devices.
pub struct MachineOptions {
    /// What may be taken while somebody is there, or where nobody can tell.
    pub limits: ResourceConfig,
    /// What may be taken while nobody is there; the same if `None`.
    pub away: Option<ResourceConfig>,
    /// When less than that is taken, or nothing.
    pub policy: Policy,
    /// Threads on each CPU device; its cores if `None`.
    pub threads: Option<usize>,
    /// What tells of other processes under the same caps; they are not known if `None`.
    pub peers: Option<Box<dyn Peers>>,
    /// What pieces of models took before, on devices that are the same.
    pub known_costs: CostBook,
}

impl MachineOptions {
    /// What of them can be changed while it runs.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            away: self.away.clone().unwrap_or_else(|| self.limits.clone()),
            limits: self.limits.clone(),
            policy: self.policy.clone(),
        }
    }
}

impl Default for MachineOptions {
    /// The default limits and a desktop's policy.
    fn default() -> Self {
        Self {
            limits: ResourceConfig::default(),
            away: None,
            policy: Policy::desktop(),
            threads: None,
            peers: None,
            known_costs: CostBook::default(),
        }
    }
}

impl fmt::Debug for MachineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineOptions")
            .field("limits", &self.limits)
            .field("away", &self.away)
            .field("threads", &self.threads)
            .field("knows_peers", &self.peers.is_some())
            .finish_non_exhaustive()
    }
}

/// What a machine is told of what is around it.
pub(crate) struct Surroundings {
    pub(crate) senses: Box<dyn Senses>,
    /// Other processes.
    pub(crate) peers: Option<Box<dyn Peers>>,
    /// Other machines of this process.
    pub(crate) process: Arc<Process>,
}

impl Machine {
    /// Opens the devices, and holds the limits on them before it returns.
    ///
    /// # Errors
    /// When a device is named twice or shares cores with another, a limit is out of its range, or a
    /// thread cannot be started.
    pub fn open(devices: &[Device], options: MachineOptions) -> Result<Self, OpenError> {
        let settings = options.settings();
        settings.validate()?;
        settings.limits.check_compute()?;
        settings.away.check_compute()?;
        let threads = Threads::new(&settings.limits)?;
        let spec = specs(devices, options.threads)?;
        let limits = settings.limits.clone();
        let loader = threads.clone();
        let process = Process::this();
        let its = Arc::clone(&process);
        let hardware = loader.on_loader(move || Hardware::open(spec, &limits, threads, &its))?;
        *hardware.costs() = options.known_costs;
        let senses = Box::new(Probes::new(&hardware));
        Self::under(
            hardware,
            settings,
            Surroundings {
                senses,
                peers: options.peers,
                process,
            },
        )
    }

    /// The owner of devices that are open, on a machine that tells what it is told to.
    pub(crate) fn under(
        hardware: Arc<Hardware>,
        settings: Settings,
        surroundings: Surroundings,
    ) -> Result<Self, OpenError> {
        settings.validate()?;
        let Surroundings {
            senses,
            peers,
            process,
        } = surroundings;
        let shown = process.show(&hardware);
        let observer = Observer::start(observer::Parts {
            settings,
            senses,
            peers,
            process,
            hardware: Arc::clone(&hardware),
        });
        let observer = observer.map_err(|source| OpenError::NoThread {
            thread: "observer".to_owned(),
            source,
        })?;
        Ok(Self {
            observer,
            commands: Places::new(TELLS_MAX),
            hardware,
            _shown: shown,
        })
    }

    /// What this process takes of the machine, for others under the same caps. `cpu_share` is 0: it
    /// is for the process that asks to compare the CPU time of two answers. Requests that wait while
    /// all work is stopped need no share of the time.
    pub fn usage(&self) -> PeerUse {
        let memories = self.hardware.memories.iter();
        let held = memories.map(|memory| (memory.name.clone(), memory.ledger.own().0));
        PeerUse {
            pid: std::process::id(),
            memory_bytes: held.collect(),
            cpu_share: 0.0,
            cpu_s: gogrid_host::process_cpu_time()
                .ok()
                .map(|time| time.as_secs_f64()),
            is_busy: self.hardware.engines.is_busy() && !self.hardware.gate.is_shut_to_all(),
        }
    }

    /// Notes in the status that a thread of the caller's, which has a part in holding the limits, has
    /// failed: one that hears of changes, for instance. Nothing stops by that.
    pub fn note_failure(&self, thread: &str, problem: &str) {
        log::error(&self.hardware.health.note(thread, problem));
    }

    /// What pieces of models were found to take so far, for the next time.
    pub fn known_costs(&self) -> CostBook {
        self.hardware.costs().clone()
    }

    /// Bytes a second that a device, by its index, reads and writes when it copies within its own memory;
    /// `None` where its backend does not measure it. Measured at each call, beside what runs there.
    ///
    /// # Errors
    /// When there is no such device, it fails, or its memory has no room for the copies.
    pub fn copy_bytes_per_second(&self, device: usize) -> Result<Option<f64>, OpenError> {
        let hardware = Arc::clone(&self.hardware);
        self.hardware.threads.on_loader(move || {
            let Some(context) = hardware.devices.get(device) else {
                let devices = hardware.devices.len();
                return Err(OpenError::BadDevice(format!(
                    "index {device}, of {devices}"
                )));
            };
            let measured = context.backend().copy_bytes_per_second();
            measured.map_err(|error| OpenError::of_stage(&context.name, error))
        })
    }

    /// Lists an engine, and has it hear what holds. The number takes it off the list.
    pub(crate) fn enter(&self, engine: &EngineInbox) -> u64 {
        let number = self.hardware.engines.enter(engine);
        if let Some(failure) = self.hardware.health.governing() {
            engine.fail(failure.clone());
        }
        let (waits, held) = sync_channel::<()>(0);
        let answer = Answer {
            _waits: Box::new(waits),
            _place: None,
        };
        if self.observer.tell(Command::Joined(answer)).is_ok() {
            // Dropped when it holds.
            let _ = held.recv();
        }
        number
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.hardware.devices.iter().map(|device| &device.name);
        f.debug_struct("Machine")
            .field("devices", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
