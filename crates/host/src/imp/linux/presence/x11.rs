use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use x11rb::connection::Connection;
use x11rb::errors::{ReplyError, ReplyOrIdError};
use x11rb::protocol::screensaver::ConnectionExt as _;
use x11rb::protocol::xproto::{Atom, AtomEnum, ConnectionExt as _, Window};
use x11rb::rust_connection::RustConnection;

use super::Source;
use crate::presence::Presence;

struct X11 {
    server: RustConnection,
    root: Window,
    active_window: Atom,
    state: Atom,
    full_screen: Atom,
    /// Under Wayland the server sees only input to its own windows.
    sees_input: bool,
}

/// A display of this machine's, by its socket: one over the network is another desk's.
pub(super) fn display() -> Result<String, String> {
    let display = env::var("DISPLAY").map_err(|_| "DISPLAY is not set".to_owned())?;
    let socket = socket_of(&display)?;
    check_cookies(cookies())?;
    Ok(socket)
}

/// With the host `unix` written out, without which the library tries a port of the loopback as well, where
/// any user's program may listen.
fn socket_of(display: &str) -> Result<String, String> {
    let number = display.strip_prefix("unix").unwrap_or(display);
    let is_number = |part: &str| {
        (1..=5).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let of_server = number.strip_prefix(':');
    let is_ours = of_server.is_some_and(|text| match text.split_once('.') {
        Some((server, screen)) => is_number(server) && is_number(screen),
        None => is_number(text),
    });
    match is_ours {
        true => Ok(format!("unix{number}")),
        false => Err(format!("display {display:?} is not one of this machine's")),
    }
}

/// Where the library reads the server's cookies.
fn cookies() -> Option<PathBuf> {
    let named = env::var_os("XAUTHORITY").map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".Xauthority")))
}

/// Reading a pipe would wait for its writer, and a device need not end. A file that is not there is none.
fn check_cookies(file: Option<PathBuf>) -> Result<(), String> {
    const LENGTH_MAX: u64 = 1 << 20;
    let found = file.and_then(|file| Some((fs::metadata(&file).ok()?, file)));
    match found {
        Some((found, file)) if !found.is_file() || found.len() > LENGTH_MAX => {
            Err(format!("{} is no file of cookies", file.display()))
        }
        _ => Ok(()),
    }
}

pub(super) fn open() -> Result<Box<dyn Source>, String> {
    let display = display()?;
    let opened = connect(&display).map_err(|error| format!("display {display}: {error}"))?;
    Ok(Box::new(opened))
}

fn connect(display: &str) -> Result<X11, Box<dyn Error>> {
    let (server, screen) = RustConnection::connect(Some(display))?;
    let root = server
        .setup()
        .roots
        .get(screen)
        .ok_or("no such screen")?
        .root;
    let atom = |name: &str| -> Result<Atom, ReplyOrIdError> {
        Ok(server.intern_atom(false, name.as_bytes())?.reply()?.atom)
    };
    let (active_window, state) = (atom("_NET_ACTIVE_WINDOW")?, atom("_NET_WM_STATE")?);
    let full_screen = atom("_NET_WM_STATE_FULLSCREEN")?;
    server.screensaver_query_version(1, 1)?.reply()?;
    let sees_input = env::var_os("WAYLAND_DISPLAY").is_none();
    Ok(X11 {
        server,
        root,
        active_window,
        state,
        full_screen,
        sees_input,
    })
}

impl X11 {
    fn idle(&self) -> Result<Duration, ReplyError> {
        let info = self.server.screensaver_query_info(self.root)?.reply()?;
        Ok(Duration::from_millis(info.ms_since_user_input.into()))
    }

    /// Whether the window manager says so of the window in use.
    fn is_full_screen(&self) -> Result<bool, ReplyError> {
        let window = self.numbers(self.root, self.active_window)?;
        let Some(&window) = window.first().filter(|window| **window != 0) else {
            return Ok(false);
        };
        match self.numbers(window, self.state) {
            Ok(states) => Ok(states.contains(&self.full_screen)),
            // It was closed in between.
            Err(ReplyError::X11Error(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn numbers(&self, of: Window, property: Atom) -> Result<Vec<u32>, ReplyError> {
        const LENGTH_MAX: u32 = 64;
        let asked = self
            .server
            .get_property(false, of, property, AtomEnum::ANY, 0, LENGTH_MAX)?;
        let reply = asked.reply()?;
        Ok(reply.value32().into_iter().flatten().collect())
    }
}

impl Source for X11 {
    fn ask(&mut self) -> Result<Presence, String> {
        let idle = self.sees_input.then(|| self.idle()).transpose();
        let both = idle.and_then(|idle| Ok((idle, self.is_full_screen()?)));
        let (idle, full_screen) = both.map_err(|error| error.to_string())?;
        Ok(Presence {
            idle,
            locked: None,
            full_screen: Some(full_screen),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_display_is_reached_by_its_socket_alone() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(socket_of(text).ok().as_deref(), expected, "{text:?}");
        };
        check(":0", Some("unix:0"));
        check(":1.0", Some("unix:1.0"));
        check("unix:10", Some("unix:10"));
        for other in [
            "",
            ":",
            ":0.",
            ":0.0.0",
            ":-1",
            ":999999",
            "host:0",
            "localhost:10.0",
            "unix/host:0",
            "tcp/host:0",
            "/tmp/socket",
            "unix:/tmp/socket",
            "unix:0,x",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn only_a_file_is_read_for_cookies() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name));
        assert_eq!(check_cookies(None), Ok(()));
        assert_eq!(check_cookies(path("not there")), Ok(()));
        fs::write(folder.path().join("file"), "x").unwrap();
        assert_eq!(check_cookies(path("file")), Ok(()));
        let made = Command::new("mkfifo")
            .arg(folder.path().join("pipe"))
            .status();
        assert!(made.unwrap().success());
        assert!(check_cookies(path("pipe")).is_err());
        assert!(check_cookies(path("")).is_err());
    }
}
