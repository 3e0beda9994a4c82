//! A table of wrong uses, each with its exit code and all that is said of it: what is wrong, where, and what to do.
//! `UPDATE_HELP=1 cargo test -p gogrid --test wrong_uses` writes it anew; look at the difference.
#![cfg(target_os = "linux")]

mod sandbox;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use crate::sandbox::{Chat, Sandbox, is_log};

const TABLE: &str = "tests/wrong_uses.txt";
const ROWS_MIN: usize = 60;
/// Before the command line of a row that is run while a gogrid runs.
const BESIDE: &str = "(beside a running gogrid) ";

impl Sandbox {
    /// The files that the table speaks of.
    fn furnish(&self) {
        let write = |name: &str, bytes: &[u8]| fs::write(self.path(name), bytes).unwrap();
        for folder in ["empty", "other", "idle"] {
            fs::create_dir(self.path(folder)).unwrap();
        }
        let model = fs::read(self.path("model.gguf")).unwrap();
        write("cut.gguf", &model[..model.len() / 2]);
        write("other/model.gguf", &model);
        write("notes.txt", b"These are notes, and no model.\n");
        write("latin1.txt", b"caf\xe9\n");
        write("nothing.txt", b"");
        write("keys.txt", b"short\n");
        write("zero.toml", b"[limits]\nmax_compute_usage_percent = 0\n");
        write("sixty.toml", b"[limits]\nmax_compute_usage_percent = 60\n");
        write(
            "low.toml",
            b"[limits]\nmax_vram_usage_percent = 0.0000001\n",
        );
        write("unknown.toml", b"[limits]\nmax_batch = 4\n");
        write("broken.toml", b"[limits\n");
        write("mode.toml", b"mode = \"default\"\n");
    }

    /// What a line of a shell ends in: the exit code, and what is said on standard error.
    fn told(&self, row: &str, chat: &Chat) -> String {
        let (line, runtime) = match row.strip_prefix(BESIDE) {
            Some(line) => (line, self.path("")),
            None => (row, self.path("idle")),
        };
        let program = Path::new(env!("CARGO_BIN_EXE_gogrid"));
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", line])
            .current_dir(self.path(""))
            .env_clear();
        // With nothing else to be found: no Python that would fetch a model.
        shell
            .env("PATH", program.parent().unwrap())
            .env("LC_ALL", "C");
        for name in ["XDG_RUNTIME_DIR", "HOME", "TMPDIR"] {
            shell.env(name, &runtime);
        }
        // Nothing listens there.
        shell
            .env("GOGRID_CACHE", "cache")
            .env("HF_ENDPOINT", "http://127.0.0.1:1");
        let output = shell.stdin(std::process::Stdio::null()).output().unwrap();
        assert!(output.stdout.is_empty(), "{row}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.replace(self.path("").to_str().unwrap(), "FOLDER/");
        let said = said.replace(&chat.child.id().to_string(), "PID");
        let lines = said
            .lines()
            .filter(|line| !is_log(line))
            .map(|line| line.trim_end());
        let lines: Vec<_> = lines.map(sizes_left_out).collect();
        let code = output.status.code().unwrap();
        format!("exit code {code}\n{}\n", lines.join("\n"))
    }
}

/// A line without its amounts of memory, which are this machine's.
fn sizes_left_out(line: &str) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let mut shown: Vec<&str> = Vec::new();
    for word in line.split(' ') {
        match shown.last_mut() {
            Some(number) if UNITS.contains(&word) && is_number(number) => *number = "SIZE",
            _ => shown.push(word),
        }
    }
    shown.join(" ")
}

#[test]
fn each_wrong_use_is_told_as_written_down() {
    let sandbox = Sandbox::new();
    sandbox.furnish();
    let chat = sandbox.chat(&[]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    let written = fs::read_to_string(&file).unwrap();
    let mut table = String::new();
    let (mut rows, mut wrong) = (0, Vec::new());
    for row in written.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let told = sandbox.told(row, &chat);
        for never in ["panicked", "exit code 0", "exit code 101"] {
            assert!(!told.contains(never), "{row}: {told}");
        }
        // Where a command is missing, the help says which there are.
        let is_told = told.contains("error: ") || told.contains("Usage: ");
        assert!(is_told, "{row}: {told}");
        let entry = format!("$ {row}\n{told}\n");
        if !written.contains(&entry) {
            wrong.push(entry.clone());
        }
        table.write_str(&entry).unwrap();
        rows += 1;
    }
    chat.end();
    assert!(rows >= ROWS_MIN, "{rows} rows");
    if env::var_os("UPDATE_HELP").is_some() {
        fs::write(&file, &table).unwrap();
    } else {
        let wrong = wrong.concat();
        assert!(
            wrong.is_empty(),
            "run with UPDATE_HELP=1 and look at the difference:\n{wrong}"
        );
        assert_eq!(table, written);
    }
}
