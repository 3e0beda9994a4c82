//! `gogrid service` on Linux, with a `systemctl` of the test's own that writes down what it is told.
#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "no chat is held here")]
mod sandbox;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::sandbox::Sandbox;

/// Appends its words to `calls`. Fails where a file `refuses-WORD` is there, without a bus where `no-bus` is, and
/// says that the unit is active once it was enabled.
const SYSTEMCTL: &str = r#"#!/bin/sh
here=$(dirname "$0")/..
echo "$*" >> "$here/calls"
[ ! -e "$here/no-bus" ] || { echo "Failed to connect to bus: No medium found" >&2; exit 1; }
[ ! -e "$here/refuses-$2" ] || { echo "Failed to $2 unit: Access denied" >&2; exit 1; }
case "$2" in
  enable) touch "$here/active" ;;
  disable) rm -f "$here/active" ;;
  show)
    if [ -e "$here/active" ]; then
      printf 'ActiveState=active\nActiveEnterTimestamp=Mon 2026-11-30 10:31:00 UTC\n'
    else
      printf 'ActiveState=inactive\nActiveEnterTimestamp=\n'
    fi ;;
esac
"#;

impl Sandbox {
    /// With a systemctl, and a folder for settings that has a space and a percent sign in its name.
    fn with_systemctl() -> Self {
        let sandbox = Self::new();
        fs::create_dir(sandbox.path("bin")).unwrap();
        let systemctl = sandbox.path("bin/systemctl");
        fs::write(&systemctl, SYSTEMCTL).unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        sandbox
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.gogrid(&[&["service"], words].concat());
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        command.env("PATH", path).current_dir(self.folder.path());
        command.env("XDG_CONFIG_HOME", self.path("my settings"));
        for name in ["GOGRID_API_KEY", "HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS"] {
            command.env_remove(name);
        }
        command
    }

    fn service(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn unit(&self) -> PathBuf {
        self.path("my settings/systemd/user/gogrid.service")
    }

    fn status(&self) -> Value {
        let output = self.service(&["status", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What systemctl was told since the last look, but for questions.
    fn told(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        let told = calls.lines().filter(|line| !line.contains(" show "));
        told.map(str::to_owned).collect()
    }

    fn no_settings_were_made(&self) {
        assert!(!self.path("my settings").exists());
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check_fails(output: &Output, code: i32, evidence: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    for part in evidence {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
}

#[test]
fn a_service_is_installed_shown_and_removed() {
    let sandbox = Sandbox::with_systemctl();
    let absent = sandbox.status();
    assert_eq!(
        (&absent["is_installed"], &absent["state"]),
        (&false.into(), &Value::Null)
    );

    let options = [
        "install",
        "--",
        "--model",
        "model.gguf",
        "--keep-alive",
        "-1",
        "--drain=2.5",
    ];
    let installed = sandbox.service(&options);
    assert_eq!(installed.status.code(), Some(0), "{}", stderr(&installed));
    assert_eq!(
        sandbox.told(),
        ["--user daemon-reload", "--user enable --now gogrid.service"]
    );
    let unit = fs::read_to_string(sandbox.unit()).unwrap();
    let (program, folder) = (
        env!("CARGO_BIN_EXE_gogrid"),
        sandbox.folder.path().display(),
    );
    let command =
        format!("{program} serve --model={folder}/model.gguf --keep-alive=-1 --drain=2.5");
    assert!(unit.contains(&format!("\nExecStart={command}\n")), "{unit}");
    assert!(unit.contains("\nTimeoutStopSec=18\n"), "{unit}");
    assert!(
        unit.contains(&format!("\nEnvironment=XDG_CACHE_HOME={folder}\n")),
        "{unit}"
    );

    let status = sandbox.status();
    assert_eq!(status["is_installed"], true);
    assert_eq!(status["state"], "running");
    assert_eq!(status["since"], "Mon 2026-11-30 10:31:00 UTC");
    assert_eq!(status["command"], command);
    let shown = sandbox.service(&["status"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.starts_with("running since Mon 2026-11-30 10:31:00 UTC\n"),
        "{shown}"
    );

    let removed = sandbox.service(&["remove"]);
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    assert_eq!(
        sandbox.told(),
        [
            "--user disable --now gogrid.service",
            "--user daemon-reload"
        ]
    );
    assert!(!sandbox.unit().exists());
    check_fails(
        &sandbox.service(&["remove"]),
        3,
        &["no service is installed", "gogrid.service"],
    );
    assert!(sandbox.told().is_empty());
}

#[test]
fn another_installation_replaces_the_first() {
    let sandbox = Sandbox::with_systemctl();
    let first = sandbox.service(&["install", "--", "--model=model.gguf", "--drain=2.5"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    sandbox.told();
    let again = sandbox.service(&["install", "--", "--model=model.gguf"]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let replaced = [
        "--user disable --now gogrid.service",
        "--user daemon-reload",
        "--user enable --now gogrid.service",
    ];
    assert_eq!(sandbox.told(), replaced);
    assert!(
        !fs::read_to_string(sandbox.unit())
            .unwrap()
            .contains("--drain")
    );
}

#[test]
fn what_serve_would_refuse_is_refused_and_nothing_is_left() {
    let sandbox = Sandbox::with_systemctl();
    let check = |options: &[&str], code: i32, evidence: &[&str]| {
        let words = [&["install", "--"], options].concat();
        check_fails(&sandbox.service(&words), code, evidence);
        assert!(sandbox.told().is_empty(), "{options:?}");
        sandbox.no_settings_were_made();
    };
    let model = "--model=model.gguf";
    check(&["--no-such-option"], 2, &["--no-such-option"]);
    check(&[model, "--deadline=-1"], 2, &["deadline"]);
    check(&[model, "--mode", "reckless"], 2, &["reckless"]);
    check(
        &[model, "--listen", "0.0.0.0:1"],
        2,
        &["0.0.0.0:1", "no key"],
    );
    check(
        &[model, "--limits", "no/limits.toml"],
        3,
        &["no/limits.toml"],
    );
    check(&[model, "--device", "toaster"], 6, &["toaster"]);
    check(&["--model", "no/such.gguf"], 3, &["no/such.gguf"]);
    check(
        &[],
        3,
        &["smollm2-135m is not here", "gogrid pull smollm2-135m"],
    );
    let hub = "nobody/nothing-GGUF:Q4_K_M";
    check(
        &["--model", hub],
        3,
        &["is not here", "gogrid pull nobody/nothing-GGUF:Q4_K_M"],
    );
    check(&[model, model], 3, &["two models"]);
    let mut keyed = sandbox.command(&["install", "--", model]);
    let keyed = keyed.env("GOGRID_API_KEY", "secret").output().unwrap();
    check_fails(&keyed, 2, &["--api-key-file"]);
    assert!(!stderr(&keyed).contains("secret"));
    check_fails(&sandbox.service(&["install", "--drain=1"]), 2, &["--drain"]);
    sandbox.no_settings_were_made();
}

#[test]
fn a_file_that_somebody_else_wrote_stays() {
    let sandbox = Sandbox::with_systemctl();
    let handmade = "[Service]\nExecStart=/usr/bin/gogrid serve\n";
    fs::create_dir_all(sandbox.unit().parent().unwrap()).unwrap();
    fs::write(sandbox.unit(), handmade).unwrap();
    for words in [&["install", "--", "--model=model.gguf"][..], &["remove"]] {
        let output = sandbox.service(words);
        check_fails(&output, 3, &["gogrid.service", "move it away"]);
        assert_eq!(fs::read_to_string(sandbox.unit()).unwrap(), handmade);
    }
}

#[test]
fn the_help_of_serve_installs_nothing() {
    let sandbox = Sandbox::with_systemctl();
    let output = sandbox.service(&["install", "--", "--help"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("--keep-alive")
    );
    sandbox.no_settings_were_made();
}

#[test]
fn without_systemd_or_its_bus_the_lack_and_the_remedy_are_named() {
    let sandbox = Sandbox::with_systemctl();
    let install = ["install", "--", "--model=model.gguf"];
    fs::write(sandbox.path("no-bus"), "").unwrap();
    let evidence = [
        "systemd does not answer",
        "Failed to connect to bus",
        "gogrid serve",
    ];
    check_fails(&sandbox.service(&install), 2, &evidence);
    sandbox.no_settings_were_made();

    fs::remove_file(sandbox.path("bin/systemctl")).unwrap();
    let mut without = sandbox.command(&install);
    let without = without.env("PATH", sandbox.path("bin")).output().unwrap();
    check_fails(
        &without,
        2,
        &["no program systemctl on the PATH", "gogrid serve"],
    );
    sandbox.no_settings_were_made();
    assert_eq!(sandbox.status()["is_installed"], false);
}

#[test]
fn an_installation_that_fails_leaves_what_was_before() {
    let sandbox = Sandbox::with_systemctl();
    let first = ["install", "--", "--model=model.gguf", "--drain=7"];
    fs::write(sandbox.path("refuses-enable"), "").unwrap();
    let evidence = [
        "systemctl --user enable --now gogrid.service",
        "Access denied",
    ];
    check_fails(&sandbox.service(&first), 1, &evidence);
    sandbox.no_settings_were_made();
    assert_eq!(sandbox.told().last().unwrap(), "--user daemon-reload");

    fs::remove_file(sandbox.path("refuses-enable")).unwrap();
    assert_eq!(sandbox.service(&first).status.code(), Some(0));
    let before = fs::read(sandbox.unit()).unwrap();
    fs::write(sandbox.path("refuses-enable"), "").unwrap();
    let second = ["install", "--", "--model=model.gguf", "--drain=8"];
    check_fails(&sandbox.service(&second), 1, &["Access denied"]);
    assert_eq!(fs::read(sandbox.unit()).unwrap(), before);
}

#[test]
fn a_service_that_does_not_stop_keeps_its_file_and_one_that_nobody_knows_of_is_unknown() {
    let sandbox = Sandbox::with_systemctl();
    let install = sandbox.service(&["install", "--", "--model=model.gguf"]);
    assert_eq!(install.status.code(), Some(0), "{}", stderr(&install));
    fs::write(sandbox.path("refuses-disable"), "").unwrap();
    check_fails(
        &sandbox.service(&["remove"]),
        1,
        &["disable", "Access denied"],
    );
    assert!(sandbox.unit().exists());
    fs::write(sandbox.path("no-bus"), "").unwrap();
    let status = sandbox.status();
    assert_eq!(
        (&status["is_installed"], &status["state"]),
        (&true.into(), &"unknown".into())
    );
    assert!(
        status["problem"]
            .as_str()
            .unwrap()
            .contains("No medium found"),
        "{status}"
    );
}
