//! `gogrid limits`, `gogrid top` and `--limits`, with a gogrid that waits for a line of a chat. Pipes say when it
//! has come so far; nothing here waits for time to pass.
#![allow(clippy::print_stderr, reason = "a test says that it is skipped")]
#![cfg(unix)]

mod sandbox;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::sandbox::{Chat, Sandbox, is_log, line};

impl Sandbox {
    /// What `gogrid limits` with these words says about the chat.
    fn limits(&self, chat: &Chat, args: &[&str]) -> Output {
        let pid = chat.child.id().to_string();
        let words = [&["limits"], args, &["--pid", &pid]].concat();
        self.gogrid(&words).output().unwrap()
    }

    /// What a command prints as JSON about the tiny model.
    fn json(&self, command: &str, args: &[&str]) -> Value {
        let model = self.path("model.gguf");
        let first = [command, "--model", model.to_str().unwrap(), "--json"];
        let output = self.gogrid(&[&first, args].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn view(&self, chat: &Chat, args: &[&str]) -> Value {
        let output = self.limits(chat, &[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
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

    let table = sandbox.limits(
        &chat,
        &[
            "set",
            "--mode",
            "aggressive",
            "max_batch_size=3",
            "--verbose",
        ],
    );
    let table = String::from_utf8(table.stdout).unwrap();
    let row = table
        .lines()
        .find(|line| line.starts_with("max_batch_size"));
    let cells: Vec<_> = row.unwrap().split_whitespace().collect();
    assert_eq!(cells, ["max_batch_size", "3", "16", "3"], "{table}");
    chat.end();
}

#[test]
fn a_change_is_answered_with_a_line_of_what_holds_now() {
    let sandbox = Sandbox::new();
    let chat = sandbox.chat(&[]);
    let pid = chat.child.id();
    let answer = |args: &[&str]| {
        let output = sandbox.limits(&chat, args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let set = answer(&["set", "max_batch_size=3", "away.max_batch_size = 9"]);
    let expected = "limits.max_batch_size is 3, away.max_batch_size is 9";
    assert_eq!(set, format!("process {pid}: {expected}\n"));
    let mode = answer(&["set", "--mode", "aggressive"]);
    let expected = "the settings of the mode aggressive";
    assert_eq!(mode, format!("process {pid}: {expected}\n"));
    for (command, part) in [
        (&["pause"][..], "stopped: paused by hand"),
        (&["resume"], "of the processor"),
        (&["snooze", "30m"], "stopped: "),
        (&["resume"], "of the processor"),
        (&["finish"], "accepts nothing more"),
    ] {
        let line = answer(command);
        assert_eq!(line.lines().count(), 1, "{command:?}: {line}");
        assert!(line.starts_with(&format!("process {pid}: ")), "{line}");
        assert!(line.contains(part), "{command:?}: {line}");
    }
    let whole = answer(&["resume", "--verbose"]);
    assert!(
        whole.contains("max_batch_size") && whole.lines().count() > 8,
        "{whole}"
    );
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
fn two_gogrids_share_a_cap_and_the_second_sees_the_first() {
    let sandbox = Sandbox::new();
    let first = sandbox.chat(&[]);
    let memory = |chat: &Chat| sandbox.view(chat, &["get"])["status"]["memories"][0].clone();
    let alone = memory(&first);
    assert_eq!(alone["peers_bytes"], 0);
    let second = sandbox.chat(&[]);
    let beside = memory(&second);
    assert_eq!(beside["peers_bytes"], alone["used_bytes"]);
    let caps = [&alone, &beside].map(|memory| memory["cap_bytes"].as_u64().unwrap());
    assert_eq!(caps[0], caps[1] + alone["used_bytes"].as_u64().unwrap());
    let peers = &sandbox.view(&second, &["get"])["status"]["peers"];
    assert_eq!(peers[0]["pid"], first.child.id());
    assert_eq!(peers[0]["memory_bytes"][0][0], "system");
    assert_eq!(peers[0]["is_busy"], false);
    let table = sandbox.limits(&second, &["get"]);
    let table = String::from_utf8(table.stdout).unwrap();
    let evidence = [
        format!("gogrid {} beside it: idle", first.child.id()),
        "held by other gogrids".to_owned(),
        "stage on cpu: pieces 0-".to_owned(),
    ];
    for part in evidence {
        assert!(table.contains(&part), "no {part:?} in {table}");
    }
    first.end();
    second.end();
}

#[test]
fn a_cap_that_the_first_fills_refuses_the_second_until_the_first_ends() {
    let sandbox = Sandbox::new();
    let first = sandbox.chat(&[]);
    let memory = sandbox.view(&first, &["get"])["status"]["memories"][0].clone();
    first.end();
    let bytes = |value: &Value| value.as_f64().unwrap();
    let held = bytes(&memory["used_bytes"]);
    let needed = bytes(&sandbox.json("plan", &[])["devices"][0]["memory_used_bytes"]);
    // Room for one to open, and not for another beside what it holds.
    let share = (needed + held / 2.0) / bytes(&memory["total_bytes"]);
    let file = sandbox.path("limits.toml");
    fs::write(&file, format!("limits.max_vram_usage_percent = {share}\n")).unwrap();
    let limits = ["--limits", file.to_str().unwrap()];

    let first = sandbox.chat(&limits);
    let model = sandbox.path("model.gguf");
    let words = ["generate", "x", "--max-tokens", "1", "--model"];
    let generate = || {
        let words = [&words[..], &[model.to_str().unwrap()], &limits].concat();
        sandbox.gogrid(&words).output().unwrap()
    };
    check_fails(
        &generate(),
        4,
        &["other gogrids hold", "the memory system", "does not fit"],
    );
    let plan = [&["plan", "--model", model.to_str().unwrap()], &limits[..]].concat();
    let plan = || sandbox.gogrid(&plan).output().unwrap();
    check_fails(&plan(), 4, &["other gogrids hold"]);
    first.end();
    let second = sandbox.chat(&limits);
    second.end();
    assert_eq!(plan().status.code(), Some(0));
}

#[test]
fn no_software_gpu_is_used_unless_it_is_asked_for() {
    let plan = Sandbox::new().json("plan", &[]);
    let devices = plan["devices"].as_array().unwrap();
    assert_eq!(devices[0]["device"], "cpu", "{plan}");
    for device in devices {
        let hardware = device["hardware"].as_str().unwrap();
        assert!(
            !hardware.is_empty() && !hardware.contains("software"),
            "{plan}"
        );
    }
}

#[test]
fn stages_are_moved_and_where_they_cannot_stand_they_stay() {
    let sandbox = Sandbox::new();
    let devices = ["--device", "cpu:0", "--device", "cpu:1"];
    let is_there = sandbox.gogrid(&["plan", "--device", "cpu:1"]).output();
    if stderr(&is_there.unwrap()).contains("no core 1") {
        eprintln!("skipped: one core here");
        return;
    }
    let chat = sandbox.chat(&devices);
    let stages = |view: &Value| {
        let stages = view["status"]["stages"].as_array().unwrap().clone();
        let stage = |stage: &Value| {
            let piece = |key: &str| stage[key].as_u64().unwrap();
            let device = stage["device"].as_str().unwrap().to_owned();
            (device, piece("first_piece"), piece("end_piece"))
        };
        stages.iter().map(stage).collect::<Vec<_>>()
    };
    let end = stages(&sandbox.view(&chat, &["get"])).last().unwrap().2;
    let (front, back) = (format!("cpu:1=0-{}", 3), format!("cpu:0=3-{end}"));
    let moved = stages(&sandbox.view(&chat, &["move", &front, &back]));
    let expected = [("cpu:1".to_owned(), 0, 3), ("cpu:0".to_owned(), 3, end)];
    assert_eq!(moved, expected);
    assert_eq!(stages(&sandbox.view(&chat, &["get"])), expected);

    let short = format!("cpu:0=0-{}", end - 1);
    let cases: [(&[&str], &str); 5] = [
        (
            &["cpu:7=0-3", &back],
            "no device \"cpu:7\", but on cpu:0, cpu:1",
        ),
        (&[&short], "the stages stand where they stood: plan: "),
        (
            &[&back, &front],
            "the stages stand where they stood: plan: ",
        ),
        (&["cpu:0=3-3"], "cpu:0=0-10"),
        (&["cpu:0"], "cpu:0=0-10"),
    ];
    for (words, evidence) in cases {
        let output = sandbox.limits(&chat, &[&["move"], words].concat());
        check_fails(&output, 2, &[evidence]);
    }
    assert_eq!(stages(&sandbox.view(&chat, &["get"])), expected);
    chat.end();
}

#[test]
fn a_plan_is_made_while_all_work_is_stopped_and_says_that_it_guesses() {
    let sandbox = Sandbox::new();
    let mut exclusive = Command::new("sleep").arg("1000").spawn().unwrap();
    let file = sandbox.path("limits.toml");
    fs::write(&file, "policy.exclusive = [\"sleep\"]\n").unwrap();
    let plan = sandbox.json("plan", &["--limits", file.to_str().unwrap()]);
    exclusive.kill().unwrap();
    exclusive.wait().unwrap();
    assert_eq!(plan["is_sure"], false, "{plan}");
    assert!(plan["decode_tok_s"].as_f64().unwrap() > 0.0, "{plan}");
    let kept = sandbox.path("gogrid/models/known-costs.json");
    assert!(!kept.exists(), "a guess is kept");
}

#[test]
fn known_costs_are_kept_and_a_broken_file_is_ignored_with_a_warning() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("gogrid/models/known-costs.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for broken in ["", "{", "[]", "{\"version\":9}"] {
        fs::write(&file, broken).unwrap();
        let model = sandbox.path("model.gguf");
        let words = ["plan", "--json", "--model", model.to_str().unwrap()];
        let output = sandbox.gogrid(&words).output().unwrap();
        let warning = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{warning}");
        let told = warning.lines().filter(|line| !is_log(line));
        assert_eq!(told.count(), 1, "{warning}");
        let path = file.to_str().unwrap();
        assert!(
            warning.contains("warning: ") && warning.contains(path),
            "{warning}"
        );
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        if plan["is_sure"] == true {
            let kept: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
            assert_eq!(kept["entries"].as_array().unwrap().len(), 1, "{kept}");
        } else {
            assert_eq!(fs::read_to_string(&file).unwrap(), broken);
        }
    }
    let folder = fs::read_dir(file.parent().unwrap()).unwrap();
    assert_eq!(folder.count(), 1, "nothing is left beside it");
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

#[test]
fn what_is_said_to_nobody_holds_up_no_limit() {
    let sandbox = Sandbox::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = sandbox.gogrid(&["chat", "--model"]);
    command
        .arg(sandbox.path("model.gguf"))
        .stdin(Stdio::piped());
    command.stdout(Stdio::null());
    let mut child = command.stderr(writer.try_clone().unwrap()).spawn().unwrap();
    drop(command);
    let mut said = BufReader::new(reader);
    let mut greeting = String::new();
    while !greeting.contains("/help lists") {
        greeting.clear();
        said.read_line(&mut greeting).unwrap();
    }
    // From here on nobody reads, and the pipe is full: one byte more waits.
    let (filled, fills) = std::sync::mpsc::sync_channel(0);
    let filling =
        std::thread::spawn(
            move || {
                while writer.write_all(b" ").is_ok() && filled.send(()).is_ok() {}
            },
        );
    while fills.recv_timeout(Duration::from_secs(1)).is_ok() {}

    let pid = child.id().to_string();
    let asks = |words: &[&str], expected: &str| {
        let words = [&["limits"], words, &["--json", "--pid", &pid]].concat();
        let output = sandbox.gogrid(&words).output().unwrap();
        // An observer that waits for the pipe answers never.
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let view: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(view["status"]["ruling"]["verdict"], expected, "{words:?}");
    };
    let by_hand = ["set", "policy.others_cpu.yield_above=1.0"];
    asks(&by_hand, "open");
    for _ in 0..3 {
        asks(&["pause"], "shut");
        asks(&["resume"], "open");
    }
    // It ends by itself, whatever it still has to say.
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(fills);
    drop(said);
    filling.join().unwrap();
}

#[test]
fn a_running_gogrid_is_shown_once_as_text_with_the_reason_for_a_stop() {
    let sandbox = Sandbox::new();
    let chat = sandbox.chat(&["--mode", "aggressive"]);
    let pid = chat.child.id().to_string();
    let gogrid = |args: &[&str]| {
        let output = sandbox.gogrid(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = gogrid(&["top", "--once"]);
    assert!(shown.starts_with(&format!("gogrid {pid}")), "{shown}");
    assert!(shown.contains("\nopen, up to "), "{shown}");
    for part in [
        "compute: ",
        "memory system: ",
        "weights ",
        "0 running, 0 queued",
    ] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    gogrid(&["limits", "pause"]);
    let shown = gogrid(&["top", "--once", "--pid", &pid]);
    assert!(shown.contains("\nstopped: paused by hand\n"), "{shown}");
    assert!(
        shown.lines().all(|line| line.chars().count() <= 80),
        "{shown}"
    );
    gogrid(&["limits", "resume"]);
    chat.end();
}

#[test]
fn without_a_terminal_or_a_process_it_says_so() {
    let sandbox = Sandbox::new();
    let check = |args: &[&str], code: i32, evidence: &str| {
        let output = sandbox.gogrid(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(evidence), "{said}");
    };
    check(&["top"], 2, "--once");
    check(&["top", "--once"], 7, "no gogrid is running");
    check(
        &["top", "--once", "--pid", "1"],
        7,
        "process 1 is no gogrid",
    );
}

#[test]
fn what_runs_is_listed_with_its_model_and_what_it_holds() {
    let sandbox = Sandbox::new();
    let chat = sandbox.chat(&[]);
    let output = sandbox.gogrid(&["ps", "--json"]).output().unwrap();
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [row] = &rows.as_array().unwrap()[..] else {
        panic!("{rows}");
    };
    assert_eq!(row["pid"], chat.child.id());
    assert_eq!(row["models"].as_array().unwrap().len(), 1);
    assert!(row["held_bytes"].as_u64().unwrap() > 0, "{row}");
    assert_eq!((&row["queued"], &row["running"]), (&json!(0), &json!(0)));
    chat.end();
}
