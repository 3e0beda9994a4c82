use std::time::Duration;

use gogrid_units::Moment;

/// A figure that was not told for so long is unknown. Until then the last one stands.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// Differences below this are none, so that a figure that decays arrives.
const SETTLED: f64 = 0.001;

/// Trouble that begins at once, and ends when all has been well for a time without a break.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latch {
    on: bool,
    /// When it ends, if all stays well.
    ends: Option<Moment>,
}

/// The bounds of a latch. Between `trouble` and `well` it stays as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal {
    pub(crate) trouble: bool,
    pub(crate) well: bool,
}

impl Signal {
    /// Without a band between the two.
    pub(crate) fn plain(trouble: bool) -> Self {
        Self {
            trouble,
            well: !trouble,
        }
    }
}

impl Latch {
    /// Answers whether it is on, after `signal`. Time that runs backwards begins the hold anew.
    pub(crate) fn update(&mut self, now: Moment, signal: Signal, hold_s: u32) -> bool {
        if signal.trouble {
            *self = Self {
                on: true,
                ends: None,
            };
        } else if self.on && signal.well {
            let hold_ends = now.after(Duration::from_secs(hold_s.into()));
            let ends = self.ends.map_or(hold_ends, |ends| ends.min(hold_ends));
            self.on = now < ends;
            self.ends = self.on.then_some(ends);
        } else {
            self.ends = None;
        }
        self.on
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// When it will be off, if all stays well.
    pub(crate) fn ends(&self) -> Option<Moment> {
        self.ends
    }
}

/// How a figure is smoothed: exponentially, by the real time between observations, so that an
/// observation over a short time counts little.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smoothing {
    /// The time constant while it rises.
    pub(crate) rise: Duration,
    /// And while it falls.
    pub(crate) fall: Duration,
    /// The first figure covers an unknown time before us, and only starts the clock.
    pub(crate) skips_first: bool,
}

/// A smoothed figure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Smooth {
    value: Option<f64>,
    /// The latest moment at which a figure was told.
    told_at: Option<Moment>,
}

impl Smooth {
    /// Takes in the observation at `now`, and answers the smoothed figure, if it is known.
    pub(crate) fn update(
        &mut self,
        now: Moment,
        sample: Option<f64>,
        by: Smoothing,
    ) -> Option<f64> {
        let told_at = self.told_at.map(|at| at.min(now));
        let elapsed = told_at.map(|at| now.since(at));
        self.told_at = told_at;
        match sample {
            Some(figure) => {
                self.value = self.next(figure, elapsed, by);
                self.told_at = Some(now);
            }
            None if elapsed.is_some_and(|elapsed| elapsed >= FORGET_AFTER) => {
                *self = Self::default();
            }
            None => {}
        }
        self.value
    }

    fn next(&self, figure: f64, elapsed: Option<Duration>, by: Smoothing) -> Option<f64> {
        let Some(before) = self.value else {
            let covered = elapsed.is_some_and(|elapsed| !elapsed.is_zero());
            return (covered || !by.skips_first).then_some(figure);
        };
        let constant = if figure > before { by.rise } else { by.fall };
        let time = elapsed.unwrap_or_default().as_secs_f64() / constant.as_secs_f64();
        let next = figure + (before - figure) * (-time).exp();
        Some(if (next - figure).abs() < SETTLED {
            figure
        } else {
            next
        })
    }
}

#[cfg(test)]
mod tests;
