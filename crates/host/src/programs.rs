use std::collections::HashSet;

use crate::ability::names;
use crate::error::HostError;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// Which of these applications run, by the names given: those of their program files, in any case
/// and with or without `.exe`. It looks at every process, so ask seldom.
pub fn running(names: &[String]) -> Result<Vec<String>, HostError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut system = system()?;
    let what = ProcessRefreshKind::nothing()
        .without_tasks()
        .with_exe(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    if system.processes().is_empty() {
        return Err(nobody());
    }
    let programs: HashSet<String> = system
        .processes()
        .values()
        .flat_map(|process| {
            let file = process.exe().and_then(|path| path.file_name());
            [Some(process.name()), file]
        })
        .flatten()
        .map(|name| plain(&name.to_string_lossy()))
        .collect();
    Ok(among(names, &programs))
}

/// Whether processes can be listed here.
pub(crate) fn can_list() -> Result<(), HostError> {
    let own = Pid::from_u32(std::process::id());
    let what = ProcessRefreshKind::nothing();
    match system()?.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), true, what) {
        0 => Err(nobody()),
        _ => Ok(()),
    }
}

/// The numbers of all processes; of none where they cannot be listed.
#[cfg(windows)]
pub(crate) fn process_ids() -> Vec<u32> {
    let Ok(mut system) = system() else {
        return Vec::new();
    };
    let what = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    system.processes().keys().map(|pid| pid.as_u32()).collect()
}

/// This process runs, so a list without any is none.
fn nobody() -> HostError {
    HostError::Unread {
        what: names::PROGRAMS,
        reason: "the system lists no process, not even this one".to_owned(),
    }
}

fn system() -> Result<System, HostError> {
    System::new().map_err(|error| HostError::Unread {
        what: names::PROGRAMS,
        reason: error.to_string(),
    })
}

fn among(names: &[String], programs: &HashSet<String>) -> Vec<String> {
    let runs = |name: &&String| {
        let plain = plain(name);
        programs.contains(&plain) || programs.contains(shortened(&plain))
    };
    names.iter().filter(runs).cloned().collect()
}

fn plain(name: &str) -> String {
    let name = name.trim().to_lowercase();
    name.strip_suffix(".exe").unwrap_or(&name).to_owned()
}

/// Linux shows another user's process by no more than 15 bytes of its name.
fn shortened(name: &str) -> &str {
    const SHOWN: usize = 15;
    match name.len() > SHOWN {
        true => name.get(..SHOWN).unwrap_or(name),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_ending() {
        let programs = ["game", "blender", "a-very-long-pro"].map(str::to_owned);
        let check = |name: &str, runs: bool| {
            let found = among(&[name.to_owned()], &programs.clone().into());
            let expected = if runs { vec![name] } else { vec![] };
            assert_eq!(found, expected, "{name}");
        };
        check("Game.EXE", true);
        check("game", true);
        check("games", false);
        check("gam", false);
        check("Blender", true);
        check("a-very-long-program", true);
        check("a-very-long", false);
        check("", false);
    }

    #[test]
    fn this_test_runs() {
        let own = std::env::current_exe().unwrap();
        let own = own.file_name().unwrap().to_str().unwrap().to_owned();
        let none = "no-such-application".to_owned();
        assert_eq!(
            running(&[none, own.to_uppercase()]).unwrap(),
            [own.to_uppercase()]
        );
        assert!(running(&[]).unwrap().is_empty());
    }
}
