//! Machines for tests: devices with any backend, on memories of any size, that see what a test says.

use std::sync::Arc;

use gogrid_governor::Observation;
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::Backend;
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{Bytes, WeightType};

use crate::error::OpenError;
use crate::limits::{GUESSED_CPU_BYTES_PER_S, GUESSED_GPU_BYTES_PER_S};
use crate::machine::{
    CoreTime, DeviceSpec, Hardware, Loan, Machine, MachineOptions, MachineSpec, MemorySpec, Peers,
    Process, Surroundings, ThreadPlace, Threads, Told,
};
use crate::options::Options;
use crate::resource_manager::ResourceConfig;

/// Makes a device's backend from what the device lends it.
pub(crate) type MakeBackend = Box<dyn FnMut(Loan) -> Result<Box<dyn Backend>, OpenError> + Send>;

/// A device to be: the index of its memory, and its backend.
pub(crate) struct TestDevice {
    pub(crate) name: String,
    pub(crate) memory: usize,
    /// What it is called, if it is a GPU.
    pub(crate) gpu_name: Option<String>,
    /// Whether nobody asked for this very device.
    pub(crate) is_optional: bool,
    pub(crate) backend: MakeBackend,
}

/// What a machine of a test is like.
pub(crate) struct TestMachine {
    pub(crate) memories: Vec<Bytes>,
    pub(crate) devices: Vec<TestDevice>,
    pub(crate) seen: Observation,
    pub(crate) peers: Option<Box<dyn Peers>>,
    /// The machines it is beside.
    pub(crate) process: Arc<Process>,
}

impl TestDevice {
    /// `cpu:0` and so on, on the first memory.
    pub(crate) fn cpu(
        core: usize,
        mut backend: impl FnMut(Loan) -> Box<dyn Backend> + Send + 'static,
    ) -> Self {
        Self {
            name: format!("cpu:{core}"),
            memory: 0,
            gpu_name: None,
            is_optional: false,
            backend: Box::new(move |loan| Ok(backend(loan))),
        }
    }

    /// `gpu:0` and so on, on a memory of its own.
    pub(crate) fn accelerator(
        number: usize,
        memory: usize,
        mut backend: impl FnMut(Loan) -> Box<dyn Backend> + Send + 'static,
    ) -> Self {
        Self {
            name: format!("gpu:{number}"),
            memory,
            gpu_name: Some(format!("fake GPU {number}")),
            is_optional: false,
            backend: Box::new(move |loan| Ok(backend(loan))),
        }
    }
}

impl TestMachine {
    /// Devices on one memory of a GiB.
    pub(crate) fn of(devices: Vec<TestDevice>) -> Self {
        Self {
            memories: vec![Bytes::gib(1)],
            devices,
            seen: Observation::default(),
            peers: None,
            process: Arc::default(),
        }
    }

    /// The machine, under what the options say of limits and policy.
    pub(crate) fn open(self, options: &Options) -> Arc<Machine> {
        let machine = self.try_open(options);
        machine.expect("its threads start, and its limits make sense")
    }

    pub(crate) fn try_open(self, options: &Options) -> Result<Arc<Machine>, OpenError> {
        let settings = MachineOptions {
            limits: options.limits.clone(),
            away: options.away.clone(),
            policy: options.policy.clone(),
            ..MachineOptions::default()
        }
        .settings();
        let memories = self.memories.into_iter().enumerate();
        let memories = memories.map(|(index, total)| MemorySpec {
            name: match index {
                0 => "system".to_owned(),
                _ => format!("memory {index}"),
            },
            total,
            room: total,
            free: None,
        });
        let devices = self.devices.into_iter().map(spec);
        let spec = MachineSpec {
            memories: memories.collect(),
            devices: devices.collect(),
            cores: CoreTime {
                cores: 1,
                quota_share: 1.0,
            },
            left_out: Vec::new(),
        };
        options.limits.check_compute()?;
        let threads = Threads::new(&options.limits)?;
        let hardware = Hardware::open(spec, &options.limits, threads, &self.process)?;
        let senses = Box::new(Told(self.seen));
        let surroundings = Surroundings {
            senses,
            peers: self.peers,
            process: self.process,
        };
        Machine::under(hardware, settings, surroundings).map(Arc::new)
    }
}

fn spec(device: TestDevice) -> DeviceSpec {
    let TestDevice {
        name,
        memory,
        gpu_name,
        is_optional,
        backend,
    } = device;
    DeviceSpec {
        guessed_bytes_per_s: match gpu_name {
            None => GUESSED_CPU_BYTES_PER_S,
            Some(_) => GUESSED_GPU_BYTES_PER_S,
        },
        place: ThreadPlace {
            name,
            pinned: None,
            cores: None,
        },
        driver_text: "a fake".to_owned(),
        gpu_name,
        cores: 1,
        quota_share: 1.0,
        lanes: 1,
        memory,
        is_optional,
        open: backend,
    }
}

/// A tiny model of two KV groups, one of them windowed.
pub(crate) fn model() -> Arc<Model> {
    opened(&tiny())
}

/// The same, which claims sequences of so many tokens.
pub(crate) fn model_claiming(context: usize) -> Arc<Model> {
    opened(&tiny().claiming(context))
}

/// Of a family that has a chat template.
pub(crate) fn model_that_chats(context: usize) -> Arc<Model> {
    opened(&tiny_of(Family::Qwen2).claiming(context))
}

/// Of a family of its own.
pub(crate) fn model_of(family: Family) -> Arc<Model> {
    opened(&tiny_of(family))
}

fn tiny() -> RandomModel {
    tiny_of(Family::Gemma3)
}

fn tiny_of(family: Family) -> RandomModel {
    RandomModel::new(Spec {
        family,
        weights: WeightType::Q4_0,
        seed: 1,
    })
}

fn opened(tiny: &RandomModel) -> Arc<Model> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    tiny.write_gguf(&path).expect("it is written");
    Arc::new(Model::open(&path, &OpenOptions::default()).expect("it opens"))
}

/// Default limits without an interval.
pub(crate) fn free() -> Options {
    let limits = ResourceConfig {
        min_request_interval_ms: 0,
        ..ResourceConfig::default()
    };
    Options {
        limits,
        ..Options::default()
    }
}
