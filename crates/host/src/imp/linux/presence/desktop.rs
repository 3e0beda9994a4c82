use std::time::Duration;

use dbus::blocking::LocalConnection;

use super::{Source, session_bus};
use crate::presence::Presence;

const PATIENCE: Duration = Duration::from_secs(2);
const MONITOR: &str = "org.gnome.Mutter.IdleMonitor";

/// GNOME's window manager, which has no other way under Wayland.
struct IdleMonitor {
    bus: LocalConnection,
}

pub(super) fn open() -> Result<Box<dyn Source>, String> {
    let mut problem = String::new();
    for address in session_bus()? {
        match connect(&address) {
            Ok(monitor) => return Ok(Box::new(monitor)),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn connect(address: &str) -> Result<IdleMonitor, String> {
    let bus = LocalConnection::new_address(address).map_err(|error| said(&error))?;
    let mut monitor = IdleMonitor { bus };
    monitor.ask()?;
    Ok(monitor)
}

fn said(error: &dbus::Error) -> String {
    error.message().unwrap_or("no answer").to_owned()
}

impl Source for IdleMonitor {
    fn ask(&mut self) -> Result<Presence, String> {
        let path = "/org/gnome/Mutter/IdleMonitor/Core";
        let proxy = self.bus.with_proxy(MONITOR, path, PATIENCE);
        let answer: Result<(u64,), _> = proxy.method_call(MONITOR, "GetIdletime", ());
        let (millis,) = answer.map_err(|error| said(&error))?;
        Ok(Presence {
            idle: Some(Duration::from_millis(millis)),
            ..Presence::default()
        })
    }
}
