//! Two models at once on one machine: what they hold and take together, under one set of limits.
//!
//! `cargo run --release --example two_models -- conservative FIRST.gguf SECOND.gguf`
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use corpgrid_scheduler::process::process_cpu_time;
use corpgrid_scheduler::{
    GenerateRequest, Generation, HeterogeneousPipeline, Machine, MachineOptions, MachineStatus,
    Mode, Options, Sampling, Settings, devices,
};
use futures_executor::block_on;
use futures_util::StreamExt;

/// How long both generate, and how long neither does.
const BUSY: Duration = Duration::from_secs(6);
const IDLE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "two_models MODE FIRST SECOND, where MODE is conservative, default or aggressive";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, first, second] = &arguments[..] else {
        return Err(usage.into());
    };
    let mode = Mode::ALL.into_iter().find(|m| m.name() == mode);
    let settings = Settings::of(mode.ok_or(usage)?);
    let machine = Arc::new(Machine::open(
        &devices(),
        MachineOptions {
            limits: settings.limits,
            away: Some(settings.away),
            policy: settings.policy,
            ..MachineOptions::default()
        },
    )?);
    let open = |path: &String| HeterogeneousPipeline::open_on(&machine, path, &Options::default());
    let pipelines = [open(first)?, open(second)?];
    show("open", &block_on(machine.status()));
    let idle = share_of_cores(|| thread::park_timeout(IDLE))?;
    println!(
        "idle for {} s: {:.4} % of a core",
        IDLE.as_secs(),
        idle * 100.0
    );
    let before = block_on(machine.status());
    let clock = start();
    let tokens: Vec<usize> = thread::scope(|scope| {
        let running = pipelines
            .each_ref()
            .map(|pipeline| scope.spawn(|| block_on(generate(pipeline, clock))));
        let ended = running.into_iter().map(|thread| thread.join().ok());
        ended.map(Option::unwrap_or_default).collect()
    });
    let seconds = clock.elapsed().as_secs_f64();
    let after = block_on(machine.status());
    let busy = |status: &MachineStatus| status.devices.iter().map(|d| d.busy_s).sum::<f64>();
    let cores: usize = devices().iter().map(|device| device.cores().len()).sum();
    let share = (busy(&after) - busy(&before)) / seconds / cores as f64;
    show("after both generated", &after);
    for (model, tokens) in after.models.iter().zip(tokens) {
        println!("{}: {:.1} tok/s", model.model, tokens as f64 / seconds);
    }
    println!(
        "share of {cores} cores over {seconds:.1} s: {share:.3}, of {} asked",
        after.limits.max_compute_usage_percent
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn start() -> Instant {
    Instant::now()
}

/// Generates until it is time to end; gives the tokens.
async fn generate(pipeline: &HeterogeneousPipeline, clock: Instant) -> usize {
    let mut tokens = 0;
    while clock.elapsed() < BUSY {
        let request = GenerateRequest {
            sampling: Sampling {
                ignore_eos: true,
                ..Sampling::default()
            },
            ..GenerateRequest::new("Once upon a time", 64)
        };
        let Ok(generation) = pipeline.generate(request).await else {
            break;
        };
        tokens += count(generation).await;
    }
    tokens
}

async fn count(mut generation: Generation) -> usize {
    let mut tokens = 0;
    while let Some(Ok(event)) = generation.next().await {
        if let corpgrid_scheduler::Event::Delta { ids, .. } = event {
            tokens += ids.len();
        }
    }
    tokens
}

fn share_of_cores(meanwhile: impl FnOnce()) -> Result<f64, Box<dyn Error>> {
    let (clock, before) = (start(), process_cpu_time()?);
    meanwhile();
    let used = process_cpu_time()?.saturating_sub(before);
    Ok(used.as_secs_f64() / (clock.elapsed().as_secs_f64()))
}

fn show(when: &str, status: &MachineStatus) {
    println!("{when}:");
    for memory in &status.memories {
        println!(
            "  memory {}: {:.1} MiB held of {:.1} MiB",
            memory.memory,
            memory.used_bytes as f64 / f64::from(1 << 20),
            memory.cap_bytes as f64 / f64::from(1 << 20),
        );
    }
    for model in &status.models {
        let stages = model
            .stages
            .iter()
            .map(|s| format!("{} on {}", s.pieces, s.device));
        println!(
            "  {}: {}",
            model.model,
            stages.collect::<Vec<_>>().join("; ")
        );
    }
    let names = status.threads.iter().map(|thread| thread.name.as_str());
    println!("  threads: {}", names.collect::<Vec<_>>().join(", "));
    for line in &status.not_enforced {
        println!("  not enforced: {line}");
    }
}
