//! The legs of the measurement, interleaved.

use std::time::Duration;

use gogrid_host::CpuProbe;

use super::foreground::{Begun, LEAD, Samples};
use crate::clock::sleep;
use crate::error::BenchError;
use crate::load::{Load, Yield};
use crate::process::LineProcess;
use crate::stats::order;

/// A load goes on this long past its leg's end, so that the end is not measured.
const TAIL: Duration = Duration::from_millis(100);

/// One of each leg.
#[derive(Default)]
pub(crate) struct Round {
    /// The foreground alone, twice.
    pub(crate) alone: [Samples; 2],
    /// The share of the machine that other programs used in those two, if the system tells.
    pub(crate) strangers: [Option<f64>; 2],
    /// The foreground alone with cold caches, twice, if that is wished.
    pub(crate) cold: Vec<Samples>,
    /// One for each load.
    pub(crate) loads: Vec<LoadLegs>,
}

/// The legs of one load.
#[derive(Clone, Default)]
pub(crate) struct LoadLegs {
    /// The foreground beside it.
    pub(crate) beside: Samples,
    pub(crate) beside_yield: Yield,
    /// It without the foreground.
    pub(crate) alone_yield: Yield,
}

/// Measures round after round, leg by leg.
pub(crate) struct Rounds {
    pub(crate) foreground: LineProcess,
    /// Where the system has one.
    pub(crate) machine: Option<CpuProbe>,
    pub(crate) loads: Vec<Box<dyn Load>>,
    /// Whether the foreground runs alone with cold caches too.
    pub(crate) cold: bool,
    /// The measured part of each leg.
    pub(crate) length: Duration,
    /// The rounds so far, the last of them perhaps unfinished.
    pub(crate) rounds: Vec<Round>,
    /// Legs measured so far.
    pub(crate) legs_done: usize,
}

impl Rounds {
    pub(crate) fn legs_a_round(&self) -> usize {
        2 + 2 * self.loads.len() + 2 * usize::from(self.cold)
    }

    /// Measures one more leg.
    pub(crate) fn measure_leg(&mut self) -> Result<(), BenchError> {
        let legs = self.legs_a_round();
        let (number, place) = (self.legs_done / legs, self.legs_done % legs);
        if place == 0 {
            let mut round = Round::default();
            round.loads.resize(self.loads.len(), LoadLegs::default());
            self.rounds.push(round);
        }
        let mut round = std::mem::take(&mut self.rounds[number]);
        self.leg(order(number, legs)[place], &mut round)?;
        self.rounds[number] = round;
        self.legs_done += 1;
        Ok(())
    }

    /// Legs 0 and 1 are the foreground alone; then each load has one beside and one alone; then come
    /// those with cold caches.
    fn leg(&mut self, leg: usize, round: &mut Round) -> Result<(), BenchError> {
        if let Some(alone) = round.alone.get_mut(leg) {
            let mut sample = None;
            *alone = self.foreground("run", &mut |rounds| {
                sample = rounds.used_by_others();
                Ok(())
            })?;
            round.strangers[leg] =
                sample.map(|(used, cores)| used - alone.cpu_s / (alone.wall_s * cores));
            sleep(TAIL);
            return Ok(());
        }
        let (load, beside) = ((leg - 2) / 2, leg.is_multiple_of(2));
        let Some(legs) = round.loads.get_mut(load) else {
            let cold = self.foreground("cold", &mut |_| Ok(()))?;
            round.cold.push(cold);
            sleep(TAIL);
            return Ok(());
        };
        if beside {
            (legs.beside, legs.beside_yield) = self.beside(load)?;
        } else {
            legs.alone_yield = self.generating(load)?;
        }
        Ok(())
    }

    fn beside(&mut self, load: usize) -> Result<(Samples, Yield), BenchError> {
        self.loads[load].wait_until_free()?;
        self.loads[load].start()?;
        let samples = self.foreground("run", &mut |rounds| rounds.loads[load].mark())?;
        sleep(TAIL);
        Ok((samples, self.loads[load].stop()?))
    }

    fn generating(&mut self, load: usize) -> Result<Yield, BenchError> {
        let load = &mut self.loads[load];
        load.wait_until_free()?;
        load.start()?;
        sleep(LEAD);
        load.mark()?;
        sleep(self.length);
        load.mark()?;
        sleep(TAIL);
        load.stop()
    }

    /// The share of the machine that other processes used since the last time, and its cores.
    fn used_by_others(&mut self) -> Option<(f64, f64)> {
        let sample = self.machine.as_mut()?.sample().ok()??;
        Some((sample.others, sample.cores as f64))
    }

    /// Runs the foreground, with a mark at the beginning and the end of the measured part.
    fn foreground(
        &mut self,
        order: &str,
        mark: &mut dyn FnMut(&mut Self) -> Result<(), BenchError>,
    ) -> Result<Samples, BenchError> {
        self.foreground
            .order(&format!("{order} {}", self.length.as_secs_f64()))?;
        let _: Begun = self.foreground.answer()?;
        mark(self)?;
        let samples = self.foreground.answer()?;
        mark(self)?;
        Ok(samples)
    }
}
