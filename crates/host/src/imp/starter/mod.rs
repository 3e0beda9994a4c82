//! What starts programs when their user logs in, a module for each system. The texts are pure functions, so every
//! system's tests hold all of them.

#[cfg(any(test, target_os = "macos"))]
mod launchd;
#[cfg(any(test, target_os = "linux"))]
mod systemd;
#[cfg(any(test, windows))]
mod tasks;
#[cfg(test)]
mod tests;
#[cfg(any(test, target_os = "macos", windows))]
mod xml;

use std::path::{Path, PathBuf};

use crate::service::{Activity, Call, ServiceError, ServiceSpec};

/// An absolute path that a variable holds.
pub(crate) type Folder<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// A system's starter of programs: where its file is and what is in it, and the commands that it takes.
pub(crate) trait Starter {
    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// Where the file of a service belongs.
    fn path(&self, name: &str, folder: Folder<'_>) -> Result<PathBuf, ServiceError>;

    /// The file. An error where the system has no way to say something of the description.
    fn bytes(&self, spec: &ServiceSpec) -> Result<Vec<u8>, ServiceError>;

    /// The command line in a file of [`bytes`](Self::bytes), in the file's own quoting.
    fn command(&self, bytes: &[u8]) -> Option<String>;

    /// Succeeds where the starter is at work for this user.
    fn probe(&self) -> Call;

    /// What to do where it is not.
    fn remedy(&self) -> &'static str;

    /// Has it take up the file, and start the program now and at each login.
    fn load(&self, name: &str, path: &Path) -> Vec<Call>;

    /// Has it stop the program, and start it no more; whether it does is told by the last of them.
    fn unload(&self, name: &str) -> Vec<Call>;

    /// Has it see that the file is gone.
    fn forget(&self) -> Vec<Call>;

    /// Asks what the program does.
    fn ask(&self, name: &str) -> Call;

    /// What the answer to [`ask`](Self::ask) says.
    fn activity(&self, said: &str) -> Activity;

    /// Whether these last words of [`ask`](Self::ask) mean that it does not know the service.
    fn means_unloaded(&self, said: &str) -> bool;
}

/// This system's.
#[cfg(target_os = "linux")]
pub(crate) fn starter() -> Result<impl Starter, ServiceError> {
    Ok(systemd::Systemd)
}

/// This system's.
#[cfg(target_os = "macos")]
pub(crate) fn starter() -> Result<impl Starter, ServiceError> {
    let home = std::env::var("HOME").unwrap_or_default();
    Ok(launchd::Launchd {
        user: rustix::process::getuid().as_raw(),
        log: format!("{home}/Library/Logs/gogrid.log"),
    })
}

/// This system's.
#[cfg(windows)]
pub(crate) fn starter() -> Result<impl Starter, ServiceError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    Ok(tasks::TaskScheduler {
        user: format!("{}\\{}", variable("USERDOMAIN"), variable("USERNAME")),
    })
}

/// Not built in for other systems.
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
pub(crate) fn starter() -> Result<absent::Absent, ServiceError> {
    let system = std::env::consts::OS;
    Err(ServiceError::NotSupported(format!(
        "services on {system}; have what starts programs there run `gogrid serve`"
    )))
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod absent;

fn call(words: &[&str]) -> Call {
    words.iter().map(|&word| word.to_owned()).collect()
}
