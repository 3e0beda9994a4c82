//! The figures as a table and as JSON.

use corpgrid_scheduler::Mode;
use serde::Serialize;

use super::figures::{Comparison, Cores, Harvest, Latencies, LegSamples};
use super::foreground::{Ready, Samples};
use super::llama_cpp::Tuning;
use super::rounds::Round;
use crate::load::Yield;
use crate::stats::Interval;

const FRAME_P50_MOST: f64 = 1.02;
const FRAME_P99_MOST: f64 = 1.15;
const MISSED_MORE_IN_10000_MOST: f64 = 5.0;
const HARVEST_LEAST: f64 = 0.85;
/// A machine on which strangers use more than this share is not quiet.
const STRANGERS_MOST: f64 = 0.02;

/// All that was measured.
#[derive(Serialize)]
pub struct DesktopReport {
    pub(crate) model: String,
    pub(crate) mode: Mode,
    pub(crate) devices: Vec<String>,
    pub(crate) compute_share: f64,
    pub(crate) not_enforced: Vec<String>,
    pub(crate) triples: usize,
    pub(crate) seconds: f64,
    pub(crate) foreground: Ready,
    /// The share of the machine that other programs used in the legs alone. Absent where the system
    /// does not tell.
    pub(crate) strangers_share: Option<f64>,
    /// Both legs alone together, against which each load is held.
    pub(crate) alone: Latencies,
    /// One leg alone against the other.
    pub(crate) control: Comparison,
    /// Legs alone with cold caches, against `alone`: the cost to a frame that shares caches with a
    /// reader of memory, which no giving way can spare it. Wake-ups in them are beside that reading.
    /// Null unless it was asked for.
    pub(crate) cold: Option<Comparison>,
    pub(crate) loads: Vec<LoadReport>,
    pub(crate) rounds: Vec<RoundReport>,
}

#[derive(Serialize)]
pub(crate) struct LoadReport {
    pub(crate) name: String,
    /// Of llama.cpp's only.
    pub(crate) tuning: Option<Tuning>,
    pub(crate) version: String,
    pub(crate) cores: Cores,
    pub(crate) beside: Latencies,
    pub(crate) against_alone: Comparison,
    /// Frames against those alone with cold caches; wake-ups against ones that were not alone.
    pub(crate) against_cold: Option<Comparison>,
    #[serde(flatten)]
    pub(crate) harvest: Harvest,
    pub(crate) goals: Goals,
}

/// Whether each holds for the whole interval.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Goals {
    frame_p50: bool,
    frame_p99: bool,
    missed: bool,
    harvest: bool,
}

/// One round's legs.
#[derive(Serialize)]
pub(crate) struct RoundReport {
    alone: [Latencies; 2],
    strangers_share: [Option<f64>; 2],
    foreground_cores: f64,
    loads: Vec<LegsReport>,
}

#[derive(Serialize)]
struct LegsReport {
    beside: Latencies,
    beside_yield: Yield,
    alone_yield: Yield,
}

impl Goals {
    pub(crate) fn of(against: &Comparison, control: &Comparison, harvest: &Harvest) -> Self {
        let within = |most: f64, mine: Interval, control: Interval| {
            mine.high <= most || mine.high <= control.high
        };
        Self {
            frame_p50: within(FRAME_P50_MOST, against.frame_p50, control.frame_p50),
            frame_p99: within(FRAME_P99_MOST, against.frame_p99, control.frame_p99),
            missed: against.missed_more_in_10000.high <= MISSED_MORE_IN_10000_MOST,
            harvest: harvest.harvest.low >= HARVEST_LEAST,
        }
    }
}

impl RoundReport {
    pub(crate) fn new(round: &Round) -> Self {
        let latencies = |leg: &Samples| LegSamples::new(1, &[(0, leg)]).latencies();
        let used = round.alone.each_ref().map(|leg| leg.cpu_s / leg.wall_s);
        Self {
            alone: round.alone.each_ref().map(latencies),
            strangers_share: round.strangers,
            foreground_cores: f64::midpoint(used[0], used[1]),
            loads: round
                .loads
                .iter()
                .map(|legs| LegsReport {
                    beside: latencies(&legs.beside),
                    beside_yield: legs.beside_yield,
                    alone_yield: legs.alone_yield,
                })
                .collect(),
        }
    }
}

impl DesktopReport {
    /// The figures as tables.
    pub fn table(&self) -> String {
        let mut text = self.head() + &self.warning() + "\n";
        text += &row(
            "",
            [
                "frame p50",
                "frame p99",
                "missed, of 10,000",
                "wake p50",
                "wake p99",
            ]
            .map(str::to_owned),
        );
        text += &row("alone, against itself", cells(&self.control));
        if let Some(cold) = &self.cold {
            text += &row("alone with cold caches", frame_cells(cold));
        }
        for load in &self.loads {
            text += &row(&format!("beside {}", load.name), cells(&load.against_alone));
            if let Some(against) = &load.against_cold {
                text += &row("  against alone with cold caches", frame_cells(against));
            }
            text += &row("  holds", load.goals.cells());
        }
        text += &row("goal, upper end", goals());
        text += "\n";
        text += &row(
            "",
            [
                "tok/s beside",
                "tok/s alone",
                "harvest",
                "CPU beside",
                "CPU alone",
            ]
            .map(str::to_owned),
        );
        for load in &self.loads {
            text += &row(&load.name, load.harvest.cells());
        }
        text += &row("goal, lower end", harvest_goals());
        text + &self.tail()
    }

    fn head(&self) -> String {
        let cores = self.loads[0].cores;
        let (loops, alone) = (self.foreground.loops, self.alone);
        let nice = self.foreground.nice;
        format!(
            "{}, mode {}, on {}, {} % of {} cores of {}; {} triples, {} s a leg\n\
             foreground: 60 Hz, {} rounds and {} KiB a frame, nice {}; alone: frame p50 {:.2} ms, \
             p99 {:.2}, max {:.1}, {:.1} of 10,000 missed, wake-up p50 {:.0} us, p99 {:.0}, max {:.0}\n\
             ratios to alone with their intervals of 95 %; missed frames as a difference\n",
            self.model,
            self.mode.name(),
            self.devices.join(", "),
            self.compute_share * 100.0,
            cores.devices,
            cores.machine,
            self.triples,
            self.seconds,
            loops.arithmetic_rounds,
            loops.stream_kib,
            nice.map_or("unknown".to_owned(), |nice| nice.to_string()),
            alone.frame_p50_ms,
            alone.frame_p99_ms,
            alone.frame_max_ms,
            alone.missed_in_10000,
            alone.wake_p50_us,
            alone.wake_p99_us,
            alone.wake_max_us,
        )
    }

    fn warning(&self) -> String {
        match self.strangers_share {
            Some(share) if share > STRANGERS_MOST => format!(
                "THE MACHINE IS NOT QUIET: others use {:.0} % of it; the figures are theirs too\n",
                share * 100.0
            ),
            _ => String::new(),
        }
    }

    fn tail(&self) -> String {
        let tuned = self.loads.iter().filter(|load| {
            let tuning = load.tuning.as_ref();
            tuning.is_some_and(Tuning::is_tuned)
        });
        let best = tuned.max_by(|a, b| {
            let made = |load: &LoadReport| load.harvest.tok_s_beside.figure;
            made(a).total_cmp(&made(b))
        });
        let account = self.loads[0].harvest.account();
        account
            + &best.map_or(String::new(), |load| {
                format!(
                    "llama.cpp makes most beside the foreground as {:?}\n",
                    load.name
                )
            })
    }
}

impl Goals {
    fn cells(self) -> [String; 5] {
        let cell = |holds| if holds { "yes" } else { "NO" }.to_owned();
        let none = String::new();
        [
            cell(self.frame_p50),
            cell(self.frame_p99),
            cell(self.missed),
            none.clone(),
            none,
        ]
    }
}

impl Harvest {
    /// The pipeline's own account of its devices.
    fn account(&self) -> String {
        match (self.device_busy_share_beside, self.device_rest_beside) {
            (Some(busy), Some(rest)) => format!(
                "beside the foreground, by gogrid's own account, its devices' cores are busy \
                 {:.1} % of the time and its threads rest {rest:.2} s a second, added up\n",
                busy * 100.0
            ),
            _ => String::new(),
        }
    }

    fn cells(&self) -> [String; 5] {
        let holds = if self.harvest.low >= HARVEST_LEAST {
            ""
        } else {
            " NO"
        };
        [
            interval(self.tok_s_beside, 1),
            interval(self.tok_s_alone, 1),
            interval(self.harvest, 3) + holds,
            interval(self.cpu_share_beside, 3),
            interval(self.cpu_share_alone, 3),
        ]
    }
}

fn goals() -> [String; 5] {
    [
        format!("{FRAME_P50_MOST} or alone's"),
        format!("{FRAME_P99_MOST} or alone's"),
        format!("{MISSED_MORE_IN_10000_MOST}"),
        String::new(),
        String::new(),
    ]
}

fn harvest_goals() -> [String; 5] {
    let goal = format!("{HARVEST_LEAST}");
    ["", "", &goal, "", ""].map(str::to_owned)
}

fn cells(against: &Comparison) -> [String; 5] {
    [
        interval(against.frame_p50, 3),
        interval(against.frame_p99, 3),
        interval(against.missed_more_in_10000, 1),
        interval(against.wake_p50, 2),
        interval(against.wake_p99, 2),
    ]
}

/// Without those of wake-ups.
fn frame_cells(against: &Comparison) -> [String; 5] {
    let [p50, p99, missed, ..] = cells(against);
    [p50, p99, missed, String::new(), String::new()]
}

fn interval(value: Interval, digits: usize) -> String {
    let Interval { figure, low, high } = value;
    format!("{figure:.digits$} [{low:.digits$}, {high:.digits$}]")
}

fn row(name: &str, cells: [String; 5]) -> String {
    let mut line = format!("{name:<42}");
    for cell in cells {
        line += &format!(" {cell:<23}");
    }
    format!("{}\n", line.trim_end())
}
