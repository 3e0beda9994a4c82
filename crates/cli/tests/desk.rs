//! The program as a person at a desk meets it: outputs that are full or gone, signals, files and
//! sockets that are not what they should be, text that steers a terminal, a machine without memory.
#![cfg(target_os = "linux")]

mod sandbox;

use std::fs::{self, File};
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;

use crate::sandbox::{Sandbox, is_log};

const FULL: &str = "/dev/full";

impl Sandbox {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.gogrid(words);
        if words[0] != "devices" && words[0] != "limits" {
            command.arg("--model").arg(self.path("model.gguf"));
        }
        command
    }

    /// A generation that goes on for long, of which the first text has come.
    fn generation(&self) -> Child {
        let mut child = self.endless().spawn().unwrap();
        let first = child.stdout.as_mut().unwrap().read(&mut [0]).unwrap();
        assert_eq!(first, 1);
        child
    }

    fn endless(&self) -> Command {
        // At so small a share of the time it does not come to its end before the test does.
        let share = "max_compute_usage_percent = 0.01\n";
        let settings = format!("mode = \"aggressive\"\n[limits]\n{share}[away]\n{share}");
        let limits = self.path("slow.toml");
        fs::write(&limits, settings).unwrap();
        let words = [
            "generate",
            "x",
            "--raw",
            "--ignore-eos",
            "--max-tokens",
            "500",
        ];
        let mut command = self.command(&words);
        command.arg("--limits").arg(limits);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The sockets that are there.
    fn sockets(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(self.path("gogrid")) else {
            return Vec::new();
        };
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".sock")).collect()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn kill(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(pid.to_string())
        .status();
    assert!(sent.unwrap().success());
}

/// Where an output of the program goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    Kept,
    Full,
    /// A pipe whose reader has gone.
    Gone,
}

impl Sink {
    fn stdio(self) -> Stdio {
        match self {
            Self::Kept => Stdio::piped(),
            Self::Full => File::options().write(true).open(FULL).unwrap().into(),
            Self::Gone => std::io::pipe().unwrap().1.into(),
        }
    }
}

#[test]
fn an_output_that_is_full_or_gone_is_no_panic_and_standard_error_is_no_failure() {
    let sandbox = Sandbox::new();
    let commands: [(&[&str], i32); 6] = [
        (
            &[
                "generate",
                "x",
                "--raw",
                "--max-tokens",
                "3",
                "--mode",
                "aggressive",
            ],
            0,
        ),
        (
            &["generate", "x", "--raw", "--max-tokens", "3", "--json"],
            0,
        ),
        (&["devices"], 0),
        (&["plan"], 0),
        (
            &[
                "bench",
                "--prompt-tokens",
                "4",
                "--gen-tokens",
                "2",
                "--runs",
                "1",
                "--json",
            ],
            0,
        ),
        (&["limits", "get"], 7),
    ];
    for (words, usual) in commands {
        let check = |stdout: Sink, errors: Sink, code: i32| {
            let mut command = sandbox.command(words);
            let child = command
                .stdout(stdout.stdio())
                .stderr(errors.stdio())
                .spawn();
            let output = child.unwrap().wait_with_output().unwrap();
            let message = stderr(&output);
            let context = format!("{words:?}, {stdout:?}, {errors:?}: {message}");
            assert_eq!(output.status.code(), Some(code), "{context}");
            assert!(!message.contains("panicked"), "{context}");
            if stdout == Sink::Full && code == 1 {
                assert!(
                    message.contains("cannot write to standard output"),
                    "{context}"
                );
            }
        };
        check(Sink::Kept, Sink::Full, usual);
        check(Sink::Kept, Sink::Gone, usual);
        // A command that fails has nothing to write.
        check(Sink::Full, Sink::Kept, if usual == 0 { 1 } else { usual });
        check(Sink::Gone, Sink::Kept, usual);
    }
}

#[test]
fn limits_are_changed_and_held_though_nobody_reads_the_log() {
    let sandbox = Sandbox::new();
    let chat = sandbox.chat(&[]);
    let pid = chat.child.id().to_string();
    let mut child = chat.child;
    // Each change of the verdict is a line of the log, which has nowhere to go.
    drop(chat.said);
    for command in ["pause", "resume", "pause", "resume"] {
        let output = sandbox
            .gogrid(&["limits", command, "--pid", &pid])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let output = sandbox
        .gogrid(&["limits", "get", "--json"])
        .output()
        .unwrap();
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(view["status"]["failures"], serde_json::json!([]));
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_signal_ends_it_cleanly_whatever_it_does() {
    let sandbox = Sandbox::new();
    let check = |signal: &str, mut child: Child, doing: &str| {
        kill(signal, child.id());
        // What is not read of its text must not keep it.
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), Some(130), "{signal} while it {doing}");
        let left = sandbox.sockets();
        assert!(left.is_empty(), "{signal} while it {doing}: {left:?}");
    };
    for signal in ["TERM", "HUP", "INT"] {
        check(signal, sandbox.chat(&[]).child, "waits for a line");
        check(signal, sandbox.generation(), "generates");
        let mut paused = sandbox.chat(&[]);
        let pid = paused.child.id().to_string();
        let output = sandbox
            .gogrid(&["limits", "pause", "--pid", &pid])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        paused
            .child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"hello\n")
            .unwrap();
        if signal != "INT" {
            check(signal, paused.child, "is paused within an answer");
        } else {
            drop(paused.child.stdin.take());
            paused.child.kill().unwrap();
            paused.child.wait().unwrap();
            // Killed, it cannot take its socket with it, and the next one that looks does.
            let output = sandbox.gogrid(&["limits", "get"]).output().unwrap();
            assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
            assert!(sandbox.sockets().is_empty());
        }
    }
}

#[test]
fn a_chat_goes_by_what_its_model_suggests_and_says_so() {
    let sandbox = Sandbox::new();
    let model = RandomModel::new(Spec {
        family: Family::SmolLm3,
        weights: WeightType::F32,
        seed: 1,
    });
    model.write_hugging_face(sandbox.folder.path(), 1).unwrap();
    let suggested = r#"{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 7}"#;
    fs::write(sandbox.path("generation_config.json"), suggested).unwrap();
    let mut command = sandbox.gogrid(&["chat", "--top-k", "5", "--model"]);
    command.arg(sandbox.folder.path()).stdin(Stdio::piped());
    let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let mut typed = child.stdin.take().unwrap();
    typed.write_all(b"/set min-p 0.25\n/show\n/bye\n").unwrap();
    drop(typed);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    let shown = "temperature 0.6 (the model's), top-p 0.9 (default), top-k 5, min-p 0.25, \
                 repetition-penalty 1.1 (default)";
    assert!(said.contains(shown), "{said}");
    assert!(
        said.contains("top_p is 7, and must be from 0 to 1"),
        "{said}"
    );
}

#[test]
fn a_terminal_that_goes_away_does_not_end_what_was_started_to_outlive_it() {
    let sandbox = Sandbox::new();
    let mut command = Command::new("sh");
    let program = sandbox.command(&["chat"]);
    command
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(program.get_program());
    command.args(program.get_args());
    for (name, value) in program.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.env_remove("GOGRID_CACHE");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    crate::sandbox::line(&mut said);
    kill("HUP", child.id());
    let output = sandbox.gogrid(&["limits", "get"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    kill("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn the_first_process_of_a_container_ends_when_it_is_told_to() {
    let sandbox = Sandbox::new();
    let alone = ["-f", "-p", "--mount-proc"];
    let may = Command::new("unshare").args(alone).arg("true").output();
    if !may.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no unshare here, or it may not make process numbers");
        return;
    }
    for signal in ["TERM", "HUP", "INT"] {
        let program = sandbox.endless();
        let mut command = Command::new("unshare");
        command
            .args(alone)
            .arg(program.get_program())
            .args(program.get_args());
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env_remove("GOGRID_CACHE");
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let first = child.stdout.as_mut().unwrap().read(&mut [0]).unwrap();
        assert_eq!(first, 1);
        let pid = child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        kill(signal, children.trim().parse().unwrap());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert!(sandbox.sockets().is_empty(), "{signal}");
    }
}

#[test]
fn without_memory_it_says_so_and_exits_with_the_code_of_a_limit() {
    let sandbox = Sandbox::new();
    let generate = [
        "generate",
        "x",
        "--raw",
        "--max-tokens",
        "3",
        "--mode",
        "aggressive",
    ];
    let commands: [&[&str]; 3] = [&["devices"], &["plan"], &generate];
    let mut refused = 0;
    for kibibytes in [40_000, 43_000, 46_000, 50_000, 100_000, 200_000, 400_000] {
        for words in commands {
            let program = sandbox.command(words);
            let mut command = Command::new("sh");
            let limited = format!("ulimit -v {kibibytes}; exec \"$@\"");
            command
                .args(["-c", &limited, "sh"])
                .arg(program.get_program());
            command.args(program.get_args());
            for (name, value) in program.get_envs() {
                command.env(name, value.unwrap_or_default());
            }
            command
                .env_remove("GOGRID_CACHE")
                .env_remove("RUST_BACKTRACE");
            let output = command.stdin(Stdio::null()).output().unwrap();
            let message = stderr(&output);
            let context = format!(
                "{words:?} under {kibibytes} KiB: {:?} {message}",
                output.status
            );
            match output.status.code() {
                Some(0) => {}
                Some(4) => {
                    refused += 1;
                    assert!(message.contains("error: "), "{context}");
                }
                _ => panic!("{context}"),
            }
            assert!(!message.contains("panicked"), "{context}");
        }
    }
    assert!(refused > 1, "{refused} of 21 had too little memory");
}

/// A tiny model whose name steers a terminal.
fn write_steering_model(path: &Path) {
    let spec = Spec {
        family: Family::ALL[0],
        weights: WeightType::Q8_0,
        seed: 1,
    };
    let mut bytes = RandomModel::new(spec).gguf().bytes();
    let (name, steering) = (b"tiny seed 1", b"\x1b[31mevil\xc2\x9b");
    assert_eq!(name.len(), steering.len());
    let at = bytes
        .windows(name.len())
        .position(|part| part == name)
        .unwrap();
    bytes[at..at + name.len()].copy_from_slice(steering);
    fs::write(path, bytes).unwrap();
}

#[test]
fn text_from_outside_steers_no_terminal_and_is_whole_elsewhere() {
    let sandbox = Sandbox::new();
    write_steering_model(&sandbox.path("model.gguf"));
    let text = "no/\u{1b}]0;title\u{7}\u{202e}";
    let cases: [(&[&str], &[u8]); 2] = [
        (&["plan"], b"\x1b[31mevil\xc2\x9b"),
        (&["tokenize", "--text", text], text.as_bytes()),
    ];
    for (words, raw) in cases {
        let has = |output: &[u8], part: &[u8]| output.windows(part.len()).any(|at| at == part);
        let output = sandbox.command(words).output().unwrap();
        let all = [&output.stdout[..], &output.stderr].concat();
        assert!(
            has(&all, raw),
            "{words:?}: {}",
            String::from_utf8_lossy(&all)
        );

        let program = sandbox.command(words);
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap());
        let line: Vec<_> = std::iter::once(program.get_program())
            .chain(program.get_args())
            .map(quoted)
            .collect();
        let mut terminal = Command::new("script");
        terminal.args(["-q", "-e", "-c", &line.join(" "), "/dev/null"]);
        for (name, value) in program.get_envs() {
            terminal.env(name, value.unwrap_or_default());
        }
        terminal.env_remove("GOGRID_CACHE");
        let Ok(output) = terminal.stdin(Stdio::null()).output() else {
            println!("skipped: there is no `script` here, which makes a terminal");
            return;
        };
        let shown = output.stdout;
        let context = String::from_utf8_lossy(&shown).into_owned();
        assert!(
            !has(&shown, b"\x1b") && !has(&shown, b"\xc2\x9b"),
            "{words:?}: {context}"
        );
        assert!(!has(&shown, "\u{202e}".as_bytes()), "{words:?}: {context}");
        assert!(has(&shown, b"\\u{1b}"), "{words:?}: {context}");
    }
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_path_that_is_no_regular_file_is_named_and_not_waited_for() {
    let sandbox = Sandbox::new();
    let pipe = sandbox.path("pipe");
    make_pipe(&pipe);
    let cases = [
        (pipe.to_str().unwrap(), "a pipe and not a regular file"),
        ("/dev/zero", "a device and not a regular file"),
        (
            sandbox.folder.path().to_str().unwrap(),
            "a folder and not a regular file",
        ),
    ];
    for (path, evidence) in cases {
        for words in [
            &["tokenize", "--text", path][..],
            &["plan", "--limits", path],
        ] {
            let output = sandbox.command(words).output().unwrap();
            let message = stderr(&output);
            assert_eq!(output.status.code(), Some(3), "{words:?}: {message}");
            assert!(message.contains(evidence), "{words:?}: {message}");
        }
    }
}

#[test]
fn a_pipe_that_takes_the_place_of_the_limits_file_stops_nothing() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("limits.toml");
    fs::write(&file, "mode = \"default\"\n").unwrap();
    let mut chat = sandbox.chat(&["--limits", file.to_str().unwrap()]);
    let pipe = sandbox.path("pipe");
    make_pipe(&pipe);
    fs::rename(&pipe, &file).unwrap();
    let said = |chat: &mut sandbox::Chat| loop {
        let mut line = String::new();
        chat.said.read_line(&mut line).unwrap();
        if !is_log(&line) {
            return line;
        }
    };
    let line = said(&mut chat);
    assert!(line.contains("a pipe and not a regular file"), "{line}");
    let output = sandbox.gogrid(&["limits", "get"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    fs::remove_file(&file).unwrap();
    fs::write(&file, "mode = \"aggressive\"\n").unwrap();
    // That it was gone for a moment may be a line too.
    while !said(&mut chat).contains("in force") {}
    chat.end();
}

#[test]
fn known_costs_are_written_beside_a_link_and_never_through_it() {
    let sandbox = Sandbox::new();
    let (target, models) = (sandbox.path("target"), sandbox.path("models"));
    fs::write(&target, "kept").unwrap();
    fs::create_dir(&models).unwrap();
    let costs = models.join("known-costs.json");
    symlink(&target, &costs).unwrap();
    // What was timed on a machine that was disturbed is not kept.
    let takes_its_place = (0..30).any(|_| {
        let mut plan = sandbox.command(&["plan", "--mode", "aggressive"]);
        let output = plan.env("GOGRID_CACHE", &models).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        !costs.symlink_metadata().unwrap().is_symlink()
    });
    assert!(takes_its_place, "no file took its place");
}

#[test]
fn a_socket_counts_when_a_gogrid_answers_there() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("gogrid");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, private).unwrap();
    let check = |case: &str| {
        let output = sandbox.gogrid(&["limits", "pause"]).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(7), "{case}: {message}");
        assert!(
            message.contains("no gogrid is running"),
            "{case}: {message}"
        );
    };
    check("nothing there");
    // Its number is that of this test, which lives.
    let path = folder.join(format!("gogrid-{}.sock", std::process::id()));
    drop(UnixListener::bind(&path).unwrap());
    check("nobody listens, and the number is a living process's");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "no socket").unwrap();
    check("a file");
    assert_eq!(fs::read(&path).unwrap(), b"no socket");
    fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mail ready\n").unwrap();
    });
    check("something else");
    other.join().unwrap();
}

/// What a generation of the tiny model is told by standard input, and what it says.
fn with_input(sandbox: &Sandbox, words: &[&str], input: &[u8]) -> Output {
    let mut command = sandbox.command(&[&["generate"], words].concat());
    command.args([
        "--temperature",
        "0",
        "--max-tokens",
        "2",
        "--mode",
        "aggressive",
    ]);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{words:?}: {}",
        stderr(&output)
    );
    output
}

fn prompt_tokens(sandbox: &Sandbox, words: &[&str], input: &[u8]) -> u64 {
    let output = with_input(sandbox, &[words, &["--raw", "--json"]].concat(), input);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["prompt_tokens"].as_u64().unwrap()
}

#[test]
fn standard_input_joins_the_prompt_or_is_it() {
    let sandbox = Sandbox::new();
    let tokens = |words: &[&str], input: &[u8]| prompt_tokens(&sandbox, words, input);
    let joined = tokens(&["Summarise:\n\ndata"], b"");
    assert!(joined > tokens(&["Summarise:"], b""));
    assert_eq!(tokens(&["Summarise:"], b"data\n"), joined);
    for words in [&[][..], &["-"]] {
        assert_eq!(tokens(words, b"Summarise:\n\ndata"), joined, "{words:?}");
    }
    let text = sandbox.path("text");
    fs::write(&text, "some data").unwrap();
    let ids = |file: &str, input: &str| {
        let mut command = sandbox.command(&["tokenize", "--json", "--text", file]);
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(input.as_bytes()).unwrap();
        drop(writer);
        command.stdin(reader).output().unwrap().stdout
    };
    let of_file = ids(text.to_str().unwrap(), "");
    assert!(of_file.starts_with(b"{\"ids\":["));
    assert_eq!(ids("-", "some data"), of_file);
}

#[test]
fn figures_come_where_they_are_asked_for_and_quiet_leaves_nothing_but_the_answer() {
    let sandbox = Sandbox::new();
    let said = |words: &[&str]| {
        let output = with_input(&sandbox, &[&["x", "--raw"], words].concat(), b"");
        assert!(!output.stdout.is_empty(), "{words:?}");
        let said = stderr(&output);
        let lines = said.lines().filter(|line| !is_log(line));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(said(&[]), [""; 0]);
    let figures = said(&["--figures"]);
    assert!(
        matches!(&figures[..], [line] if line.contains(" tok/s, ")),
        "{figures:?}"
    );
    let quiet = with_input(&sandbox, &["x", "--raw", "--quiet"], b"");
    assert_eq!(stderr(&quiet), "");
}

#[test]
fn events_are_told_as_they_come_and_the_last_is_the_whole_answer() {
    let sandbox = Sandbox::new();
    let output = with_input(&sandbox, &["x", "--raw", "--json", "--stream"], b"");
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let is = |event: &serde_json::Value, name: &str| event["event"] == name;
    assert!(events.iter().any(|event| is(event, "started")), "{text}");
    let (last, before) = events.split_last().unwrap();
    assert!(
        is(last, "finished") && last["generated_tokens"] == 2,
        "{text}"
    );
    let deltas = before.iter().filter(|event| is(event, "delta"));
    let told: String = deltas
        .clone()
        .map(|delta| delta["text"].as_str().unwrap())
        .collect();
    assert_eq!(last["text"], *told);
    let ids = deltas.flat_map(|delta| delta["ids"].as_array().unwrap().clone());
    assert_eq!(*last["ids"].as_array().unwrap(), ids.collect::<Vec<_>>());
}
