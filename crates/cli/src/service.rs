//! `gogrid service`: the system starts `gogrid serve` whenever its user logs in.

use std::any::TypeId;
use std::ffi::OsStr;
use std::path::{Path, PathBuf, absolute};
use std::{env, iter};

use anyhow::{Context, anyhow};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches};
use gogrid_host::{
    Activity, Restart, ServiceSpec, ServiceStatus, install_service, remove_service, service_status,
};
use gogrid_server::check_address;
use serde::Serialize;

use crate::args::{Cli, Command, ServeArgs, ServiceArgs, ServiceCommand};
use crate::exit::{BadInput, INPUT, USAGE, WrongUsage};
use crate::interrupt::Interrupt;
use crate::live::PROGRAM;
use crate::serve::{self, KEY_VARIABLE, Prepared};
use crate::{failure, model_file, out};

/// Seconds until a server that failed is started again.
const RESTART_AFTER_S: u32 = 10;

/// Seconds that a server may take to end beside those that its requests may go on for.
const END_S: u32 = 15;

/// Where models are looked for depends on these folders, which a session that begins later may not name.
const FOLDER_VARIABLES: [&str; 5] = [
    "GOGRID_CACHE",
    "XDG_CACHE_HOME",
    "HF_HUB_CACHE",
    "HF_HOME",
    "OLLAMA_MODELS",
];

pub(crate) fn run(args: &ServiceArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    match &args.command {
        ServiceCommand::Install { options } => install(options, interrupt),
        ServiceCommand::Status { json } => status(json.json),
        ServiceCommand::Remove => remove(),
    }
}

fn install(options: &[String], interrupt: &Interrupt) -> anyhow::Result<()> {
    let (args, words) = match Parsed::new(options) {
        Ok(parsed) => (parsed.args()?, parsed.words()?),
        Err(instead) => return failure::no_command(&instead),
    };
    check(&args, interrupt)?;
    let program = env::current_exe().context("cannot tell where this program is")?;
    let path = install_service(&ServiceSpec {
        name: PROGRAM,
        description: "GoGrid: language models for the programs of this machine",
        program: text(program.as_os_str())?,
        arguments: iter::once("serve".to_owned()).chain(words).collect(),
        environment: environment()?,
        restart: Restart {
            after_s: RESTART_AFTER_S,
            // Neither wrong options nor a bad model gets better by itself.
            never_after: &[USAGE, INPUT],
        },
        stop_s: whole_seconds(args.drain) + END_S,
    })?;
    out::note(format!(
        "installed {}: it starts now and whenever you log in; `gogrid service status` says how it goes",
        path.display()
    ));
    Ok(())
}

/// The command line of `gogrid serve`.
struct Parsed {
    serve: clap::Command,
    all: ArgMatches,
}

impl Parsed {
    fn new(options: &[String]) -> Result<Self, clap::Error> {
        let line = [PROGRAM, "serve"].into_iter().map(str::to_owned);
        let mut command = Cli::command();
        let all = command.try_get_matches_from_mut(line.chain(options.iter().cloned()))?;
        let serve = command.find_subcommand("serve");
        let serve = serve.expect("it was just parsed").clone();
        Ok(Self { serve, all })
    }

    fn args(&self) -> anyhow::Result<ServeArgs> {
        match Cli::from_arg_matches(&self.all)?.command {
            Command::Serve(args) => Ok(args),
            other => Err(anyhow!("{other:?} is not serve")),
        }
    }

    /// The options that were given, in a form that means the same in any folder.
    fn words(&self) -> anyhow::Result<Vec<String>> {
        let matches = self.all.subcommand_matches("serve");
        let matches = matches.context("no options of serve")?;
        let mut words = Vec::new();
        for arg in self.serve.get_arguments() {
            let id = arg.get_id().as_str();
            if matches.value_source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let long = arg.get_long();
            let long = long.with_context(|| format!("the option {id} has no long name"))?;
            if !arg.get_action().takes_values() {
                words.push(format!("--{long}"));
                continue;
            }
            for value in matches.get_raw(id).into_iter().flatten() {
                words.push(format!("--{long}={}", anywhere(arg, value)?));
            }
        }
        Ok(words)
    }
}

/// The value of an option, with the whole path where it is one.
fn anywhere(arg: &Arg, value: &OsStr) -> anyhow::Result<String> {
    let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    let value = text(value)?;
    let path = match arg.get_long() {
        Some("model") => model_file::path_of(&value),
        _ => is_path.then(|| Path::new(&value)),
    };
    match path {
        Some(path) => text(absolute(path)?.as_os_str()),
        None => Ok(value),
    }
}

fn text(text: &OsStr) -> anyhow::Result<String> {
    let problem = || BadInput(format!("{text:?} is not UTF-8: services take text only"));
    Ok(text.to_str().ok_or_else(problem)?.to_owned())
}

/// Refuses what `gogrid serve` would, and what it would have to fetch: a download that takes an hour belongs before
/// a terminal.
fn check(args: &ServeArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    if args.api_key_file.is_none() && env::var_os(KEY_VARIABLE).is_some() {
        let problem = format!(
            "a service has no {KEY_VARIABLE}, and a key is not written into its file: put the key into a file of \
             your own and name that with --api-key-file, or unset the variable"
        );
        return Err(WrongUsage(problem).into());
    }
    for model in serve::asked(args) {
        if model_file::local(&model, interrupt)?.is_none() {
            model_file::named(&model)?;
            let problem = format!("{model} is not here: `gogrid pull {model}` fetches it");
            return Err(BadInput(problem).into());
        }
    }
    let Prepared { keys, .. } = serve::prepare(args, interrupt)?;
    check_address(args.listen, keys.as_ref()).map_err(|error| WrongUsage(error.to_string()))?;
    Ok(())
}

/// The variables that name folders, with whole paths.
fn environment() -> anyhow::Result<Vec<(String, String)>> {
    let set = FOLDER_VARIABLES.into_iter().filter_map(|name| {
        let value = env::var_os(name).filter(|value| !value.is_empty())?;
        // That standard has a relative path count as none.
        let is_none = name.starts_with("XDG_") && Path::new(&value).is_relative();
        (!is_none).then_some((name, value))
    });
    let pairs = set.map(|(name, value)| Ok((name.to_owned(), text(absolute(value)?.as_os_str())?)));
    pairs.collect()
}

/// Rounded up. The option bounds it.
fn whole_seconds(seconds: f32) -> u32 {
    seconds.ceil() as u32
}

#[derive(Serialize)]
struct View {
    is_installed: bool,
    /// `systemd`, `launchd` or `Task Scheduler`.
    starter: &'static str,
    /// The service's file, or where it would be.
    path: String,
    command: Option<String>,
    /// `running`, `starting`, `stopped`, `failed` or `unknown`.
    state: Option<&'static str>,
    /// In the system's words.
    since: Option<String>,
    /// Why the state is unknown.
    problem: Option<String>,
}

impl From<ServiceStatus> for View {
    fn from(status: ServiceStatus) -> Self {
        let (state, since, problem) = match status.activity {
            None => (None, None, None),
            Some(Activity::Running(since)) => (Some("running"), since, None),
            Some(Activity::Starting) => (Some("starting"), None, None),
            Some(Activity::Stopped) => (Some("stopped"), None, None),
            Some(Activity::Failed) => (Some("failed"), None, None),
            Some(Activity::Unknown(problem)) => (Some("unknown"), None, Some(problem)),
        };
        Self {
            is_installed: status.command.is_some(),
            starter: status.starter,
            path: status.path.display().to_string(),
            command: status.command,
            state,
            since,
            problem,
        }
    }
}

fn status(is_json: bool) -> anyhow::Result<()> {
    let view = View::from(service_status(PROGRAM)?);
    if is_json {
        return out::json(&view);
    }
    let (Some(command), Some(state)) = (&view.command, view.state) else {
        out::line(&format!("not installed: no file {}", view.path))?;
        return Ok(());
    };
    let since = view.since.map(|since| format!(" since {since}"));
    let problem = view.problem.map(|problem| format!(": {problem}"));
    let detail = since.or(problem).unwrap_or_default();
    out::line(&format!("{state}{detail}"))?;
    out::line(&format!("command  {command}"))?;
    out::line(&format!("file     {}, of {}", view.path, view.starter))?;
    Ok(())
}

fn remove() -> anyhow::Result<()> {
    match remove_service(PROGRAM)? {
        Some(path) => out::note(format!("stopped and removed {}", path.display())),
        None => {
            let path = service_status(PROGRAM)?.path;
            let problem = format!("no service is installed: no file {}", path.display());
            return Err(BadInput(problem).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(options: &[&str]) -> Vec<String> {
        let options: Vec<_> = options.iter().map(|&word| word.to_owned()).collect();
        Parsed::new(&options).unwrap().words().unwrap()
    }

    #[test]
    fn options_keep_their_values_and_paths_become_whole() {
        let here = env::current_dir().unwrap();
        let here = here.to_str().unwrap();
        assert!(words(&[]).is_empty());
        assert_eq!(
            words(&[
                "--keep-alive",
                "-1",
                "--model",
                "src",
                "--model",
                "smollm2-135m"
            ]),
            [
                &format!("--model={here}/src"),
                "--model=smollm2-135m",
                "--keep-alive=-1"
            ]
        );
        for option in ["models", "limits", "api-key-file", "chat-template-file"] {
            let written = words(&[&format!("--{option}=a b/c")]);
            assert_eq!(written, [format!("--{option}={here}/a b/c")]);
        }
        assert_eq!(words(&["--listen=127.0.0.1:1"]), ["--listen=127.0.0.1:1"]);
    }

    #[test]
    fn what_is_written_down_is_taken_again() {
        let written = words(&[
            "--keep-alive",
            "-1",
            "--device",
            "cpu:0",
            "--device",
            "cpu:1",
        ]);
        let again: Vec<&str> = written.iter().map(String::as_str).collect();
        assert_eq!(words(&again), written);
        let parsed = Parsed::new(&written).unwrap().args().unwrap();
        assert_eq!(parsed.machine.devices, ["cpu:0", "cpu:1"]);
        assert_eq!(parsed.keep_alive.0, None);
        assert!(Parsed::new(&["--no-such".to_owned()]).is_err());
    }
}
