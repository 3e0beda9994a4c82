//! `gogrid bench`: opens the pipeline and hands it to the benchmarks.

mod soak;

use std::sync::Arc;

use corpgrid_scheduler::ModelSource;
use gogrid_bench::{
    Cores, DesktopBench, DesktopOptions, DesktopProcesses, LlamaCppOptions, OwnCommand, PauseBench,
    SpeedOptions, Subject,
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{BenchArgs, BenchCommand, DesktopArgs, PauseArgs};
use crate::exit::{BadInput, Interrupted};
use crate::interrupt::Interrupt;
use crate::live::Live;
use crate::open::PipelineSpec;
use crate::{out, stream};

pub(crate) fn run(args: &BenchArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    match &args.command {
        Some(BenchCommand::Desktop(args)) => desktop(args, interrupt),
        Some(BenchCommand::Pause(args)) => pause(args, interrupt),
        Some(BenchCommand::Soak(args)) => soak::run(args, interrupt),
        None => speed(args, interrupt),
    }
}

/// Stands for the programs of a person at the desk, until standard input closes.
pub(crate) fn foreground() -> anyhow::Result<()> {
    Ok(gogrid_bench::foreground(&mut out::plain_line)?)
}

fn speed(args: &BenchArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let spec = match args.synthetic {
        Some(shape) => PipelineSpec::of(&args.run, || Ok(shape.into()))?,
        None => PipelineSpec::new(&args.run, interrupt)?,
    };
    let (_live, subject) = open(spec)?;
    let options = SpeedOptions {
        prompt_tokens: args.prompt_tokens,
        gen_tokens: args.gen_tokens,
        streams: args.streams,
        runs: args.runs,
        hogs: args.hog,
        hog: OwnCommand::named("hog")?,
        threads: args.run.machine.threads,
    };
    let speed = gogrid_bench::speed(&subject, options);
    let report = stream::wait(&interrupt.watch(), speed)??;
    if args.json.json {
        return out::json(&report.json());
    }
    Ok(out::text(&report.table())?)
}

fn pause(args: &PauseArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let spec = PipelineSpec::new(&args.run, interrupt)?;
    let (_live, subject) = open(spec)?;
    let watch = interrupt.watch();
    // Each pause and each end of one would be a line.
    out::log_errors_only();
    let mut bench = PauseBench::start(&subject)?;
    for _ in 0..args.tries {
        bench.measure()?;
        if watch.asked() {
            return Err(Interrupted.into());
        }
    }
    let report = bench.report();
    if args.json.json {
        return out::json(&report);
    }
    Ok(out::text(&report.table())?)
}

fn desktop(args: &DesktopArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let spec = PipelineSpec::new(&args.run, interrupt)?;
    let options = DesktopOptions {
        triples: args.triples,
        seconds: args.seconds,
        cold: args.cold,
        llama_cpp: llama_cpp(args, &spec)?,
        foreground: OwnCommand::named("foreground")?,
        cores: Cores::of(&spec.machine.devices, spec.machine.compute_share())?,
    };
    let processes = DesktopProcesses::start(&options)?;
    let (_live, subject) = open(spec)?;
    let mut bench = DesktopBench::new(options, processes, &subject);
    let bar = bar(bench.legs());
    while bench.measure_leg()? {
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report = bench.report();
    if args.json.json {
        return out::json(&report);
    }
    Ok(out::text(&report.table())?)
}

/// The pipeline under measurement, which `gogrid limits` reaches until the `Live` is dropped.
fn open(spec: PipelineSpec) -> anyhow::Result<(Live, Subject)> {
    let (compute_share, devices) = (spec.machine.compute_share(), spec.machine.devices.clone());
    let live = spec.open()?;
    let subject = Subject {
        pipeline: Arc::clone(live.pipeline()),
        mode: live.mode,
        devices,
        compute_share,
    };
    Ok((live, subject))
}

/// The llama.cpp that is measured too, if `--peer` names one.
fn llama_cpp(args: &DesktopArgs, spec: &PipelineSpec) -> anyhow::Result<Option<LlamaCppOptions>> {
    let Some(python) = args.peer.clone() else {
        return Ok(None);
    };
    match &spec.model {
        ModelSource::Path(model) if model.is_file() => {
            let model = model.clone();
            Ok(Some(LlamaCppOptions { python, model }))
        }
        model => {
            let problem = format!("{model} is no file: --peer needs a GGUF file");
            Err(BadInput(problem).into())
        }
    }
}

/// Drawn between legs only, so that it takes no time of a measurement.
fn bar(legs: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("leg {pos} of {len} [{bar:30}] {eta} left");
    let style = style.expect("the template is well-formed");
    // A usize is a u64 wherever a model fits.
    ProgressBar::new(legs as u64).with_style(style.progress_chars("=> "))
}
