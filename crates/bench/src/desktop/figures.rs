//! The figures of all rounds together.

use corpgrid_scheduler::Device;
use gogrid_host::allowed_cores;
use serde::Serialize;

use super::foreground::{FRAME_PERIOD, Samples};
use super::rounds::{LoadLegs, Round};
use crate::error::BenchError;
use crate::load::Yield;
use crate::stats::{Interval, Pool, interval, mean, median};

/// Latencies of the foreground in one kind of leg.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latencies {
    pub(crate) frames: usize,
    pub(crate) frame_p50_ms: f64,
    pub(crate) frame_p99_ms: f64,
    pub(crate) frame_max_ms: f64,
    pub(crate) missed_in_10000: f64,
    pub(crate) wake_p50_us: f64,
    pub(crate) wake_p99_us: f64,
    pub(crate) wake_max_us: f64,
}

/// One kind of leg against another: ratios, and for missed frames a difference.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) frame_p50: Interval,
    pub(crate) frame_p99: Interval,
    pub(crate) missed_more_in_10000: Interval,
    pub(crate) wake_p50: Interval,
    pub(crate) wake_p99: Interval,
    /// The ratios of each triple, and their median.
    pub(crate) frame_p50_triples: Vec<f64>,
    pub(crate) frame_p99_triples: Vec<f64>,
    pub(crate) frame_p50_median: Interval,
    pub(crate) frame_p99_median: Interval,
}

/// The tokens a load made, beside the foreground and alone, and the CPU time they took.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Harvest {
    pub(crate) tok_s_beside: Interval,
    pub(crate) tok_s_alone: Interval,
    /// Tokens a second beside, over those alone times `idle_of_allowed`.
    pub(crate) harvest: Interval,
    /// The part of the cores it may take that the foreground left idle, at most 1.
    pub(crate) idle_of_allowed: f64,
    /// CPU time over wall time times the machine's cores.
    pub(crate) cpu_share_beside: Interval,
    pub(crate) cpu_share_alone: Interval,
    /// The same of its devices' cores, by its own account.
    pub(crate) device_busy_share_beside: Option<f64>,
    /// Rest of a thread over wall time, added up over threads.
    pub(crate) device_rest_beside: Option<f64>,
}

/// The cores that there are, and how many of them a load may take.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cores {
    pub(crate) machine: usize,
    pub(crate) devices: usize,
    pub(crate) allowed: f64,
}

impl Cores {
    /// Those that a pipeline on `devices` may take under a limit of `share`.
    pub fn of(devices: &[Device], share: f64) -> Result<Self, BenchError> {
        let cores: usize = devices.iter().map(|device| device.cores().len()).sum();
        Ok(Self {
            machine: allowed_cores()?.cores().len(),
            devices: cores,
            allowed: share * cores as f64,
        })
    }

    /// Those of a load that may take all of them.
    pub(crate) fn all_of_the_machine(self) -> Self {
        Self {
            devices: self.machine,
            allowed: self.machine as f64,
            ..self
        }
    }
}

/// The samples of one kind of leg, with the round each is of.
pub(crate) struct LegSamples {
    rounds: usize,
    frames: Pool,
    wakes: Pool,
}

impl LegSamples {
    /// The legs that `pick` takes of each round.
    pub(crate) fn of(rounds: &[Round], pick: impl Fn(&Round) -> Vec<&Samples>) -> Self {
        let legs = rounds.iter().map(pick).enumerate();
        let legs = legs.flat_map(|(round, legs)| legs.into_iter().map(move |leg| (round, leg)));
        Self::new(rounds.len(), &legs.collect::<Vec<_>>())
    }

    /// These legs, each with the number of its round.
    pub(crate) fn new(rounds: usize, legs: &[(usize, &Samples)]) -> Self {
        let frames = legs.iter().map(|&(round, leg)| (round, &leg.frames_ns[..]));
        let wakes = legs.iter().map(|&(round, leg)| (round, &leg.wakes_ns[..]));
        Self {
            rounds,
            frames: Pool::new(rounds, frames),
            wakes: Pool::new(rounds, wakes),
        }
    }

    pub(crate) fn latencies(&self) -> Latencies {
        let all = vec![1; self.rounds];
        let frame_ms = |q| quantile(&self.frames, &all, q) / 1e6;
        let wake_us = |q| quantile(&self.wakes, &all, q) / 1e3;
        Latencies {
            frames: self.frames.len(),
            frame_p50_ms: frame_ms(0.5),
            frame_p99_ms: frame_ms(0.99),
            frame_max_ms: frame_ms(1.0),
            missed_in_10000: self.missed(&all),
            wake_p50_us: wake_us(0.5),
            wake_p99_us: wake_us(0.99),
            wake_max_us: wake_us(1.0),
        }
    }

    pub(crate) fn against(&self, other: &Self) -> Comparison {
        let ratio = |mine: &Pool, others: &Pool, q| {
            interval(self.rounds, |weights| {
                quantile(mine, weights, q) / quantile(others, weights, q)
            })
        };
        let (p50, p99) = (self.triples(other, 0.5), self.triples(other, 0.99));
        Comparison {
            frame_p50: ratio(&self.frames, &other.frames, 0.5),
            frame_p99: ratio(&self.frames, &other.frames, 0.99),
            missed_more_in_10000: self.missed_more(other),
            wake_p50: ratio(&self.wakes, &other.wakes, 0.5),
            wake_p99: ratio(&self.wakes, &other.wakes, 0.99),
            frame_p50_median: median_of(&p50),
            frame_p99_median: median_of(&p99),
            frame_p50_triples: p50,
            frame_p99_triples: p99,
        }
    }

    fn triples(&self, other: &Self, q: f64) -> Vec<f64> {
        (0..self.rounds)
            .map(|round| {
                let mut only = vec![0; self.rounds];
                only[round] = 1;
                quantile(&self.frames, &only, q) / quantile(&other.frames, &only, q)
            })
            .collect()
    }

    fn missed(&self, weights: &[usize]) -> f64 {
        // A period is some millions of nanoseconds.
        let period_ns = FRAME_PERIOD.as_nanos() as u64;
        1e4 * self.frames.share_over(weights, period_ns)
    }

    /// Of n frames of which none is missed, one in n / 3 still might be: with 95 % confidence it
    /// is no more. Drawing from no missed frames at all cannot show that, so the upper end is at
    /// least this.
    fn missed_more(&self, other: &Self) -> Interval {
        let drawn = interval(self.rounds, |weights| {
            self.missed(weights) - other.missed(weights)
        });
        Interval {
            high: drawn.high.max(3e4 / self.frames.len() as f64),
            ..drawn
        }
    }
}

fn quantile(pool: &Pool, weights: &[usize], q: f64) -> f64 {
    let found = pool.quantile(weights, q);
    // Nanoseconds of a leg, far under 2^53.
    found.expect("every round has samples of each leg") as f64
}

fn median_of(ratios: &[f64]) -> Interval {
    interval(ratios.len(), |weights| {
        let drawn: Vec<_> = ratios
            .iter()
            .zip(weights)
            .flat_map(|(&ratio, &weight)| std::iter::repeat_n(ratio, weight))
            .collect();
        median(&drawn)
    })
}

impl Harvest {
    /// Of the load at `load` in each round.
    pub(crate) fn new(rounds: &[Round], load: usize, cores: Cores) -> Self {
        let legs = || rounds.iter().map(|round| &round.loads[load]);
        let per_round = |of: &dyn Fn(&LoadLegs) -> f64| -> Vec<f64> { legs().map(of).collect() };
        let beside = per_round(&|legs| legs.beside_yield.tokens_s());
        let alone = per_round(&|legs| legs.alone_yield.tokens_s());
        let idle: Vec<_> = rounds.iter().map(|round| idle(round, cores)).collect();
        let expected: Vec<_> = alone.iter().zip(&idle).map(|(a, i)| a * i).collect();
        let share = |made: &Yield| made.cpu_s / (made.wall_s * cores.machine as f64);
        let account = |of: &dyn Fn(&Yield) -> Option<f64>| {
            let seconds: Option<f64> = legs().map(|legs| of(&legs.beside_yield)).sum();
            let wall_s: f64 = legs().map(|legs| legs.beside_yield.wall_s).sum();
            seconds.map(|seconds| seconds / wall_s)
        };
        Self {
            tok_s_beside: mean_of(&beside),
            tok_s_alone: mean_of(&alone),
            harvest: interval(rounds.len(), |weights| {
                mean(beside.iter().copied(), weights) / mean(expected.iter().copied(), weights)
            }),
            idle_of_allowed: mean_of(&idle).figure,
            cpu_share_beside: mean_of(&per_round(&|legs| share(&legs.beside_yield))),
            cpu_share_alone: mean_of(&per_round(&|legs| share(&legs.alone_yield))),
            device_busy_share_beside: account(&|made| made.busy_s)
                .map(|busy| busy / cores.devices as f64),
            device_rest_beside: account(&|made| made.rest_s),
        }
    }
}

fn mean_of(values: &[f64]) -> Interval {
    interval(values.len(), |weights| {
        mean(values.iter().copied(), weights)
    })
}

/// The part of the allowed cores that the foreground leaves idle, at most 1. The CPU time it uses is
/// that of the legs in which nothing disturbs it.
fn idle(round: &Round, cores: Cores) -> f64 {
    let used: f64 = round.alone.iter().map(|leg| leg.cpu_s / leg.wall_s).sum();
    let used = used / round.alone.len() as f64;
    ((cores.machine as f64 - used) / cores.allowed).min(1.0)
}
