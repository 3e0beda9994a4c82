//! Holds samples of what is taken against the limits in force. Calls nothing: a sample comes from a
//! look at the machine, or from a test.

use std::collections::VecDeque;

use super::books::Loads;
use super::limits::{
    CPU_OVER_S, CPU_TOLERANCE, CPU_UNPACED, LEASE_LASTS_S, LOOKS_APART_MAX_S, NOT_HELD_MAX_S,
    SHARE_OVER_S, SHARE_TOLERANCE, UNLEASED_MIB, UNLEASED_MIB_PER_MODEL,
};

pub(super) const MIB: f64 = (1u64 << 20) as f64;

/// What one look saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// Seconds since the first look, when the CPU time was read.
    pub(super) at_s: f64,
    /// Seconds by the clock of the machine under test when its devices were asked.
    pub(super) asked_at_s: f64,
    /// Bytes that the machine under test leases, and its cap.
    pub(super) used: u64,
    pub(super) cap: u64,
    /// Bytes that all machines of the process lease.
    pub(super) leased: u64,
    /// The share of time in force on the machine under test, and that of all machines together.
    pub(super) share: f64,
    pub(super) share_of_all: f64,
    /// Busy seconds of each device, by the machine's own account.
    pub(super) busy_s: Vec<f64>,
    /// CPU seconds of the process, by the system's account, without the soak's own threads.
    pub(super) cpu_s: f64,
    pub(super) loads: Loads,
    /// Models that are open, on all machines.
    pub(super) models: usize,
    /// Resident MiB, where the system tells, and those of the last rest.
    pub(super) resident_mib: Option<f64>,
    pub(super) floor_mib: f64,
    /// The limits that are not held yet.
    pub(super) not_held: Vec<String>,
}

/// The furthest that anything went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extremes {
    /// Share of a device's time by its own account, above the share in force.
    pub(super) share_over: f64,
    /// Stretches for which that account was compared.
    pub(super) share_stretches: u64,
    /// Share of all devices' time by the system's account, above the share in force.
    pub(super) cpu_over: f64,
    /// Stretches for which the system's account was compared.
    pub(super) cpu_stretches: u64,
    /// Resident MiB above those of the last rest and what is leased.
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
            share_stretches: 0,
            cpu_over: f64::NEG_INFINITY,
            cpu_stretches: 0,
            unleased_mib: f64::NEG_INFINITY,
            resident_mib: 0.0,
            looks: 0,
        }
    }
}

/// Looks that follow one another up to the last.
struct Stretch {
    /// The index of the first.
    from: usize,
    /// The mean of the shares in force, of which the higher counts where one changed.
    share: f64,
}

/// The samples of the last seconds.
pub(super) struct Checks {
    /// Cores of each device.
    cores: Vec<usize>,
    samples: VecDeque<Sample>,
    not_held_since: Option<f64>,
    /// Whether the last stretch was over the share by a device's own account.
    is_over_share: bool,
    /// CPU time before this moment was compared already.
    cpu_from_s: f64,
    extremes: Extremes,
}

impl Checks {
    pub(super) fn new(cores: Vec<usize>) -> Self {
        Self {
            cores,
            samples: VecDeque::new(),
            not_held_since: None,
            is_over_share: false,
            cpu_from_s: f64::NEG_INFINITY,
            extremes: Extremes::default(),
        }
    }

    pub(super) fn extremes(&self) -> Extremes {
        self.extremes
    }

    /// The faults that a sample shows together with those before it.
    pub(super) fn take(&mut self, sample: Sample) -> Vec<String> {
        let mut faults = Vec::new();
        faults.extend(self.over_cap(&sample));
        self.samples.push_back(sample);
        faults.extend(self.over_share());
        faults.extend(self.over_share_by_cpu());
        faults.extend(self.unleased());
        faults.extend(self.not_held());
        self.extremes.looks += 1;
        self.forget();
        faults
    }

    fn last(&self) -> &Sample {
        self.samples.back().expect("pushed before")
    }

    fn forget(&mut self) {
        let kept_s = LEASE_LASTS_S.max(SHARE_OVER_S).max(CPU_OVER_S) + LOOKS_APART_MAX_S;
        let since = self.last().at_s - kept_s;
        while self.samples.len() > 2 && self.samples[1].at_s < since {
            self.samples.pop_front();
        }
    }

    /// What is leased rises to no more than the cap; above a lowered cap it only falls. In between
    /// two looks there is one change at most.
    fn over_cap(&self, sample: &Sample) -> Option<String> {
        let before = self.samples.back()?;
        let most = sample.cap.max(before.cap).max(before.used);
        let is_close = sample.at_s - before.at_s <= LOOKS_APART_MAX_S;
        (is_close && sample.used > most).then(|| {
            format!(
                "memory: {} bytes leased, {} before, under a cap of {}, {} before",
                sample.used, before.used, sample.cap, before.cap
            )
        })
    }

    /// The machine's own account of each device against the shares that were in force from look to look,
    /// by the clock that goes with that account: an answer may come long after its devices were asked.
    fn over_share(&mut self) -> Option<String> {
        let (last, over_s) = (self.last(), SHARE_OVER_S);
        let stretch = self.stretch(over_s, |sample| (sample.asked_at_s, sample.share))?;
        let first = &self.samples[stretch.from];
        let (wall_s, share) = (last.asked_at_s - first.asked_at_s, stretch.share);
        let mut took = f64::NEG_INFINITY;
        for ((busy, before), cores) in last.busy_s.iter().zip(&first.busy_s).zip(&self.cores) {
            took = took.max((busy - before) / (wall_s * *cores as f64));
        }
        self.extremes.share_over = self.extremes.share_over.max(took - share);
        self.extremes.share_stretches += 1;
        let was_over = self.is_over_share;
        self.is_over_share = took - share > SHARE_TOLERANCE;
        // One breach is one fault, not one for each look that has it in its stretch.
        (self.is_over_share && !was_over).then(|| {
            format!(
                "share of time: a device took {took:.3} of {wall_s:.2} s by its own account, {share:.3} in force"
            )
        })
    }

    /// The system's account of the process against the shares that were in force from look to look.
    /// A stretch in which a model was opened or moved is not compared: loading is held back by
    /// nothing but its priority.
    fn over_share_by_cpu(&mut self) -> Option<String> {
        let (last, over_s) = (self.last(), CPU_OVER_S);
        // Shares that are divided between machines may add up to more than one for a moment.
        let of = |sample: &Sample| (sample.at_s, sample.share_of_all.min(1.0));
        let stretch = self.stretch(over_s, of)?;
        let first = &self.samples[stretch.from];
        let is_loading = first.loads.under_way || first.loads.begun != last.loads.begun;
        if is_loading || first.at_s < self.cpu_from_s {
            return None;
        }
        let cores = self.cores.iter().sum::<usize>() as f64;
        let (at_s, whole_s) = (last.at_s, (last.at_s - first.at_s) * cores);
        let (cpu_s, allowed_s) = (last.cpu_s - first.cpu_s, whole_s * stretch.share);
        let over_s = cpu_s - allowed_s;
        self.extremes.cpu_over = self.extremes.cpu_over.max(over_s / whole_s);
        self.extremes.cpu_stretches += 1;
        if over_s <= allowed_s * CPU_TOLERANCE + whole_s * CPU_UNPACED {
            return None;
        }
        self.cpu_from_s = at_s;
        Some(format!(
            "share of time: {cpu_s:.2} s of CPU by the system's account, {allowed_s:.2} s in force"
        ))
    }

    /// The shortest stretch of at least so many seconds that ends with the last look. `of` tells the
    /// moment of a look, in seconds, and the share in force then. `None` where there is no such
    /// stretch yet, or two looks are so far apart that a share may have come and gone unseen.
    fn stretch(&self, over_s: f64, of: impl Fn(&Sample) -> (f64, f64)) -> Option<Stretch> {
        let (until_s, _) = of(self.last());
        let is_before = |sample: &Sample| until_s - of(sample).0 >= over_s;
        let from = self.samples.iter().rposition(is_before)?;
        let looks = self.samples.range(from..).map(&of);
        let mut allowed_s = 0.0;
        for ((at_s, before), (next_s, after)) in looks.clone().zip(looks.skip(1)) {
            if next_s - at_s > LOOKS_APART_MAX_S {
                return None;
            }
            // It changed at any moment between the two.
            allowed_s += (next_s - at_s) * before.max(after);
        }
        let share = allowed_s / (until_s - of(&self.samples[from]).0);
        Some(Stretch { from, share })
    }

    /// Growth since the last rest that no lease explains.
    fn unleased(&mut self) -> Option<String> {
        let last = self.last();
        let resident_mib = last.resident_mib?;
        let recent = || {
            let since = last.at_s - LEASE_LASTS_S;
            self.samples
                .iter()
                .filter(move |sample| sample.at_s >= since)
        };
        let leased = recent().map(|sample| sample.leased).max().unwrap_or(0);
        // One that is just being opened, or was just closed, is not on the list.
        let models = recent()
            .map(|sample| sample.models + usize::from(sample.loads.under_way))
            .max()
            .unwrap_or(0);
        let unleased = resident_mib - last.floor_mib - leased as f64 / MIB;
        let extremes = &mut self.extremes;
        extremes.unleased_mib = extremes.unleased_mib.max(unleased);
        extremes.resident_mib = extremes.resident_mib.max(resident_mib);
        (unleased > UNLEASED_MIB + UNLEASED_MIB_PER_MODEL * models as f64).then(|| {
            format!("memory: {unleased:.1} MiB resident that nobody leased, with {models} models open or opening")
        })
    }

    fn not_held(&mut self) -> Option<String> {
        let last = self.last();
        let (at_s, named) = (last.at_s, last.not_held.join("; "));
        if named.is_empty() {
            self.not_held_since = None;
            return None;
        }
        let since = *self.not_held_since.get_or_insert(at_s);
        if at_s - since <= NOT_HELD_MAX_S {
            return None;
        }
        self.not_held_since = None;
        Some(format!("limits not held: {named}"))
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
