//! `gogrid bench pause`: the time from asking for a pause to the last advance of this process's CPU
//! clock.

use std::sync::Arc;
use std::time::Duration;

use corpgrid_scheduler::HeterogeneousPipeline;
use futures_executor::block_on;
use gogrid_host::{process_cpu_time, thread_cpu_time};
use serde::Serialize;

use crate::clock::{now, sleep};
use crate::error::BenchError;
use crate::load::Load;
use crate::pipeline_load::PipelineLoad;
use crate::stats::median;
use crate::subject::Subject;

/// Before the first pause.
const WARM_UP: Duration = Duration::from_secs(1);
/// Between two looks at the clock; the time found is late by as much.
const LOOK_EVERY: Duration = Duration::from_micros(20);
/// Work that is not seen for so long has ended.
const QUIET: Duration = Duration::from_millis(5);
/// A pause that takes longer is a failure.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A thread that wakes looks at a flag: less than this is no work.
const ADVANCE: Duration = Duration::from_micros(10);

/// A pipeline that generates, paused again and again. Dropping it ends the generation.
pub struct PauseBench {
    pipeline: Arc<HeterogeneousPipeline>,
    _load: PipelineLoad,
    tries_ms: Vec<f64>,
}

/// Milliseconds from asking for a pause to the last advance of the CPU clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PauseReport {
    /// The longest.
    pub pause_ms_max: f64,
    /// The median.
    pub pause_ms_p50: f64,
    /// All but one in a hundred are no longer.
    pub pause_ms_p99: f64,
    /// Pauses measured.
    pub tries: usize,
}

impl PauseBench {
    /// Starts the generation, and returns when it has run for a second.
    pub fn start(subject: &Subject) -> Result<Self, BenchError> {
        let mut load = PipelineLoad::new(subject);
        load.start()?;
        sleep(WARM_UP);
        Ok(Self {
            pipeline: Arc::clone(&subject.pipeline),
            _load: load,
            tries_ms: Vec::new(),
        })
    }

    /// Measures one pause.
    pub fn measure(&mut self) -> Result<(), BenchError> {
        // Somewhere else in a step each time.
        let number = self.tries_ms.len() as u64;
        sleep(Duration::from_micros(3_000 + 1_370 * (number % 16)));
        self.tries_ms.push(pause(&self.pipeline)?);
        Ok(())
    }

    /// Of the pauses measured, of which there is at least one.
    pub fn report(self) -> PauseReport {
        PauseReport::of(self.tries_ms)
    }
}

impl PauseReport {
    /// Of pauses of so many milliseconds. There is at least one.
    pub fn of(mut tries_ms: Vec<f64>) -> Self {
        tries_ms.sort_by(f64::total_cmp);
        let last = tries_ms.len() - 1;
        Self {
            pause_ms_max: tries_ms[last],
            pause_ms_p50: median(&tries_ms),
            pause_ms_p99: tries_ms[(last as f64 * 0.99) as usize],
            tries: tries_ms.len(),
        }
    }

    /// The same in words.
    pub fn table(&self) -> String {
        let Self {
            pause_ms_max,
            pause_ms_p50,
            pause_ms_p99,
            tries,
        } = self;
        format!(
            "{tries} pauses, from asking to the last advance of the CPU clock: p50 \
             {pause_ms_p50:.2} ms, p99 {pause_ms_p99:.2}, max {pause_ms_max:.2}\n"
        )
    }
}

/// Milliseconds from asking to the last advance.
fn pause(pipeline: &HeterogeneousPipeline) -> Result<f64, BenchError> {
    let asked = now();
    block_on(pipeline.pause())?;
    let (mut last, mut used) = (now(), others_cpu()?.1);
    while now() - last < QUIET {
        sleep(LOOK_EVERY);
        let (least, most) = others_cpu()?;
        if least.saturating_sub(used) > ADVANCE {
            (last, used) = (now(), most);
        }
        let waited = now() - asked;
        if waited >= PAUSE_MAX {
            return Err(BenchError::StillAtWork { waited });
        }
    }
    block_on(pipeline.resume())?;
    Ok((last - asked).as_secs_f64() * 1e3)
}

/// CPU time of this process's other threads, at least and at most: an interrupt between two
/// readings is the calling thread's own.
fn others_cpu() -> Result<(Duration, Duration), BenchError> {
    let before = thread_cpu_time()?;
    let all = process_cpu_time()?;
    let after = thread_cpu_time()?;
    Ok((all.saturating_sub(after), all.saturating_sub(before)))
}
