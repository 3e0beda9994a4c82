//! The program with a real model. Each test finds it in the cache, or says that it was skipped:
//! `gogrid pull smollm2-135m` and `gogrid pull gemma3-270m` bring them. With GOGRID_REQUIRE_MODELS
//! in the environment a missing model is a failure.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says that it is skipped"
)]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use gogrid_hub::{Cache, Name, find};
use gogrid_testkit::Golden;
use serde_json::Value;

const SMOLLM2: &str = "smollm2-135m";
const GEMMA3: &str = "gemma3-270m";

/// The program with the model of this name, at full speed; `None`, and a line that says so, where
/// the model is not in the cache.
fn gogrid(model: &str, args: &[&str]) -> Option<Command> {
    let cache = Cache::of_user().ok()?;
    if cache.find(&Name::of(find(model).unwrap())).is_none() {
        let required = std::env::var_os("GOGRID_REQUIRE_MODELS").is_some();
        assert!(!required, "{model} is not in the cache");
        eprintln!("skipped: {model} is not in the cache; `gogrid pull {model}` brings it");
        return None;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_gogrid"));
    command
        .args(args)
        .args(["--model", model])
        .stdin(Stdio::null());
    if args[0] != "tokenize" {
        command.arg("--limits").arg(beside_others());
    }
    Some(command)
}

/// A file of settings under which the other tests' load, which is others' load, stops nothing.
fn beside_others() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("beside_others.toml");
        fs::write(&path, "[policy.others_cpu]\nyield_above = 1.0\n").unwrap();
        path
    });
    &FILE
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{command:?}: {message}");
    output
}

fn json(command: &mut Command) -> Value {
    serde_json::from_slice(&succeed(command).stdout).unwrap()
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn generate_streams_text_and_then_says_how_it_went() {
    let args = [
        "generate",
        "The capital of France is",
        "--raw",
        "--max-tokens",
        "8",
        "--temperature",
        "0",
        "--figures",
    ];
    let Some(mut command) = gogrid(SMOLLM2, &args) else {
        return;
    };
    let output = succeed(&mut command);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Paris") && text.ends_with('\n'), "{text}");
    let figures = String::from_utf8(output.stderr).unwrap();
    for part in [
        "prompt ",
        "generated ",
        "1 stage on cpu",
        "mode conservative",
        "held",
    ] {
        assert!(figures.contains(part), "no {part:?} in {figures}");
    }
    assert_eq!(figures.lines().count(), 1, "{figures}");
}

#[test]
fn drafts_change_no_token_of_a_text_that_repeats_itself() {
    let prompt = "ant bee cow ant bee cow ant bee cow ant bee cow ant bee cow";
    for temperature in ["0", "0.6"] {
        let answer = |more: &[&str]| {
            let args = ["generate", prompt, "--raw", "--max-tokens", "64", "--json"];
            let chances = ["--seed", "3", "--temperature", temperature];
            let args: Vec<_> = args.iter().chain(&chances).chain(more).copied().collect();
            Some(json(&mut gogrid(SMOLLM2, &args)?))
        };
        let Some(drafted) = answer(&[]) else { return };
        let alone = answer(&["--no-prompt-lookup"]).unwrap();
        assert_eq!(drafted["ids"], alone["ids"]);
        assert_eq!(alone["accepted_tokens"], 0);
        let accepted = drafted["accepted_tokens"].as_u64().unwrap();
        assert!(accepted > 0, "none of {drafted} was drafted");
    }
}

#[test]
fn the_same_request_gives_the_same_text_on_one_device_and_on_two() {
    let args = [
        "generate",
        "Tell me a story.",
        "--max-tokens",
        "32",
        "--json",
        "--seed",
        "7",
    ];
    let answer = |more: &[&str]| {
        let args: Vec<_> = args.iter().chain(more).copied().collect();
        let answer = json(&mut gogrid(SMOLLM2, &args)?);
        assert_eq!(answer["generated_tokens"], 32);
        Some(answer)
    };
    let warm = ["--temperature", "0.8"];
    let Some(one) = answer(&warm) else { return };
    assert_eq!(one["ids"], answer(&warm).unwrap()["ids"]);
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        eprintln!("skipped the second half: there is one core only");
        return;
    }
    let two = answer(&[
        "--temperature",
        "0.8",
        "--device",
        "cpu:0",
        "--device",
        "cpu:1",
    ])
    .unwrap();
    assert_eq!(one["ids"], two["ids"]);
}

/// Ids as the golden file has them, and log-probabilities no further from its single-precision
/// reference than 1.1 times what llama.cpp's own are, 1.4 times on any one text.
fn check_eval(model: &str, golden: &Golden) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text");
    let (mut ours_all, mut theirs_all, mut count) = (0.0, 0.0, 0);
    for (name, text) in &golden.texts {
        fs::write(&file, &text.text).unwrap();
        let args = [
            "eval",
            "--text",
            file.to_str().unwrap(),
            "--json",
            "--mode",
            "aggressive",
        ];
        let Some(mut command) = gogrid(model, &args) else {
            return;
        };
        let report = json(&mut command);
        assert_eq!(numbers::<u32>(&report["ids"]), text.ids, "{name}");
        let ours = distance(&numbers(&report["next_logprob"]), &text.next_logprob_f32);
        let theirs = distance(&text.next_logprob_llama_cpp, &text.next_logprob_f32);
        assert!(ours <= 1.4 * theirs, "{name}: {ours} against {theirs}");
        ours_all += ours;
        theirs_all += theirs;
        count += text.next_logprob_f32.len();
    }
    let (ours, theirs) = (ours_all / count as f64, theirs_all / count as f64);
    println!("{model}: mean distance to f32 {ours:.5}, llama.cpp's {theirs:.5}");
    assert!(ours <= 1.1 * theirs, "{model}: {ours} against {theirs}");
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum()
}

#[test]
fn eval_of_smollm2_is_as_close_to_f32_as_it_should_be() {
    check_eval(SMOLLM2, &Golden::load("smollm2-135m-instruct-q4_1"));
}

#[test]
fn eval_of_gemma3_is_as_close_to_f32_as_it_should_be() {
    check_eval(GEMMA3, &Golden::load("gemma-3-270m-q4_k_m"));
}

#[test]
fn tokenize_gives_the_ids_of_the_file_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text");
    for (model, name) in [
        (SMOLLM2, "smollm2-135m-instruct-q4_1"),
        (GEMMA3, "gemma-3-270m-q4_k_m"),
    ] {
        for case in Golden::load(name)
            .tokenize
            .iter()
            .filter(|case| case.special)
        {
            fs::write(&file, &case.text).unwrap();
            let args = ["tokenize", "--json", "--text", file.to_str().unwrap()];
            let Some(mut command) = gogrid(model, &args) else {
                break;
            };
            let ids: Vec<u32> = numbers(&json(&mut command)["ids"]);
            assert_eq!(ids, case.ids, "{model}: {:?}", case.text);
        }
    }
}

#[test]
fn a_prompt_longer_than_the_context_is_refused() {
    let prompt = "many words ".repeat(40);
    let Some(mut command) = gogrid(SMOLLM2, &["generate", &prompt, "--context", "32"]) else {
        return;
    };
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(
        message.contains("32") && message.contains("shorten"),
        "{message}"
    );
}

#[test]
fn bench_reports_medians_under_their_names() {
    let args = [
        "bench",
        "--prompt-tokens",
        "16",
        "--gen-tokens",
        "4",
        "--runs",
        "2",
        "--streams",
        "2",
        "--hog",
        "1",
        "--json",
    ];
    let Some(mut command) = gogrid(SMOLLM2, &args) else {
        return;
    };
    let report = json(&mut command);
    for name in ["prefill_tok_s", "decode_tok_s", "decode_tok_s_at_16"] {
        assert!(
            report[name].as_f64().is_some_and(|rate| rate > 0.0),
            "{name} in {report}"
        );
    }
    assert_eq!(report["mode"], "conservative");
    assert_eq!(report["compute_share"], 0.6);
    assert_eq!(report["prefill_runs"].as_array().map(Vec::len), Some(2));
    let device = &report["device_bandwidths"][0];
    assert_eq!(device["device"], "cpu");
    // Two sequences share what a step reads of the model's 90 MB.
    let read = device["weights_bytes_per_token"].as_f64();
    assert!(
        read.is_some_and(|bytes| (30e6..60e6).contains(&bytes)),
        "{report}"
    );
    for name in ["weights_bytes_per_s", "copy_bytes_per_s", "copy_share"] {
        let figure = device[name].as_f64();
        assert!(figure.is_some_and(|figure| figure > 0.0), "{report}");
    }
}

/// What a chat in which these lines are typed prints of its figures, where the model is at hand.
fn chat(lines: &[u8]) -> Option<String> {
    let mut command = gogrid(SMOLLM2, &["chat", "--max-tokens", "8", "--figures"])?;
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let figures = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{figures}");
    assert!(output.stdout.len() > 1);
    Some(figures)
}

#[test]
fn chat_answers_a_line_and_ends_when_told() {
    if let Some(figures) = chat(b"Say hello.\n/exit\nnot read\n") {
        let rates = figures.matches("tok/s").count();
        assert_eq!(rates, 2, "one answer's figures, in {figures}");
        assert!(!figures.contains("cached"), "{figures}");
    }
}

#[test]
fn the_second_answer_of_a_chat_says_how_much_of_it_was_kept() {
    if let Some(figures) = chat(b"Say hello.\nSay it again.\n/exit\n") {
        assert!(figures.contains(" cached, at "), "{figures}");
    }
}

/// A generation that would take hours, once its first text has come.
fn endless() -> Option<(Child, Vec<u8>)> {
    let args = ["generate", "Count.", "--max-tokens", "8000", "--ignore-eos"];
    let mut command = gogrid(SMOLLM2, &args)?;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = vec![0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    Some((child, first))
}

#[test]
fn ctrl_c_keeps_the_text_and_ends_with_its_own_code() {
    let Some((mut child, mut text)) = endless() else {
        return;
    };
    let signal = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    if !signal.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no kill command here to send a Ctrl-C with");
        child.kill().unwrap();
        return;
    }
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_to_end(&mut text)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(text.len() > 1 && text.ends_with(b"\n"), "{text:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn a_reader_that_goes_away_ends_a_generation_quietly() {
    let Some((mut child, _)) = endless() else {
        return;
    };
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn memory_that_the_system_refuses_is_an_error_and_no_abort() {
    // Kilobytes of address space: from too little for a thread to what the model needs.
    for limit in [250_000, 300_000, 350_000, 400_000, 500_000] {
        let args = ["generate", "Hello", "--raw", "--max-tokens", "4"];
        let Some(command) = gogrid(SMOLLM2, &args) else {
            return;
        };
        let mut shell = Command::new("sh");
        shell
            .args([
                "-c",
                "ulimit -v \"$1\" || exit 99; shift; exec \"$@\"",
                "sh",
            ])
            .arg(limit.to_string())
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null());
        let Ok(output) = shell.output() else {
            eprintln!("skipped: there is no sh");
            return;
        };
        let message = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {}
            Some(4) => {
                let words = ["the system refuse", "could not be started"];
                let is_said = words.iter().any(|words| message.contains(words));
                assert!(is_said, "{limit}: {message}");
            }
            Some(99) => eprintln!("skipped: address space cannot be limited here"),
            code => panic!("{limit}: {code:?}: {message}"),
        }
    }
}
