//! `gogrid bench pause`: the time from asking for a pause to the last advance of this process's CPU
//! clock.

use std::time::Duration;

use anyhow::Context;
use futures_executor::block_on;
use gogrid_host::{process_cpu_time, thread_cpu_time};
use serde_json::json;

use super::foreground::now;
use super::load::Load;
use super::ours::Ours;
use super::stats;
use crate::args::PauseArgs;
use crate::failure::Interrupted;
use crate::interrupt::Interrupt;
use crate::open::Wish;
use crate::out;

/// Before the first pause.
const WARM_UP: Duration = Duration::from_secs(1);
/// Between two looks at the clock; what is found is late by as much.
const LOOK_EVERY: Duration = Duration::from_micros(20);
/// Work that is not seen for so long has ended.
const QUIET: Duration = Duration::from_millis(5);
/// A pause that takes longer is a failure.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A thread that wakes looks at a flag: less than this is no work.
const ADVANCE: Duration = Duration::from_micros(10);

pub(crate) fn run(args: &PauseArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let wish = Wish::new(&args.run, interrupt)?;
    let vocabulary = wish.vocabulary()?;
    let mut ours = Ours::new(wish.open()?, vocabulary);
    let watch = interrupt.watch();
    ours.start()?;
    sleep(WARM_UP);
    let mut tries = Vec::with_capacity(args.tries);
    for number in 0..args.tries {
        // Somewhere else in a step each time.
        sleep(Duration::from_micros(3_000 + 1_370 * (number as u64 % 16)));
        tries.push(pause(&ours)?);
        if watch.asked() {
            return Err(Interrupted.into());
        }
    }
    report(args, tries)
}

/// Milliseconds from asking to the last advance.
fn pause(ours: &Ours) -> anyhow::Result<f64> {
    let pipeline = ours.pipeline();
    let asked = now();
    block_on(pipeline.pause());
    let (mut last, mut used) = (now(), others_cpu()?.1);
    while now() - last < QUIET {
        sleep(LOOK_EVERY);
        let (least, most) = others_cpu()?;
        if least.saturating_sub(used) > ADVANCE {
            (last, used) = (now(), most);
        }
        let waited = now() - asked;
        anyhow::ensure!(waited < PAUSE_MAX, "still at work {waited:?} after a pause");
    }
    block_on(pipeline.resume());
    Ok((last - asked).as_secs_f64() * 1e3)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a bench passes real time between what it measures"
)]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// CPU time of this process's other threads, at least and at most: an interrupt between two
/// readings is the calling thread's own.
fn others_cpu() -> anyhow::Result<(Duration, Duration)> {
    let before = thread_cpu_time()?;
    let all = process_cpu_time()?;
    let after = thread_cpu_time()?;
    Ok((all.saturating_sub(after), all.saturating_sub(before)))
}

fn report(args: &PauseArgs, mut tries: Vec<f64>) -> anyhow::Result<()> {
    tries.sort_by(f64::total_cmp);
    let at = |share: f64| tries[((tries.len() - 1) as f64 * share) as usize];
    let most = *tries.last().context("no try")?;
    let (p50, p99) = (stats::median(&tries), at(0.99));
    if args.json.json {
        return out::json(&json!({
            "tries": tries.len(), "pause_ms_p50": p50, "pause_ms_p99": p99, "pause_ms_max": most,
        }));
    }
    Ok(out::text(&format!(
        "{} pauses, from asking to the last advance of the CPU clock: p50 {p50:.2} ms, p99 \
         {p99:.2}, max {most:.2}\n",
        tries.len()
    ))?)
}
