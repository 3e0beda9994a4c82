//! A program that the system starts when its user logs in: a user unit of systemd, an agent of launchd, a task of
//! Windows. The system's own tools do the work; this writes the file they read, and calls them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use crate::files::{read_regular, replace_own};
use crate::imp::{self, Starter};

/// Bytes of a service's file, at most.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Characters of what a tool said that are told.
const SAID_MAX: usize = 500;

/// A program that is to start when its user logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name in the system's lists: lower-case letters, digits and `-`.
    pub name: &'static str,
    /// A line about it, for people. launchd has no place for it.
    pub description: &'static str,
    /// The program's absolute path.
    pub program: String,
    /// Its arguments, each as the program is to get it.
    pub arguments: Vec<String>,
    /// Variables and their values, beside those of the user's session. Windows takes none.
    pub environment: Vec<(String, String)>,
    /// When it is started again.
    pub restart: Restart,
    /// Seconds that it may take to end after it was told to.
    pub stop_s: u32,
}

/// When a program that failed is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Seconds until then. Windows waits for a whole minute at least.
    pub after_s: u32,
    /// Exit codes that another start would not change; systemd alone heeds them.
    pub never_after: &'static [u8],
}

/// What the system knows of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Who starts it: `systemd`, `launchd` or `Task Scheduler`.
    pub starter: &'static str,
    /// Its file, whether it is there or not.
    pub path: PathBuf,
    /// The command line in the file, in the file's own quoting; `None` where there is no file.
    pub command: Option<String>,
    /// What it does; `None` where there is no file.
    pub activity: Option<Activity>,
}

/// What a service does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It runs; since when, in the system's words, where it tells.
    Running(Option<String>),
    /// It is being started, or waits to be started again.
    Starting,
    /// It does not run.
    Stopped,
    /// It ended with an error, and is not started again.
    Failed,
    /// The system does not tell: why.
    Unknown(String),
}

/// Why a service could not be installed, asked about or removed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// This system, or what this service asks of it, is not supported.
    #[error("not supported: {0}")]
    NotSupported(String),
    /// What starts programs on this system is not there, or does not answer.
    #[error("{starter} does not answer: {problem}")]
    Missing {
        /// Its name.
        starter: &'static str,
        /// Why, and the remedy.
        problem: String,
    },
    /// No variable tells where the file belongs.
    #[error("no folder for the service's file: none of {0} is set to an absolute path")]
    NoFolder(&'static str),
    /// Somebody else wrote the file.
    #[error(
        "{path} was not written by `gogrid service install`; it stays as it is: move it away, or keep it and do \
         without"
    )]
    NotOurs {
        /// Its path.
        path: String,
    },
    /// The file could not be read, written or removed.
    #[error("{path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A tool of the system's failed.
    #[error("`{call}` failed: {said}")]
    Refused {
        /// The command.
        call: String,
        /// What it said.
        said: String,
    },
}

/// Has the system start the program now, and from then on when this user logs in. One of this name that is there is
/// stopped and replaced. Gives the path of the file that was written.
///
/// # Errors
/// When the system cannot do it, or fails to. The file is then as it was before, and a service that was there is
/// started again as far as the system does it.
pub fn install_service(spec: &ServiceSpec) -> Result<PathBuf, ServiceError> {
    install(&imp::starter()?, spec)
}

/// What the system knows of the service of this name.
///
/// # Errors
/// When its file cannot be looked for or read.
pub fn service_status(name: &'static str) -> Result<ServiceStatus, ServiceError> {
    status(&imp::starter()?, name)
}

/// Stops the service of this name, and has the system forget it. Gives the path its file had; `None` where there is
/// no such service.
///
/// # Errors
/// When the system fails to stop it; its file is then left.
pub fn remove_service(name: &'static str) -> Result<Option<PathBuf>, ServiceError> {
    remove(&imp::starter()?, name)
}

fn install(starter: &impl Starter, spec: &ServiceSpec) -> Result<PathBuf, ServiceError> {
    let path = path_of(starter, spec.name)?;
    let bytes = starter.bytes(spec)?;
    probe(starter)?;
    let former = read(&path)?;
    if let Some(bytes) = &former {
        check_ours(&path, bytes)?;
        // One that is not loaded cannot be unloaded, and need not be.
        let _ = unload(starter, spec.name);
    }
    let made = missing_folders(&path);
    let installed = write(&path, &bytes).and_then(|()| run_all(&starter.load(spec.name, &path)));
    if let Err(error) = installed {
        put_back(starter, spec.name, former.as_deref(), &path);
        for folder in made {
            // One that is not empty has become somebody's.
            let _ = fs::remove_dir(folder);
        }
        return Err(error);
    }
    Ok(path)
}

/// Undoes an installation that failed, as far as the system lets it: the error that is told is the first.
fn put_back(starter: &impl Starter, name: &'static str, former: Option<&[u8]>, path: &Path) {
    let _ = unload(starter, name);
    match former {
        Some(bytes) => {
            let written = write(path, bytes);
            let _ = written.and_then(|()| run_all(&starter.load(name, path)));
        }
        None => {
            let _ = fs::remove_file(path);
            let _ = run_all(&starter.forget());
        }
    }
}

fn status(starter: &impl Starter, name: &'static str) -> Result<ServiceStatus, ServiceError> {
    let path = path_of(starter, name)?;
    let file = read(&path)?;
    let activity = file.is_some().then(|| match ask(starter, name) {
        Ok(Some(said)) => starter.activity(&said),
        Ok(None) => Activity::Stopped,
        Err(error) => Activity::Unknown(error.to_string()),
    });
    let unreadable = || "no command line that was written here".to_owned();
    let command = file.map(|bytes| starter.command(&bytes).unwrap_or_else(unreadable));
    Ok(ServiceStatus {
        starter: starter.name(),
        path,
        command,
        activity,
    })
}

fn remove(starter: &impl Starter, name: &'static str) -> Result<Option<PathBuf>, ServiceError> {
    let path = path_of(starter, name)?;
    let Some(bytes) = read(&path)? else {
        return Ok(None);
    };
    check_ours(&path, &bytes)?;
    probe(starter)?;
    if ask(starter, name)?.is_some() {
        unload(starter, name)?;
    }
    fs::remove_file(&path).map_err(|error| failed(&path, error))?;
    run_all(&starter.forget())?;
    Ok(Some(path))
}

/// What each file says that is written here.
pub(crate) const MARK: &str = "written by `gogrid service install`, which replaces it";

/// Whether a file is one that is written here, in bytes or in the two-byte units of Windows.
fn check_ours(path: &Path, bytes: &[u8]) -> Result<(), ServiceError> {
    let plain: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    match String::from_utf8_lossy(&plain).contains(MARK) {
        true => Ok(()),
        false => Err(ServiceError::NotOurs {
            path: path.display().to_string(),
        }),
    }
}

/// What the system says the service does; `None` where it does not know the service.
fn ask(starter: &impl Starter, name: &str) -> Result<Option<String>, ServiceError> {
    match run(&starter.ask(name)) {
        Ok(said) => Ok(Some(said)),
        Err(ServiceError::Refused { said, .. }) if starter.means_unloaded(&said) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Only the last call tells: there is nothing to stop where the program has ended.
fn unload(starter: &impl Starter, name: &str) -> Result<(), ServiceError> {
    let mut told = Ok(());
    for call in starter.unload(name) {
        told = run(&call).map(drop);
    }
    told
}

fn path_of(starter: &impl Starter, name: &str) -> Result<PathBuf, ServiceError> {
    starter.path(name, &|variable| {
        let path = env::var_os(variable).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    })
}

/// The file's bytes, where there is one.
fn read(path: &Path) -> Result<Option<Vec<u8>>, ServiceError> {
    match read_regular(path, FILE_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ServiceError> {
    let folder = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(folder).and_then(|()| replace_own(path, bytes));
    written.map_err(|error| failed(path, error))
}

/// Folders on the way to the file that are not there, the deepest first.
fn missing_folders(path: &Path) -> Vec<PathBuf> {
    let folders = path.ancestors().skip(1);
    let missing = folders.take_while(|folder| !folder.exists());
    missing.map(Path::to_path_buf).collect()
}

fn failed(path: &Path, source: io::Error) -> ServiceError {
    ServiceError::File {
        path: path.display().to_string(),
        source,
    }
}

/// A command of the system's, and its arguments.
pub(crate) type Call = Vec<String>;

fn probe(starter: &impl Starter) -> Result<(), ServiceError> {
    let problem = match run(&starter.probe()) {
        Ok(_) => return Ok(()),
        Err(ServiceError::Refused { call, said }) => format!("`{call}`: {said}"),
        Err(error) => error.to_string(),
    };
    Err(ServiceError::Missing {
        starter: starter.name(),
        problem: format!("{problem}; {}", starter.remedy()),
    })
}

fn run_all(calls: &[Call]) -> Result<(), ServiceError> {
    calls.iter().try_for_each(|call| run(call).map(drop))
}

/// What the command says on standard output.
fn run(call: &Call) -> Result<String, ServiceError> {
    let refused = |said: String| ServiceError::Refused {
        call: call.join(" "),
        said,
    };
    let mut command = Command::new(&call[0]);
    let command = command.args(&call[1..]).stdin(Stdio::null());
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refused(format!("no program {} on the PATH", call[0])),
        _ => refused(error.to_string()),
    })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(refused(last_words(&output))),
    }
}

/// What a command that failed said, in one line.
fn last_words(output: &Output) -> String {
    let said = [&output.stderr, &output.stdout];
    let said = said.map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    let said = said.into_iter().find(|text| !text.is_empty());
    let said = said.unwrap_or_else(|| output.status.to_string());
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(SAID_MAX).collect()
}
