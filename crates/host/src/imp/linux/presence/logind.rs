use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use zbus::wire::{OwnedObjectPath, OwnedVariant};

use super::bus::{Bus, Method};
use super::{Source, exists, socket_at};
use crate::presence::Presence;

const BUS: &str = "/run/dbus/system_bus_socket";
const LOGIND: &str = "org.freedesktop.login1";

/// Nobody logs in and out faster than this many samples.
const SESSIONS_LAST: u32 = 10;

struct Logind {
    bus: Bus,
    /// Paths of the sessions at this machine's seats.
    seated: Vec<OwnedObjectPath>,
    /// Samples until they are listed again.
    list_in: u32,
}

/// Logind's account of a session at a seat.
#[derive(Clone, Debug)]
struct Session {
    class: String,
    state: String,
    /// Since when, on the monotonic clock, if it says that it is idle.
    idle_since: Option<Duration>,
    locked: bool,
}

pub(super) fn bus() -> Result<(), String> {
    exists(BUS)
}

pub(super) fn open() -> Result<Box<dyn Source>, String> {
    bus()?;
    let bus = Bus::connect(&socket_at(Path::new(BUS))?)?;
    let mut logind = Logind {
        bus,
        seated: Vec::new(),
        list_in: 0,
    };
    logind.list()?;
    Ok(Box::new(logind))
}

/// A session's id, user's id, user's name, seat and path.
type Listed = (String, u32, String, String, OwnedObjectPath);

/// An object's properties, by name.
type Properties = HashMap<String, OwnedVariant>;

impl Logind {
    /// Sessions over the network have no seat, and are not somebody at this machine.
    fn list(&mut self) -> Result<(), String> {
        let list = Method {
            destination: LOGIND,
            path: "/org/freedesktop/login1",
            interface: "org.freedesktop.login1.Manager",
            name: "ListSessions",
        };
        let listed: Vec<Listed> = self.bus.call(list, &())?;
        let seated = listed
            .into_iter()
            .filter(|(_, _, _, seat, _)| !seat.is_empty());
        self.seated = seated.map(|(_, _, _, _, path)| path).collect();
        self.list_in = SESSIONS_LAST;
        Ok(())
    }

    fn sessions(&mut self) -> Result<Vec<Session>, String> {
        let bus = &mut self.bus;
        let mut ask = |path: &OwnedObjectPath| {
            let properties = Method {
                destination: LOGIND,
                path: path.as_str(),
                interface: "org.freedesktop.DBus.Properties",
                name: "GetAll",
            };
            let found = bus.call(properties, &"org.freedesktop.login1.Session")?;
            Ok(session_of(&found))
        };
        self.seated.iter().map(&mut ask).collect()
    }
}

impl Source for Logind {
    fn ask(&mut self) -> Result<Presence, String> {
        self.list_in = self.list_in.saturating_sub(1);
        let sessions = match self.sessions() {
            Ok(sessions) if self.list_in > 0 => sessions,
            // One has ended, or it is time to look for others.
            _ => {
                self.list()?;
                self.sessions()?
            }
        };
        let now = clock_gettime(ClockId::Monotonic);
        Ok(presence(
            &sessions,
            now.try_into()
                .map_err(|_| "the clock is before its beginning")?,
        ))
    }
}

fn session_of(properties: &Properties) -> Session {
    let text = |name| {
        let text = properties.get(name);
        let text = text.and_then(|text| <&str>::try_from(text).ok());
        text.unwrap_or_default().to_owned()
    };
    let flag = |name| {
        let flag = properties.get(name);
        flag.is_some_and(|flag| bool::try_from(flag).unwrap_or(false))
    };
    let since = properties.get("IdleSinceHintMonotonic");
    let since = since.and_then(|since| u64::try_from(since).ok());
    let since = since.filter(|_| flag("IdleHint"));
    Session {
        class: text("Class"),
        state: text("State"),
        idle_since: since.map(Duration::from_micros),
        locked: flag("LockedHint"),
    }
}

/// Of the sessions that are on screen. Nobody's, or a greeter's alone, is as good as locked.
fn presence(sessions: &[Session], now: Duration) -> Presence {
    let shown = sessions
        .iter()
        .filter(|s| s.class == "user" && s.state == "active");
    let idle = |session: &Session| match session.idle_since {
        Some(since) => now.saturating_sub(since),
        // Idle for less than its own patience, which may be minutes.
        None => Duration::ZERO,
    };
    Presence {
        idle: shown.clone().map(idle).min(),
        locked: Some(shown.clone().all(|session| session.locked)),
        full_screen: None,
    }
}

#[cfg(test)]
mod tests {
    use zbus::wire::Str;

    use super::*;

    fn session(class: &str, state: &str, idle_since: Option<u64>, locked: bool) -> Session {
        Session {
            class: class.to_owned(),
            state: state.to_owned(),
            idle_since: idle_since.map(Duration::from_secs),
            locked,
        }
    }

    #[test]
    fn sessions_on_screen_say_who_is_there() {
        let check = |sessions: &[Session], idle: Option<u64>, locked| {
            let found = presence(sessions, Duration::from_secs(100));
            let expected = Presence {
                idle: idle.map(Duration::from_secs),
                locked: Some(locked),
                full_screen: None,
            };
            assert_eq!(found, expected, "{sessions:?}");
        };
        check(&[], None, true);
        check(&[session("greeter", "active", None, false)], None, true);
        check(&[session("user", "online", None, false)], None, true);
        check(&[session("user", "active", None, false)], Some(0), false);
        check(
            &[session("user", "active", Some(40), false)],
            Some(60),
            false,
        );
        check(&[session("user", "active", Some(40), true)], Some(60), true);
        let two = [40, 70].map(|since| session("user", "active", Some(since), since == 40));
        check(&two, Some(30), false);
        check(
            &[session("user", "active", Some(140), false)],
            Some(0),
            false,
        );
    }

    #[test]
    fn a_session_is_read_from_its_properties() {
        let mut properties: Properties = [
            ("Class", Str::from("user").into()),
            ("State", Str::from("active").into()),
            ("IdleSinceHintMonotonic", 5_000_000_u64.into()),
            ("IdleHint", true.into()),
            ("LockedHint", true.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let read = session_of(&properties);
        assert_eq!(
            (&*read.class, &*read.state, read.locked),
            ("user", "active", true)
        );
        assert_eq!(read.idle_since, Some(Duration::from_secs(5)));
        properties.insert("IdleHint".to_owned(), false.into());
        assert_eq!(session_of(&properties).idle_since, None);
    }
}
