//! Looks at what is held, again and again, and holds it against the limits in force.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use corpgrid_scheduler::MachineStatus;
use futures_executor::block_on;
use gogrid_host::resident;

use super::limits::{
    LEASE_LASTS, LOOK_EVERY, LOOKS_APART_MAX, NOT_HELD_MAX, SHARE_OVER, SHARE_TOLERANCE,
    UNLEASED_MIB, UNLEASED_MIB_PER_MODEL,
};
use super::world::World;
use crate::clock::{now, sleep};

pub(super) const MIB: f64 = (1u64 << 20) as f64;

/// What one look saw.
struct Look {
    at: Instant,
    used: u64,
    cap: u64,
    share: f64,
    /// Busy seconds of each device.
    busy_s: Vec<f64>,
    models: usize,
    not_enforced: Vec<String>,
    resident_mib: Option<f64>,
}

/// The furthest that anything went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extremes {
    /// Share of a device's time over a second, above the share in force.
    pub(super) share_over: f64,
    /// Resident MiB above the first figure and what is leased.
    pub(super) unleased_mib: f64,
    /// Resident MiB.
    pub(super) resident_mib: f64,
    pub(super) looks: u64,
}

impl Default for Extremes {
    /// Of no look.
    fn default() -> Self {
        Self {
            share_over: f64::NEG_INFINITY,
            unleased_mib: f64::NEG_INFINITY,
            resident_mib: 0.0,
            looks: 0,
        }
    }
}

/// Looks until it is told to end.
pub(super) struct Checks<'a> {
    pub(super) world: &'a World,
    /// Cores of each device.
    pub(super) cores: Vec<usize>,
    /// Resident MiB before anything was open.
    pub(super) first_mib: f64,
    looks: VecDeque<Look>,
    not_held_since: Option<Instant>,
    failures: usize,
    extremes: Extremes,
}

impl<'a> Checks<'a> {
    pub(super) fn new(world: &'a World, cores: Vec<usize>, first_mib: f64) -> Self {
        Self {
            world,
            cores,
            first_mib,
            looks: VecDeque::new(),
            not_held_since: None,
            failures: 0,
            extremes: Extremes::default(),
        }
    }

    pub(super) fn run(mut self, goes_on: &AtomicBool) -> Extremes {
        while goes_on.load(Ordering::Relaxed) {
            self.look();
            sleep(LOOK_EVERY);
        }
        self.extremes
    }

    fn look(&mut self) {
        let status = block_on(self.world.machine.status());
        self.check_failures(&status);
        let look = Look::of(&status);
        if let Some(before) = self.looks.back() {
            let passed = (look.at - before.at).as_secs_f64();
            self.world.allow(passed * before.share.min(look.share));
            self.check_memory(before.used, before.cap, &look);
        }
        self.looks.push_back(look);
        self.check_share();
        self.check_resident();
        self.check_held();
        self.extremes.looks += 1;
        let old = |looks: &VecDeque<Look>| looks.len() > 2 && now() - looks[0].at > LEASE_LASTS;
        while old(&self.looks) {
            self.looks.pop_front();
        }
    }

    fn last(&self) -> &Look {
        self.looks.back().expect("pushed before")
    }

    fn check_failures(&mut self, status: &MachineStatus) {
        for failure in status.failures.iter().skip(self.failures) {
            self.world.fault(failure.to_string());
        }
        self.failures = status.failures.len();
    }

    /// What is leased rises to no more than the cap; above a lowered cap it only falls. In between
    /// two looks there is one change at most.
    fn check_memory(&self, used_before: u64, cap_before: u64, look: &Look) {
        let before = self.last();
        if look.at - before.at > LOOKS_APART_MAX {
            return;
        }
        let most = look.cap.max(cap_before).max(used_before);
        if look.used > most {
            let Look { used, cap, .. } = look;
            self.world.fault(format!(
                "memory: {used} bytes leased, {used_before} before, under a cap of {cap}, {cap_before} before"
            ));
        }
    }

    fn check_share(&mut self) {
        let last = self.last();
        let Some(from) = self
            .looks
            .iter()
            .rposition(|look| last.at - look.at >= SHARE_OVER)
        else {
            return;
        };
        let first = &self.looks[from];
        // Limits that stood when the stretch began count until its first look.
        let since = from.saturating_sub(1);
        let shares = self.looks.range(since..).map(|look| look.share);
        let share = shares.fold(0.0, f64::max);
        let wall_s = (last.at - first.at).as_secs_f64();
        let mut over = f64::NEG_INFINITY;
        for ((busy, before), cores) in last.busy_s.iter().zip(&first.busy_s).zip(&self.cores) {
            over = over.max((busy - before) / (wall_s * *cores as f64) - share);
        }
        if over > SHARE_TOLERANCE {
            let text =
                format!("share of time: {over:.3} over the {share:.3} in force, for {wall_s:.2} s");
            self.world.fault(text);
        }
        self.extremes.share_over = self.extremes.share_over.max(over);
    }

    fn check_resident(&mut self) {
        let last = self.last();
        let Some(resident_mib) = last.resident_mib else {
            return;
        };
        let leased = self.looks.iter().map(|look| look.used).max().unwrap_or(0);
        let models = self.looks.iter().map(|look| look.models).max().unwrap_or(0);
        let unleased = resident_mib - self.first_mib - leased as f64 / MIB;
        let allowed = UNLEASED_MIB + UNLEASED_MIB_PER_MODEL * (models + 1) as f64;
        if unleased > allowed {
            let text = format!(
                "memory: {unleased:.1} MiB resident that nobody leased, with {models} models open"
            );
            self.world.fault(text);
        }
        let extremes = &mut self.extremes;
        extremes.unleased_mib = extremes.unleased_mib.max(unleased);
        extremes.resident_mib = extremes.resident_mib.max(resident_mib);
    }

    fn check_held(&mut self) {
        let last = self.last();
        let (at, named) = (last.at, last.not_enforced.join("; "));
        if named.is_empty() {
            self.not_held_since = None;
            return;
        }
        let since = *self.not_held_since.get_or_insert(at);
        if at - since > NOT_HELD_MAX {
            self.world.fault(format!("limits not held: {named}"));
            self.not_held_since = None;
        }
    }
}

impl Look {
    fn of(status: &MachineStatus) -> Self {
        let memory = &status.memories[0];
        Self {
            at: now(),
            used: memory.used_bytes,
            cap: memory.cap_bytes,
            share: status.ruling.compute_share,
            busy_s: status.devices.iter().map(|device| device.busy_s).collect(),
            models: status.models.len(),
            not_enforced: status.not_enforced.clone(),
            resident_mib: resident_mib(),
        }
    }
}

/// Resident MiB of this process that no file backs, where the system tells.
pub(super) fn resident_mib() -> Option<f64> {
    resident()
        .ok()
        .map(|resident| resident.anonymous.0 as f64 / MIB)
}
