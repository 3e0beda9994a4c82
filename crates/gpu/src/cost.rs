//! What work takes on a device: guessed from above at first, then learnt from its timestamps, so that no
//! submission takes longer than it may.

use gogrid_units::Work;

/// Work by what bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Products with few rows: reading the weights. Its amount is bytes.
    Vector,
    /// Products of tiles. Its amount is multiply-adds.
    Tiles,
    /// Attention. Its amount is bytes of keys and values, times the queries that read them.
    Attention,
    /// All other kernels. Its amount is bytes.
    Pass,
    /// Copies. Its amount is bytes.
    Copy,
}

const CLASSES: usize = 5;

/// An amount of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) class: Class,
    pub(crate) amount: f64,
    /// What a pace is told of it.
    pub(crate) work: Work,
}

/// Nanoseconds of each class's unit, and of a dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Rates {
    nanos: [f64; CLASSES],
    /// Submissions that were measured.
    seen: usize,
}

/// Nanoseconds that a dispatch takes whatever it does.
const DISPATCH: f64 = 5e3;
/// The first submissions are left out: drivers compile and memory is touched for the first time.
const SKIPPED: usize = 4;
/// How much of a measured difference is taken up at once.
const LEARNT: f64 = 0.3;
/// The most by which one submission changes a rate.
const STEP: f64 = 4.0;

impl Rates {
    /// Slower than a device that is worth using.
    pub(crate) fn pessimistic(is_software: bool) -> Self {
        let nanos = match is_software {
            true => [2.0, 1.0, 4.0, 4.0, 1.0],
            false => [0.2, 0.05, 0.5, 0.5, 0.5],
        };
        Self { nanos, seen: 0 }
    }

    /// The same on a device that is so many times slower.
    #[cfg(test)]
    pub(crate) fn slower(mut self, times: f64) -> Self {
        self.nanos = self.nanos.map(|nanos| times * nanos);
        self
    }

    /// What a dispatch of this work takes.
    pub(crate) fn nanos(&self, cost: &Cost) -> f64 {
        DISPATCH + self.part(cost)
    }

    fn part(&self, cost: &Cost) -> f64 {
        self.nanos[cost.class as usize] * cost.amount
    }

    /// Takes up that a submission of this work took so long.
    pub(crate) fn learn(&mut self, costs: &[Cost], measured: f64) {
        self.seen += 1;
        let dispatches = DISPATCH * costs.len() as f64;
        let mut parts = [0.0; CLASSES];
        for cost in costs {
            parts[cost.class as usize] += self.part(cost);
        }
        let predicted: f64 = parts.iter().sum();
        if self.seen <= SKIPPED || predicted <= 0.0 {
            return;
        }
        let off = (measured - dispatches).max(0.1 * predicted) / predicted;
        let off = off.clamp(1.0 / STEP, STEP);
        for (rate, part) in self.nanos.iter_mut().zip(parts) {
            *rate *= off.powf(LEARNT * part / predicted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(class: Class, amount: f64) -> Cost {
        let work = Work::default();
        Cost {
            class,
            amount,
            work,
        }
    }

    #[test]
    fn rates_come_to_what_is_measured_and_the_first_do_not_count() {
        let mut rates = Rates::pessimistic(false);
        let work = [cost(Class::Vector, 1e6), cost(Class::Pass, 1e3)];
        let before = rates.nanos(&work[0]);
        (0..SKIPPED).for_each(|_| rates.learn(&work, 1e9));
        assert_eq!(rates.nanos(&work[0]), before);
        (0..60).for_each(|_| rates.learn(&work, 8e4 + 2.0 * DISPATCH));
        let found = rates.nanos(&work[0]) - DISPATCH;
        assert!((7.9e4..8.1e4).contains(&found), "{found}");
    }
}
