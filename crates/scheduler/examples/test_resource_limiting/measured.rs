//! What is run, and what is measured meanwhile.

use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use corpgrid_scheduler::process::{process_cpu_time, thread_cpu_time};
use corpgrid_scheduler::{
    Event, Figures, GenerateRequest, Generation, HeterogeneousPipeline, Prompt, Sampling, Status,
};
use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};

use crate::Fallible;

/// How long compute is measured for.
const MEASURED_S: f64 = 5.0;
/// Tokens at its begin that do not count.
const WARM_UP: usize = 8;
/// Pauses measured.
const PAUSES: u32 = 25;
/// Between two looks at the clock of a pause; what is found is late by as much.
const LOOK_EVERY: Duration = Duration::from_micros(20);
/// Work that is not seen for so long has ended.
const QUIET_MS: f64 = 5.0;
/// Two clocks are read one after the other, and a thread that wakes looks at a flag: less CPU time
/// than this is no work.
const ADVANCE: Duration = Duration::from_micros(10);

/// One more request at once than may advance together.
pub(crate) struct Crowd {
    /// Seconds at which they started, in order.
    pub(crate) starts: Vec<f64>,
    /// What was seen at their tokens.
    pub(crate) seen: Vec<Status>,
}

pub(crate) async fn crowd(pipeline: &HeterogeneousPipeline, clock: Instant) -> Fallible<Crowd> {
    let streams = pipeline.status().await.limits.max_batch_size + 1;
    let requests = (0..streams).map(|number| short(pipeline, clock, number));
    let mut crowd = Crowd {
        starts: Vec::new(),
        seen: Vec::new(),
    };
    for (start, seen) in try_join_all(requests).await? {
        crowd.starts.push(start);
        crowd.seen.extend(seen);
    }
    crowd.starts.sort_by(f64::total_cmp);
    Ok(crowd)
}

/// A short request: when it started, and what was seen at its tokens.
async fn short(
    pipeline: &HeterogeneousPipeline,
    clock: Instant,
    number: usize,
) -> Fallible<(f64, Vec<Status>)> {
    let prompt = Prompt::Text(format!("{number} things to know about mountains:"));
    let asked = now_s(clock);
    let mut generation = pipeline.generate(GenerateRequest::new(prompt, 16)).await?;
    let mut seen = Vec::new();
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta { .. } => seen.push(pipeline.status().await),
            Event::Finished { figures, .. } => {
                let Figures { queue_s, .. } = figures;
                return Ok((asked + queue_s, seen));
            }
            _ => {}
        }
    }
    Err("the stream ended early".into())
}

/// A request that goes on until it is dropped.
async fn long(pipeline: &HeterogeneousPipeline) -> Fallible<Generation> {
    let prompt = Prompt::Text("Everything about mountains:".to_owned());
    let sampling = Sampling {
        ignore_eos: true,
        ..Sampling::default()
    };
    let request = GenerateRequest {
        sampling,
        ..GenerateRequest::new(prompt, 4000)
    };
    Ok(pipeline.generate(request).await?)
}

async fn token(generation: &mut Generation) -> Fallible<()> {
    loop {
        match generation.next().await.ok_or("the stream ended early")?? {
            Event::Delta { .. } => return Ok(()),
            Event::Finished { reason, .. } => return Err(format!("it ended: {reason:?}").into()),
            _ => {}
        }
    }
}

/// What the process had used by some moment, and might then.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) allowed: f64,
}

/// One request with the machine to itself.
pub(crate) struct Compute {
    /// At each token.
    pub(crate) used: Vec<Used>,
    pub(crate) before: Status,
    pub(crate) after: Status,
    /// Seconds between the two.
    pub(crate) between_s: f64,
}

/// The CPU time that the process takes while one request generates, from the system's account of
/// it, not our own.
pub(crate) async fn compute(pipeline: &HeterogeneousPipeline, clock: Instant) -> Fallible<Compute> {
    let mut generation = long(pipeline).await?;
    for _ in 0..WARM_UP {
        token(&mut generation).await?;
    }
    let (before, mut used) = (pipeline.status().await, Vec::<Used>::new());
    let began = now_s(clock);
    while now_s(clock) - began < MEASURED_S {
        token(&mut generation).await?;
        used.push(Used {
            wall_s: now_s(clock),
            cpu_s: process_cpu_time()?.as_secs_f64(),
            allowed: pipeline.ruling().compute_share,
        });
    }
    let after = pipeline.status().await;
    Ok(Compute {
        used,
        before,
        after,
        between_s: now_s(clock) - began,
    })
}

/// Milliseconds from asking for a pause to the last advance of the process's CPU clock.
pub(crate) async fn pauses(pipeline: &HeterogeneousPipeline, clock: Instant) -> Fallible<Vec<f64>> {
    let mut generation = long(pipeline).await?;
    let mut took_ms = Vec::new();
    for number in 0..PAUSES {
        // Those that wait are of before the last pause.
        while let Some(event) = generation.next().now_or_never() {
            event.ok_or("the stream ended early")??;
        }
        token(&mut generation).await?;
        // Somewhere else in a step each time.
        thread::park_timeout(Duration::from_micros(370) * (number % 16));
        took_ms.push(pause(pipeline, clock).await?);
        pipeline.resume().await?;
    }
    Ok(took_ms)
}

async fn pause(pipeline: &HeterogeneousPipeline, clock: Instant) -> Fallible<f64> {
    let asked = now_s(clock);
    let mut pausing = pin!(pipeline.pause());
    // Asks, without waiting for the answer: what goes on meanwhile counts.
    let answered = pausing.as_mut().now_or_never();
    let (mut last, mut used) = (asked, others_cpu()?);
    while (now_s(clock) - last) * 1e3 < QUIET_MS {
        thread::park_timeout(LOOK_EVERY);
        let more = others_cpu()?;
        if more.saturating_sub(used) > ADVANCE {
            (last, used) = (now_s(clock), more);
        }
        if now_s(clock) - asked > 2.0 {
            return Err("still at work 2 s after a pause".into());
        }
    }
    if answered.is_none() {
        pausing.await?;
    }
    Ok((last - asked) * 1e3)
}

/// CPU time of all threads but this one.
fn others_cpu() -> Fallible<Duration> {
    let own = thread_cpu_time()?;
    Ok(process_cpu_time()?.saturating_sub(own))
}

/// Why a byte more than the largest cap is refused.
pub(crate) async fn refused_over_the_cap(
    pipeline: &HeterogeneousPipeline,
    crowd: &Crowd,
) -> Fallible<String> {
    let devices = crowd.seen.iter().flat_map(|status| &status.devices);
    let cap = devices.map(|device| device.memory_cap_bytes).max();
    let over = cap.ok_or("no token came")? + 1;
    match pipeline.check_resource_limits(over).await {
        Ok(()) => Err("a byte more than the cap was let through".into()),
        Err(refusal) => Ok(refusal.to_string()),
    }
}

pub(crate) fn now_s(clock: Instant) -> f64 {
    clock.elapsed().as_secs_f64()
}
