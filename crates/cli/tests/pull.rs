//! `gogrid pull` against hubs that cut, lie and stop, and against kills: never a wrong file under a right name.

#![cfg(unix)]

mod hostile_hub;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use gogrid_testkit::Rng;

use crate::hostile_hub::{File, Hub, Process, Seen};

const RUNS: u64 = 200;
/// Runs at the same time: they mostly wait.
const AT_ONCE: usize = 8;
/// Processes against the hub while it makes faults; then it is honest.
const HOSTILE_TRIES: usize = 3;

const NAME: &str = "some/Model:Q8_0";

fn pull(hub: &Hub, cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gogrid"));
    command.args(["pull", "--json", NAME]).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        let matters = ["HF_", "HUGGING_FACE_", "XDG_"];
        if matters.iter().any(|start| text.starts_with(start)) || text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    for folder in ["GOGRID_CACHE", "XDG_RUNTIME_DIR", "HOME", "TMPDIR"] {
        command.env(folder, cache);
    }
    command.env("HF_ENDPOINT", &hub.url);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A model in two parts, and one that is not asked for.
fn files(chance: &mut Rng) -> Vec<File> {
    let paths = [
        "m-Q8_0-00001-of-00002.gguf",
        "m-Q8_0-00002-of-00002.gguf",
        "m-Q4_0.gguf",
    ];
    let file = |path| {
        let mut content = vec![0; 1 + chance.below(300_000)];
        chance.fill(&mut content);
        File { path, content }
    };
    paths.map(file).to_vec()
}

/// The bytes of what came of files that are not whole.
fn partial_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let partial = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    partial
        .map(|entry| entry.metadata().map_or(0, |data| data.len()))
        .sum()
}

/// The bytes that an honest hub has to send of a file: those that are not there, and all of it where what is there
/// is not its beginning.
fn missing(folder: &Path, file: &File) -> u64 {
    if folder.join(file.path).exists() {
        return 0;
    }
    let beginning = format!(".{}.{}.part", file.path, &file.sha256()[..12]);
    let beginning = fs::read(folder.join(beginning)).unwrap_or_default();
    let rest = (file.content.len() - beginning.len()) as u64;
    match file.content.starts_with(&beginning) {
        true => rest,
        false => rest + file.content.len() as u64,
    }
}

/// Each file under its right name is right; how many there are.
fn check_names(folder: &Path, files: &[File], seed: u64) -> usize {
    let there = files.iter().filter(|file| {
        let Ok(content) = fs::read(folder.join(file.path)) else {
            return false;
        };
        assert!(
            content == file.content,
            "seed {seed}: {} is another",
            file.path
        );
        true
    });
    there.count()
}

fn check_end(code: Option<i32>, said: &str, is_whole: bool, seed: u64) {
    match code {
        Some(0) => assert!(is_whole, "seed {seed}: success without the files"),
        Some(5) => assert!(said.contains("error: "), "seed {seed}: {said}"),
        // Killed.
        None => {}
        other => panic!("seed {seed}: exit code {other:?}: {said}"),
    }
}

fn run(seed: u64) -> Seen {
    let mut chance = Rng::new(seed);
    let files = files(&mut chance);
    let hub = Hub::new(seed, files.clone());
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("hf.co/some/Model");
    let end = |process: Arc<Process>| {
        let (code, said) = process.end();
        let is_whole = check_names(&folder, &files, seed) == 2;
        check_end(code, &said, is_whole, seed);
        is_whole
    };
    for _ in 0..HOSTILE_TRIES {
        let process = Process::spawn(&mut pull(&hub, cache.path()));
        if chance.below(2) == 0 {
            hub.kill_after(&process, 1 + chance.below(400_000));
        }
        if end(process) {
            return hub.take_seen();
        }
    }
    let mut seen = hub.take_seen();
    hub.be_honest();
    let missing: u64 = files[..2].iter().map(|file| missing(&folder, file)).sum();
    let is_whole = end(Process::spawn(&mut pull(&hub, cache.path())));
    assert!(is_whole, "seed {seed}: an honest hub");
    let honest = hub.take_seen();
    assert_eq!(honest.sent, missing, "seed {seed}: what is sent again");
    let left = partial_bytes(&folder);
    assert_eq!(left, 0, "seed {seed}: nothing is left over");
    seen.sent += honest.sent;
    seen.resumed += honest.resumed;
    seen
}

#[test]
fn whatever_the_hub_does_no_wrong_file_has_a_right_name() {
    // A lock, held to take the next seed or to add up.
    let (seeds, total) = (Mutex::new(0..RUNS), Mutex::new(Seen::default()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(seed) = { seeds.lock().unwrap().next() } {
                    let seen = run(seed);
                    let mut total = total.lock().unwrap();
                    total.sent += seen.sent;
                    total.resumed += seen.resumed;
                    total.faults += seen.faults;
                    total.killed += seen.killed;
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{RUNS} runs: {total:?}");
    assert!(
        total.faults > RUNS && total.killed > 0 && total.resumed > 0,
        "{total:?}"
    );
}

#[test]
fn what_came_before_a_kill_does_not_come_again() {
    const BYTES: u32 = 32_000_000;
    let content: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
    let path = "m-Q8_0.gguf";
    let hub = Hub::new(0, vec![File { path, content }]);
    hub.be_honest();
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("hf.co/some/Model");
    let process = Process::spawn(&mut pull(&hub, cache.path()));
    // More than lies in the buffers between: some of it has been written.
    hub.kill_after(&process, 24_000_000);
    assert_eq!(process.end().0, None);
    let there = partial_bytes(&folder);
    assert!(there > 0, "something came");
    hub.take_seen();
    let output = pull(&hub, cache.path()).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let seen = hub.take_seen();
    assert_eq!((seen.resumed, seen.sent), (there, u64::from(BYTES) - there));
}

#[test]
fn a_full_disk_is_told_with_what_is_missing() {
    let content = vec![7; 1_000_000];
    let hub = Hub::new(
        0,
        vec![File {
            path: "m-Q8_0.gguf",
            content,
        }],
    );
    hub.be_honest();
    let folder = tempfile::tempdir().unwrap();
    // A disk of its own, which goes with the process.
    let script = r#"mount -t tmpfs -o size=500k none "$GOGRID_CACHE" && exec "$@""#;
    let pull = pull(&hub, folder.path());
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(pull.get_program());
    command.args(pull.get_args());
    for (name, value) in pull.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let Ok(output) = command.stdin(Stdio::null()).output() else {
        return println!("skipped: no unshare here");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare:") || said.contains("mount:") {
        return println!("skipped: no disk can be made here: {said}");
    }
    let words = "needs 976.6 KiB more while it is fetched, and ";
    assert!(
        said.contains("no room on the disk of") && said.contains(words),
        "{said}"
    );
}
