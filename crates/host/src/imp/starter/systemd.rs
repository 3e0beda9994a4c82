//! systemd's user units (systemd.service(5), systemd.syntax(7)).

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{Folder, Starter, call};
use crate::service::{Activity, Call, MARK, ServiceError, ServiceSpec};

pub(crate) struct Systemd;

/// Starts within this time are counted, and after so many that failed there is no other.
const STARTS_WITHIN_S: u32 = 600;
const STARTS_MAX: u32 = 5;

impl Starter for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn path(&self, name: &str, folder: Folder<'_>) -> Result<PathBuf, ServiceError> {
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let config = config.ok_or(ServiceError::NoFolder("XDG_CONFIG_HOME and HOME"))?;
        Ok(config.join("systemd/user").join(unit(name)))
    }

    fn bytes(&self, spec: &ServiceSpec) -> Result<Vec<u8>, ServiceError> {
        Ok(text(spec).into_bytes())
    }

    fn command(&self, bytes: &[u8]) -> Option<String> {
        let text = str::from_utf8(bytes).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="));
        line.map(str::to_owned)
    }

    fn probe(&self) -> Call {
        systemctl(&["show", "--property=Version"])
    }

    fn remedy(&self) -> &'static str {
        "a service needs the systemd of this user's session: log in at the desktop or by ssh, not by su or sudo; \
         where there is no systemd, have what starts your programs run `gogrid serve`"
    }

    fn load(&self, name: &str, _path: &Path) -> Vec<Call> {
        let enable = systemctl(&["enable", "--now", &unit(name)]);
        vec![systemctl(&["daemon-reload"]), enable]
    }

    fn unload(&self, name: &str) -> Vec<Call> {
        vec![systemctl(&["disable", "--now", &unit(name)])]
    }

    fn forget(&self) -> Vec<Call> {
        vec![systemctl(&["daemon-reload"])]
    }

    fn ask(&self, name: &str) -> Call {
        let properties = "--property=ActiveState,ActiveEnterTimestamp";
        systemctl(&["show", properties, &unit(name)])
    }

    fn activity(&self, said: &str) -> Activity {
        let value = |key: &str| {
            let lines = said.lines().filter_map(|line| line.split_once('='));
            let values = lines.filter(|(name, _)| *name == key);
            values.map(|(_, value)| value.to_owned()).next()
        };
        let since = || value("ActiveEnterTimestamp").filter(|since| !since.is_empty());
        match value("ActiveState").as_deref() {
            Some("active") => Activity::Running(since()),
            Some("activating" | "reloading") => Activity::Starting,
            Some("inactive" | "deactivating") => Activity::Stopped,
            Some("failed") => Activity::Failed,
            Some(other) => Activity::Unknown(format!("systemd says {other:?}")),
            None => Activity::Unknown("systemd names no state".to_owned()),
        }
    }

    fn means_unloaded(&self, _said: &str) -> bool {
        false
    }
}

fn unit(name: &str) -> String {
    format!("{name}.service")
}

fn systemctl(words: &[&str]) -> Call {
    call(&[&["systemctl", "--user"], words].concat())
}

fn text(spec: &ServiceSpec) -> String {
    let mut command = word(&spec.program, Dollars::Kept);
    for argument in &spec.arguments {
        command += " ";
        command += &word(argument, Dollars::Doubled);
    }
    let environment = spec.environment.iter().map(|(name, value)| {
        let pair = format!("{name}={value}");
        format!("Environment={}\n", word(&pair, Dollars::Kept))
    });
    let environment: String = environment.collect();
    let never = spec.restart.never_after.iter().map(u8::to_string);
    let never = never.collect::<Vec<_>>().join(" ");
    let (after, stop) = (spec.restart.after_s, spec.stop_s);
    let description = spec.description.replace('%', "%%");
    format!(
        "# {MARK}
[Unit]
Description={description}
After=default.target
StartLimitIntervalSec={STARTS_WITHIN_S}
StartLimitBurst={STARTS_MAX}

[Service]
Type=exec
{environment}ExecStart={command}
Restart=on-failure
RestartSec={after}
RestartPreventExitStatus={never}
TimeoutStopSec={stop}
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"
    )
}

/// What systemd makes of `$` in a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dollars {
    /// A program's path and a variable's value are taken as they are.
    Kept,
    /// In an argument it begins a variable's name, unless there are two.
    Doubled,
}

/// A word, quoted where something in it has a meaning.
fn word(text: &str, dollars: Dollars) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '%' => quoted += "%%",
            '$' if dollars == Dollars::Doubled => quoted += "$$",
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_control() => {
                // Writing to a text does not fail.
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
