use std::collections::HashSet;

use gogrid_pipeline::StageError;
use gogrid_units::{Bytes, contain};

use crate::driver_memory::driver_memory;
use crate::limits::ADAPTERS_MAX;
use crate::recorder::{built_in_interfaces, found_adapters};

/// A GPU that the system's drivers offer for computing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Its place among the adapters of this machine, as in `gpu:0`: real GPUs first, in the order that the
    /// drivers give.
    pub index: usize,
    /// What its maker calls it.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// The interface of its driver: `vulkan`, `metal`, `dx12`.
    pub api: &'static str,
    /// Name and version of its driver.
    pub driver: String,
    /// Its memory in all, where its driver says.
    pub memory: Option<Bytes>,
    /// What of it this process could take when it was looked at, where its driver says.
    pub memory_free: Option<Bytes>,
    /// Whether its memory is the system's: an integrated GPU, or a software adapter.
    pub shares_system_memory: bool,
}

/// What an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor, on the system's memory.
    Integrated,
    /// A GPU of a virtual machine's host.
    Virtual,
    /// The processor, which plays a GPU: for tests. Never picked unasked.
    Software,
    /// The driver does not say.
    Unknown,
}

/// The interfaces to drivers that this build has: `Vulkan`, `Metal`, `DX12`, by operating system.
pub fn interfaces() -> Vec<&'static str> {
    built_in_interfaces()
}

/// The adapters of this machine; none where there is no driver.
pub fn adapters() -> Vec<Adapter> {
    let found = sorted_adapters().into_iter().enumerate();
    found.map(|(index, raw)| described(index, &raw)).collect()
}

/// The adapter of a number, to be opened.
pub(crate) fn raw_adapter(index: usize) -> Result<wgpu::Adapter, StageError> {
    let mut found = sorted_adapters();
    let count = found.len();
    match index < count {
        true => Ok(found.swap_remove(index)),
        false => Err(StageError::Unsupported(format!(
            "no gpu:{index}: drivers offer {count} adapters"
        ))),
    }
}

/// Real GPUs first, else in the drivers' order. A GPU that several interfaces offer counts once.
fn sorted_adapters() -> Vec<wgpu::Adapter> {
    let mut found = found_adapters();
    found.truncate(ADAPTERS_MAX);
    found.sort_by_key(|raw| match kind_of(raw) {
        AdapterKind::Discrete => 0,
        AdapterKind::Integrated | AdapterKind::Virtual | AdapterKind::Unknown => 1,
        AdapterKind::Software => 2,
    });
    let mut seen = HashSet::new();
    found.retain(|raw| {
        let info = raw.get_info();
        let is_placed = !info.device_pci_bus_id.is_empty();
        !is_placed || seen.insert(info.device_pci_bus_id)
    });
    found
}

fn kind_of(raw: &wgpu::Adapter) -> AdapterKind {
    match raw.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
        wgpu::DeviceType::Other => AdapterKind::Unknown,
    }
}

fn described(index: usize, raw: &wgpu::Adapter) -> Adapter {
    let (info, kind) = (raw.get_info(), kind_of(raw));
    let memory = contain(|| driver_memory(raw)).ok().flatten();
    let driver = [info.driver, info.driver_info];
    Adapter {
        index,
        name: info.name,
        kind,
        api: match info.backend {
            wgpu::Backend::Vulkan => "vulkan",
            wgpu::Backend::Metal => "metal",
            wgpu::Backend::Dx12 => "dx12",
            _ => "other",
        },
        driver: driver.join(" ").trim().to_owned(),
        memory: memory.map(|memory| memory.total),
        memory_free: memory.and_then(|memory| memory.free),
        shares_system_memory: matches!(kind, AdapterKind::Integrated | AdapterKind::Software),
    }
}
