//! What was seen, as lines of text of a given width.

use corpgrid_scheduler::status::DeviceStatus;
use corpgrid_scheduler::{MachineStatus, MemoryStatus, ModelStatus, Profile, Ruling, Verdict};
use gogrid_units::Bytes;

use super::seen::Seen;
use crate::escape::escaped;

/// A line, harmless for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// How a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Muted,
    Open,
    Limited,
    Problem,
}

/// Lines that are wrapped at a width.
pub(super) struct Page {
    width: usize,
    lines: Vec<Line>,
}

impl Page {
    pub(super) fn new(width: usize) -> Self {
        let (width, lines) = (width.max(1), Vec::new());
        Self { width, lines }
    }

    pub(super) fn into_lines(self) -> Vec<Line> {
        self.lines
    }

    /// A line, or as many as it takes: those that follow stand two columns in.
    pub(super) fn add(&mut self, tone: Tone, text: &str) {
        // Names come from others, and may have anything in them.
        let text = escaped(text).replace(['\n', '\t'], " ");
        for text in wrapped(&text, self.width) {
            self.lines.push(Line { text, tone });
        }
    }

    fn gap(&mut self) {
        self.lines.push(Line {
            text: String::new(),
            tone: Tone::Plain,
        });
    }
}

const INDENT: &str = "  ";

/// Cuts between words where that is possible, and in words that are longer than a line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > width {
        let indent = rest.iter().take_while(|char| **char == ' ').count();
        let space = (indent + 1..=width).rev().find(|at| rest[*at] == ' ');
        // A word alone in its line is cut; so is all where not even the indentation has room.
        let at = space.unwrap_or(width);
        let after = rest.split_off(at);
        lines.push(rest.into_iter().collect());
        let after: String = after.into_iter().collect();
        let indent = if width > 2 * INDENT.len() { INDENT } else { "" };
        rest = indent.chars().chain(after.trim_start().chars()).collect();
    }
    lines.push(rest.into_iter().collect());
    lines
}

/// All that there is to show, from the top.
pub(super) fn lines(seen: &Seen, width: usize) -> Vec<Line> {
    let mut page = Page::new(width);
    page.add(Tone::Strong, &title(seen));
    if let Some(problem) = &seen.problem {
        page.add(Tone::Problem, problem);
    }
    let Some(machine) = &seen.machine else {
        return page.into_lines();
    };
    add_ruling(&mut page, &machine.ruling);
    page.gap();
    add_compute(&mut page, seen, machine);
    for memory in &machine.memories {
        page.gap();
        add_memory(&mut page, memory, machine);
    }
    for model in &machine.models {
        page.gap();
        add_model(&mut page, model);
    }
    add_notes(&mut page, machine);
    page.into_lines()
}

fn title(seen: &Seen) -> String {
    let models = seen.machine.iter().flat_map(|machine| &machine.models);
    let models: Vec<_> = models.map(|model| model.model.as_str()).collect();
    match models.is_empty() {
        true => format!("gogrid {}", seen.pid),
        false => format!("gogrid {}: {}", seen.pid, models.join(", ")),
    }
}

/// A share as whole hundredths.
fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn add_ruling(page: &mut Page, ruling: &Ruling) {
    let share = percent(ruling.compute_share);
    let (tone, text) = match &ruling.verdict {
        Verdict::Open => (Tone::Open, format!("open, up to {share} of compute")),
        Verdict::Limited { why, .. } => {
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            (
                Tone::Limited,
                format!("limited to {share}: {}", why.join("; ")),
            )
        }
        Verdict::Shut(why) => (Tone::Problem, format!("stopped: {why}")),
    };
    page.add(tone, &text);
    if let Some(share) = ruling.owner_more() {
        let share = percent(share);
        let text = format!("the owner's own requests may take {share}");
        page.add(Tone::Limited, &text);
    }
    let there = match ruling.profile {
        Profile::Present => "somebody is there, or may be",
        Profile::Away => "nobody is there",
    };
    let admits = if ruling.admits {
        ""
    } else {
        "; accepts nothing more"
    };
    page.add(Tone::Muted, &format!("{there}{admits}"));
}

fn add_compute(page: &mut Page, seen: &Seen, machine: &MachineStatus) {
    let allowed = percent(machine.ruling.compute_share);
    let limit = percent(machine.limits.max_compute_usage_percent);
    let used = seen.shares.back().map(|share| percent(*share));
    let used = used.map_or_else(String::new, |used| format!("{used} used, "));
    page.add(
        Tone::Plain,
        &format!("compute: {used}{allowed} allowed now, limit {limit}"),
    );
    if !seen.shares.is_empty() {
        let width = page.width;
        let latest = seen.shares.len().saturating_sub(width);
        let curve: String = seen
            .shares
            .iter()
            .skip(latest)
            .map(|share| step(*share))
            .collect();
        page.add(Tone::Open, &format!("{curve:>width$}"));
    }
    for device in machine
        .devices
        .iter()
        .filter(|device| device.lost.is_none())
    {
        let DeviceStatus {
            device,
            rest_s,
            yield_s,
            busy_s,
            ..
        } = device;
        let text = format!(
            "{device}: worked {busy_s:.0} s, rested {rest_s:.0} s, gave way {yield_s:.0} s"
        );
        page.add(Tone::Muted, &text);
    }
}

/// A share as a block of that height.
fn step(share: f64) -> char {
    const STEPS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = (STEPS.len() - 1) as f64;
    // In 0..=8, whatever the share is; one that is not 0 is seen.
    STEPS[(share.clamp(0.0, 1.0) * most).ceil() as usize]
}

/// A memory, the kinds that are not 0, and what its bar shows: ours, the other gogrids', free under the
/// cap, and beyond it.
fn add_memory(page: &mut Page, memory: &MemoryStatus, machine: &MachineStatus) {
    let (used, cap) = (Bytes(memory.used_bytes), Bytes(memory.cap_bytes));
    let name = &memory.memory;
    page.add(
        Tone::Plain,
        &format!("memory {name}: {used} of {cap} allowed"),
    );
    page.add(Tone::Open, &bar(memory, page.width));
    let kinds: Vec<_> = kinds(memory, machine)
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(name, bytes)| format!("{name} {}", Bytes(bytes)))
        .collect();
    page.add(Tone::Muted, &kinds.join(", "));
}

fn kinds(memory: &MemoryStatus, machine: &MachineStatus) -> [(&'static str, u64); 6] {
    let is_named = |name: &str| machine.memories.iter().any(|memory| memory.memory == name);
    let its = |device: &&DeviceStatus| match is_named(&device.device) {
        true => device.device == memory.memory,
        // The CPU devices, and GPUs that have no memory of their own.
        false => memory.memory == "system",
    };
    let sum = |bytes: fn(&DeviceStatus) -> u64| machine.devices.iter().filter(its).map(bytes).sum();
    let (weights, kv): (u64, u64) = (
        sum(|device| device.weights_bytes),
        sum(|device| device.kv_bytes),
    );
    let (prefix, buffers) = (
        sum(|device| device.prefix_bytes),
        sum(|device| device.scratch_bytes),
    );
    let told = weights + kv + prefix + buffers;
    [
        ("weights", weights),
        ("keys and values", kv),
        ("prefix cache", prefix),
        ("buffers", buffers),
        ("being opened", memory.used_bytes.saturating_sub(told)),
        ("other gogrids", memory.peers_bytes),
    ]
}

/// `#` is held, `+` held by other gogrids, `.` free under the cap, `x` kept for others.
fn bar(memory: &MemoryStatus, width: usize) -> String {
    let inner = width.saturating_sub(2);
    let total = memory.total_bytes.max(1) as f64;
    // At most `inner`, whatever the figures are.
    let cells = |bytes: u64| (bytes as f64 / total * inner as f64).ceil() as usize;
    let cap = memory.cap_bytes.saturating_add(memory.peers_bytes);
    let ours = cells(memory.used_bytes).min(inner);
    let theirs = cells(memory.peers_bytes).min(inner - ours);
    let free = cells(cap).min(inner).saturating_sub(ours + theirs);
    let kept = inner - ours - theirs - free;
    let parts = [("#", ours), ("+", theirs), (".", free), ("x", kept)];
    let parts: String = parts
        .iter()
        .map(|(mark, count)| mark.repeat(*count))
        .collect();
    format!("[{parts}]")
}

fn add_model(page: &mut Page, model: &ModelStatus) {
    let stats = &model.stats;
    page.add(
        Tone::Strong,
        &format!("{}, {} tokens", model.model, model.context),
    );
    page.add(
        Tone::Plain,
        &format!(
            "{} running, {} queued, {} started, {} of them held back",
            model.running, model.queued, stats.total_requests, stats.throttled_requests
        ),
    );
    for stage in &model.stages {
        let weights = Bytes(stage.weights_bytes);
        let text = format!("{}: {}, weights {weights}", stage.device, stage.pieces);
        page.add(Tone::Muted, &text);
    }
    if let Some(problem) = &model.degraded {
        page.add(Tone::Problem, problem);
    }
}

fn add_notes(page: &mut Page, machine: &MachineStatus) {
    let failures = machine
        .failures
        .iter()
        .map(|failure| format!("failed: {failure}"));
    let lost = machine.devices.iter().filter_map(|device| {
        let problem = device.lost.as_ref()?;
        Some(format!("lost: {}: {problem}", device.device))
    });
    let threads = machine.threads.iter().flat_map(|thread| {
        let told = thread.problems.iter();
        told.map(|problem| format!("thread {}: {problem}", thread.name))
    });
    let not_held = machine
        .not_enforced
        .iter()
        .map(|limit| format!("not held: {limit}"));
    let problems: Vec<_> = failures
        .chain(lost)
        .chain(threads)
        .chain(not_held)
        .collect();
    let peers = machine.peers.iter().map(|peer| {
        let requests = if peer.is_busy { "has requests" } else { "idle" };
        format!("gogrid {} beside it: {requests}", peer.pid)
    });
    let not_seen = machine
        .not_seen
        .iter()
        .map(|unseen| format!("not seen: {unseen}"));
    let notes: Vec<_> = peers.chain(not_seen).collect();
    if !problems.is_empty() || !notes.is_empty() {
        page.gap();
    }
    for problem in &problems {
        page.add(Tone::Problem, problem);
    }
    for note in &notes {
        page.add(Tone::Muted, note);
    }
}

#[cfg(test)]
pub(super) mod tests;
