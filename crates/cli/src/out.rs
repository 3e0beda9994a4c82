//! The one place where the program writes to its standard output and standard error. On a terminal,
//! text is shown escaped: most of it has parts that come from a model, a file or another process.
//! Elsewhere it goes out as it is. Standard error may be gone, full or not read: nothing fails by that,
//! and only the thread that has the foreground waits for it.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{backtrace, thread};

use serde::Serialize;

use crate::escape::escaped;
use crate::notes::{Notes, write_error};

/// Why standard output did not take what was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// Its reader has gone: it had all it wanted.
    #[error("the reader of standard output has gone")]
    Gone,
    #[error("cannot write to standard output: {0}")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Gone,
            _ => Self::Failed(error),
        }
    }
}

static IS_TERMINAL: LazyLock<bool> = LazyLock::new(|| io::stdout().is_terminal());
static ERROR_IS_TERMINAL: LazyLock<bool> = LazyLock::new(|| io::stderr().is_terminal());

/// Writes `text` and flushes it, so that it is seen at once.
pub(crate) fn text(text: &str) -> Result<(), OutputError> {
    Ok(write(text)?)
}

/// Writes `line` and a line end.
pub(crate) fn line(line: &str) -> Result<(), OutputError> {
    text(&format!("{line}\n"))
}

/// The same, for code that knows of readers and writers only.
pub(crate) fn plain_line(line: &str) -> io::Result<()> {
    write(&format!("{line}\n"))
}

/// Writes `value` as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(&serde_json::to_string(value)?)?)
}

fn write(text: &str) -> io::Result<()> {
    let shown = if *IS_TERMINAL {
        escaped(text)
    } else {
        text.into()
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(shown.as_bytes())?;
    stdout.flush()
}

/// What other threads than the foreground's have to say.
static NOTES: Notes = Notes::new();

/// How long what they said is waited for, before the foreground says something itself and at the
/// program's end.
const FLUSH_MAX: Duration = Duration::from_millis(200);

/// Says `line` on standard error, if anybody is there to read it, and waits for its reader. For the
/// thread that the user waits for; any other takes [`note_aside`].
pub(crate) fn note(line: impl Display) {
    flush();
    write_error(&shown(&format!("{line}\n")));
}

/// Has `line` said on standard error and waits for nobody.
pub(crate) fn note_aside(line: impl Display) {
    NOTES.push(format!("{line}\n"));
}

/// Waits a moment until what other threads had to say is written.
pub(crate) fn flush() {
    NOTES.flush(FLUSH_MAX);
}

fn shown(text: &str) -> Cow<'_, str> {
    if *ERROR_IS_TERMINAL {
        escaped(text)
    } else {
        text.into()
    }
}

/// Whether events below an error are kept to themselves.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// From here on only errors are logged, for a command that does again and again what is otherwise
/// worth a line.
pub(crate) fn log_errors_only() {
    IS_QUIET.store(true, Ordering::Relaxed);
}

/// Standard error for the library's events, each of which comes in one write. Never fails.
pub(crate) struct Log {
    is_shown: bool,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_shown {
            NOTES.push(String::from_utf8_lossy(bytes).into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a [`Log`] for each event.
struct Logs;

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Logs {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        Log { is_shown: true }
    }

    fn make_writer_for(&'a self, event: &tracing::Metadata<'_>) -> Log {
        let is_error = *event.level() == tracing::Level::ERROR;
        Log {
            is_shown: is_error || !IS_QUIET.load(Ordering::Relaxed),
        }
    }
}

/// Has the library's events, and every panic, said on standard error, a line each, by a thread of its
/// own.
pub(crate) fn install() -> io::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(Logs)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        // It says that it failed in a way that panics where standard error is gone.
        .log_internal_errors(false)
        .init();
    std::panic::set_hook(Box::new(note_panic));
    NOTES.start(|text| write_error(&shown(text)))
}

/// The thread that panics must unwind whether this is read or not: others wait for its end.
fn note_panic(panic: &PanicHookInfo<'_>) {
    let problem = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(|place| format!(" at {place}"));
    let place = place.unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name");
    note_aside(format_args!(
        "bug: the thread `{thread}` panicked{place}: {problem}"
    ));
    let trace = backtrace::Backtrace::capture();
    if trace.status() == backtrace::BacktraceStatus::Captured {
        note_aside(trace);
    }
}
