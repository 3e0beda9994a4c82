//! Lines for standard error that come from threads which must not wait for its reader: a terminal that
//! is stopped or a pipe that nobody reads holds up one thread, which does nothing but write.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Lines that wait. Those that come while there are so many are counted and dropped.
const LINES_MAX: usize = 256;
/// Bytes of a line; a longer one, such as a long backtrace, is cut.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Lines on their way to one writer.
pub(crate) struct Notes {
    /// A lock, held for a move of one line and never while a line is written.
    waiting: Mutex<Waiting>,
    /// Told when a line comes, and when the last one is written.
    changed: Condvar,
}

struct Waiting {
    lines: VecDeque<String>,
    /// Lines dropped since that was last said.
    lost: u64,
    is_writing: bool,
}

impl Notes {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lines: VecDeque::new(),
                lost: 0,
                is_writing: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Starts the thread that gives each line to `write`.
    pub(crate) fn start(&'static self, write: impl Fn(&str) + Send + 'static) -> io::Result<()> {
        let thread = Builder::new().name("gogrid-notes".to_owned());
        thread.spawn(move || self.write_all(&write))?;
        Ok(())
    }

    /// Hands over some text, at once and without a word of whether it is ever read.
    pub(crate) fn push(&self, mut text: String) {
        if text.len() > LINE_BYTES_MAX {
            text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
            text.push_str("...\n");
        }
        let mut waiting = self.waiting();
        if waiting.lines.len() < LINES_MAX {
            waiting.lines.push_back(text);
        } else {
            waiting.lost += 1;
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits until all that was handed over is written, but no longer than `time_max`.
    pub(crate) fn flush(&self, time_max: Duration) {
        let is_unwritten = |waiting: &mut Waiting| !waiting.is_written();
        let waiting = self.waiting();
        let waited = self
            .changed
            .wait_timeout_while(waiting, time_max, is_unwritten);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every write leaves it sound.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, write: &dyn Fn(&str)) {
        loop {
            write(&self.next());
        }
    }

    /// The next line; after the last of those before a gap, how many are missing.
    fn next(&self) -> String {
        let mut waiting = self.waiting();
        waiting.is_writing = false;
        loop {
            if let Some(text) = waiting.next() {
                waiting.is_writing = true;
                return text;
            }
            self.changed.notify_all();
            let woken = self.changed.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Waiting {
    fn next(&mut self) -> Option<String> {
        if let Some(text) = self.lines.pop_front() {
            return Some(text);
        }
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then(|| format!("{lost} lines were lost: standard error was not read\n"))
    }

    fn is_written(&self) -> bool {
        self.lines.is_empty() && self.lost == 0 && !self.is_writing
    }
}

/// Writes to standard error, if anybody is there to read it.
pub(crate) fn write_error(shown: &str) {
    // Nobody could be told of it.
    let _ = io::stderr().lock().write_all(shown.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_reader_that_stops_holds_up_nobody_and_is_told_what_it_missed() {
        static NOTES: Notes = Notes::new();
        let (write, written) = sync_channel(0);
        let started = NOTES.start(move |line| write.send(line.to_owned()).unwrap());
        started.unwrap();
        NOTES.push("0\n".to_owned());
        // The thread holds the first line from here on, and nothing takes it from there.
        while !NOTES.waiting().is_writing {
            std::thread::yield_now();
        }
        for line in 1..=LINES_MAX + 3 {
            NOTES.push(format!("{line}\n"));
        }
        NOTES.flush(Duration::from_millis(1));
        for line in 0..=LINES_MAX {
            assert_eq!(written.recv().unwrap(), format!("{line}\n"));
        }
        let lost = "3 lines were lost: standard error was not read\n";
        assert_eq!(written.recv().unwrap(), lost);
        NOTES.flush(LONG);
        assert!(NOTES.waiting().is_written());
        NOTES.push("on\n".to_owned());
        assert_eq!(written.recv().unwrap(), "on\n");
    }

    #[test]
    fn a_long_line_is_cut_between_two_characters() {
        let notes = Notes::new();
        notes.push(format!("x{}", "é".repeat(LINE_BYTES_MAX)));
        let text = notes.next();
        let kept = text.strip_suffix("é...\n").unwrap();
        assert_eq!(kept.len() + "é".len(), LINE_BYTES_MAX - 1);
    }
}
