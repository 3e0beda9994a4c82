//! launchd's agents (launchd.plist(5), launchctl(1)).

use std::path::{Path, PathBuf};

use super::{Folder, Starter, call, xml};
use crate::service::{Activity, Call, MARK, ServiceError, ServiceSpec};

pub(crate) struct Launchd {
    /// The number of the user, at whose login the agent starts.
    pub(crate) user: u32,
    /// Where what the program says is appended to.
    pub(crate) log: String,
}

/// How launchctl ends a refusal that means that no such agent is loaded.
const NO_AGENT: &str = "Could not find service";

impl Launchd {
    fn domain(&self) -> String {
        format!("gui/{}", self.user)
    }

    fn target(&self, name: &str) -> String {
        format!("{}/{name}", self.domain())
    }
}

impl Starter for Launchd {
    fn name(&self) -> &'static str {
        "launchd"
    }

    fn path(&self, name: &str, folder: Folder<'_>) -> Result<PathBuf, ServiceError> {
        let home = folder("HOME").ok_or(ServiceError::NoFolder("HOME"))?;
        let agents = home.join("Library/LaunchAgents");
        Ok(agents.join(format!("{name}.plist")))
    }

    fn bytes(&self, spec: &ServiceSpec) -> Result<Vec<u8>, ServiceError> {
        Ok(text(spec, &self.log)?.into_bytes())
    }

    fn command(&self, bytes: &[u8]) -> Option<String> {
        let text = str::from_utf8(bytes).ok()?;
        let (_, after) = text.split_once("<key>ProgramArguments</key>")?;
        let (words, _) = after.split_once("</array>")?;
        let words = xml::between(words, "string").map(|word| shown(&word));
        Some(words.collect::<Vec<_>>().join(" "))
    }

    fn probe(&self) -> Call {
        call(&["launchctl", "print", &self.domain()])
    }

    fn remedy(&self) -> &'static str {
        "a service needs this user's session at the screen: log in there first"
    }

    fn load(&self, _name: &str, path: &Path) -> Vec<Call> {
        let path = path.to_string_lossy();
        vec![call(&["launchctl", "bootstrap", &self.domain(), &path])]
    }

    fn unload(&self, name: &str) -> Vec<Call> {
        vec![call(&["launchctl", "bootout", &self.target(name)])]
    }

    fn forget(&self) -> Vec<Call> {
        Vec::new()
    }

    fn ask(&self, name: &str) -> Call {
        call(&["launchctl", "print", &self.target(name)])
    }

    fn activity(&self, said: &str) -> Activity {
        let lines = said.lines().map(str::trim);
        let state = lines.filter_map(|line| line.strip_prefix("state = "));
        match state.map(str::to_owned).next().as_deref() {
            Some("running") => Activity::Running(None),
            Some("spawn scheduled" | "spawning" | "waiting") => Activity::Starting,
            Some("not running" | "exited") => Activity::Stopped,
            Some(other) => Activity::Unknown(format!("launchd says {other:?}")),
            None => Activity::Unknown("launchd names no state".to_owned()),
        }
    }

    fn means_unloaded(&self, said: &str) -> bool {
        said.contains(NO_AGENT)
    }
}

fn shown(word: &str) -> String {
    match word.is_empty() || word.contains([' ', '"']) {
        true => format!("{word:?}"),
        false => word.to_owned(),
    }
}

fn text(spec: &ServiceSpec, log: &str) -> Result<String, ServiceError> {
    let words = [&spec.program].into_iter().chain(&spec.arguments);
    let mut lines = String::new();
    for word in words {
        lines += &format!("\t\t<string>{}</string>\n", xml::text(word)?);
    }
    let mut variables = String::new();
    for (name, value) in &spec.environment {
        let (name, value) = (xml::text(name)?, xml::text(value)?);
        variables += &format!("\t\t<key>{name}</key>\n\t\t<string>{value}</string>\n");
    }
    let (name, log) = (spec.name, xml::text(log)?);
    let (after, stop) = (spec.restart.after_s, spec.stop_s);
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<!-- {MARK} -->
<plist version=\"1.0\">
<dict>
\t<key>Label</key>
\t<string>{name}</string>
\t<key>ProgramArguments</key>
\t<array>
{lines}\t</array>
\t<key>EnvironmentVariables</key>
\t<dict>
{variables}\t</dict>
\t<key>RunAtLoad</key>
\t<true/>
\t<key>KeepAlive</key>
\t<dict>
\t\t<key>SuccessfulExit</key>
\t\t<false/>
\t</dict>
\t<key>ThrottleInterval</key>
\t<integer>{after}</integer>
\t<key>StandardErrorPath</key>
\t<string>{log}</string>
\t<key>ExitTimeOut</key>
\t<integer>{stop}</integer>
</dict>
</plist>
"
    ))
}
