//! What was seen of a running gogrid, up to now.

use std::collections::VecDeque;

use anyhow::Context;
use corpgrid_scheduler::status::busy_share;
use corpgrid_scheduler::{MachineStatus, ModelStatus, Status};
use gogrid_control::View;
use serde_json::Value;

/// Shares that are kept for the curve: one a second.
const SHARES_MAX: usize = 240;

pub(super) struct Seen {
    pub(super) pid: u32,
    pub(super) view: Option<View>,
    pub(super) machine: Option<MachineStatus>,
    /// The shares of its compute that the process used between two looks, the oldest first.
    pub(super) shares: VecDeque<f64>,
    /// Why there is nothing newer, or why it did not do as it was told.
    pub(super) problem: Option<String>,
}

impl Seen {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            view: None,
            machine: None,
            shares: VecDeque::new(),
            problem: None,
        }
    }

    /// Takes an answer that came at `now_s`.
    pub(super) fn take(&mut self, view: View, now_s: f64) -> anyhow::Result<()> {
        let machine = machine(view.status.clone(), now_s)?;
        if let Some(before) = &self.machine {
            let elapsed = machine.at_s - before.at_s;
            self.shares
                .extend(busy_share(&before.devices, &machine.devices, elapsed));
        }
        while self.shares.len() > SHARES_MAX {
            self.shares.pop_front();
        }
        (self.view, self.machine, self.problem) = (Some(view), Some(machine), None);
        Ok(())
    }
}

/// The status as a machine's. Where it is one model's, the model becomes the only one of its machine.
fn machine(status: Value, now_s: f64) -> anyhow::Result<MachineStatus> {
    const NO_STATUS: &str = "a status of another shape than this version's";
    if status.get("models").is_some() {
        return serde_json::from_value(status).context(NO_STATUS);
    }
    let status: Status = serde_json::from_value(status).context(NO_STATUS)?;
    Ok(MachineStatus {
        limits: status.limits,
        ruling: status.ruling,
        memories: status.memories,
        at_s: now_s,
        devices: status.devices,
        left_out: status.left_out,
        threads: status.threads,
        failures: status.failures,
        not_enforced: status.not_enforced,
        not_seen: status.not_seen,
        peers: status.peers,
        models: vec![ModelStatus {
            model: status.model,
            context: status.context,
            stages: status.stages,
            stats: status.stats,
            queued: status.queued,
            running: status.running,
            degraded: status.degraded,
        }],
    })
}
