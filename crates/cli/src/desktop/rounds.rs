//! The legs of the measurement, interleaved.

use std::time::Duration;

use gogrid_host::CpuProbe;
use indicatif::{ProgressBar, ProgressStyle};

use super::foreground::{Begun, LEAD, Samples, now, thread_sleep_until};
use super::load::{Load, Yield};
use super::partner::Partner;
use super::stats::order;

/// A load goes on this long past its leg's end, so that the end is not measured.
const TAIL: Duration = Duration::from_millis(100);

/// One of each leg.
#[derive(Default)]
pub(crate) struct Round {
    /// The foreground alone, twice.
    pub(crate) alone: [Samples; 2],
    /// What neither we nor the foreground used of the machine in those two, if the system tells.
    pub(crate) strangers: [Option<f64>; 2],
    /// The foreground alone with cold caches, twice, if that is wished.
    pub(crate) cold: Vec<Samples>,
    /// One for each load.
    pub(crate) loads: Vec<Legs>,
}

/// The legs of one load.
#[derive(Clone, Default)]
pub(crate) struct Legs {
    /// The foreground beside it.
    pub(crate) beside: Samples,
    pub(crate) beside_yield: Yield,
    /// It without the foreground.
    pub(crate) alone_yield: Yield,
}

pub(crate) struct Rounds<'a> {
    pub(crate) foreground: &'a mut Partner,
    /// Where the system has one.
    pub(crate) machine: Option<CpuProbe>,
    pub(crate) loads: Vec<&'a mut dyn Load>,
    /// Whether the foreground runs alone with cold caches too.
    pub(crate) cold: bool,
    /// The measured part of each leg.
    pub(crate) length: Duration,
}

impl Rounds<'_> {
    pub(crate) fn measure(&mut self, rounds: usize) -> anyhow::Result<Vec<Round>> {
        let legs = 2 + 2 * self.loads.len() + 2 * usize::from(self.cold);
        let bar = bar(rounds * legs);
        let mut measured = Vec::new();
        for number in 0..rounds {
            let mut round = Round::default();
            round.loads.resize(self.loads.len(), Legs::default());
            for leg in order(number, legs) {
                self.leg(leg, &mut round)?;
                bar.inc(1);
            }
            measured.push(round);
        }
        bar.finish_and_clear();
        Ok(measured)
    }

    /// Legs 0 and 1 are the foreground alone; then each load has one beside and one alone; then come
    /// those with cold caches.
    fn leg(&mut self, leg: usize, round: &mut Round) -> anyhow::Result<()> {
        if let Some(alone) = round.alone.get_mut(leg) {
            let mut sample = None;
            *alone = self.foreground("run", &mut |rounds| {
                sample = rounds.used_by_others();
                Ok(())
            })?;
            round.strangers[leg] =
                sample.map(|(used, cores)| used - alone.cpu_s / (alone.wall_s * cores));
            pause(TAIL);
            return Ok(());
        }
        let (load, beside) = ((leg - 2) / 2, leg.is_multiple_of(2));
        let Some(legs) = round.loads.get_mut(load) else {
            let cold = self.foreground("cold", &mut |_| Ok(()))?;
            round.cold.push(cold);
            pause(TAIL);
            return Ok(());
        };
        if beside {
            (legs.beside, legs.beside_yield) = self.beside(load)?;
        } else {
            legs.alone_yield = self.generating(load)?;
        }
        Ok(())
    }

    fn beside(&mut self, load: usize) -> anyhow::Result<(Samples, Yield)> {
        self.loads[load].wait_until_free()?;
        self.loads[load].start()?;
        let samples = self.foreground("run", &mut |rounds| rounds.loads[load].mark())?;
        pause(TAIL);
        Ok((samples, self.loads[load].stop()?))
    }

    fn generating(&mut self, load: usize) -> anyhow::Result<Yield> {
        self.loads[load].wait_until_free()?;
        self.loads[load].start()?;
        pause(LEAD);
        self.loads[load].mark()?;
        pause(self.length);
        self.loads[load].mark()?;
        pause(TAIL);
        self.loads[load].stop()
    }

    /// The share of the machine that other processes used since the last time, and its cores.
    fn used_by_others(&mut self) -> Option<(f64, f64)> {
        let sample = self.machine.as_mut()?.sample().ok()??;
        Some((sample.others, sample.cores as f64))
    }

    /// Runs the foreground, with a mark at the beginning and the end of what is measured.
    fn foreground(
        &mut self,
        order: &str,
        mark: &mut dyn FnMut(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Samples> {
        self.foreground
            .order(&format!("{order} {}", self.length.as_secs_f64()))?;
        let _: Begun = self.foreground.answer()?;
        mark(self)?;
        let samples = self.foreground.answer()?;
        mark(self)?;
        Ok(samples)
    }
}

/// Drawn between legs only, so that it takes no time of what is measured.
fn bar(legs: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("leg {pos} of {len} [{bar:30}] {eta} left");
    // A usize is a u64 wherever a model fits.
    ProgressBar::new(legs as u64).with_style(
        style
            .expect("the template is well-formed")
            .progress_chars("=> "),
    )
}

fn pause(length: Duration) {
    thread_sleep_until(now() + length);
}
