//! The program from outside: what bad input ends in, by exit code and message.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Output, Stdio};

fn gogrid(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gogrid"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it, and expects this exit code, nothing on standard output, no panic, and each of
/// `evidence` in the message.
fn check(command: &mut Command, code: i32, evidence: &[&str]) {
    let output = command.output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {message}");
    assert!(output.stdout.is_empty(), "{command:?}");
    assert!(
        message.contains("error: ") && !message.contains("panicked"),
        "{command:?}: {message}"
    );
    for part in evidence {
        assert!(
            message.contains(part),
            "{command:?}: no {part:?} in {message}"
        );
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

#[test]
fn the_help_is_as_written_down() {
    let mut text = String::new();
    let commands = [
        "",
        "devices",
        "pull",
        "list",
        "rm",
        "ps",
        "completions",
        "man",
        "plan",
        "generate",
        "chat",
        "eval",
        "tokenize",
        "bench",
        "bench desktop",
        "bench pause",
        "bench soak",
        "serve",
        "limits",
        "limits get",
        "limits set",
        "limits pause",
        "limits resume",
        "limits snooze",
        "limits finish",
        "limits move",
        "top",
    ];
    for command in commands {
        let args: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let output = gogrid(&args).env("COLUMNS", "100").output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        text += &String::from_utf8(output.stdout).unwrap();
        text += "\n";
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("UPDATE_HELP").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap();
    assert!(
        text == written,
        "the help changed; run with UPDATE_HELP=1 and look at the difference"
    );
}

#[test]
fn the_help_breaks_between_words_where_the_terminal_ends() {
    for columns in [60, 80] {
        let mut command = gogrid(&["generate", "--help"]);
        let output = command.env("COLUMNS", columns.to_string()).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let (options, examples) = text.split_once("Examples:").unwrap();
        let longest = options.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(columns), "{columns}: {text}");
        assert!(examples.lines().count() > 2, "{text}");
    }
}

#[test]
fn the_version_says_what_is_built_in_and_of_which_commit() {
    let said = |option: &str| {
        let output = gogrid(&[option]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let short = concat!("gogrid ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(said("-V"), short);
    let long = said("--version");
    let lines: Vec<_> = long.lines().collect();
    let [version, commit, cpu, gpu] = lines[..] else {
        panic!("{long}");
    };
    assert_eq!(version, short.trim_end());
    let commit = commit.strip_prefix("commit: ").unwrap();
    let is_hash = commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || commit.starts_with("not known"), "{long}");
    assert!(cpu.starts_with("CPU: built in, computes with "), "{long}");
    assert!(gpu.starts_with("GPU: "), "{long}");
}

#[test]
fn every_command_has_a_manual_page_with_its_options_and_examples() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("man1");
    let output = gogrid(&["man", path(&into)]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = |name: &str| fs::read_to_string(into.join(name)).unwrap();
    assert!(page("gogrid.1").contains("Exit codes"));
    let generate = page("gogrid-generate.1");
    for part in ["temperature", "Examples", "git diff"] {
        assert!(generate.contains(part), "{part}: {generate}");
    }
    assert!(page("gogrid-limits-set.1").contains("KEY=VALUE"));
    let pages = fs::read_dir(&into)
        .unwrap()
        .map(|page| page.unwrap().file_name());
    let hidden = pages.filter(|name| name.to_string_lossy().contains("hog"));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn the_foreground_of_the_desktop_bench_ends_when_its_input_closes_or_is_unknown() {
    let check = |input: &str, code: i32, evidence: &str| {
        let mut child = gogrid(&["foreground"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut orders = child.stdin.take();
        let mut ready = String::new();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        answers.read_line(&mut ready).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        assert!(ready["arithmetic_rounds"].as_u64() > Some(0), "{ready}");
        assert!(ready["stream_kib"].as_u64() > Some(0), "{ready}");
        let write = |pipe: &mut ChildStdin| pipe.write_all(input.as_bytes()).unwrap();
        orders.iter_mut().for_each(write);
        if code == 0 {
            // Which cuts a run short. An unknown order ends it while its input is open.
            orders = None;
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(stderr(&output).contains(evidence), "{}", stderr(&output));
        drop(orders);
    };
    check("", 0, "");
    check("run 3600\n", 0, "");
    check("cold 3600\n", 0, "");
    check("walk\n", 1, "walk");
    check("run -1\n", 1, "run -1");
    check("run\n", 1, "run");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_done() {
    let cases: [&[&str]; 18] = [
        &["frobnicate"],
        &["generate", "x", "--frobnicate"],
        &["generate", "x", "--max-tokens", "0"],
        &["generate", "x", "--max-tokens", "99999999999999999999"],
        &["generate", "x", "--temperature", "-1"],
        &["generate", "x", "--temperature", "NaN"],
        &["generate", "x", "--top-p", "1.5"],
        &["generate", "x", "--threads", "0"],
        &["generate", "x", "--context", "0"],
        &["generate", "x", "--mode", "reckless"],
        &["generate", "x", "--quantise", "q9"],
        &["generate", "x", "--raw", "--system", "y"],
        &["bench", "--runs", "0"],
        &["bench", "--runs", "3", "desktop"],
        &["bench", "--synthetic", "1b-q4_k", "--model", "smollm2-135m"],
        &["bench", "desktop", "--triples", "1"],
        &["bench", "desktop", "--seconds", "0.1"],
        &["pull"],
    ];
    for case in cases {
        check(&mut gogrid(case), 2, &[]);
    }
}

#[test]
fn a_model_that_is_nowhere_is_named_with_where_names_are() {
    for command in [&["generate", "x"][..], &["plan"], &["bench"], &["chat"]] {
        let words = [command, &["--model", "no/such/model.gguf"]].concat();
        let evidence = ["no/such/model.gguf", "gogrid list"];
        check(&mut gogrid(&words), 3, &evidence);
    }
    check(
        &mut gogrid(&["pull", "smolm2-135m"]),
        3,
        &["smolm2-135m", "nearest: smollm2-135m"],
    );
}

#[test]
fn a_shape_that_is_not_known_is_named_with_those_that_are() {
    let shapes = ["1b-q4_k", "7b-q4_k", "7b-f16", "70b-q4_k-slice"];
    let evidence = [&["nonsense"][..], &shapes].concat();
    check(
        &mut gogrid(&["bench", "--synthetic", "nonsense"]),
        2,
        &evidence,
    );
}

#[test]
fn a_synthetic_model_that_does_not_fit_is_refused_as_another_is() {
    let folder = tempfile::tempdir().unwrap();
    let limits = folder.path().join("limits.toml");
    fs::write(&limits, "limits.max_vram_usage_percent = 0.01\n").unwrap();
    let args = ["bench", "--synthetic", "7b-f16", "--limits", path(&limits)];
    check(&mut gogrid(&args), 4, &["does not fit", "--context"]);
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("notes.gguf");
    let text = folder.path().join("text.txt");
    fs::write(&text, "some text").unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for content in [
        &b""[..],
        b"GG",
        b"these are notes, not a model",
        b"GGUF\x03\0\0\0\xff",
    ] {
        fs::write(&model, content).unwrap();
        for bad in [path(&model), path(&empty)] {
            check(&mut gogrid(&["generate", "x", "--model", bad]), 3, &[bad]);
            check(&mut gogrid(&["plan", "--model", bad]), 3, &[bad]);
            let args = ["tokenize", "--model", bad, "--text", path(&text)];
            check(&mut gogrid(&args), 3, &[bad]);
        }
    }
}

#[test]
fn a_text_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("latin1.txt");
    fs::write(&text, b"caf\xe9").unwrap();
    for command in ["eval", "tokenize"] {
        check(
            &mut gogrid(&[command, "--text", "no/such/text"]),
            3,
            &["no/such/text"],
        );
        check(
            &mut gogrid(&[command, "--text", path(&text)]),
            3,
            &["latin1.txt", "byte 3"],
        );
    }
}

#[test]
fn a_prompt_that_is_not_text_is_refused() {
    let mut command = gogrid(&["generate"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"caf\xe9").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("byte 3"), "{}", stderr(&output));
}

#[test]
fn a_cache_that_cannot_be_used_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let cache = file.path().join("models");
    let evidence = [path(&cache), "GOGRID_CACHE"];
    for args in [&["pull", "smollm2-135m"][..], &["generate", "x"]] {
        check(gogrid(args).env("GOGRID_CACHE", &cache), 5, &evidence);
    }
    let unset = ["GOGRID_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"];
    let mut homeless = gogrid(&["pull", "smollm2-135m"]);
    for name in unset {
        homeless.env_remove(name);
    }
    check(&mut homeless, 5, &unset);
}

#[test]
fn without_any_source_the_attempts_are_named_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("models");
    let mut command = gogrid(&["pull", "smollm2-135m"]);
    // Nothing listens on the first port, and no python3 is in an empty folder.
    command
        .env("GOGRID_CACHE", &cache)
        .env("HF_ENDPOINT", "http://127.0.0.1:1");
    command.env("PATH", folder.path());
    check(
        &mut command,
        5,
        &[
            "smollm2-135m",
            "hugging face hub",
            "out of reach",
            "python3",
        ],
    );
    let left: Vec<_> = fs::read_dir(&cache)
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(left, [".SmolLM2-135M-Instruct.Q4_1.gguf.lock"]);
}

#[test]
fn a_device_that_is_not_there_has_a_code_of_its_own() {
    for device in ["gpu:99", "gpu", "gpu:x", "cpu:999999", "cpu:x", "toaster"] {
        check(&mut gogrid(&["plan", "--device", device]), 6, &["device"]);
    }
}

#[test]
fn devices_say_what_they_are_and_what_can_be_held_back_there() {
    let output = gogrid(&["devices", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&rows[0]["id"], &rows[0]["kind"]),
        (&"cpu".into(), &"cpu".into())
    );
    assert!(
        rows[0]["memory_free_bytes"].as_u64() > Some(0),
        "{}",
        rows[0]
    );
    let can = |row: &serde_json::Value, name: &str| {
        let abilities = row["abilities"].as_array().unwrap();
        let found = abilities.iter().find(|ability| ability["name"] == name);
        found.map(|ability| ability["available"].as_bool().unwrap())
    };
    assert!(can(&rows[0], "thread nice values").is_some(), "{}", rows[0]);
    for (index, row) in rows[1..].iter().enumerate() {
        assert_eq!(row["id"], format!("gpu:{index}"), "{row}");
        assert_eq!(row["kind"], "gpu", "{row}");
        for key in ["name", "api", "driver", "adapter"] {
            assert!(
                row[key].as_str().is_some_and(|text| !text.is_empty()),
                "{row}"
            );
        }
        assert!(row["shares_system_memory"].is_boolean(), "{row}");
        assert_eq!(can(row, "memory cap"), Some(true), "{row}");
        assert_eq!(can(row, "compute share"), Some(true), "{row}");
        assert_eq!(can(row, "queue priority"), Some(false), "{row}");
        assert_eq!(
            can(row, "priority of the submitting thread"),
            Some(false),
            "{row}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut command = gogrid(&["devices"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn what_is_here_is_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = gogrid(args);
        command.env("GOGRID_CACHE", folder.path()).output().unwrap()
    };
    let list = || -> serde_json::Value {
        serde_json::from_slice(&run(&["list", "--json"]).stdout).unwrap()
    };
    let models = list();
    assert!(
        models
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["path"].is_null())
    );
    assert_eq!(models[0]["name"], "smollm2-135m");
    let nothing = run(&["rm", "smollm2-135m"]);
    assert_eq!(nothing.status.code(), Some(3));
    assert!(
        stderr(&nothing).contains("is not in"),
        "{}",
        stderr(&nothing)
    );
    assert_eq!(run(&["rm", "no-such-model"]).status.code(), Some(3));
    // As long as the model is, and nothing in it.
    let file = folder.path().join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let bytes = models[0]["bytes"].as_u64().unwrap();
    fs::File::create(&file).unwrap().set_len(bytes).unwrap();
    assert_eq!(list()[0]["path"], path(&file));
    assert_eq!(run(&["rm", "smollm2-135m"]).status.code(), Some(0));
    assert!(!file.exists() && list()[0]["path"].is_null());
}

#[test]
fn each_shell_has_its_completions_and_nothing_runs_where_nothing_does() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = gogrid(&["completions", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            script.contains("generate") && script.contains("max-tokens"),
            "{shell}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = gogrid(&["ps"]);
    for variable in ["XDG_RUNTIME_DIR", "HOME", "TMPDIR"] {
        command.env(variable, folder.path());
    }
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b""[..]));
    assert!(stderr(&output).contains("no gogrid is running"));
}
