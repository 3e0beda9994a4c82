//! What a pipeline says about itself.

use std::num::NonZero;

use gogrid_governor::{Profile, Verdict};
use gogrid_units::Whose;
use serde::{Deserialize, Serialize};

use crate::machine::{PeerUse, ThreadFailure};
use crate::resource_manager::{ResourceConfig, ResourceStats};

/// A machine at one moment, with every model that is open on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// The limits in force: those for while somebody is there, or for while nobody is.
    pub limits: ResourceConfig,
    /// What the policy says of this moment.
    pub ruling: Ruling,
    /// The memories, each with its cap and what is held of it.
    pub memories: Vec<MemoryStatus>,
    /// Seconds since the machine was opened when its devices were asked: two statuses tell over what
    /// stretch of time a device took its busy seconds. The answer itself may come much later.
    pub at_s: f64,
    /// The devices, in the order they were given.
    pub devices: Vec<DeviceStatus>,
    /// Devices that nobody asked for by name and that are not used, each with the reason.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// Every thread that was made.
    pub threads: Vec<ThreadStatus>,
    /// The threads that ended by a panic.
    pub failures: Vec<ThreadFailure>,
    /// The limits that are not held yet, each with the reason.
    pub not_enforced: Vec<String>,
    /// What the policy asks for and this machine does not tell, each with the reason.
    pub not_seen: Vec<String>,
    /// Other processes under the same caps.
    pub peers: Vec<PeerUse>,
    /// The models, in the order they were opened.
    pub models: Vec<ModelStatus>,
}

/// A model that is open on a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The model's name.
    pub model: String,
    /// Tokens a sequence may have.
    pub context: usize,
    /// The stages, in order, as they stand now.
    pub stages: Vec<StageStatus>,
    /// What the starts came to.
    pub stats: ResourceStats,
    /// Requests that wait.
    pub queued: usize,
    /// Sequences that advance.
    pub running: usize,
    /// The last failure of a stage, until a step passes again; while a device is lost, which and why.
    pub degraded: Option<String>,
}

/// A memory and what is held of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Its name: `system` for the memory of all CPU devices.
    pub memory: String,
    /// Its bytes in all.
    pub total_bytes: u64,
    /// What this process may hold: the cap less what other processes hold under it.
    pub cap_bytes: u64,
    /// What this process holds.
    pub used_bytes: u64,
    /// What other processes of the same user hold, as far as they tell.
    pub peers_bytes: u64,
}

/// A pipeline at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The model's name.
    pub model: String,
    /// Tokens a sequence may have.
    pub context: usize,
    /// The limits in force: those for while somebody is there, or for while nobody is.
    pub limits: ResourceConfig,
    /// What the policy says of this moment.
    pub ruling: Ruling,
    /// The stages, in order.
    pub stages: Vec<StageStatus>,
    /// The devices, in the order they were given.
    pub devices: Vec<DeviceStatus>,
    /// Devices that nobody asked for by name and that are not used, each with the reason.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// The memories of the machine.
    pub memories: Vec<MemoryStatus>,
    /// Every thread of the pipeline's machine.
    pub threads: Vec<ThreadStatus>,
    /// What the starts came to.
    pub stats: ResourceStats,
    /// Requests that wait.
    pub queued: usize,
    /// Sequences that advance.
    pub running: usize,
    /// Requests refused since the start, for memory.
    pub refused_memory: u64,
    /// The limits that are not held yet, each with the reason.
    pub not_enforced: Vec<String>,
    /// What the policy asks for and this machine does not tell, each with the reason.
    pub not_seen: Vec<String>,
    /// The last failure of a stage, until a step passes again; while a device is lost, which and why.
    pub degraded: Option<String>,
    /// The threads that ended by a panic.
    pub failures: Vec<ThreadFailure>,
    /// Other processes under the same caps.
    pub peers: Vec<PeerUse>,
}

impl Status {
    /// The part of one model in what its machine says.
    pub(crate) fn of(machine: MachineStatus, model: ModelStatus, refused_memory: u64) -> Self {
        Self {
            model: model.model,
            context: model.context,
            limits: machine.limits,
            ruling: machine.ruling,
            stages: model.stages,
            devices: machine.devices,
            left_out: machine.left_out,
            memories: machine.memories,
            threads: machine.threads,
            stats: model.stats,
            queued: model.queued,
            running: model.running,
            refused_memory,
            not_enforced: machine.not_enforced,
            not_seen: machine.not_seen,
            degraded: model.degraded,
            failures: machine.failures,
            peers: machine.peers,
        }
    }
}

/// What the policy says of a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ruling {
    /// Whose limits hold.
    pub profile: Profile,
    /// How much guests' requests may take, and why not more.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The share of the machine's compute that they may take now; 0 while it is shut.
    pub compute_share: f64,
    /// How much the owner's own requests may take: never less. A gogrid of an earlier version does not say.
    #[serde(default)]
    pub owner: OwnerRuling,
    /// Whether requests are accepted.
    pub admits: bool,
}

/// What the policy says of the owner's own requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnerRuling {
    /// How much they may take, and why not more.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The share of the machine's compute that they may take now; 0 while it is shut.
    pub compute_share: f64,
}

impl Default for OwnerRuling {
    fn default() -> Self {
        Self {
            verdict: Verdict::Open,
            compute_share: 0.0,
        }
    }
}

impl Ruling {
    /// How much requests of a class may take, and why not more.
    pub fn verdict_of(&self, whose: Whose) -> &Verdict {
        match whose {
            Whose::Owner => &self.owner.verdict,
            Whose::Guest => &self.verdict,
        }
    }

    /// The share of the machine's compute that requests of a class may take now.
    pub fn share_of(&self, whose: Whose) -> f64 {
        match whose {
            Whose::Owner => self.owner.compute_share,
            Whose::Guest => self.compute_share,
        }
    }

    /// The share that the owner's own requests may take, where it is more than guests'.
    pub fn owner_more(&self) -> Option<f64> {
        let share = self.owner.compute_share;
        (share > self.compute_share).then_some(share)
    }
}

/// A stage of the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    /// The device's name.
    pub device: String,
    /// The first piece it runs.
    pub first_piece: usize,
    /// One past the last piece it runs.
    pub end_piece: usize,
    /// The same in words: `embedding, layers 0-14`.
    pub pieces: String,
    /// Packed weights.
    pub weights_bytes: u64,
    /// Buffers.
    pub scratch_bytes: u64,
    /// Keys and values of one token.
    pub kv_bytes_per_token: u64,
}

/// A device and what we hold of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// The device's name.
    pub device: String,
    /// What computes there: its maker's name for it and, for a CPU, its instructions; for a GPU, what sort of
    /// GPU it is, its driver, and whether its memory is the system's.
    #[serde(default)]
    pub hardware: String,
    /// Its memory in all.
    pub memory_total_bytes: u64,
    /// What we may hold.
    pub memory_cap_bytes: u64,
    /// What we hold: `inference.vram_usage_bytes`.
    pub memory_used_bytes: u64,
    /// Of that, weights.
    pub weights_bytes: u64,
    /// Of that, leased for keys and values.
    pub kv_bytes: u64,
    /// Of that, buffers.
    pub scratch_bytes: u64,
    /// Of that, keys and values that are kept for requests to come: they are given back before anything is
    /// refused for want of room.
    #[serde(default)]
    pub prefix_bytes: u64,
    /// Why nothing can run there at present.
    pub lost: Option<String>,
    /// Seconds of work on it since it was opened: for a CPU, the CPU time of its threads. Over
    /// a stretch of wall time, times the device's cores: the share that `max_compute_usage_percent`
    /// limits. 0 in a prediction.
    pub busy_s: f64,
    /// Seconds that its threads have rested to hold that limit, added up. 0 in a prediction.
    pub rest_s: f64,
    /// Seconds that its threads have given their cores to other programs, added up. 0 in a
    /// prediction.
    pub yield_s: f64,
}

/// The share of its time that the busiest device worked between two looks that lie `elapsed_s` seconds
/// apart. The CPU devices count as one, with the cores that this process may use; a GPU goes by its own clock. None
/// where no time lies between.
pub fn busy_share(before: &[DeviceStatus], after: &[DeviceStatus], elapsed_s: f64) -> Option<f64> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    busy_share_of(before, after, elapsed_s * cores as f64, elapsed_s)
}

/// The same, where the CPU devices had `cpu_s` seconds of their cores, and each GPU `gpu_s`.
fn busy_share_of(
    before: &[DeviceStatus],
    after: &[DeviceStatus],
    cpu_s: f64,
    gpu_s: f64,
) -> Option<f64> {
    if gpu_s <= 0.0 {
        return None;
    }
    let (mut cpu, mut busiest) = (0.0, 0.0_f64);
    for device in after {
        let same = before.iter().find(|other| other.device == device.device);
        let worked = device.busy_s - same.map_or(0.0, |same| same.busy_s);
        match device.device.starts_with("cpu") {
            true => cpu += worked,
            false => busiest = busiest.max(worked / gpu_s),
        }
    }
    Some(busiest.max(cpu / cpu_s).clamp(0.0, 1.0))
}

/// A thread and its priorities, as the operating system gave them back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// What it does.
    pub name: String,
    /// Its nice value, if the platform has one.
    pub nice: Option<i32>,
    /// Its I/O priority, class and level, if the platform has them.
    pub io: Option<(u8, u8)>,
    /// What of the limits did not take effect, and why.
    pub problems: Vec<String>,
    /// Why it keeps the priorities it began with, where it is to.
    pub excepted: Option<String>,
}

/// A placement, before anything is loaded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The model's name.
    pub model: String,
    /// Tokens a sequence may have.
    pub context: usize,
    /// The stages, in order, with what each would hold.
    pub stages: Vec<StageStatus>,
    /// The sequence whose keys and values the placement leaves room for, in tokens.
    pub planned_tokens: usize,
    /// The devices, with what would be held of them with one sequence of `planned_tokens`.
    pub devices: Vec<DeviceStatus>,
    /// Tokens a second of one request's decode, with nothing else running, under the compute limit:
    /// from the planner's latency, which counts every stage's work, the rest that credit does not
    /// spare, and the crossings.
    pub decode_tok_s: f64,
    /// Tokens a second of one request's prefill, in the same way. Sampling is in neither.
    pub prefill_tok_s: f64,
    /// Whether the seconds it was worked out from were found twice; where not, the machine was
    /// disturbed while they were timed, and the figures are guesses.
    pub is_sure: bool,
    /// Whether the search for the best placement had to end before it was through: this is then the
    /// best that was found, and a better one may be there.
    pub is_cut_short: bool,
    /// Why it is this placement, and what each limit cost.
    pub why: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, busy_s: f64) -> DeviceStatus {
        DeviceStatus {
            device: name.to_owned(),
            hardware: String::new(),
            memory_total_bytes: 0,
            memory_cap_bytes: 0,
            memory_used_bytes: 0,
            weights_bytes: 0,
            kv_bytes: 0,
            scratch_bytes: 0,
            prefix_bytes: 0,
            lost: None,
            busy_s,
            rest_s: 0.0,
            yield_s: 0.0,
        }
    }

    #[test]
    fn the_busiest_device_tells_the_share_and_cpu_devices_count_as_one() {
        let share = |before: &[DeviceStatus], after: &[DeviceStatus]| {
            busy_share_of(before, after, 2.0 * 4.0, 2.0)
        };
        let before = [
            device("cpu:0", 1.0),
            device("cpu:1", 5.0),
            device("gpu:0", 7.0),
        ];
        let after = [
            device("cpu:0", 3.0),
            device("cpu:1", 7.0),
            device("gpu:0", 7.5),
        ];
        assert_eq!(share(&before, &after), Some(0.5), "4 s of 8 s of cores");
        let after = [device("cpu:0", 3.0), device("gpu:0", 8.5)];
        assert_eq!(share(&before, &after), Some(0.75), "1.5 s of the GPU's 2 s");
        assert_eq!(share(&[], &[device("cpu", 2.0)]), Some(0.25), "it is new");
        assert_eq!(share(&before, &[]), Some(0.0));
        assert_eq!(busy_share(&before, &after, 0.0), None);
    }
}
