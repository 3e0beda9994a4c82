use std::os::unix::net::SocketAddr;
use std::time::Duration;

use super::bus::{Bus, Method};
use super::{Source, session_bus};
use crate::presence::Presence;

/// Milliseconds since the last input.
const IDLE_TIME: Method<'_> = Method {
    destination: "org.gnome.Mutter.IdleMonitor",
    path: "/org/gnome/Mutter/IdleMonitor/Core",
    interface: "org.gnome.Mutter.IdleMonitor",
    name: "GetIdletime",
};

/// GNOME's window manager, which has no other way under Wayland.
struct IdleMonitor {
    bus: Bus,
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

fn connect(address: &SocketAddr) -> Result<IdleMonitor, String> {
    let bus = Bus::connect(address)?;
    let mut monitor = IdleMonitor { bus };
    monitor.ask()?;
    Ok(monitor)
}

impl Source for IdleMonitor {
    fn ask(&mut self) -> Result<Presence, String> {
        let millis: u64 = self.bus.call(IDLE_TIME, &())?;
        Ok(Presence {
            idle: Some(Duration::from_millis(millis)),
            ..Presence::default()
        })
    }
}
