//! Signs of somebody at the machine: the display server and the desktop know of input, logind of
//! locked screens and of who is logged in.

mod address;
mod bus;
mod desktop;
mod logind;
mod x11;

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use rustix::process::getuid;

use crate::presence::{Presence, PresenceSource};

/// Something that tells; an error makes it be opened anew after a while.
trait Source {
    fn ask(&mut self) -> Result<Presence, String>;
}

/// Opens a source, or says why it cannot be.
type Open = fn() -> Result<Box<dyn Source>, String>;

struct Kept {
    name: &'static str,
    open: Open,
    state: Result<Box<dyn Source>, String>,
    /// Samples until it is opened anew.
    retry_in: u32,
}

/// Sources that know of input come before logind, which knows of it late or not at all.
pub(crate) struct PresenceSources {
    kept: Vec<Kept>,
}

/// Somebody may log in later, or a display server may begin anew.
const RETRY_AFTER: u32 = 30;

const ALL: [(&str, Open); 3] = [
    ("GNOME's idle monitor", desktop::open),
    ("X11", x11::open),
    ("logind", logind::open),
];

impl PresenceSources {
    /// Without waiting for anybody: the reasons, if nothing can tell.
    pub(crate) fn may_exist() -> Result<(), Vec<PresenceSource>> {
        let ways = [
            session_bus().err(),
            x11::display().err(),
            logind::bus().err(),
        ];
        if ways.iter().any(Option::is_none) {
            return Ok(());
        }
        let named = ALL.iter().zip(ways);
        let absent = named.map(|((name, _), problem)| PresenceSource { name, problem });
        Err(absent.collect())
    }

    pub(crate) fn open() -> Self {
        let kept = ALL.map(|(name, open)| Kept {
            name,
            open,
            state: open(),
            retry_in: RETRY_AFTER,
        });
        Self {
            kept: kept.into_iter().collect(),
        }
    }

    pub(crate) fn ask(&mut self) -> Option<Presence> {
        let answers = self.kept.iter_mut().filter_map(Kept::ask);
        answers.reduce(merged)
    }

    pub(crate) fn states(&self) -> Vec<PresenceSource> {
        let state = |kept: &Kept| PresenceSource {
            name: kept.name,
            problem: kept.state.as_ref().err().cloned(),
        };
        self.kept.iter().map(state).collect()
    }
}

/// Two sources together; the first counts where both tell.
fn merged(first: Presence, next: Presence) -> Presence {
    // A source that sees nobody on a screen of this machine says locked. Somebody who types on another's,
    // by remote desktop, is there all the same.
    let sees_nobody = next.idle.is_none() && first.idle.is_some();
    Presence {
        idle: first.idle.or(next.idle),
        locked: first.locked.or(next.locked.filter(|_| !sees_nobody)),
        full_screen: first.full_screen.or(next.full_screen),
    }
}

impl Kept {
    fn ask(&mut self) -> Option<Presence> {
        if self.state.is_err() {
            self.retry_in -= 1;
            if self.retry_in == 0 {
                self.retry_in = RETRY_AFTER;
                self.state = (self.open)();
            }
        }
        match self.state.as_mut().ok()?.ask() {
            Ok(presence) => Some(presence),
            Err(problem) => {
                self.state = Err(problem);
                None
            }
        }
    }
}

/// The sockets at which the session bus may be.
fn session_bus() -> Result<Vec<SocketAddr>, String> {
    if let Some(addresses) = env::var_os("DBUS_SESSION_BUS_ADDRESS") {
        let text = addresses
            .to_str()
            .ok_or("the session bus's address is no text")?;
        return address::sockets(text);
    }
    let folder = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let user = getuid().as_raw();
    let bus = folder
        .filter(|folder| folder.is_absolute())
        .unwrap_or_else(|| format!("/run/user/{user}").into())
        .join("bus");
    match is_socket(&bus) {
        true => Ok(vec![socket_at(&bus)?]),
        false => Err("no session bus: DBUS_SESSION_BUS_ADDRESS is not set".to_owned()),
    }
}

fn socket_at(path: &Path) -> Result<SocketAddr, String> {
    SocketAddr::from_pathname(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn exists(path: &str) -> Result<(), String> {
    match is_socket(Path::new(path)) {
        true => Ok(()),
        false => Err(format!("{path} is no socket or not there")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_types_on_a_remote_desktop_is_there() {
        let typing = Presence {
            idle: Some(Duration::ZERO),
            ..Presence::default()
        };
        let nobody_on_screen = Presence {
            locked: Some(true),
            ..Presence::default()
        };
        assert_eq!(merged(typing, nobody_on_screen), typing);
        let locked = Presence {
            idle: Some(Duration::from_secs(5)),
            locked: Some(true),
            ..Presence::default()
        };
        assert_eq!(merged(typing, locked).locked, Some(true));
        assert_eq!(
            merged(Presence::default(), nobody_on_screen).locked,
            Some(true)
        );
    }
}
