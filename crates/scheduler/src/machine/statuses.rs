//! What a machine's memories and devices say of themselves.

use gogrid_lease::Kind;
use gogrid_units::Bytes;

use super::hardware::{DeviceContext, Hardware};
use super::peers::SeenPeers;
use crate::status::{DeviceStatus, MemoryStatus, StageStatus};

/// Bytes held, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) weights: Bytes,
    pub(crate) kv: Bytes,
    pub(crate) scratch: Bytes,
    pub(crate) prefix: Bytes,
}

impl Hardware {
    pub(super) fn memory_statuses(&self, peers: &SeenPeers) -> Vec<MemoryStatus> {
        let status = self.memories.iter().map(|memory| MemoryStatus {
            memory: memory.name.clone(),
            total_bytes: memory.total.0,
            cap_bytes: memory.own_cap().0,
            used_bytes: memory.ledger.own().0,
            peers_bytes: peers.bytes_in(&memory.name),
        });
        status.collect()
    }

    /// Devices on one memory share its account; the stages of all models say which part is whose.
    pub(super) fn device_statuses(&self) -> Vec<DeviceStatus> {
        let placements: Vec<_> = self.engines.all().iter().map(|e| e.placement()).collect();
        let stages: Vec<&StageStatus> = placements.iter().flat_map(|p| &p.stages).collect();
        let status = self.devices.iter().map(|device| {
            let ledger = self.ledger(device);
            let beside = |name: &str| {
                let on_it = |other: &&DeviceContext| other.memory == device.memory;
                self.devices.iter().filter(on_it).any(|d| d.name == name)
            };
            let held = |kind, bytes: fn(&StageStatus) -> u64| {
                let here = stages.iter().filter(|stage| beside(&stage.device));
                let all: u64 = here.clone().map(|stage| bytes(stage)).sum();
                let its = here.filter(|stage| stage.device == device.name);
                let its: u64 = its.map(|stage| bytes(stage)).sum();
                ledger.used_by(kind).share(its as f64 / all.max(1) as f64)
            };
            let held = Held {
                weights: held(Kind::Weights, |stage| stage.weights_bytes),
                kv: held(Kind::Kv, |stage| stage.kv_bytes_per_token),
                scratch: held(Kind::Scratch, |stage| stage.scratch_bytes),
                prefix: held(Kind::Prefix, |stage| stage.kv_bytes_per_token),
            };
            device_status(self, device, held)
        });
        status.collect()
    }
}

/// A device and what stages hold there.
pub(crate) fn device_status(
    hardware: &Hardware,
    device: &DeviceContext,
    held: Held,
) -> DeviceStatus {
    let (memory, pace) = (&hardware.memories[device.memory], &device.pace);
    DeviceStatus {
        device: device.name.clone(),
        hardware: device.driver_text.clone(),
        memory_total_bytes: memory.total.0,
        memory_cap_bytes: memory.own_cap().0,
        memory_used_bytes: (held.weights + held.kv + held.scratch + held.prefix).0,
        weights_bytes: held.weights.0,
        kv_bytes: held.kv.0,
        scratch_bytes: held.scratch.0,
        prefix_bytes: held.prefix.0,
        lost: device.lost().or_else(|| {
            let has_ended = device.driver.has_ended();
            has_ended.then(|| "its driver thread has ended".to_owned())
        }),
        busy_s: pace.busy_seconds(),
        rest_s: pace.rest_seconds(),
        yield_s: pace.yield_seconds(),
    }
}
