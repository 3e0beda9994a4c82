//! `gogrid limits`: the limits of a running gogrid, seen and changed.

use std::fmt::Write;

use anyhow::Context;
use corpgrid_scheduler::{Changes, Profile, Ruling, Settings, Status, Verdict};
use gogrid_control::{Request, View, ask, running};
use serde::Serialize;
use serde_json::Value;

use crate::args::{LimitsArgs, LimitsCommand, SetArgs};
use crate::exit::{NotRunning, WrongUsage};
use crate::live::PROGRAM;
use crate::out;

pub(crate) fn run(args: &LimitsArgs) -> anyhow::Result<()> {
    let request = request(&args.command)?;
    let pid = find(args.pid)?;
    let view = ask(PROGRAM, pid, &request)?;
    if args.json.json {
        return out::json(&view);
    }
    if matches!(&args.command, LimitsCommand::Get(get) if get.prometheus) {
        return Ok(out::text(&prometheus(&view)?)?);
    }
    Ok(out::text(&table(pid, &view)?)?)
}

/// The process meant: the one named, or the only one there is.
fn find(pid: Option<u32>) -> anyhow::Result<u32> {
    let found = running(PROGRAM)?;
    match (pid, &*found) {
        (Some(pid), found) if found.contains(&pid) => Ok(pid),
        (Some(pid), _) => Err(NotRunning::Not(pid).into()),
        (None, [pid]) => Ok(*pid),
        (None, []) => Err(NotRunning::None.into()),
        (None, several) => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            let problem = format!(
                "{} gogrids are running: say which one with --pid, of {}",
                several.len(),
                several.join(", ")
            );
            Err(WrongUsage(problem).into())
        }
    }
}

fn request(command: &LimitsCommand) -> anyhow::Result<Request> {
    Ok(match command {
        LimitsCommand::Get(_) => Request::Get,
        LimitsCommand::Set(args) => Request::Set(changes(args)?),
        LimitsCommand::Pause => Request::Pause,
        LimitsCommand::Resume => Request::Resume,
        LimitsCommand::Snooze { time } => Request::Snooze { seconds: time.0 },
        LimitsCommand::Finish => Request::Finish,
    })
}

/// Each assignment is a line of a file of settings, in which a key without a section is one of the
/// limits.
fn changes(args: &SetArgs) -> anyhow::Result<Changes> {
    let mut text = String::new();
    if let Some(mode) = args.mode {
        writeln!(
            text,
            "mode = {:?}",
            corpgrid_scheduler::Mode::from(mode).name()
        )?;
    }
    for assignment in &args.changes {
        let wrong = |problem: &str| WrongUsage(format!("{assignment:?}: {problem}"));
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| wrong("must be KEY=VALUE, such as max_compute_usage_percent=0.3"))?;
        let key = match key.trim() {
            key if key.contains('.') => key.to_owned(),
            key => format!("limits.{key}"),
        };
        let line = format!("{key} = {value}\n");
        // A line end in it would let one assignment be several.
        if value.contains('\n') {
            return Err(wrong("must be one line").into());
        }
        Changes::from_toml(&line).map_err(|error| wrong(error.message()))?;
        text.push_str(&line);
    }
    let changes =
        Changes::from_toml(&text).map_err(|error| WrongUsage(error.message().to_owned()))?;
    Ok(changes)
}

fn table(pid: u32, view: &View) -> anyhow::Result<String> {
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
    Ok(text)
}

/// Written here and not by the running process, which has better things to do.
fn prometheus(view: &View) -> anyhow::Result<String> {
    let status: Status =
        serde_json::from_value(view.status.clone()).context("a status that is none")?;
    Ok(status.prometheus())
}

/// The verdict of the policy in words: `somebody may be there; limited to 0.3: others use 50 % of the
/// processor`.
fn verdict(ruling: &Value) -> anyhow::Result<String> {
    let Ruling {
        profile,
        verdict,
        compute_share,
        admits,
    } = serde_json::from_value(ruling.clone()).context("a ruling that is none")?;
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
    Ok(format!("{there}; {verdict}{admits}"))
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
