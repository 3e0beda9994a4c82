//! A pace that notes how long the work between two pause points took.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use gogrid_units::{Go, Moment, Pace, TeamPace, Work};

/// The time between two pause points of one thread that tell of work.
#[derive(Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) nanos: u64,
    /// Whether the thread was off its core meanwhile: it slept, or another ran. Then the time is
    /// not that of its work.
    pub(crate) interrupted: bool,
}

/// Notes the intervals of a step and lets it go on at full speed.
pub(crate) struct Watch {
    threads: usize,
    /// Of the step that is on, so that no interval begins in the one before.
    step: AtomicU64,
    kept: Mutex<Vec<Interval>>,
}

/// A thread's last pause point.
struct Since {
    step: u64,
    from: Instant,
    turns: Option<u64>,
}

thread_local! {
    static SINCE: RefCell<Option<Since>> = const { RefCell::new(None) };
    static TURNS: RefCell<Option<File>> = RefCell::new(File::open("/proc/thread-self/schedstat").ok());
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// How often the calling thread has been given a core, where the system tells: as long as that
/// stands still, the time that passes is the thread's own.
pub(crate) fn turns() -> Option<u64> {
    TURNS.with_borrow_mut(|file| {
        let file = file.as_mut()?;
        let mut text = [0; 96];
        file.rewind().ok()?;
        let len = file.read(&mut text).ok()?;
        let text = std::str::from_utf8(&text[..len]).ok()?;
        text.split_whitespace().nth(2)?.parse().ok()
    })
}

impl Watch {
    /// Of a team of `threads`.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            step: AtomicU64::new(0),
            kept: Mutex::default(),
        }
    }

    pub(crate) fn begin_step(&self) {
        self.step.fetch_add(1, Relaxed);
    }

    /// The intervals since this was last asked, in the order of their ends. The calling thread's
    /// last one ends here.
    pub(crate) fn end_step(&self) -> Vec<Interval> {
        self.note();
        std::mem::take(&mut self.kept.lock().expect("nothing panics under this lock"))
    }

    fn note(&self) {
        let until = now();
        let turns = turns();
        let step = self.step.load(Relaxed);
        SINCE.with_borrow_mut(|since| {
            if let Some(since) = since.as_ref().filter(|since| since.step == step) {
                let nanos = until.duration_since(since.from).as_nanos();
                let interval = Interval {
                    // 2^64 nanoseconds are 584 years.
                    nanos: nanos as u64,
                    interrupted: since.turns != turns,
                };
                let mut kept = self.kept.lock().expect("nothing panics under this lock");
                kept.push(interval);
            }
            let from = now();
            *since = Some(Since { step, from, turns });
        });
    }
}

impl Pace for Watch {
    /// Points without work are asked before others, and now and then while a core is on offer: they
    /// end no interval, so that the same work always has the same ones.
    fn point(&self, work: Work) -> Go {
        if work != Work::default() {
            self.note();
        }
        Go::Go
    }

    fn rest(&self, _until: Moment) {}

    fn is_over(&self) -> bool {
        false
    }

    fn charge(&self, _busy_nanos: u64) {}
}

impl TeamPace for Watch {
    fn width(&self) -> usize {
        self.threads
    }

    fn gave_way(&self, _nanos: u64) {}
}
