//! What a running gogrid says, as text.

use std::fmt::Write;

use anyhow::Context;
use corpgrid_scheduler::status::{DeviceStatus, StageStatus};
use corpgrid_scheduler::{
    MemoryStatus, Mode, PeerUse, Profile, Ruling, Settings, ThreadFailure, Verdict,
};
use gogrid_control::View;
use gogrid_units::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::SetArgs;

/// The limits, where the stages stand, and what is held, as text.
pub(super) fn table(pid: u32, view: &View) -> anyhow::Result<String> {
    let status = &view.status;
    let mut text = format!("process {pid}");
    if let Some(model) = status["model"].as_str() {
        write!(text, ", {model}")?;
    }
    text.push('\n');
    writeln!(text, "{}", verdict(&status["ruling"])?)?;
    let Settings { limits, away, .. } = &view.settings;
    let (limits, away) = (fields(limits)?, fields(away)?);
    writeln!(
        text,
        "{:28}{:>10}{:>10}{:>10}",
        "", "present", "away", "in force"
    )?;
    for (key, value) in &limits {
        let in_force = &status["limits"][key];
        writeln!(
            text,
            "{key:28}{:>10}{:>10}{:>10}",
            shown(value),
            shown(&away[key]),
            shown(in_force)
        )?;
    }
    if let Some(file) = &view.settings_file {
        let problem = file.problem.as_deref();
        let state = problem.map_or("in force".to_owned(), |problem| {
            format!("not in force: {problem}")
        });
        writeln!(text, "file {}: {state}", file.path.display())?;
    }
    let not_enforced = status["not_enforced"].as_array();
    for limit in not_enforced.into_iter().flatten() {
        writeln!(text, "not held: {}", shown(limit))?;
    }
    for unseen in status["not_seen"].as_array().into_iter().flatten() {
        writeln!(text, "not seen: {}", shown(unseen))?;
    }
    write_standing(&mut text, status)?;
    Ok(text)
}

/// What the policy says after a command, in a line.
pub(super) fn ruling(pid: u32, view: &View) -> anyhow::Result<String> {
    Ok(format!(
        "process {pid}: {}",
        verdict(&view.status["ruling"])?
    ))
}

/// What is in force of the keys that were set, in a line: that of a mode is all its settings.
pub(super) fn changed(pid: u32, set: &SetArgs, view: &View) -> anyhow::Result<String> {
    let settings = serde_json::to_value(&view.settings)?;
    let mode = set
        .mode
        .map(|mode| format!("the settings of the mode {}", Mode::from(mode).name()));
    let keys = set
        .changes
        .iter()
        .filter_map(|change| change.split_once('='));
    let keys = keys.map(|(key, _)| {
        let key = full_key(key);
        let value = key
            .split('.')
            .fold(&settings, |settings, part| &settings[part]);
        format!("{key} is {}", shown(value))
    });
    let said: Vec<_> = mode.into_iter().chain(keys).collect();
    let file = match &view.settings_file {
        Some(file) => format!(
            "; {} says otherwise, and counts again when it changes",
            file.path.display()
        ),
        None => String::new(),
    };
    Ok(format!("process {pid}: {}{file}", said.join(", ")))
}

/// Where the stages stand, in a line.
pub(super) fn standing(pid: u32, view: &View) -> anyhow::Result<String> {
    let stages = list::<StageStatus>(&view.status["stages"])?;
    let stages = stages.iter().map(|stage| {
        let StageStatus {
            device,
            first_piece,
            end_piece,
            ..
        } = stage;
        format!("{device}={first_piece}-{end_piece}")
    });
    let stages: Vec<_> = stages.collect();
    Ok(format!(
        "process {pid}: stages stand on {}",
        stages.join(" ")
    ))
}

/// A key as a file of settings has it: one without a section is one of the limits.
pub(super) fn full_key(key: &str) -> String {
    match key.trim() {
        key if key.contains('.') => key.to_owned(),
        key => format!("limits.{key}"),
    }
}

/// The verdict of the policy in words: `somebody may be there; limited to 0.3: others use 50 % of the
/// processor`.
fn verdict(ruling: &Value) -> anyhow::Result<String> {
    let ruling: Ruling = serde_json::from_value(ruling.clone()).context("a ruling that is none")?;
    let owner = ruling.owner_more().map_or_else(String::new, |share| {
        format!("; the owner's own requests may take {share}")
    });
    let Ruling {
        profile,
        verdict,
        compute_share,
        admits,
        ..
    } = ruling;
    let there = match profile {
        Profile::Present => "somebody is there, or may be",
        Profile::Away => "nobody is there",
    };
    let admits = if admits { "" } else { "; accepts nothing more" };
    let verdict = match verdict {
        Verdict::Open => format!("open, up to {compute_share} of the processor"),
        Verdict::Limited { why, .. } => {
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            format!(
                "limited to {compute_share} of the processor: {}",
                why.join("; ")
            )
        }
        Verdict::Shut(why) => format!("stopped: {why}"),
    };
    Ok(format!("{there}; {verdict}{owner}{admits}"))
}

fn fields(limits: &impl Serialize) -> anyhow::Result<serde_json::Map<String, Value>> {
    let Value::Object(fields) = serde_json::to_value(limits)? else {
        anyhow::bail!("limits that are no table");
    };
    Ok(fields)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Where the stages stand, what is held of the memories and by which other processes, and what has
/// failed. A process of another version may tell less.
fn write_standing(text: &mut String, status: &Value) -> anyhow::Result<()> {
    for stage in list::<StageStatus>(&status["stages"])? {
        let StageStatus {
            device,
            first_piece,
            end_piece,
            pieces,
            ..
        } = &stage;
        let weights = Bytes(stage.weights_bytes);
        writeln!(
            text,
            "stage on {device}: pieces {first_piece}-{end_piece} ({pieces}), weights {weights}"
        )?;
    }
    for memory in list::<MemoryStatus>(&status["memories"])? {
        let name = &memory.memory;
        let (used, cap) = (Bytes(memory.used_bytes), Bytes(memory.cap_bytes));
        write!(text, "memory {name}: {used} held of {cap} allowed")?;
        match memory.peers_bytes {
            0 => writeln!(text)?,
            theirs => writeln!(text, ", {} held by other gogrids", Bytes(theirs))?,
        }
    }
    for peer in list::<PeerUse>(&status["peers"])? {
        let held: u64 = peer.memory_bytes.iter().map(|(_, bytes)| bytes).sum();
        let requests = if peer.is_busy { "has requests" } else { "idle" };
        writeln!(
            text,
            "gogrid {} beside it: {requests}, {:.2} of the processor, {} held",
            peer.pid,
            peer.cpu_share,
            Bytes(held)
        )?;
    }
    for device in list::<DeviceStatus>(&status["devices"])? {
        if !device.hardware.is_empty() {
            writeln!(text, "device {}: {}", device.device, device.hardware)?;
        }
        if let Some(problem) = &device.lost {
            writeln!(text, "lost: {}: {problem}", device.device)?;
        }
    }
    for device in list::<String>(&status["left_out"])? {
        writeln!(text, "not used: {device}")?;
    }
    for failure in list::<ThreadFailure>(&status["failures"])? {
        writeln!(text, "failed: {failure}")?;
    }
    Ok(())
}

fn list<T: DeserializeOwned>(value: &Value) -> anyhow::Result<Vec<T>> {
    match value {
        Value::Null => Ok(Vec::new()),
        value => serde_json::from_value(value.clone()).context("a status that is none"),
    }
}
