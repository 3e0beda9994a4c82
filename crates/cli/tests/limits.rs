//! `gogrid limits` and `--limits`, with a gogrid that waits for a line of a chat. Pipes say when it
//! has come so far; nothing here waits for time to pass.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a tiny model, in which sockets are made too.
struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = Spec {
            family: Family::ALL[0],
            weights: WeightType::Q8_0,
            seed: 1,
        };
        let model = RandomModel::new(spec);
        model.write_gguf(&folder.path().join("model.gguf")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn gogrid(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gogrid"));
        command.args(args).stdin(Stdio::null());
        for folder in ["XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "HOME", "TMPDIR"] {
            command.env(folder, self.folder.path());
        }
        command
    }

    /// A chat that has opened its model.
    fn chat(&self, args: &[&str]) -> Chat {
        let mut command = self.gogrid(&["chat", "--model"]);
        command.arg(self.path("model.gguf")).args(args);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let greeting = line(&mut said);
        assert!(greeting.contains("/exit ends"), "{greeting}");
        Chat { child, said }
    }

    /// What `gogrid limits` with these words says about the chat.
    fn limits(&self, chat: &Chat, args: &[&str]) -> Output {
        let pid = chat.child.id().to_string();
        let words = [&["limits"], args, &["--pid", &pid]].concat();
        self.gogrid(&words).output().unwrap()
    }

    fn view(&self, chat: &Chat, args: &[&str]) -> Value {
        let output = self.limits(chat, &[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

struct Chat {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Chat {
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

fn line(said: &mut BufReader<ChildStderr>) -> String {
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    line
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check_fails(output: &Output, code: i32, evidence: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in evidence {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn limits_are_seen_and_changed_from_another_process() {
    let sandbox = Sandbox::new();
    let chat = sandbox.chat(&[]);
    let before = sandbox.view(&chat, &["get"]);
    assert_eq!(before["settings"]["limits"]["max_batch_size"], 2);
    assert_eq!(before["settings_file"], Value::Null);

    let assignments = [
        "set",
        "max_compute_usage_percent=0.3",
        "away.max_batch_size=9",
        "policy.presence.away_after_s=60",
    ];
    let after = sandbox.view(&chat, &assignments);
    let settings = &after["settings"];
    assert_eq!(settings["limits"]["max_compute_usage_percent"], 0.3);
    assert_eq!(settings["away"]["max_batch_size"], 9);
    assert_eq!(settings["policy"]["presence"]["away_after_s"], 60);
    assert_eq!(after["status"]["limits"]["max_compute_usage_percent"], 0.3);

    let verdict = |words: &[&str]| {
        let ruling = sandbox.view(&chat, words)["status"]["ruling"].clone();
        (ruling["verdict"].clone(), ruling["admits"].clone())
    };
    let (open, shut) = (Value::from("open"), Value::from("shut"));
    let by_hand = ["set", "policy.others_cpu.yield_above=1.0"];
    assert_eq!(verdict(&by_hand), (open.clone(), true.into()));
    assert_eq!(verdict(&["pause"]), (shut.clone(), true.into()));
    let table = sandbox.limits(&chat, &["get"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("stopped: "), "{table}");
    assert_eq!(verdict(&["resume"]), (open.clone(), true.into()));
    assert_eq!(verdict(&["snooze", "30m"]), (shut, true.into()));
    assert_eq!(verdict(&["finish"]), (open.clone(), false.into()));
    assert_eq!(verdict(&["resume"]), (open, true.into()));
    let settings = &sandbox.view(&chat, &["get"])["settings"];

    let wrong = sandbox.limits(&chat, &["set", "max_batch_size=65"]);
    check_fails(&wrong, 2, &["limits.max_batch_size is 65", "1..=64"]);
    let wrong = sandbox.limits(&chat, &["set", "max_batch=4"]);
    check_fails(&wrong, 2, &["limits.max_batch is no key", "max_batch_size"]);
    assert_eq!(sandbox.view(&chat, &["get"])["settings"], *settings);

    let table = sandbox.limits(&chat, &["set", "--mode", "aggressive", "max_batch_size=3"]);
    let table = String::from_utf8(table.stdout).unwrap();
    let row = table
        .lines()
        .find(|line| line.starts_with("max_batch_size"));
    let cells: Vec<_> = row.unwrap().split_whitespace().collect();
    assert_eq!(cells, ["max_batch_size", "3", "16", "3"], "{table}");
    chat.end();
}

#[test]
fn a_running_gogrid_tells_its_metrics_as_prometheus_text() {
    let sandbox = Sandbox::new();
    let chat = sandbox.chat(&[]);
    sandbox.view(&chat, &["pause"]);
    let output = sandbox.limits(&chat, &["get", "--prometheus"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let used = "inference_vram_usage_bytes{device=\"cpu\"} ";
    let used = text.lines().find_map(|line| line.strip_prefix(used));
    let status = &sandbox.view(&chat, &["get"])["status"];
    assert_eq!(
        used.and_then(|used| used.parse().ok()),
        status["devices"][0]["memory_used_bytes"].as_f64(),
        "{text}"
    );
    let expected = [
        "inference_requests_total 0",
        "inference_requests_throttled 0",
        "inference_throttle_rate 0",
        "inference_verdict{state=\"shut\"} 1",
        "inference_verdict_reason{reason=\"paused\"} 1",
    ];
    for line in expected {
        assert!(text.lines().any(|told| told == line), "{line} in {text}");
    }
    let both = sandbox.limits(&chat, &["get", "--prometheus", "--json"]);
    check_fails(&both, 2, &["--prometheus", "--json"]);
    chat.end();
}

#[test]
fn only_its_owner_reaches_a_running_gogrid() {
    let sandbox = Sandbox::new();
    let chat = sandbox.chat(&[]);
    let pid = chat.child.id();
    let (folder, socket) = (sandbox.path("gogrid"), format!("gogrid/gogrid-{pid}.sock"));
    assert_eq!(mode_of(&folder), 0o700);
    assert_eq!(mode_of(&sandbox.path(&socket)), 0o600);

    // So that it is the socket's folder alone that keeps others out.
    fs::set_permissions(sandbox.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let pid = pid.to_string();
    let mut other = sandbox.gogrid(&["limits", "pause", "--pid", &pid]);
    match other.uid(65534).gid(65534).output() {
        Ok(output) => check_fails(&output, 7, &[&pid]),
        Err(error) => eprintln!("skipped the other user: cannot run as one: {error}"),
    }
    chat.end();
    assert!(!sandbox.path(&socket).exists());
    let gone = sandbox.gogrid(&["limits", "get", "--pid", &pid]).output();
    check_fails(&gone.unwrap(), 7, &[&pid]);
}

#[test]
fn of_several_one_has_to_be_named() {
    let sandbox = Sandbox::new();
    let chats = [sandbox.chat(&[]), sandbox.chat(&[])];
    let output = sandbox.gogrid(&["limits", "get"]).output().unwrap();
    let pids = chats.each_ref().map(|chat| chat.child.id().to_string());
    check_fails(&output, 2, &["--pid", &pids[0], &pids[1]]);
    for chat in chats {
        chat.end();
    }
}

#[test]
fn a_file_of_settings_counts_when_it_changes_and_not_when_it_is_wrong() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("limits.toml");
    fs::write(&file, "mode = \"default\"\n").unwrap();
    let path = file.to_str().unwrap();
    let mut chat = sandbox.chat(&["--limits", path]);
    let batch = |view: &Value| view["settings"]["limits"]["max_batch_size"].clone();
    let view = sandbox.view(&chat, &["get"]);
    assert_eq!(batch(&view), 4);
    assert_eq!(
        view["settings_file"],
        json!({"path": path, "problem": null})
    );

    fs::write(&file, "[limits]\nmax_batch_size = 3\n").unwrap();
    assert_eq!(line(&mut chat.said), format!("{path}: in force\n"));
    assert_eq!(batch(&sandbox.view(&chat, &["get"])), 3);

    fs::write(&file, "[limits]\nmax_batch_size = 0\n").unwrap();
    let warning = line(&mut chat.said);
    let problem = "line 2, column 1: limits.max_batch_size is 0, must be in 1..=64";
    assert!(
        warning.starts_with("warning: ") && warning.contains(problem),
        "{warning}"
    );
    let view = sandbox.view(&chat, &["get"]);
    assert_eq!(batch(&view), 3);
    assert_eq!(view["settings_file"]["problem"], problem);
    chat.end();
}

#[test]
fn a_file_that_is_wrong_from_the_start_is_refused() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("limits.toml");
    let path = file.to_str().unwrap();
    let generate = |more: &[&str]| {
        let args = [&["generate", "x", "--limits", path], more].concat();
        sandbox.gogrid(&args).output().unwrap()
    };
    check_fails(&generate(&[]), 3, &[path, "it is not there"]);
    fs::write(&file, "[limits]\nmax_batch = 1\n").unwrap();
    check_fails(
        &generate(&[]),
        3,
        &[path, "line 2, column 1", "max_batch_size"],
    );
    fs::write(&file, "mode = \"default\"\n").unwrap();
    let twice = generate(&["--mode", "aggressive"]);
    check_fails(&twice, 3, &[path, "default", "aggressive"]);
}

#[test]
fn wrong_words_are_refused_before_anybody_is_asked() {
    let sandbox = Sandbox::new();
    let cases: [&[&str]; 8] = [
        &["set"],
        &["set", "max_batch_size"],
        &["set", "max_batch_size=many"],
        &["set", "max_batch_size=1\naway.max_batch_size=2"],
        &["snooze"],
        &["snooze", "30"],
        &["snooze", "0s"],
        &["snooze", "169h"],
    ];
    for case in cases {
        let output = sandbox
            .gogrid(&[&["limits"], case].concat())
            .output()
            .unwrap();
        check_fails(&output, 2, &["error: "]);
    }
    let nobody = sandbox.gogrid(&["limits", "get", "--pid", "1"]).output();
    check_fails(&nobody.unwrap(), 7, &["process 1"]);
}
