//! `gogrid bench desktop`: what a person at the desk feels while tokens are generated beside them.

mod figures;
pub(crate) mod foreground;
mod load;
mod ours;
mod partner;
pub(crate) mod pause;
mod peer;
mod report;
mod rounds;
pub(crate) mod stats;
mod work;

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use corpgrid_scheduler::{Device, Mode, Status};
use gogrid_host::{CpuProbe, allowed_cores};

use self::figures::{Against, Cores, Harvest, Side};
use self::foreground::Ready;
use self::load::Load;
use self::ours::Ours;
use self::partner::Partner;
use self::peer::{Peer, Tuning};
use self::report::{Goals, LoadReport, Report, RoundReport};
use self::rounds::{Round, Rounds};
use crate::args::DesktopArgs;
use crate::failure::BadInput;
use crate::interrupt::Interrupt;
use crate::open::Wish;
use crate::out;

/// The name of the command that runs the foreground.
const FOREGROUND: &str = "foreground";

/// A llama.cpp that stands by.
struct Rival {
    tuning: Tuning,
    peer: Peer,
}

/// What a report is made of.
struct Measured<'a> {
    args: &'a DesktopArgs,
    mode: Mode,
    ready: Ready,
    cores: Cores,
    rounds: &'a [Round],
    status: Status,
    rivals: &'a [Rival],
}

pub(crate) fn run(args: &DesktopArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let wish = Wish::new(&args.run, interrupt)?;
    let vocabulary = wish.vocabulary()?;
    let share = wish.options.limits.max_compute_usage_percent;
    let mode = wish.mode;
    let cores = cores(&wish.devices, share)?;
    // First, since it calibrates itself, for which the machine should be quiet.
    let mut foreground = start_foreground()?;
    let ready: Ready = foreground.answer()?;
    let mut rivals = match &args.peer {
        Some(python) => rivals(python, &wish.path, cores.machine)?,
        None => Vec::new(),
    };
    let mut ours = Ours::new(wish.open()?, vocabulary);
    let mut loads: Vec<&mut dyn Load> = vec![&mut ours];
    loads.extend(
        rivals
            .iter_mut()
            .map(|rival| &mut rival.peer as &mut dyn Load),
    );
    let mut rounds = Rounds {
        foreground: &mut foreground,
        machine: CpuProbe::start().ok(),
        loads,
        cold: args.cold,
        length: Duration::from_secs_f32(args.seconds),
    };
    let rounds = rounds.measure(args.triples)?;
    let measured = Measured {
        args,
        mode,
        ready,
        cores,
        rounds: &rounds,
        status: ours.status(),
        rivals: &rivals,
    };
    let report = measured.report();
    if args.json.json {
        return out::json(&report);
    }
    Ok(out::text(&report.table())?)
}

fn start_foreground() -> anyhow::Result<Partner> {
    let program = env::current_exe().context("cannot find this program's own file")?;
    Partner::start(
        "the foreground process",
        Command::new(program).arg(FOREGROUND),
    )
}

fn rivals(python: &Path, model: &Path, cores: usize) -> anyhow::Result<Vec<Rival>> {
    if !model.is_file() {
        let problem = format!("{} is no file: --peer needs a GGUF file", model.display());
        return Err(BadInput(problem).into());
    }
    let tunings = peer::tunings(cores).into_iter();
    tunings
        .map(|tuning| {
            let peer = Peer::start(python, model, &tuning)?;
            Ok(Rival { tuning, peer })
        })
        .collect()
}

/// Those of our devices, and `share` of them.
fn cores(devices: &[Device], share: f64) -> anyhow::Result<Cores> {
    let ours: usize = devices.iter().map(|device| device.cores.len()).sum();
    Ok(Cores {
        machine: allowed_cores()?.cores().len(),
        devices: ours,
        allowed: share * ours as f64,
    })
}

impl Measured<'_> {
    fn report(&self) -> Report {
        let alone = Side::of(self.rounds, |round| round.alone.iter().collect());
        let first = Side::of(self.rounds, |round| vec![&round.alone[0]]);
        let control = Side::of(self.rounds, |round| vec![&round.alone[1]]).against(&first);
        let cold = self.cold();
        let status = &self.status;
        let devices = status.devices.iter();
        Report {
            model: status.model.clone(),
            mode: self.mode,
            devices: devices.map(|device| device.device.clone()).collect(),
            compute_share: status.limits.max_compute_usage_percent,
            not_enforced: status.not_enforced.clone(),
            triples: self.args.triples,
            seconds: f64::from(self.args.seconds),
            foreground: self.ready,
            strangers_share: strangers(self.rounds),
            alone: alone.felt(),
            cold: cold.as_ref().map(|cold| cold.against(&alone)),
            loads: self.loads((&alone, cold.as_ref()), &control),
            rounds: self.rounds.iter().map(RoundReport::new).collect(),
            control,
        }
    }

    /// The foreground alone with cold caches, if that was wished.
    fn cold(&self) -> Option<Side> {
        let side = || Side::of(self.rounds, |round| round.cold.iter().collect());
        self.args.cold.then(side)
    }

    fn loads(&self, (alone, cold): (&Side, Option<&Side>), control: &Against) -> Vec<LoadReport> {
        let load = |index: usize, cores| {
            let beside = Side::of(self.rounds, |round| vec![&round.loads[index].beside]);
            let against_alone = beside.against(alone);
            let harvest = Harvest::new(self.rounds, index, cores);
            LoadReport {
                name: "gogrid".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                tuning: None,
                cores,
                beside: beside.felt(),
                goals: Goals::of(&against_alone, control, &harvest),
                against_alone,
                against_cold: cold.map(|cold| beside.against(cold)),
                harvest,
            }
        };
        let whole = Cores {
            devices: self.cores.machine,
            allowed: self.cores.machine as f64,
            ..self.cores
        };
        let rivals = self.rivals.iter().enumerate();
        let rivals = rivals.map(|(index, rival)| LoadReport {
            name: rival.tuning.name.clone(),
            version: rival.peer.version.clone(),
            tuning: Some(rival.tuning.clone()),
            ..load(1 + index, whole)
        });
        std::iter::once(load(0, self.cores)).chain(rivals).collect()
    }
}

/// What strangers used of the machine in the legs alone, on average.
fn strangers(rounds: &[Round]) -> Option<f64> {
    let shares = || rounds.iter().flat_map(|round| round.strangers);
    let sum: Option<f64> = shares().sum();
    sum.map(|sum| sum / shares().count() as f64)
}
