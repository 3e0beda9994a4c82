//! What belongs to the computer and not to a model: memories with their ledgers, devices with their
//! accounts of busy time and their driver threads, the gate, and the threads. Pipelines borrow it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use gogrid_host::{Clock, CoreSet};
use gogrid_lease::Ledger;
use gogrid_pipeline::{Backend, CostBook, DeviceDriver};
use gogrid_units::{Bytes, Spawn};

use super::engines::Engines;
use super::gate::Gate;
use super::health::Health;
use super::pace::{CoreTime, DutyPace};
use super::process::Process;
use super::threads::{ThreadPlace, Threads};
use crate::error::OpenError;
use crate::log;
use crate::resource_manager::ResourceConfig;

/// A memory, before it has a ledger.
pub(crate) struct MemorySpec {
    pub(crate) name: String,
    pub(crate) total: Bytes,
    /// The most of it that we take, whatever the limits allow.
    pub(crate) room: Bytes,
}

/// A device, before it is opened.
pub(crate) struct DeviceSpec {
    /// Its name, and the cores its threads run on.
    pub(crate) place: ThreadPlace,
    /// What computes there: what its speed depends on besides its name and threads.
    pub(crate) driver_text: String,
    /// Cores that its share of time is counted in: those of a CPU, 1 for a device of its own.
    pub(crate) cores: usize,
    /// The part of its cores' time that the system lets it have: 1 but in a container with a quota.
    pub(crate) quota_share: f64,
    /// How many of its threads work at once: the busy seconds of a step, over the wall time it takes.
    pub(crate) lanes: usize,
    /// Index of its memory.
    pub(crate) memory: usize,
    pub(crate) open: Box<dyn FnOnce(Loan) -> io::Result<Box<dyn Backend>> + Send>,
}

/// What a device lends the backend that opens stages on it.
pub(crate) struct Loan {
    pub(crate) memory: Ledger,
    pub(crate) pace: Arc<DutyPace>,
    pub(crate) spawn: Arc<dyn Spawn>,
}

/// See the module. Fields end in this order: drivers before the backends' threads, and all before
/// the thread that started them.
pub(crate) struct Hardware {
    pub(crate) devices: Vec<DeviceContext>,
    pub(crate) memories: Vec<Memory>,
    /// What pieces of models were found to take, on each device. A lock, held to look a cost up or to
    /// note one.
    costs: Mutex<CostBook>,
    pub(crate) engines: Arc<Engines>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) health: Arc<Health>,
    pub(crate) threads: Threads,
    pub(crate) clock: Clock,
}

/// A memory and the account of what we hold there. Several devices may share one.
pub(crate) struct Memory {
    pub(crate) name: String,
    pub(crate) total: Bytes,
    /// See [`MemorySpec::room`].
    room: Bytes,
    pub(crate) ledger: Ledger,
}

impl Memory {
    fn new(spec: MemorySpec, limits: &ResourceConfig, process: &Process) -> Self {
        let ledger = process.ledger(&spec.name);
        let memory = Self {
            name: spec.name,
            total: spec.total,
            // What other machines of this process hold was not free, and counts under the cap.
            room: spec.room + ledger.used(),
            ledger,
        };
        memory.ledger.set_cap(memory.cap(limits, Bytes::ZERO));
        memory
    }

    /// What the bytes of this process may reach beside those of this user's other processes, which the
    /// share is for as well. The room is what was free, and leaves out what they held then.
    pub(crate) fn cap(&self, limits: &ResourceConfig, theirs: Bytes) -> Bytes {
        let share = self.total.share(limits.max_vram_usage_percent);
        share.saturating_sub(theirs).min(self.room)
    }

    /// What our own bytes may reach beside those of other machines of this process.
    pub(crate) fn own_cap(&self) -> Bytes {
        let beside = self.ledger.used().saturating_sub(self.ledger.own());
        self.ledger.cap().saturating_sub(beside)
    }
}

/// A device as pipelines see it.
pub(crate) struct DeviceContext {
    pub(crate) name: String,
    /// The cores that all its work is kept to.
    pinned: Option<CoreSet>,
    pub(crate) cores: usize,
    /// See [`DeviceSpec::quota_share`].
    pub(crate) quota_share: f64,
    pub(crate) lanes: usize,
    /// Index of its memory.
    pub(crate) memory: usize,
    /// What computes there: what its speed depends on besides its name and lanes.
    pub(crate) driver_text: String,
    pub(crate) driver: DeviceDriver,
    /// Its account of busy time, and what its work keeps to.
    pub(crate) pace: Arc<DutyPace>,
    /// A lock, since pipelines are opened from several threads; loading waits for loading.
    backend: Mutex<Box<dyn Backend>>,
    /// Why it is lost, until it is opened again.
    lost: ArcSwapOption<String>,
}

impl Hardware {
    /// Opens the devices under the limits, each with its backend and its driver thread.
    pub(crate) fn open(
        (memories, devices): (Vec<MemorySpec>, Vec<DeviceSpec>),
        limits: &ResourceConfig,
        threads: Threads,
        process: &Process,
    ) -> Result<Arc<Self>, OpenError> {
        let (gate, clock): (Arc<Gate>, _) = (Arc::default(), Clock::start());
        let health = Arc::new(Health::new(Arc::clone(&gate)));
        let memories: Vec<_> = memories
            .into_iter()
            .map(|spec| Memory::new(spec, limits, process))
            .collect();
        let mut contexts = Vec::new();
        for spec in devices {
            let name = spec.place.name.clone();
            let share = limits.max_compute_usage_percent;
            let cores = CoreTime {
                cores: spec.cores,
                quota_share: spec.quota_share,
            };
            let pace = Arc::new(DutyPace::new(share, cores, Arc::clone(&gate), clock));
            let loan = Loan {
                memory: memories[spec.memory].ledger.clone(),
                pace,
                spawn: threads.starter(Some(&spec.place)),
            };
            let opened = open_device(spec, loan, &health);
            contexts.push(opened.map_err(|source| OpenError::NoThread {
                thread: name,
                source,
            })?);
        }
        Ok(Arc::new(Self {
            devices: contexts,
            memories,
            costs: Mutex::default(),
            engines: Arc::default(),
            gate,
            health,
            threads,
            clock,
        }))
    }

    pub(crate) fn ledger(&self, device: &DeviceContext) -> &Ledger {
        &self.memories[device.memory].ledger
    }

    pub(crate) fn costs(&self) -> MutexGuard<'_, CostBook> {
        // Every write leaves it sound.
        self.costs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cores that work for all devices together is kept to: any, where one of them may use any.
    pub(crate) fn pinned(&self) -> Option<CoreSet> {
        let pinned = self.devices.iter().map(|device| device.pinned.as_ref());
        let pinned: Option<Vec<&CoreSet>> = pinned.collect();
        CoreSet::new(pinned?.into_iter().flat_map(CoreSet::cores).copied())
    }

    pub(crate) fn paces(&self) -> Vec<Arc<DutyPace>> {
        let paces = self.devices.iter().map(|device| Arc::clone(&device.pace));
        paces.collect()
    }
}

fn open_device(spec: DeviceSpec, loan: Loan, health: &Arc<Health>) -> io::Result<DeviceContext> {
    let (pace, spawn) = (Arc::clone(&loan.pace), Arc::clone(&loan.spawn));
    let (health, name) = (Arc::clone(health), spec.place.name.clone());
    let driver_name = format!("{name} driver");
    let on_death = Arc::new(move |problem: &str| log::error(&health.note(&driver_name, problem)));
    Ok(DeviceContext {
        name,
        pinned: spec.place.pinned,
        cores: spec.cores,
        quota_share: spec.quota_share,
        lanes: spec.lanes,
        memory: spec.memory,
        driver_text: spec.driver_text,
        backend: Mutex::new((spec.open)(loan)?),
        driver: DeviceDriver::start(&spawn, on_death)?,
        pace,
        lost: ArcSwapOption::empty(),
    })
}

impl DeviceContext {
    pub(crate) fn backend(&self) -> MutexGuard<'_, Box<dyn Backend>> {
        // A panic in it ended the opening that it was in; what it keeps is counted by leases.
        self.backend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can run here at present.
    pub(crate) fn lost(&self) -> Option<String> {
        self.lost.load().as_deref().cloned()
    }

    pub(crate) fn note_lost(&self, problem: &str) {
        self.lost.store(Some(Arc::new(problem.to_owned())));
    }

    /// A stage could be opened here.
    pub(crate) fn note_found(&self) {
        self.lost.store(None);
    }
}
