//! Runs a real model under a mode, and prints each limit as asked, held and measured:
//! `cargo run --example test_resource_limiting -- --mode conservative`.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "its output is the terminal"
)]

mod measured;
mod table;

use std::error::Error;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use corpgrid_scheduler::{Device, HeterogeneousPipeline, Mode, Options, Ruling, Settings, Verdict};
use futures_channel::oneshot;
use futures_executor::block_on;
use futures_util::future::{Either, select};

use crate::measured::{compute, crowd, now_s, pauses, refused_over_the_cap};
use crate::table::{
    Table, compute_rows, memory_rows, pause_row, priority_rows, start_rows, state_rows,
};

const USAGE: &str = "usage: test_resource_limiting [--mode conservative|default|aggressive] \
                     [--model FILE] [--device D]...";

/// How long each part may take: others' load, or anything else that stops the pipeline, is not
/// waited out for longer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run_mode() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_mode() -> Fallible<()> {
    let Asked {
        mode,
        model,
        mut devices,
    } = arguments()?;
    let path = model.map_or_else(cached, Ok)?;
    if devices.is_empty() {
        devices = corpgrid_scheduler::devices();
    }
    let Settings {
        limits,
        away,
        policy,
    } = Settings::of(mode);
    let options = Options {
        limits,
        away: Some(away),
        policy,
        ..Options::default()
    };
    let pipeline = Arc::new(HeterogeneousPipeline::open(&devices, &path, options)?);
    let cores = devices.iter().map(|device| device.cores().len()).sum();
    let table = block_on(measure(&pipeline, (mode, cores)))?;
    table.print();
    Ok(())
}

/// What the command line asks for.
struct Asked {
    mode: Mode,
    /// The model's file, if one is named.
    model: Option<PathBuf>,
    /// The devices that are named.
    devices: Vec<Device>,
}

fn arguments() -> Fallible<Asked> {
    let mut asked = Asked {
        mode: Mode::Default,
        model: None,
        devices: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match (word.as_str(), value.as_str()) {
            ("--mode", "conservative") => asked.mode = Mode::Conservative,
            ("--mode", "default") => asked.mode = Mode::Default,
            ("--mode", "aggressive") => asked.mode = Mode::Aggressive,
            ("--mode", other) => return Err(format!("unknown mode {other:?}; {USAGE}").into()),
            ("--model", file) => asked.model = Some(PathBuf::from(file)),
            ("--device", name) => asked.devices.push(Device::named(name)?),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(asked)
}

/// The rows of a pipeline whose CPU devices have so many cores.
async fn measure(
    pipeline: &Arc<HeterogeneousPipeline>,
    (mode, cores): (Mode, usize),
) -> Fallible<Table> {
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    let clock = Instant::now();
    within("waiting to begin", until_open(pipeline, clock), pipeline).await?;
    let crowd = within("requests at once", crowd(pipeline, clock), pipeline).await?;
    let compute = within("one request", compute(pipeline, clock), pipeline).await?;
    let pauses = within("pauses", pauses(pipeline, clock), pipeline).await?;
    let status = pipeline.status().await;
    let mut table = Table::new(mode);
    memory_rows(
        &mut table,
        &crowd,
        refused_over_the_cap(pipeline, &crowd).await?,
    )?;
    compute_rows(&mut table, &compute, (&status.limits, cores));
    priority_rows(&mut table, &status)?;
    start_rows(&mut table, &crowd, &status);
    pause_row(&mut table, pauses)?;
    state_rows(&mut table, &status);
    Ok(table)
}

/// What work comes to, unless it takes longer than [`PATIENCE`]. Says when and why nothing may run.
async fn within<T>(
    what: &str,
    work: impl Future<Output = Fallible<T>>,
    pipeline: &Arc<HeterogeneousPipeline>,
) -> Fallible<T> {
    let (done, waits) = mpsc::channel::<()>();
    let (ring, bell) = oneshot::channel();
    let watched = Arc::clone(pipeline);
    thread::spawn(move || {
        let mut told = None;
        for _ in 0..PATIENCE.as_secs() {
            if waits.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            told = tell_stop(&watched.ruling(), told);
        }
        // Work that ended meanwhile does not listen.
        let _ = ring.send(());
    });
    let outcome = match select(pin!(work), bell).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => {
            let (time, ruling) = (PATIENCE.as_secs(), said(&pipeline.ruling()));
            Err(format!("{what}: not done within {time} s; the policy says: {ruling}").into())
        }
    };
    drop(done);
    outcome
}

/// Says why nothing may run, once for each reason.
fn tell_stop(ruling: &Ruling, told: Option<&'static str>) -> Option<&'static str> {
    let Verdict::Shut(why) = &ruling.verdict else {
        return None;
    };
    if told != Some(why.name()) {
        eprintln!(
            "{}; waiting for up to {} s",
            said(ruling),
            PATIENCE.as_secs()
        );
    }
    Some(why.name())
}

/// Waits while the policy lets nothing run.
async fn until_open(pipeline: &HeterogeneousPipeline, clock: Instant) -> Fallible<()> {
    while let Verdict::Shut(why) = pipeline.ruling().verdict {
        if now_s(clock) > PATIENCE.as_secs_f64() {
            let time = PATIENCE.as_secs();
            return Err(format!("nothing may run for {time} s: {why}").into());
        }
        thread::park_timeout(Duration::from_millis(250));
    }
    Ok(())
}

pub(crate) fn said(ruling: &Ruling) -> String {
    match &ruling.verdict {
        Verdict::Open => format!("open, up to {:.3}", ruling.compute_share),
        Verdict::Limited { why, .. } => {
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            format!("limited to {:.3}: {}", ruling.compute_share, why.join("; "))
        }
        Verdict::Shut(why) => format!("stopped: {why}"),
    }
}

/// The default model where `gogrid pull` puts it.
fn cached() -> Fallible<PathBuf> {
    let own = std::env::var_os("GOGRID_CACHE").map(PathBuf::from);
    let base = || {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let base = std::env::var_os("XDG_CACHE_HOME").or_else(|| std::env::var_os("LOCALAPPDATA"));
        let base = base.map(PathBuf::from).or_else(home)?;
        Some(base.join("gogrid").join("models"))
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
