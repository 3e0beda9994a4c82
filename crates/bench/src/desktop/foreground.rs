//! The task of a person at the desk, in a process of its own: frames at 60 Hz and wake-ups at
//! 1 kHz, at normal priority, on no core in particular.
//!
//! It gives once the result of its calibration. Then, for each line `run SECONDS` on standard input, it
//! says when the measured part has begun, and at its end the samples. With `cold SECONDS` the frames'
//! thread reads through memory between frames, so that most frames find nothing of their own in the
//! caches. It ends when standard input closes.

use std::io::{self, BufRead};
use std::process;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use gogrid_host::{IoPriority, Priority, process_cpu_time, restrain_thread};
use serde::{Deserialize, Serialize};

use super::frame_work::{CacheSweep, FrameWork, Loops};
use crate::clock::{now, sleep_until};
use crate::error::BenchError;

/// From one frame's due moment to the next one's.
pub(crate) const FRAME_PERIOD: Duration = Duration::from_nanos(16_666_667);
/// A frame's work, measured alone.
const FRAME_WORK: Duration = Duration::from_millis(3);
const WAKE_PERIOD: Duration = Duration::from_millis(1);
/// With cold caches: before each frame its thread sleeps for so long, so that it has to wake up.
const COLD_SLEEP: Duration = Duration::from_millis(1);
/// The first part of each run, which is not measured.
pub(crate) const LEAD: Duration = Duration::from_secs(1);

/// Its first answer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// A frame's work.
    #[serde(flatten)]
    pub(crate) loops: Loops,
    /// Its nice value, as read back.
    pub(crate) nice: Option<i32>,
}

/// Its answer when the measured part of a run begins.
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

/// Runs the foreground until standard input closes, which ends the process. Gives each of its answers
/// to `say`, as a line of JSON.
pub fn foreground(say: &mut dyn FnMut(&str) -> io::Result<()>) -> Result<(), BenchError> {
    // Whatever the priority of the process that started this one. The threads inherit it.
    let io = IoPriority { class: 0, level: 0 };
    let nice = restrain_thread(Priority { nice: 0, io }).nice.in_effect;
    let orders = listen()?;
    let mut work = FrameWork::new();
    let loops = work.calibrate(FRAME_WORK);
    answer(say, &Ready { loops, nice })?;
    for line in orders {
        let Order { length, sweep } = order(&line)?;
        let run = Run {
            began: now(),
            length,
            loops,
        };
        let samples = run.measure(&mut work, sweep.as_ref(), say)?;
        answer(say, &samples)?;
    }
    Ok(())
}

/// A run that was asked for.
struct Order {
    length: Duration,
    /// The memory that makes the caches cold, if they are to be.
    sweep: Option<CacheSweep>,
}

fn order(line: &str) -> Result<Order, BenchError> {
    let (word, seconds) = line.split_once(' ').unwrap_or((line, ""));
    let length = seconds.parse().ok();
    let length = length.and_then(|s| Duration::try_from_secs_f64(s).ok());
    match (word, length) {
        ("run", Some(length)) => Ok(Order {
            length,
            sweep: None,
        }),
        ("cold", Some(length)) => Ok(Order {
            length,
            sweep: Some(CacheSweep::new()),
        }),
        _ => Err(BenchError::UnknownOrder {
            line: line.to_owned(),
        }),
    }
}

fn answer(
    say: &mut dyn FnMut(&str) -> io::Result<()>,
    value: &impl Serialize,
) -> Result<(), BenchError> {
    let line = serde_json::to_string(value).expect("an answer is plain data");
    say(&line).map_err(BenchError::Say)
}

/// The lines of standard input. Its end ends this process, at once.
fn listen() -> Result<Receiver<String>, BenchError> {
    let (send, lines) = sync_channel(1);
    let listen = move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
        process::exit(0);
    };
    let thread = Builder::new().spawn(listen);
    thread.map_err(BenchError::Thread)?;
    Ok(lines)
}

/// One run of frames and wake-ups.
#[derive(Clone, Copy)]
struct Run {
    began: Instant,
    /// Of the measured part.
    length: Duration,
    /// A frame's work.
    loops: Loops,
}

impl Run {
    /// With a sweep, each frame finds the caches cold.
    fn measure(
        self,
        work: &mut FrameWork,
        sweep: Option<&CacheSweep>,
        say: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Result<Samples, BenchError> {
        let from = self.began + LEAD;
        thread::scope(|scope| {
            let draw = || {
                let cool = |due: Instant| {
                    if let Some(sweep) = sweep {
                        sweep.read_until(due - COLD_SLEEP);
                    }
                };
                self.samples(FRAME_PERIOD, || work.frame(self.loops), cool)
            };
            let wake = || self.samples(WAKE_PERIOD, || (), |_| ());
            let frames = Builder::new().spawn_scoped(scope, draw);
            let frames = frames.map_err(BenchError::Thread)?;
            let wakes = Builder::new().spawn_scoped(scope, wake);
            let wakes = wakes.map_err(BenchError::Thread)?;
            sleep_until(from);
            let (cpu_began, wall_began) = (process_cpu_time()?, now());
            answer(say, &Begun { begun: true })?;
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

    /// Does `task` at the beginning and every `period` from then on until the end; gives, for those
    /// of the measured part, the nanoseconds from each due moment to the task's end. A task that is
    /// late starts at once, and none is left out, so that one long stall counts as all that it
    /// delayed. `between` is told when the next task is due.
    fn samples(
        self,
        period: Duration,
        mut task: impl FnMut(),
        mut between: impl FnMut(Instant),
    ) -> Vec<u64> {
        let (from, to) = (self.began + LEAD, self.began + LEAD + self.length);
        let due = (0..).map(|n| self.began + period * n);
        due.take_while(|&due| due < to)
            .filter_map(|due| {
                sleep_until(due);
                task();
                let end = now();
                between(due + period);
                // 2^64 nanoseconds are 584 years.
                let late_ns = end.saturating_duration_since(due).as_nanos() as u64;
                (due >= from).then_some(late_ns)
            })
            .collect()
    }
}
