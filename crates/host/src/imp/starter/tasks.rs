//! Windows' Task Scheduler (Task Scheduler Schema, schtasks).

use std::path::{Path, PathBuf};

use super::{Folder, Starter, call, xml};
use crate::service::{Activity, Call, MARK, ServiceError, ServiceSpec};

pub(crate) struct TaskScheduler {
    /// `DOMAIN\NAME` of the user, at whose login the task starts.
    pub(crate) user: String,
}

/// The least that a task waits before it is started again.
const RESTART_MIN_S: u32 = 60;

impl Starter for TaskScheduler {
    fn name(&self) -> &'static str {
        "Task Scheduler"
    }

    fn path(&self, name: &str, folder: Folder<'_>) -> Result<PathBuf, ServiceError> {
        let local = folder("LOCALAPPDATA").ok_or(ServiceError::NoFolder("LOCALAPPDATA"))?;
        Ok(local.join(name).join("service.xml"))
    }

    /// schtasks reads UTF-16, little-endian and with its mark.
    fn bytes(&self, spec: &ServiceSpec) -> Result<Vec<u8>, ServiceError> {
        let text = format!("\u{feff}{}", text(spec, &self.user)?);
        Ok(text.encode_utf16().flat_map(u16::to_le_bytes).collect())
    }

    fn command(&self, bytes: &[u8]) -> Option<String> {
        let (pairs, _) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect();
        let text = String::from_utf16(&units).ok()?;
        let command = xml::between(&text, "Command").next()?;
        let arguments = xml::between(&text, "Arguments").next()?;
        Some(format!("\"{command}\" {arguments}"))
    }

    fn probe(&self) -> Call {
        call(&["schtasks", "/query", "/tn", "\\", "/fo", "list"])
    }

    fn remedy(&self) -> &'static str {
        "a service needs the Task Scheduler of Windows, which an administrator may have turned off"
    }

    fn load(&self, name: &str, path: &Path) -> Vec<Call> {
        let path = path.to_string_lossy();
        vec![
            call(&["schtasks", "/create", "/f", "/tn", name, "/xml", &path]),
            call(&["schtasks", "/run", "/tn", name]),
        ]
    }

    fn unload(&self, name: &str) -> Vec<Call> {
        vec![
            call(&["schtasks", "/end", "/tn", name]),
            call(&["schtasks", "/delete", "/f", "/tn", name]),
        ]
    }

    fn forget(&self) -> Vec<Call> {
        Vec::new()
    }

    /// schtasks says it in the user's language; this says a number.
    fn ask(&self, name: &str) -> Call {
        let script = format!("[int](Get-ScheduledTask -TaskName '{name}' -TaskPath '\\').State");
        call(&[
            "powershell",
            "-NoProfile",
            "-NonInteractive",
            "-Command",
            &script,
        ])
    }

    /// The numbers of TASK_STATE.
    fn activity(&self, said: &str) -> Activity {
        match said.trim() {
            "4" => Activity::Running(None),
            "2" => Activity::Starting,
            "1" | "3" => Activity::Stopped,
            other => Activity::Unknown(format!("the task's state is {other:?}")),
        }
    }

    /// By a name that stands in the message in every language.
    fn means_unloaded(&self, said: &str) -> bool {
        said.contains("MSFT_ScheduledTask")
    }
}

fn text(spec: &ServiceSpec, user: &str) -> Result<String, ServiceError> {
    let words = spec.arguments.iter().map(|word| quoted(word));
    let arguments = words.collect::<Vec<_>>().join(" ");
    for text in [&spec.program, &arguments] {
        if text.contains('%') || text.contains("$(") {
            let problem = format!("% and $( in {text:?}, which Windows takes for variables");
            return Err(ServiceError::NotSupported(problem));
        }
    }
    let (user, description) = (xml::text(user)?, xml::text(spec.description)?);
    let (command, arguments) = (xml::text(&spec.program)?, xml::text(&arguments)?);
    let after = spec.restart.after_s.max(RESTART_MIN_S);
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?>
<!-- {MARK} -->
<Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">
  <RegistrationInfo>
    <Description>{description}</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id=\"Author\">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure>
      <Interval>PT{after}S</Interval>
      <Count>5</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context=\"Author\">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"
    ))
}

/// A word as programs on Windows take command lines apart: backslashes count before a quote only.
fn quoted(word: &str) -> String {
    if !word.is_empty() && !word.contains([' ', '\t', '"']) {
        return word.to_owned();
    }
    let (mut quoted, mut backslashes) = (String::from("\""), 0);
    for c in word.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => {
                quoted += &"\\".repeat(backslashes + 1);
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        quoted.push(c);
    }
    quoted += &"\\".repeat(backslashes);
    quoted + "\""
}
