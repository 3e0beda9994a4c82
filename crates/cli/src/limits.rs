//! `gogrid limits`: the limits of a running gogrid, seen and changed.

use std::fmt::Write;

use anyhow::Context;
use corpgrid_scheduler::{Changes, MachineStatus, Mode, Settings, SettingsError, Status};
use gogrid_control::{Request, View, ask, is_running, running};

use crate::args::{LimitsArgs, LimitsCommand, SetArgs};
use crate::exit::{NotRunning, WrongUsage};
use crate::live::PROGRAM;
use crate::out;

mod table;

const NO_STATUS: &str = "a status that is none";

pub(crate) fn run(args: &LimitsArgs) -> anyhow::Result<()> {
    let request = request(&args.command)?;
    let pid = find(args.pid)?;
    let view = ask(PROGRAM, pid, &request)?;
    if args.json.json {
        return out::json(&view);
    }
    match &args.command {
        LimitsCommand::Get(get) if get.prometheus => Ok(out::text(&prometheus(&view)?)?),
        LimitsCommand::Get(_) => Ok(out::text(&table::table(pid, &view)?)?),
        _ if args.verbose => Ok(out::text(&table::table(pid, &view)?)?),
        LimitsCommand::Set(set) => Ok(out::line(&table::changed(pid, set, &view)?)?),
        LimitsCommand::Move(_) => Ok(out::line(&table::standing(pid, &view)?)?),
        _ => Ok(out::line(&table::ruling(pid, &view)?)?),
    }
}

/// The processes that may be meant: the one named, or all there are. At least one.
pub(crate) fn candidates(pid: Option<u32>) -> anyhow::Result<Vec<u32>> {
    if let Some(pid) = pid {
        return match is_running(PROGRAM, pid)? {
            true => Ok(vec![pid]),
            false => Err(NotRunning::Not(pid).into()),
        };
    }
    let pids = running(PROGRAM)?;
    match pids.is_empty() {
        true => Err(NotRunning::None.into()),
        false => Ok(pids),
    }
}

/// The process meant: the one named, or the only one there is.
pub(crate) fn find(pid: Option<u32>) -> anyhow::Result<u32> {
    match &*candidates(pid)? {
        [pid] => Ok(*pid),
        several => {
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
        LimitsCommand::Move(args) => {
            let stages = args.stages.iter().map(|stage| stage.0.clone());
            Request::Move(stages.collect())
        }
    })
}

/// Each assignment is a line of a file of settings, in which a key without a section is one of the
/// limits.
fn changes(args: &SetArgs) -> anyhow::Result<Changes> {
    let mut text = String::new();
    if args.changes.is_empty() && args.mode.is_none() {
        let problem = "nothing to set: give KEY=VALUE, such as max_batch_size=4, or --mode MODE; `gogrid limits get` \
                       shows the keys and what they are";
        return Err(WrongUsage(problem.to_owned()).into());
    }
    if let Some(mode) = args.mode {
        writeln!(text, "mode = {:?}", Mode::from(mode).name())?;
    }
    for assignment in &args.changes {
        let wrong = |problem: &str| WrongUsage(format!("{assignment:?}: {problem}"));
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| wrong("must be KEY=VALUE, such as max_compute_usage_percent=0.3"))?;
        if key.trim() == "mode" {
            let value = value.trim();
            let problem = format!("the mode is an option: gogrid limits set --mode {value}");
            return Err(wrong(&problem).into());
        }
        let key = table::full_key(key);
        let line = format!("{key} = {value}\n");
        // A line end in it would let one assignment be several.
        if value.contains('\n') {
            return Err(wrong("must be one line").into());
        }
        Changes::from_toml(&line).map_err(|error| match misfit(&key, value) {
            Some(misfit) => wrong(misfit.message()),
            None => wrong(error.message()),
        })?;
        text.push_str(&line);
    }
    let changes =
        Changes::from_toml(&text).map_err(|error| WrongUsage(error.message().to_owned()))?;
    Ok(changes)
}

/// What is wrong with a value that is no TOML, if it is wrong as a text too: most are numbers.
fn misfit(key: &str, value: &str) -> Option<SettingsError> {
    let text = format!("{key} = {:?}\n", value.trim());
    let changes = Changes::from_toml(&text).ok()?;
    changes.onto(&Settings::of(Mode::Conservative)).err()
}

/// Written here and not by the running process, which has better things to do.
fn prometheus(view: &View) -> anyhow::Result<String> {
    let status = view.status.clone();
    // While a model is opened there is the machine's status alone.
    if status.get("models").is_some() {
        let machine: MachineStatus = serde_json::from_value(status).context(NO_STATUS)?;
        return Ok(machine.prometheus());
    }
    let status: Status = serde_json::from_value(status).context(NO_STATUS)?;
    Ok(status.prometheus())
}
