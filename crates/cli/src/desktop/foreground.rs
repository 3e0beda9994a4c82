//! The task of a person at the desk, in a process of its own: frames at 60 Hz and wake-ups at
//! 1 kHz, at normal priority, on no core in particular.
//!
//! It says once what it found when it calibrated itself. Then, for each line `run SECONDS` on
//! standard input, it says when the measured part has begun, and at its end the samples. With
//! `cold SECONDS` the frames' thread reads through memory between frames, so that most find nothing of
//! their own in the caches. It ends when standard input closes.

use std::io::{self, BufRead};
use std::process;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use gogrid_host::{IoPriority, Priority, process_cpu_time, restrain_thread};
use serde::{Deserialize, Serialize};

use super::work::{Loops, Much, Work};
use crate::out;

/// From one frame's due moment to the next one's.
pub(crate) const FRAME_PERIOD: Duration = Duration::from_nanos(16_666_667);
/// A frame's work, measured alone.
const FRAME_WORK: Duration = Duration::from_millis(3);
const WAKE_PERIOD: Duration = Duration::from_millis(1);
/// With cold caches: before each frame its thread sleeps for so long, so that it has to wake up.
const COLD_SLEEP: Duration = Duration::from_millis(1);
/// The first part of each run, which is not measured.
pub(crate) const LEAD: Duration = Duration::from_secs(1);

/// What it says first.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// A frame's work.
    #[serde(flatten)]
    pub(crate) loops: Loops,
    /// Its nice value, as read back.
    pub(crate) nice: Option<i32>,
}

/// What it says when the measured part of a run begins.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Begun {
    begun: bool,
}

/// A run's measured part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Samples {
    /// From each frame's due moment to its end.
    pub(crate) frames_ns: Vec<u64>,
    /// From each wake-up's due moment to when it was.
    pub(crate) wakes_ns: Vec<u64>,
    /// CPU time of the whole process.
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
}

pub(crate) fn run() -> anyhow::Result<()> {
    // Whatever the priority of the process that started this one. The threads inherit it.
    let io = IoPriority { class: 0, level: 0 };
    let nice = restrain_thread(Priority { nice: 0, io }).nice.in_effect;
    let lines = listen();
    let mut work = Work::new();
    let loops = work.calibrate(FRAME_WORK);
    out::json(&Ready { loops, nice })?;
    for line in lines {
        let (order, seconds) = line.split_once(' ').unwrap_or((&line, ""));
        let length = seconds.parse().ok();
        let length = length.and_then(|s| Duration::try_from_secs_f64(s).ok());
        let (much, length) = match (order, length) {
            ("run", Some(length)) => (None, length),
            ("cold", Some(length)) => (Some(Much::new()), length),
            _ => anyhow::bail!("unknown order {line:?}"),
        };
        out::json(&measure((&mut work, loops), much, length)?)?;
    }
    Ok(())
}

/// The lines of standard input. Its end is this process's, at once, whatever it is doing.
fn listen() -> Receiver<String> {
    let (send, lines) = sync_channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
        process::exit(0);
    });
    lines
}

/// With `much`, each frame finds the caches cold.
fn measure(
    (work, loops): (&mut Work, Loops),
    much: Option<Much>,
    length: Duration,
) -> anyhow::Result<Samples> {
    let began = now();
    let (from, to) = (began + LEAD, began + LEAD + length);
    thread::scope(|scope| {
        let frames = scope.spawn(|| {
            let cool = |due: Instant| {
                if let Some(much) = &much {
                    much.read_until(due - COLD_SLEEP);
                }
            };
            each(FRAME_PERIOD, (began, to), || work.frame(loops), cool)
                .filter(|&(due, _)| due >= from)
                .map(late)
                .collect()
        });
        let wakes = scope.spawn(|| {
            each(WAKE_PERIOD, (began, to), || (), |_| ())
                .filter(|&(due, _)| due >= from)
                .map(late)
                .collect()
        });
        thread_sleep_until(from);
        let (cpu_began, wall_began) = (process_cpu_time()?, now());
        out::json(&Begun { begun: true })?;
        let frames_ns = frames.join().expect("the frames' thread never panics");
        let wakes_ns = wakes.join().expect("the wake-ups' thread never panics");
        Ok(Samples {
            frames_ns,
            wakes_ns,
            cpu_s: (process_cpu_time()? - cpu_began).as_secs_f64(),
            wall_s: wall_began.elapsed().as_secs_f64(),
        })
    })
}

/// Does `task` at `began` and every `period` from then on until `to`; gives each time's due moment
/// and end. A task that is late starts at once, and none is left out, so that one long stall
/// counts as all that it delayed. `between` is told when the next one is due.
fn each(
    period: Duration,
    (began, to): (Instant, Instant),
    mut task: impl FnMut(),
    mut between: impl FnMut(Instant),
) -> impl Iterator<Item = (Instant, Instant)> {
    (0..)
        .map(move |n| began + period * n)
        .take_while(move |&due| due < to)
        .map(move |due| {
            thread_sleep_until(due);
            task();
            let end = now();
            between(due + period);
            (due, end)
        })
}

fn late((due, end): (Instant, Instant)) -> u64 {
    // 2^64 nanoseconds are 584 years.
    end.saturating_duration_since(due).as_nanos() as u64
}

/// Sleeps until a moment that does not depend on how late the last sleep was.
#[expect(
    clippy::disallowed_methods,
    reason = "this process stands for a program that waits for its frame"
)]
pub(crate) fn thread_sleep_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program times what others do to it"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
