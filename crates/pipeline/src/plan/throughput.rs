use super::PlacedSpan;
use super::corridor::{Corridor, Pass, TooMany};
use super::covering::least_period;
use super::effort::{Counted, Effort, Spent};
use super::fluid::covering_prices;
use super::reaches::Reaches;
use super::remaining::{Aim, Costing, Remaining};
use super::select::select;
use super::table::Table;

/// The stages of the shortest period, or `None` when the model does not fit.
///
/// The memories that devices share are left out at first. Where the best plan then holds too much
/// of one, the search begins again with it counted.
pub(super) fn search(table: &Table, effort: &Effort) -> Result<Option<Vec<PlacedSpan>>, Spent> {
    let mut remaining = Remaining::new(table);
    let mut shared = Vec::new();
    let mut low = 0.0;
    loop {
        let counted = Counted {
            shared: &shared,
            effort,
        };
        let mut search = Search::new(table, counted, &mut remaining);
        search.low = low;
        let Some(period) = search.close_in()? else {
            return Ok(None);
        };
        let stages = search.select(period)?;
        let over = table.overfilled(&stages);
        if over.is_empty() {
            return Ok(Some(stages));
        }
        shared.extend(over);
        low = period;
    }
}

/// Some plan that fits, whatever time it takes.
pub(super) fn any_that_fits(
    table: &Table,
    effort: Effort,
) -> Result<Option<Vec<PlacedSpan>>, Spent> {
    let mut remaining = Remaining::new(table);
    let counted = Counted {
        shared: &table.contended(),
        effort: &effort,
    };
    Search::new(table, counted, &mut remaining).try_period(f64::INFINITY)?;
    Ok(effort.into_best())
}

/// How much more than the least period is tried first.
const SLACKS: [f64; 5] = [1.003, 1.01, 1.03, 1.1, 1.5];

/// The part of a period that a search closes in on before it tries to end.
const NARROW: f64 = 0.01;

/// What a look for a plan of a period found.
enum Tried {
    /// A plan of this period.
    Found(f64),
    /// No plan below this period, which is longer than the one that was tried.
    NoneBelow(f64),
}

/// Whether a period is possible changes only at periods that some span or crossing takes, so the
/// search jumps from one to another and ends at the least exactly.
struct Search<'a, 'b> {
    table: &'a Table,
    counted: Counted<'b>,
    remaining: &'b mut Remaining<'a>,
    corridor: Corridor<'b>,
    low: f64,
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(table: &'a Table, counted: Counted<'b>, remaining: &'b mut Remaining<'a>) -> Self
    where
        'a: 'b,
    {
        Self {
            table,
            counted,
            remaining,
            corridor: Corridor::new(table, counted),
            low: 0.0,
        }
    }

    fn close_in(&mut self) -> Result<Option<f64>, Spent> {
        let mut high = match self.counted.shared {
            [] => self.first_by_reaches(),
            _ => self.first()?,
        };
        let mut period = high.next_down();
        let mut is_below = true;
        while self.low < high {
            match self.try_period(period)? {
                Tried::Found(found) => high = found,
                Tried::NoneBelow(next) => self.low = next,
            }
            // Nearer to the high end, since a look that finds a plan is quicker than one that finds none.
            let between = self.low + (high - self.low) * 0.75;
            // Once both are close, every other look tries to end it.
            is_below = !is_below && high - self.low <= NARROW * high;
            period = match is_below || between >= high {
                true => high.next_down().max(self.low),
                false => between,
            };
        }
        Ok(Some(high).filter(|&high| high < f64::INFINITY))
    }

    /// A period that some plan takes where each span that fits alone fits; infinite when none is
    /// found.
    fn first_by_reaches(&self) -> f64 {
        match Reaches::new(self.table).search(self.low) {
            Some((period, stages)) => {
                self.counted.effort.offer(self.table, period, stages);
                period
            }
            None => f64::INFINITY,
        }
    }

    /// A period that some plan takes: tries a little more than pieces that need not be in order would
    /// take. Infinite when the model does not fit.
    fn first(&mut self) -> Result<f64, Spent> {
        self.low = least_period(self.table, self.counted.shared).max(self.low);
        let tries = SLACKS.map(|slack| slack * self.low);
        for period in tries.into_iter().chain([f64::INFINITY]) {
            match self.try_period(period)? {
                Tried::Found(found) => return Ok(found),
                Tried::NoneBelow(next) => self.low = self.low.max(next),
            }
        }
        Ok(f64::INFINITY)
    }

    /// Looks for a plan that takes at most `period`.
    fn try_period(&mut self, period: f64) -> Result<Tried, Spent> {
        let effort = self.counted.effort;
        effort.pass(self.table.lanes.len())?;
        let prices = covering_prices(self.table, self.counted.shared, period);
        let aim = aim(period, &prices);
        let next = self.remaining.fill(aim);
        match self.corridor.least(aim, self.remaining, usize::MAX) {
            Ok(None) => Ok(Tried::NoneBelow(next)),
            Ok(Some((_, stages))) => {
                let found = self.table.period(&stages);
                effort.offer(self.table, found, stages);
                Ok(Tried::Found(found))
            }
            Err(TooMany(_)) => Err(Spent),
        }
    }

    fn select(&mut self, period: f64) -> Result<Vec<PlacedSpan>, Spent> {
        self.counted.effort.pass(self.table.lanes.len())?;
        let prices = covering_prices(self.table, self.counted.shared, period);
        let aim = aim(period, &prices);
        self.remaining.fill(aim);
        select(
            self.table,
            self.counted,
            Pass {
                aim: &aim,
                remaining: self.remaining,
            },
        )
    }
}

fn aim(period: f64, prices: &[f64]) -> Aim<'_> {
    Aim {
        costing: Costing::Free,
        bound: period,
        limit: 0.0,
        prices,
    }
}
