//! `gogrid bench desktop`: the delays that a person at the desk feels while tokens are generated.

mod figures;
mod foreground;
mod frame_work;
mod llama_cpp;
mod report;
mod rounds;

use std::sync::Arc;
use std::time::Duration;

use corpgrid_scheduler::{HeterogeneousPipeline, Mode};
use futures_executor::block_on;
use gogrid_host::CpuProbe;

use self::figures::{Comparison, Harvest, LegSamples};
use self::foreground::Ready;
use self::llama_cpp::{LlamaCpp, Tuning};
use self::report::{Goals, LoadReport, RoundReport};
use self::rounds::{Round, Rounds};
use crate::error::BenchError;
use crate::load::Load;
use crate::pipeline_load::PipelineLoad;
use crate::process::{LineProcess, OwnCommand};
use crate::subject::Subject;

pub use self::figures::Cores;
pub use self::foreground::foreground;
pub use self::llama_cpp::LlamaCppOptions;
pub use self::report::DesktopReport;

/// The measurement that is asked for.
#[derive(Clone, Debug)]
pub struct DesktopOptions {
    /// Rounds of the foreground alone, alone again, and beside; their order changes.
    pub triples: usize,
    /// Seconds measured of each leg, after one that is not.
    pub seconds: f32,
    /// Whether the foreground alone is measured with cold caches too.
    pub cold: bool,
    /// Whether llama.cpp is measured in the same way.
    pub llama_cpp: Option<LlamaCppOptions>,
    /// The command that runs [`foreground`].
    pub foreground: OwnCommand,
    /// The cores that there are, and those that the pipeline may take.
    pub cores: Cores,
}

/// The processes that stand beside the pipeline. They are started before it is opened, and ended on
/// drop.
pub struct DesktopProcesses {
    foreground: LineProcess,
    ready: Ready,
    llama_cpps: Vec<LlamaCpp>,
}

impl DesktopProcesses {
    /// Starts them, and returns when the foreground has calibrated itself, for which the machine
    /// should be quiet, and each llama.cpp has loaded its model.
    pub fn start(options: &DesktopOptions) -> Result<Self, BenchError> {
        let mut command = options.foreground.command();
        let mut foreground = LineProcess::start("the foreground process", &mut command)?;
        let ready = foreground.answer()?;
        let llama_cpps = match &options.llama_cpp {
            Some(llama_cpp) => llama_cpp::tunings(options.cores.machine)
                .into_iter()
                .map(|tuning| LlamaCpp::start(llama_cpp, tuning))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        Ok(Self {
            foreground,
            ready,
            llama_cpps,
        })
    }
}

/// A measurement under way, leg by leg.
pub struct DesktopBench {
    options: DesktopOptions,
    pipeline: Arc<HeterogeneousPipeline>,
    mode: Mode,
    ready: Ready,
    rivals: Vec<Rival>,
    rounds: Rounds,
}

/// A llama.cpp, as the report names it.
struct Rival {
    tuning: Tuning,
    version: String,
}

impl DesktopBench {
    /// Measures `subject` beside `processes`.
    pub fn new(options: DesktopOptions, processes: DesktopProcesses, subject: &Subject) -> Self {
        let rival = |llama_cpp: &LlamaCpp| Rival {
            tuning: llama_cpp.tuning.clone(),
            version: llama_cpp.version.clone(),
        };
        let rivals = processes.llama_cpps.iter().map(rival).collect();
        let mut loads: Vec<Box<dyn Load>> = vec![Box::new(PipelineLoad::new(subject))];
        let llama_cpps = processes.llama_cpps.into_iter();
        loads.extend(llama_cpps.map(|llama_cpp| Box::new(llama_cpp) as Box<dyn Load>));
        let rounds = Rounds {
            foreground: processes.foreground,
            machine: CpuProbe::start().ok(),
            loads,
            cold: options.cold,
            length: Duration::from_secs_f32(options.seconds),
            rounds: Vec::new(),
            legs_done: 0,
        };
        Self {
            options,
            pipeline: Arc::clone(&subject.pipeline),
            mode: subject.mode,
            ready: processes.ready,
            rivals,
            rounds,
        }
    }

    /// Legs in all.
    pub fn legs(&self) -> usize {
        self.options.triples * self.rounds.legs_a_round()
    }

    /// Measures the next leg; `false` when there is none left.
    pub fn measure_leg(&mut self) -> Result<bool, BenchError> {
        if self.rounds.legs_done == self.legs() {
            return Ok(false);
        }
        self.rounds.measure_leg()?;
        Ok(true)
    }

    /// The figures of all legs. Every leg has been measured.
    pub fn report(&self) -> DesktopReport {
        let rounds = &self.rounds.rounds[..];
        let alone = LegSamples::of(rounds, |round| round.alone.iter().collect());
        let first = LegSamples::of(rounds, |round| vec![&round.alone[0]]);
        let control = LegSamples::of(rounds, |round| vec![&round.alone[1]]).against(&first);
        let cold = self.cold();
        let status = block_on(self.pipeline.status());
        DesktopReport {
            model: status.model,
            mode: self.mode,
            devices: status.devices.into_iter().map(|d| d.device).collect(),
            compute_share: status.limits.max_compute_usage_percent,
            not_enforced: status.not_enforced,
            triples: self.options.triples,
            seconds: f64::from(self.options.seconds),
            foreground: self.ready,
            strangers_share: strangers(rounds),
            alone: alone.latencies(),
            cold: cold.as_ref().map(|cold| cold.against(&alone)),
            loads: self.loads(&alone, cold.as_ref(), &control),
            rounds: rounds.iter().map(RoundReport::new).collect(),
            control,
        }
    }

    /// The foreground alone with cold caches, if that was wished.
    fn cold(&self) -> Option<LegSamples> {
        let side = || LegSamples::of(&self.rounds.rounds, |round| round.cold.iter().collect());
        self.options.cold.then(side)
    }

    fn loads(
        &self,
        alone: &LegSamples,
        cold: Option<&LegSamples>,
        control: &Comparison,
    ) -> Vec<LoadReport> {
        let rounds = &self.rounds.rounds[..];
        let load = |index: usize, cores| {
            let beside = LegSamples::of(rounds, |round| vec![&round.loads[index].beside]);
            let against_alone = beside.against(alone);
            let harvest = Harvest::new(rounds, index, cores);
            LoadReport {
                name: "gogrid".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                tuning: None,
                cores,
                beside: beside.latencies(),
                goals: Goals::of(&against_alone, control, &harvest),
                against_alone,
                against_cold: cold.map(|cold| beside.against(cold)),
                harvest,
            }
        };
        let cores = self.options.cores;
        let rivals = self.rivals.iter().enumerate();
        let rivals = rivals.map(|(index, rival)| LoadReport {
            name: rival.tuning.name.clone(),
            version: rival.version.clone(),
            tuning: Some(rival.tuning.clone()),
            ..load(1 + index, cores.all_of_the_machine())
        });
        std::iter::once(load(0, cores)).chain(rivals).collect()
    }
}

/// The share of the machine that other programs used in the legs alone, on average.
fn strangers(rounds: &[Round]) -> Option<f64> {
    let shares = || rounds.iter().flat_map(|round| round.strangers);
    let sum: Option<f64> = shares().sum();
    sum.map(|sum| sum / shares().count() as f64)
}
