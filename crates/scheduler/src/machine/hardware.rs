//! What belongs to the computer and not to a model: memories with their ledgers, devices with their
//! accounts of busy time and their driver threads, the gate, and the threads. Pipelines borrow it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use gogrid_host::{Clock, CoreSet};
use gogrid_lease::Ledger;
use gogrid_pipeline::{Backend, CostBook, DeviceDriver, DriverHooks};
use gogrid_units::{Bytes, Each, Spawn};

use super::engines::Engines;
use super::gate::Gate;
use super::health::Health;
use super::pace::{Charged, CoreTime, DutyPace, PaceRule};
use super::process::Process;
use super::threads::{ThreadPlace, Threads};
use crate::error::OpenError;
use crate::log;
use crate::resource_manager::ResourceConfig;

/// A machine, before it is opened.
pub(crate) struct MachineSpec {
    pub(crate) memories: Vec<MemorySpec>,
    pub(crate) devices: Vec<DeviceSpec>,
    /// The cores that its threads run on.
    pub(crate) cores: CoreTime,
    /// Devices that are not among them, each with the reason.
    pub(crate) left_out: Vec<String>,
}

/// A memory, before it has a ledger.
pub(crate) struct MemorySpec {
    pub(crate) name: String,
    pub(crate) total: Bytes,
    /// The most of it that we take, whatever the limits allow.
    pub(crate) room: Bytes,
    /// What of it nobody held when it was listed, where the rest is not to be counted on.
    pub(crate) free: Option<Bytes>,
}

impl MemorySpec {
    /// The most of it that we take where other machines of this process hold so much: that was not free, and
    /// counts under the cap.
    pub(super) fn room_beside(&self, held: Bytes) -> Bytes {
        let reachable = self.free.map(|free| free + held);
        reachable.map_or(self.room, |reachable| reachable.min(self.room))
    }
}

/// A device, before it is opened.
pub(crate) struct DeviceSpec {
    /// Its name, and the cores its threads run on.
    pub(crate) place: ThreadPlace,
    /// What computes there: what its speed depends on besides its name and threads.
    pub(crate) driver_text: String,
    /// What its maker calls it, where it is a GPU: it reports its busy time itself.
    pub(crate) gpu_name: Option<String>,
    /// Cores that its share of time is counted in: those of a CPU, 1 for a device of its own.
    pub(crate) cores: usize,
    /// The part of its cores' time that the system lets it have: 1 but in a container with a quota.
    pub(crate) quota_share: f64,
    /// How many of its threads work at once: the busy seconds of a step, over the wall time it takes.
    pub(crate) lanes: usize,
    /// Bytes of weights that a lane reads in a second, where that cannot be timed: a guess.
    pub(crate) guessed_bytes_per_s: f64,
    /// Index of its memory.
    pub(crate) memory: usize,
    /// Whether the machine does without it where it cannot be opened, and a model where it cannot run it.
    pub(crate) is_optional: bool,
    pub(crate) open: OpenBackend,
}

/// Opens a device: at first, and again when it was lost.
pub(crate) type OpenBackend = Box<dyn FnMut(Loan) -> Result<Box<dyn Backend>, OpenError> + Send>;

/// What a device lends the backend that opens stages on it.
#[derive(Clone)]
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
    /// What the time of threads is charged to that work for several devices or for a GPU, in equal parts: the
    /// accounts of the CPUs, or where no device is a CPU one of the machine's cores.
    pub(crate) thread_paces: Vec<Arc<DutyPace>>,
    /// Devices that are not used though they were listed, each with the reason.
    pub(crate) left_out: Vec<String>,
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
    /// See [`MemorySpec::room_beside`].
    room: Bytes,
    pub(crate) ledger: Ledger,
}

impl Memory {
    fn new(spec: MemorySpec, limits: &ResourceConfig, process: &Process) -> Self {
        let ledger = process.ledger(&spec.name);
        let memory = Self {
            room: spec.room_beside(ledger.used()),
            name: spec.name,
            total: spec.total,
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
    /// See [`DeviceSpec::gpu_name`].
    pub(crate) gpu_name: Option<String>,
    /// See [`DeviceSpec::is_optional`].
    pub(crate) is_optional: bool,
    pub(crate) lanes: usize,
    /// See [`DeviceSpec::guessed_bytes_per_s`].
    pub(crate) guessed_bytes_per_s: f64,
    /// Index of its memory.
    pub(crate) memory: usize,
    /// What computes there: what its speed depends on besides its name and lanes.
    pub(crate) driver_text: String,
    pub(crate) driver: DeviceDriver,
    /// Its account of busy time, and what its work keeps to.
    pub(crate) pace: Arc<DutyPace>,
    /// A lock, since pipelines are opened from several threads; loading waits for loading.
    backend: Mutex<Box<dyn Backend>>,
    /// How often it was opened again: what was opened there before is dead.
    pub(super) reopened: AtomicU64,
    /// Why it is lost, until it is opened again.
    lost: ArcSwapOption<String>,
    /// A lock, held while it is opened anew.
    pub(super) opening: Mutex<DeviceOpening>,
}

/// What a device is opened with.
pub(super) struct DeviceOpening {
    pub(super) loan: Loan,
    pub(super) open: OpenBackend,
}

impl Hardware {
    /// Opens the devices under the limits, each with its backend and its driver thread.
    pub(crate) fn open(
        spec: MachineSpec,
        limits: &ResourceConfig,
        threads: Threads,
        process: &Arc<Process>,
    ) -> Result<Arc<Self>, OpenError> {
        let (gate, clock): (Arc<Gate>, _) = (Arc::default(), Clock::start());
        let health = Arc::new(Health::new(Arc::clone(&gate)));
        let memories = spec.memories.into_iter();
        let memories: Vec<_> = memories
            .map(|spec| Memory::new(spec, limits, process))
            .collect();
        let rule = PaceRule {
            shares: Each::of(|_| limits.max_compute_usage_percent),
            gate: Arc::clone(&gate),
            clock,
        };
        let paces = Paces::of(&spec.devices, spec.cores, &rule);
        let specs = spec.devices.into_iter().zip(paces.devices);
        let opened = open_devices(specs, |(spec, pace)| {
            let loan = Loan {
                memory: memories[spec.memory].ledger.clone(),
                pace,
                spawn: match spec.gpu_name {
                    None => threads.starter(Some(&spec.place)),
                    Some(_) => threads.excepted_starter(&spec.place, WAITS),
                },
            };
            open_device(spec, loan, (&threads, &health))
        });
        let (devices, failed) = opened?;
        let left_out: Vec<_> = spec.left_out.into_iter().chain(failed).collect();
        for device in &left_out {
            log::warn(&format_args!("not used: {device}"));
        }
        Ok(Arc::new(Self {
            devices,
            memories,
            thread_paces: paces.threads,
            left_out,
            costs: Mutex::default(),
            engines: Arc::new(Engines::of(process)),
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

    /// The cores that work for all devices together is kept to: those of the CPUs; any, where one of them may
    /// use any, or there is none.
    pub(crate) fn pinned(&self) -> Option<CoreSet> {
        let cpus = self
            .devices
            .iter()
            .filter(|device| device.gpu_name.is_none());
        let pinned: Option<Vec<&CoreSet>> = cpus.map(|cpu| cpu.pinned.as_ref()).collect();
        CoreSet::new(pinned?.into_iter().flat_map(CoreSet::cores).copied())
    }

    /// Which devices are lost, and why.
    pub(crate) fn degraded(&self) -> Option<String> {
        let lost = self.devices.iter().filter_map(|device| {
            let why = device.lost()?;
            Some(format!("{} is lost: {why}", device.name))
        });
        lost.reduce(|all, one| format!("{all}; {one}"))
    }

    /// Changes the shares of time that each device, and the threads of all, may take.
    pub(crate) fn set_shares(&self, shares: Each<f64>) {
        let devices = self.devices.iter().map(|device| &device.pace);
        let is_no_device = |pace: &&Arc<DutyPace>| {
            let mut devices = self.devices.iter();
            !devices.any(|device| Arc::ptr_eq(&device.pace, pace))
        };
        let others = self.thread_paces.iter().filter(is_no_device);
        devices
            .chain(others)
            .for_each(|pace| pace.set_shares(shares));
    }
}

/// The accounts of busy time of a machine.
struct Paces {
    /// One for each device.
    devices: Vec<Arc<DutyPace>>,
    /// See [`Hardware::thread_paces`].
    threads: Vec<Arc<DutyPace>>,
}

impl Paces {
    fn of(devices: &[DeviceSpec], machine: CoreTime, rule: &PaceRule) -> Self {
        let new = |cores, charged| Arc::new(DutyPace::new(rule, cores, charged));
        let of_spec = |spec: &DeviceSpec| CoreTime {
            cores: spec.cores,
            quota_share: spec.quota_share,
        };
        let cpus = devices.iter().filter(|spec| spec.gpu_name.is_none());
        let cpus: Vec<_> = cpus
            .map(|spec| new(of_spec(spec), Charged::Threads))
            .collect();
        let threads = match cpus.is_empty() {
            true => vec![new(machine, Charged::Threads)],
            false => cpus.clone(),
        };
        let mut cpus = cpus.into_iter();
        let paces = devices.iter().map(|spec| match spec.gpu_name {
            None => cpus.next().expect("there is one for each"),
            Some(_) => new(
                of_spec(spec),
                Charged::ItsReports {
                    threads: threads.clone(),
                },
            ),
        });
        Self {
            devices: paces.collect(),
            threads,
        }
    }
}

/// A device to be, and its account.
type PacedSpec = (DeviceSpec, Arc<DutyPace>);

/// The devices that open, and why others do not. That one does not open which the machine does not do without is
/// an error, and that none does.
fn open_devices(
    specs: impl Iterator<Item = PacedSpec>,
    open: impl Fn(PacedSpec) -> Result<DeviceContext, OpenError>,
) -> Result<(Vec<DeviceContext>, Vec<String>), OpenError> {
    let (mut devices, mut failed) = (Vec::new(), Vec::new());
    for spec in specs {
        let is_optional = spec.0.is_optional;
        match open(spec) {
            Ok(device) => devices.push(device),
            Err(error) if is_optional => failed.push(error),
            Err(error) => return Err(error),
        }
    }
    if devices.is_empty() && !failed.is_empty() {
        return Err(failed.swap_remove(0));
    }
    let failed = failed.iter().map(ToString::to_string);
    Ok((devices, failed.collect()))
}

/// Why the thread that gives a GPU its work keeps its priority.
const SUBMITS: &str = "submits to a GPU, and keeps the priorities that the process had: work that waits for it \
                       leaves the GPU idle";

/// Why a thread that hears of a GPU's ends keeps its priority too.
const WAITS: &str = "waits for a GPU, and keeps the priorities that the process had: an end that is heard of \
                     late leaves the GPU idle";

fn open_device(
    mut spec: DeviceSpec,
    loan: Loan,
    (threads, health): (&Threads, &Arc<Health>),
) -> Result<DeviceContext, OpenError> {
    let spawn = match spec.gpu_name {
        None => Arc::clone(&loan.spawn),
        Some(_) => threads.excepted_starter(&spec.place, SUBMITS),
    };
    let name = spec.place.name.clone();
    let (health, driver_name) = (Arc::clone(health), format!("{name} driver"));
    let on_death = Arc::new(move |problem: &str| log::error(&health.note(&driver_name, problem)));
    let backend = (spec.open)(loan.clone())?;
    let pace = Arc::clone(&loan.pace);
    let hooks = DriverHooks {
        serves: Arc::new(move |whose| pace.serve(whose)),
        on_death,
    };
    let driver = DeviceDriver::start(&spawn, hooks).map_err(|source| OpenError::NoThread {
        thread: name.clone(),
        source,
    });
    Ok(DeviceContext {
        name,
        pinned: spec.place.pinned,
        cores: spec.cores,
        quota_share: spec.quota_share,
        gpu_name: spec.gpu_name,
        is_optional: spec.is_optional,
        lanes: spec.lanes,
        guessed_bytes_per_s: spec.guessed_bytes_per_s,
        memory: spec.memory,
        driver_text: spec.driver_text,
        backend: Mutex::new(backend),
        driver: driver?,
        pace: Arc::clone(&loan.pace),
        reopened: AtomicU64::new(0),
        lost: ArcSwapOption::empty(),
        opening: Mutex::new(DeviceOpening {
            loan,
            open: spec.open,
        }),
    })
}

impl DeviceContext {
    pub(crate) fn backend(&self) -> MutexGuard<'_, Box<dyn Backend>> {
        // A panic in it ended the opening that it was in; what it keeps is counted by leases.
        self.backend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the opening that stages are opened on now.
    pub(crate) fn opening(&self) -> u64 {
        self.reopened.load(Ordering::Acquire)
    }

    /// Why nothing can run here at present.
    pub(crate) fn lost(&self) -> Option<String> {
        self.lost.load().as_deref().cloned()
    }

    pub(crate) fn note_lost(&self, problem: &str) {
        self.lost.store(Some(Arc::new(problem.to_owned())));
    }

    /// A stage could be opened here, or the device itself.
    pub(crate) fn note_found(&self) {
        self.lost.store(None);
    }
}
