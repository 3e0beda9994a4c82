//! The one place where the program writes to its standard output and standard error. On a terminal,
//! text is shown escaped: most of it has parts that come from a model, a file or another process.
//! Elsewhere it goes out as it is. Standard error may be gone, full or not read: nothing fails by that,
//! and only the thread that has the foreground waits for it.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{backtrace, thread};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use indicatif::ProgressBar;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use serde::Serialize;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format};
use tracing_subscriber::registry::LookupSpan;

use crate::escape::escaped;
use crate::notes::{Notes, write_error};
use crate::wrap::Wrap;

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

/// Whether standard output shows a screen of its own.
static HAS_SCREEN: AtomicBool = AtomicBool::new(false);

/// Standard output as a screen of its own, with single keys on standard input. What its cells hold must have
/// been escaped before. [`close_screen`] gives the terminal back.
pub(crate) fn open_screen() -> io::Result<io::Stdout> {
    let mut screen = io::stdout();
    // First, so that what follows is undone even if it fails midway.
    HAS_SCREEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(screen, EnterAlternateScreen, Hide)?;
    Ok(screen)
}

/// The terminal is as it was before the screen, if there is one.
pub(crate) fn close_screen() {
    if HAS_SCREEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// Columns of standard output, where it is a terminal.
pub(crate) fn columns() -> Option<usize> {
    let (columns, _) = (*IS_TERMINAL).then(size)?.ok()?;
    Some(usize::from(columns)).filter(|&columns| columns > 0)
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    *IS_TERMINAL
}

/// Has the terminal take `text` into the clipboard (OSC 52); some do not.
pub(crate) fn to_clipboard(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "\x1b]52;c;{}\x07", STANDARD.encode(text))?;
    stdout.flush()
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

/// The line that is drawn again and again at the moment, if there is one. A lock, held while something else is
/// written.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// From here on this line is drawn on standard error, which all else is written above.
pub(crate) fn draws(line: Option<ProgressBar>) {
    *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = line;
}

/// Writes above the line that somebody is typing, while somebody is.
type Above = Box<dyn FnMut(&str) -> bool + Send>;
static ABOVE: Mutex<Option<Above>> = Mutex::new(None);

/// From here on notes are written by `above`, which says whether it could; `None` when nobody types any more.
/// Waits for no note: one that is being written may wait for the next line to be typed.
pub(crate) fn types(above: Option<Above>) {
    *lock_above() = above;
    LINES_TYPED.fetch_add(1, Ordering::SeqCst);
}

fn lock_above() -> MutexGuard<'static, Option<Above>> {
    ABOVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often somebody began to type, or ended.
static LINES_TYPED: AtomicU64 = AtomicU64::new(0);

/// Writes to standard error, beside whatever is drawn or typed there.
fn write_note(shown: &str) {
    let typed = LINES_TYPED.load(Ordering::SeqCst);
    let taken = lock_above().take();
    if let Some(mut above) = taken {
        let is_written = above(shown);
        let mut place = lock_above();
        if LINES_TYPED.load(Ordering::SeqCst) == typed {
            *place = Some(above);
        }
        if is_written {
            return;
        }
    }
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    match &*drawn {
        Some(line) => line.suspend(|| write_error(shown)),
        None => write_error(shown),
    }
}

/// What other threads than the foreground's have to say.
static NOTES: Notes = Notes::new();

/// How long what they said is waited for, before the foreground says something itself and at the
/// program's end.
const FLUSH_MAX: Duration = Duration::from_millis(200);

/// Says `line` on standard error, if anybody is there to read it and nobody asked for quiet, and waits for
/// its reader. For the thread that the user waits for; any other takes [`note_aside`].
pub(crate) fn note(line: impl Display) {
    if !is_quiet() {
        error(line);
    }
}

/// As [`note`], also where somebody asked for quiet: why the program fails.
pub(crate) fn error(line: impl Display) {
    flush();
    write_note(&shown(&format!("{line}\n")));
}

/// Has `line` said on standard error, unless somebody asked for quiet, and waits for nobody.
pub(crate) fn note_aside(line: impl Display) {
    if !is_quiet() {
        error_aside(line);
    }
}

/// As [`note_aside`], also where somebody asked for quiet.
fn error_aside(line: impl Display) {
    NOTES.push(format!("{line}\n"));
}

/// Whether nothing but errors is said.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// From here on nothing but errors is said on standard error.
pub(crate) fn be_quiet() {
    IS_QUIET.store(true, Ordering::Relaxed);
    log_errors_only();
}

/// Whether somebody asked for that.
pub(crate) fn is_quiet() -> bool {
    IS_QUIET.load(Ordering::Relaxed)
}

/// Waits a moment until what other threads had to say is written.
pub(crate) fn flush() {
    NOTES.flush(FLUSH_MAX);
}

/// What standard error is to show of a text: at a terminal, broken between words.
fn shown(text: &str) -> Cow<'_, str> {
    if !*ERROR_IS_TERMINAL {
        return text.into();
    }
    let columns = size().ok().map(|(columns, _)| usize::from(columns));
    let mut wrap = Wrap::new(columns.filter(|&columns| columns > 0));
    let shown = wrap.push(&escaped(text)) + &wrap.finish();
    shown.into()
}

/// Whether events below an error are kept to themselves.
static LOGS_ERRORS_ONLY: AtomicBool = AtomicBool::new(false);

/// From here on only errors are logged, for a command that does again and again what is otherwise
/// worth a line.
pub(crate) fn log_errors_only() {
    LOGS_ERRORS_ONLY.store(true, Ordering::Relaxed);
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
            is_shown: is_error || !LOGS_ERRORS_ONLY.load(Ordering::Relaxed),
        }
    }
}

/// Whether events are written as JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// From here on events are lines of JSON, for a program that gathers them.
pub(crate) fn log_as_json() {
    IS_JSON.store(true, Ordering::Relaxed);
}

/// The two ways that events are written.
struct LogShape {
    text: Format<Full, ()>,
    json: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for LogShape
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match IS_JSON.load(Ordering::Relaxed) {
            true => self.json.format_event(context, writer, event),
            false => self.text.format_event(context, writer, event),
        }
    }
}

/// Has the library's events, and every panic, said on standard error, a line each, by a thread of its
/// own.
pub(crate) fn install() -> io::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(Logs)
        .with_ansi(false)
        // It says that it failed in a way that panics where standard error is gone.
        .log_internal_errors(false)
        .event_format(LogShape {
            text: format().without_time().with_target(false).with_ansi(false),
            json: format().json().flatten_event(true).with_target(false),
        })
        .init();
    std::panic::set_hook(Box::new(note_panic));
    NOTES.start(|text| write_note(&shown(text)))
}

/// The thread that panics must unwind whether this is read or not: others wait for its end.
fn note_panic(panic: &PanicHookInfo<'_>) {
    // What is said on a screen of its own goes with it.
    close_screen();
    let problem = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(|place| format!(" at {place}"));
    let place = place.unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name");
    error_aside(format_args!(
        "bug: the thread `{thread}` panicked{place}: {problem}"
    ));
    let trace = backtrace::Backtrace::capture();
    if trace.status() == backtrace::BacktraceStatus::Captured {
        error_aside(trace);
    }
}
