use std::sync::Arc;

use gogrid_lease::Ledger;
use gogrid_model::Model;
use gogrid_pipeline::{Backend, Footprint};
use gogrid_units::{Bytes, Span};

use crate::core::Account;
use crate::device::Device;
use crate::gate::Gate;
use crate::pace::DutyPace;
use crate::resource_manager::ResourceConfig;
use crate::status::{DeviceStatus, StageStatus};

/// A device that stages can be put on, with what opens them and the account of its memory.
pub(crate) struct Ground {
    pub(crate) device: Device,
    pub(crate) backend: Box<dyn Backend>,
    /// Devices that are the same memory share it: all CPU devices.
    pub(crate) ledger: Ledger,
    /// Of all its stages.
    pub(crate) pace: Arc<DutyPace>,
}

impl Ground {
    /// Devices of one machine's CPU, whose memory is the system's. Their threads heed one gate.
    pub(crate) fn on_one_memory(
        devices: Vec<(Device, Box<dyn Backend>)>,
        limits: &ResourceConfig,
    ) -> Vec<Self> {
        let gate: Arc<Gate> = Arc::default();
        let total = devices
            .first()
            .map_or(0, |(device, _)| device.memory_total_bytes);
        let ledger = Ledger::new(cap(total, limits));
        let share = limits.max_compute_usage_percent;
        let grounds = devices.into_iter();
        grounds
            .map(|(device, backend)| Self {
                pace: Arc::new(DutyPace::new(share, device.cores.len(), Arc::clone(&gate))),
                device,
                backend,
                ledger: ledger.clone(),
            })
            .collect()
    }
}

/// What our bytes may reach of a memory.
pub(crate) fn cap(memory_total_bytes: u64, limits: &ResourceConfig) -> Bytes {
    Bytes(memory_total_bytes).share(limits.max_vram_usage_percent)
}

/// The one account of devices that share a memory, with the blocks of all their stages.
pub(crate) fn account(grounds: &[Ground], groups: usize, footprints: &[Footprint]) -> Account {
    let names: Vec<_> = grounds
        .iter()
        .map(|ground| ground.device.to_string())
        .collect();
    let block = |group: usize| footprints.iter().map(|f| f.kv_block[group]).sum();
    Account {
        device: names.join(" and "),
        ledger: grounds[0].ledger.clone(),
        kv_block: (0..groups).map(block).collect(),
    }
}

/// A stage in the status's words.
pub(crate) fn stage_status(
    device: &Device,
    (span, footprint): (Span, &Footprint),
    model: &Model,
) -> StageStatus {
    let block: Bytes = footprint.kv_block.iter().copied().sum();
    StageStatus {
        device: device.to_string(),
        first_piece: span.start,
        end_piece: span.end,
        pieces: in_words(span, model.decoder().layers.len()),
        weights_bytes: footprint.weights.0,
        scratch_bytes: footprint.scratch.0,
        kv_bytes_per_token: block.0 / gogrid_pipeline::BLOCK_TOKENS as u64,
    }
}

/// A device and its share of what stages hold there.
pub(crate) fn device_status(
    (device, ledger, pace): (&Device, &Ledger, &DutyPace),
    held: Held,
) -> DeviceStatus {
    DeviceStatus {
        device: device.to_string(),
        memory_total_bytes: device.memory_total_bytes,
        memory_cap_bytes: ledger.cap().0,
        memory_used_bytes: (held.weights + held.kv + held.scratch).0,
        weights_bytes: held.weights.0,
        kv_bytes: held.kv.0,
        scratch_bytes: held.scratch.0,
        busy_s: pace.busy_seconds(),
        rest_s: pace.rest_seconds(),
        yield_s: pace.yield_seconds(),
    }
}

/// Bytes held, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) weights: Bytes,
    pub(crate) kv: Bytes,
    pub(crate) scratch: Bytes,
}

/// `embedding, layers 0-14, attention of layer 15`.
pub(crate) fn in_words(span: Span, layers: usize) -> String {
    let mut words = Vec::new();
    if span.has_embedding() {
        words.push("embedding".to_owned());
    }
    // Mixer of layer l is piece 2 l + 1, its feed-forward the one after.
    let first = span.start.max(1);
    let end = span.end.min(2 * layers + 1);
    if first < end && first.is_multiple_of(2) {
        words.push(format!("feed-forward of layer {}", first / 2 - 1));
    }
    let whole = (first / 2)..(end.saturating_sub(1) / 2);
    match whole.len() {
        0 => {}
        1 => words.push(format!("layer {}", whole.start)),
        _ => words.push(format!("layers {}-{}", whole.start, whole.end - 1)),
    }
    if first < end && end.is_multiple_of(2) {
        words.push(format!("attention of layer {}", end / 2 - 1));
    }
    if span.has_head(layers) {
        words.push("head".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_words() {
        let check = |start, end, words| assert_eq!(in_words(Span::new(start, end), 3), words);
        check(0, 8, "embedding, layers 0-2, head");
        check(0, 1, "embedding");
        check(0, 2, "embedding, attention of layer 0");
        check(2, 5, "feed-forward of layer 0, layer 1");
        check(3, 4, "attention of layer 1");
        check(4, 5, "feed-forward of layer 1");
        check(
            2,
            6,
            "feed-forward of layer 0, layer 1, attention of layer 2",
        );
        check(6, 8, "feed-forward of layer 2, head");
        check(7, 8, "head");
    }
}
