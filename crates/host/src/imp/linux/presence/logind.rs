use std::time::Duration;

use dbus::Path;
use dbus::arg::{PropMap, prop_cast};
use dbus::blocking::LocalConnection;
use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;
use rustix::time::{ClockId, clock_gettime};

use super::{Source, exists};
use crate::presence::Presence;

const BUS: &str = "/run/dbus/system_bus_socket";
const LOGIND: &str = "org.freedesktop.login1";
const PATIENCE: Duration = Duration::from_secs(2);

/// Nobody logs in and out faster than this many samples.
const SESSIONS_LAST: u32 = 10;

struct Logind {
    bus: LocalConnection,
    /// Paths of the sessions at this machine's seats.
    seated: Vec<Path<'static>>,
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
    let bus = LocalConnection::new_address(&format!("unix:path={BUS}")).map_err(said)?;
    let mut logind = Logind {
        bus,
        seated: Vec::new(),
        list_in: 0,
    };
    logind.list()?;
    Ok(Box::new(logind))
}

fn said(error: dbus::Error) -> String {
    error.message().unwrap_or("no answer").to_owned()
}

/// A session's id, user's id, user's name, seat and path.
type Listed = (String, u32, String, String, Path<'static>);

impl Logind {
    /// Sessions over the network have no seat, and are not somebody at this machine.
    fn list(&mut self) -> Result<(), String> {
        let manager = self
            .bus
            .with_proxy(LOGIND, "/org/freedesktop/login1", PATIENCE);
        let listed: Result<(Vec<Listed>,), _> =
            manager.method_call("org.freedesktop.login1.Manager", "ListSessions", ());
        let seated = listed
            .map_err(said)?
            .0
            .into_iter()
            .filter(|(_, _, _, seat, _)| !seat.is_empty());
        self.seated = seated.map(|(_, _, _, _, path)| path).collect();
        self.list_in = SESSIONS_LAST;
        Ok(())
    }

    fn session(&self, path: &Path<'static>) -> Result<Session, dbus::Error> {
        let proxy = self.bus.with_proxy(LOGIND, path, PATIENCE);
        Ok(session_of(
            &proxy.get_all("org.freedesktop.login1.Session")?,
        ))
    }
}

impl Source for Logind {
    fn ask(&mut self) -> Result<Presence, String> {
        self.list_in = self.list_in.saturating_sub(1);
        let asked: Result<Vec<_>, _> = self.seated.iter().map(|path| self.session(path)).collect();
        let sessions = match asked {
            Ok(sessions) if self.list_in > 0 => sessions,
            // One has ended, or it is time to look for others.
            _ => {
                self.list()?;
                let asked: Result<_, _> =
                    self.seated.iter().map(|path| self.session(path)).collect();
                asked.map_err(said)?
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

fn session_of(properties: &PropMap) -> Session {
    let text = |name| {
        prop_cast::<String>(properties, name)
            .cloned()
            .unwrap_or_default()
    };
    let flag = |name| {
        prop_cast::<bool>(properties, name)
            .copied()
            .unwrap_or(false)
    };
    let since = prop_cast::<u64>(properties, "IdleSinceHintMonotonic").copied();
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
    use dbus::arg::{RefArg, Variant};

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
        let mut properties = PropMap::new();
        let mut put = |name: &str, value: Box<dyn RefArg>| {
            properties.insert(name.to_owned(), Variant(value));
        };
        put("Class", Box::new("user".to_owned()));
        put("State", Box::new("active".to_owned()));
        put("IdleSinceHintMonotonic", Box::new(5_000_000_u64));
        put("IdleHint", Box::new(true));
        put("LockedHint", Box::new(true));
        let read = session_of(&properties);
        assert_eq!(
            (&*read.class, &*read.state, read.locked),
            ("user", "active", true)
        );
        assert_eq!(read.idle_since, Some(Duration::from_secs(5)));
        properties.insert("IdleHint".to_owned(), Variant(Box::new(false)));
        assert_eq!(session_of(&properties).idle_since, None);
    }
}
