//! Runs a real model under a mode, and prints what was held and measured:
//! `cargo run --example test_resource_limiting -- --mode conservative`.

use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use corpgrid_scheduler::{
    Event, Figures, GenerateRequest, HeterogeneousPipeline, Prompt, ResourceConfig, Sampling,
    Status, devices,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use gogrid_host::{Clock, process_cpu_time};

const USAGE: &str = "usage: test_resource_limiting [--mode conservative|default|aggressive] \
                     [--model FILE]";

fn main() -> ExitCode {
    match run_mode() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_mode() -> Result<(), Box<dyn Error>> {
    let (mode, model) = arguments()?;
    let limits = match mode.as_str() {
        "conservative" => ResourceConfig::conservative(),
        "default" => ResourceConfig::default(),
        "aggressive" => ResourceConfig::aggressive(),
        other => return Err(format!("unknown mode {other:?}; {USAGE}").into()),
    };
    let path = model.map_or_else(cached, Ok)?;
    let pipeline = HeterogeneousPipeline::new(&devices(), &path, Some(limits))?;
    block_on(report(&pipeline, &mode))
}

/// The mode, and the model's file if one is named.
fn arguments() -> Result<(String, Option<PathBuf>), Box<dyn Error>> {
    let (mut mode, mut model) = ("default".to_owned(), None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--mode" => mode = value,
            "--model" => model = Some(PathBuf::from(value)),
            _ => return Err(USAGE.into()),
        }
    }
    Ok((mode, model))
}

async fn report(pipeline: &HeterogeneousPipeline, mode: &str) -> Result<(), Box<dyn Error>> {
    let limits = pipeline.status().await.limits;
    let streams = limits.max_batch_size + 1;
    println!("mode {mode}: {streams} requests at once");
    let requests = (0..streams).map(|number| run(pipeline, number));
    let outcomes = try_join_all(requests).await?;
    for (text, figures, _) in &outcomes {
        println!("  {:?}", text.trim());
        println!(
            "  waited {:.3} s, prefill {:.3} s, decode {:.1} tok/s",
            figures.queue_s,
            figures.prefill_s,
            figures.decode_steps as f64 / figures.decode_s.max(1e-9)
        );
    }
    let during = outcomes.iter().map(|outcome| &outcome.2);
    let fullest = during
        .max_by_key(|status| held(status))
        .ok_or("no request ran")?;
    print_held(fullest);
    print_starts(
        pipeline,
        &outcomes.iter().map(|outcome| outcome.1).collect::<Vec<_>>(),
    )
    .await;
    print_compute(pipeline).await?;
    let room = fullest
        .devices
        .iter()
        .map(|device| device.memory_cap_bytes)
        .max()
        .unwrap_or(0);
    match pipeline.check_resource_limits(room + 1).await {
        Ok(()) => return Err("a byte more than the cap was let through".into()),
        Err(refusal) => line("memory over the cap", format!("refused: {refusal}")),
    }
    Ok(())
}

/// One request: its text, its figures, and the pipeline while it ran.
async fn run(
    pipeline: &HeterogeneousPipeline,
    number: usize,
) -> Result<(String, Figures, Status), Box<dyn Error>> {
    let prompt = Prompt::Text(format!("{number} things to know about mountains:"));
    let mut generation = pipeline.generate(GenerateRequest::new(prompt, 24)).await?;
    let (mut text, mut status) = (String::new(), None);
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta { text: delta, .. } => text += &delta,
            Event::Finished { figures, .. } => {
                let status = status.ok_or("it ended without a token")?;
                return Ok((text, figures, status));
            }
        }
        if status.is_none() {
            status = Some(pipeline.status().await);
        }
    }
    Err("the stream ended early".into())
}

fn held(status: &Status) -> u64 {
    status
        .devices
        .iter()
        .map(|device| device.memory_used_bytes)
        .sum()
}

fn print_held(status: &Status) {
    for device in &status.devices {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        line(
            "memory held",
            format!(
                "{}: {} of {} allowed (weights {}, kv {}, scratch {})",
                device.device,
                mib(device.memory_used_bytes),
                mib(device.memory_cap_bytes),
                mib(device.weights_bytes),
                mib(device.kv_bytes),
                mib(device.scratch_bytes)
            ),
        );
    }
    line(
        "batch",
        format!("{} ran, {} waited", status.running, status.queued),
    );
    for thread in &status.threads {
        let nice = thread
            .nice
            .map_or("unknown".to_owned(), |nice| nice.to_string());
        let io = thread
            .io
            .map_or("unknown".to_owned(), |io| format!("{}/{}", io.0, io.1));
        line(&thread.name, format!("nice {nice}, i/o priority {io}"));
        thread.problems.iter().for_each(|problem| line("", problem));
    }
    for limit in &status.not_enforced {
        line("not enforced yet", limit);
    }
}

/// What the process had used by some moment: seconds of wall time and of CPU time.
#[derive(Clone, Copy)]
struct Used {
    wall: f64,
    cpu: f64,
}

/// How long compute is measured for.
const MEASURED_S: f64 = 5.0;
/// Tokens at its begin that do not count.
const WARM_UP: usize = 8;

/// The share of the CPU that the process takes while one request generates, from the system's
/// account of it, not our own.
async fn print_compute(pipeline: &HeterogeneousPipeline) -> Result<(), Box<dyn Error>> {
    let before = pipeline.status().await;
    let used = generate_and_watch(pipeline).await?;
    let after = pipeline.status().await;
    let cores: usize = devices().iter().map(|device| device.cores.len()).sum();
    let share = |from: Used, to: Used| (to.cpu - from.cpu) / (to.wall - from.wall) / cores as f64;
    let (Some(&first), Some(&last)) = (used.first(), used.last()) else {
        return Err("nothing was generated".into());
    };
    // From each token to the first that is a tenth of a second later, or a little more.
    let window = |(at, &from): (usize, &Used)| {
        let to = used[at..].iter().find(|to| to.wall - from.wall >= 0.1)?;
        Some(share(from, *to))
    };
    let most = used.iter().enumerate().filter_map(window);
    line(
        "compute",
        format!(
            "{:.3} of {cores} cores allowed; {:.3} taken over {:.1} s, {:.3} at most in 0.1 s",
            before.limits.max_compute_usage_percent,
            share(first, last),
            last.wall - first.wall,
            most.fold(0.0, f64::max),
        ),
    );
    for (before, after) in before.devices.iter().zip(&after.devices) {
        line(
            &after.device,
            format!(
                "worked {:.2} s, rested {:.2} s",
                after.busy_s - before.busy_s,
                after.rest_s - before.rest_s
            ),
        );
    }
    Ok(())
}

/// One request for [`MEASURED_S`], and what was used at each token after the first few.
async fn generate_and_watch(pipeline: &HeterogeneousPipeline) -> Result<Vec<Used>, Box<dyn Error>> {
    let prompt = Prompt::Text("Everything about mountains:".to_owned());
    let sampling = Sampling {
        ignore_eos: true,
        ..Sampling::default()
    };
    let request = GenerateRequest {
        sampling,
        ..GenerateRequest::new(prompt, 4000)
    };
    let mut generation = pipeline.generate(request).await?;
    let (clock, mut used) = (Clock::start(), Vec::<Used>::new());
    while let Some(event) = generation.next().await {
        event?;
        used.push(Used {
            wall: clock.now().0 as f64 * 1e-9,
            cpu: process_cpu_time()?.as_secs_f64(),
        });
        let begun = used.get(WARM_UP).map_or(f64::INFINITY, |first| first.wall);
        if clock.now().0 as f64 * 1e-9 - begun >= MEASURED_S {
            break;
        }
    }
    Ok(used.split_off(WARM_UP.min(used.len())))
}

async fn print_starts(pipeline: &HeterogeneousPipeline, figures: &[Figures]) {
    let mut starts: Vec<f64> = figures.iter().map(|figures| figures.queue_s).collect();
    starts.sort_by(f64::total_cmp);
    let gaps = starts.windows(2).map(|pair| pair[1] - pair[0]);
    let least = gaps.fold(f64::INFINITY, f64::min);
    line("starts apart", format!("{:.1} ms at least", least * 1e3));
    let stats = pipeline.get_resource_stats().await;
    let (total, throttled) = (stats.total_requests, stats.throttled_requests);
    line(
        "requests",
        format!(
            "{total}, {throttled} throttled, rate {:.2}",
            stats.throttle_rate
        ),
    );
}

fn line(what: &str, value: impl Display) {
    println!("{what:>24}: {value}");
}

/// The default model where `gogrid pull` puts it.
fn cached() -> Result<PathBuf, Box<dyn Error>> {
    let own = std::env::var_os("GOGRID_CACHE").map(PathBuf::from);
    let base = || {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let base = std::env::var_os("XDG_CACHE_HOME").or_else(|| std::env::var_os("LOCALAPPDATA"));
        Some(
            base.map(PathBuf::from)
                .or_else(home)?
                .join("gogrid")
                .join("models"),
        )
    };
    let folder = own
        .or_else(base)
        .ok_or("no cache folder: set GOGRID_CACHE")?;
    let file = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    match file.is_file() {
        true => Ok(file),
        false => {
            let file = file.display();
            Err(format!("{file} is not there; `gogrid pull smollm2-135m` fetches it").into())
        }
    }
}
