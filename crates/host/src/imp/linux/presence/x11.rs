use std::env;
use std::error::Error;
use std::time::Duration;

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

/// A display of this machine's: one over the network is another desk's.
pub(super) fn display() -> Result<String, String> {
    let display = env::var("DISPLAY").map_err(|_| "DISPLAY is not set".to_owned())?;
    match display.starts_with(':') || display.starts_with("unix:") {
        true => Ok(display),
        false => Err(format!("display {display} is over the network")),
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
