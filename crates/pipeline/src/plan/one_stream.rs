use gogrid_units::Span;

use super::PlacedSpan;
use super::corridor::{Corridor, Pass, TooMany};
use super::effort::{Counted, Effort, Spent};
use super::fluid::{Guess, guess};
use super::remaining::{Aim, Costing, Remaining};
use super::select::select;
use super::table::Table;

/// The stages of the shortest latency, or `None` when the model does not fit.
///
/// Of the memories that devices share, only those are counted at first that are likely to be full.
/// Where the best plan holds too much of another, the search begins again with it counted.
pub(super) fn search(table: &Table, effort: &Effort) -> Result<Option<Vec<PlacedSpan>>, Spent> {
    let mut remaining = Remaining::new(table);
    let mut shared = guess(table, &table.contended()).pinched;
    let mut low = 0.0;
    loop {
        let counted = Counted {
            shared: &shared,
            effort,
        };
        let mut guess = guess(table, &shared);
        let try_first = Among {
            devices: guess.devices.clone(),
            low,
            high: f64::INFINITY,
        };
        let high = improve(table, counted, &mut guess, &try_first)?;
        let mut search = Search::new(table, counted, &mut remaining, &guess);
        (search.low, search.high) = (low, high);
        let proven = search.prove(&mut guess);
        if let Some(best) = search.best.take() {
            effort.offer(table, search.high, best);
        }
        let Some(latency) = proven? else {
            return Ok(None);
        };
        let stages = search.select(latency)?;
        let over = table.overfilled(&stages);
        if over.is_empty() {
            return Ok(Some(stages));
        }
        shared.extend(over);
        low = latency;
    }
}

/// Devices among which a better plan is looked for.
struct Among {
    devices: Vec<usize>,
    /// No plan's latency is less.
    low: f64,
    /// The best latency so far.
    high: f64,
}

/// The shortest latency on some devices alone, if it is less than the best so far, else that. The
/// guess takes over what was learned of prices.
fn improve(
    table: &Table,
    counted: Counted<'_>,
    guess: &mut Guess,
    among: &Among,
) -> Result<f64, Spent> {
    let &Among {
        ref devices,
        low,
        high,
    } = among;
    if devices.is_empty() {
        return Ok(high);
    }
    // With memories to fill, pieces that go together leave much room unused.
    let is_coarse =
        devices.len() >= MANY_DEVICES && high == f64::INFINITY && counted.shared.is_empty();
    let cuts = match is_coarse {
        true => coarse_cuts(table.pieces),
        false => (0..=table.pieces).collect(),
    };
    let some = table.only(devices).cut_at(&cuts);
    let mut remaining = Remaining::new(&some);
    let mut search = Search::new(&some, counted, &mut remaining, guess);
    (search.low, search.high) = (low, high);
    let latency = search.close_in();
    if let Some(best) = search.best.take() {
        let stages = best.iter().map(|stage| PlacedSpan {
            device: devices[stage.device],
            span: Span::new(cuts[stage.span.start], cuts[stage.span.end]),
        });
        counted.effort.offer(table, search.high, stages.collect());
    }
    guess.prices = search.prices;
    Ok(latency?.unwrap_or(high))
}

/// After the first piece and before the last, and between them every so many pieces.
fn coarse_cuts(pieces: usize) -> Vec<usize> {
    let inner = (1..pieces).step_by(PIECES_TOGETHER);
    let mut cuts: Vec<_> = std::iter::once(0).chain(inner).collect();
    cuts.extend([pieces - 1, pieces]);
    cuts.dedup();
    cuts
}

/// So many devices are first tried with pieces that go together, to have a good plan early.
const MANY_DEVICES: usize = 6;
const PIECES_TOGETHER: usize = 8;

/// Beginnings that a search looks at before it looks for better prices.
const BEGINNINGS_BEFORE_PRICES: usize = 1000;

/// Steps in which better prices are looked for.
const PRICE_STEPS: usize = 8;

/// The part of a latency that a search closes in on before it tries to end.
const NARROW: f64 = 0.01;

/// A look for the least sum.
struct Look {
    /// The bound and the limit that what remains is filled in for: no less than those looked for.
    filled: (f64, f64),
    bound: f64,
    limit: f64,
}

/// With a bound on every device's paced seconds, a pass gives the least sum of the stages' seconds
/// and crossings. The sum falls as the bound rises, so the least of `max(bound, sum)` is where they
/// meet: the search closes in on it from both sides.
struct Search<'a, 'b> {
    table: &'a Table,
    counted: Counted<'b>,
    remaining: &'b mut Remaining<'a>,
    corridor: Corridor<'b>,
    prices: Vec<f64>,
    /// Where the search begins.
    guessed: f64,
    /// No plan's latency is less.
    low: f64,
    /// The best latency so far.
    high: f64,
    /// The latency for which what remains is filled in, if any.
    filled: f64,
    /// The devices of the plan that was found last.
    found: Option<Vec<usize>>,
    /// The best plan that was found, if it is this search that found it.
    best: Option<Vec<PlacedSpan>>,
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(
        table: &'a Table,
        counted: Counted<'b>,
        remaining: &'b mut Remaining<'a>,
        guess: &Guess,
    ) -> Self
    where
        'a: 'b,
    {
        Self {
            table,
            counted,
            remaining,
            corridor: Corridor::new(table, counted),
            prices: guess.prices.clone(),
            guessed: guess.latency,
            low: 0.0,
            high: f64::INFINITY,
            filled: f64::NAN,
            found: None,
            best: None,
        }
    }

    /// The best latency, and that there is none better. Each pass over all devices either shows that
    /// or finds devices that do better, on which the best is found quickly.
    fn prove(&mut self, guess: &mut Guess) -> Result<Option<f64>, Spent> {
        if self.high == f64::INFINITY {
            self.try_bound(f64::INFINITY, f64::INFINITY)?;
        }
        if self.high == f64::INFINITY {
            return Ok(None);
        }
        while self.low < self.high {
            self.try_below()?;
            if let Some(mut devices) = self.found.take() {
                devices.sort_unstable();
                guess.prices.clone_from(&self.prices);
                let among = Among {
                    devices,
                    low: self.low,
                    high: self.high,
                };
                self.high = improve(self.table, self.counted, guess, &among)?;
                self.prices.clone_from(&guess.prices);
            }
        }
        Ok(Some(self.high))
    }

    /// The best latency; `None` when the model does not fit.
    fn close_in(&mut self) -> Result<Option<f64>, Spent> {
        let limits = [1.02, 1.08, 1.2, 1.5].map(|slack| slack * self.guessed);
        for limit in limits.into_iter().chain([f64::INFINITY]) {
            if self.high.is_finite() || self.try_bound(limit, limit)? {
                break;
            }
        }
        if self.high == f64::INFINITY {
            return Ok(None);
        }
        let mut is_below = false;
        while self.low < self.high {
            // The one keeps the search short whatever the costs are, near the low end since the sum
            // changes slowly; the other ends it or makes the plan better.
            is_below = !is_below && self.high - self.low <= NARROW * self.high;
            match is_below {
                true => self.try_below()?,
                false => {
                    let bound = self.low + (self.high - self.low) / 4.0;
                    self.try_bound(bound.min(self.high.next_down()), self.high.next_down())?;
                }
            }
        }
        Ok(Some(self.high))
    }

    /// Looks for the least sum under a bound and within a limit; whether there is one.
    fn try_bound(&mut self, bound: f64, limit: f64) -> Result<bool, Spent> {
        self.filled = f64::NAN;
        self.look(Look {
            filled: (bound, limit),
            bound,
            limit,
        })
    }

    /// Looks for anything better than the best so far. If there is nothing, what remains is filled
    /// in for choosing among the best.
    fn try_below(&mut self) -> Result<(), Spent> {
        let (high, below) = (self.high, self.high.next_down());
        self.filled = high;
        self.look(Look {
            filled: (high, high),
            bound: below,
            limit: below,
        })?;
        Ok(())
    }

    fn look(&mut self, look: Look) -> Result<bool, Spent> {
        let Look {
            filled,
            bound,
            limit,
        } = look;
        let mut most = match self.counted.shared {
            [] => usize::MAX,
            _ => BEGINNINGS_BEFORE_PRICES,
        };
        let (next, found) = loop {
            self.counted.effort.pass(self.table.lanes.len())?;
            let next = self.remaining.fill(aim(filled.0, filled.1, &self.prices));
            let aim = aim(bound, limit, &self.prices);
            match self.corridor.least(aim, self.remaining, most) {
                Ok(found) => break (next, found),
                Err(TooMany(found)) => {
                    self.take(found);
                    self.set_prices(filled)?;
                }
            }
            most = most.saturating_mul(8);
        };
        let sum = found.as_ref().map_or(limit.next_up(), |found| found.0);
        let is_found = found.is_some();
        self.take(found);
        // A plan under this bound takes its sum at least, and any other the next bound.
        let next = if filled.0 == bound { next } else { filled.0 };
        self.low = self.low.max(sum.min(next.max(bound.next_up())));
        Ok(is_found)
    }

    /// Takes in a plan that was found, by its sum and its stages.
    fn take(&mut self, found: Option<(f64, Vec<PlacedSpan>)>) {
        let Some((sum, stages)) = found else { return };
        let paced = |stage: &PlacedSpan| self.table.lanes[stage.device].paced(stage.span);
        let latency = stages.iter().map(paced).fold(sum, f64::max);
        self.found = Some(stages.iter().map(|stage| stage.device).collect());
        if latency < self.high {
            self.high = latency;
            self.best = Some(stages);
        }
    }

    /// Moves prices to where the least cost with them is higher, and so tells more: up where the
    /// plan of that cost holds too much, and down where it leaves room.
    fn set_prices(&mut self, (bound, limit): (f64, f64)) -> Result<(), Spent> {
        let mut highest = (f64::NEG_INFINITY, self.prices.clone());
        for _ in 0..PRICE_STEPS {
            self.counted.effort.pass(self.table.lanes.len())?;
            let aim = aim(bound, limit, &self.prices);
            self.remaining.fill(aim);
            let Some(plan) = self.corridor.priced(&aim, self.remaining) else {
                // Nothing is within the limit with these prices, which is the most they can tell.
                return Ok(());
            };
            let shared = self.counted.shared.iter().zip(plan.held);
            let over = shared
                .map(|(&memory, held)| (memory, held as f64 - self.table.rooms[memory] as f64));
            let over: Vec<_> = over.collect();
            let paid: f64 = over
                .iter()
                .map(|(memory, over)| self.prices[*memory] * over)
                .sum();
            let least = plan.cost + paid;
            if least > highest.0 {
                highest = (least, self.prices.clone());
            }
            let squares: f64 = over.iter().map(|(_, over)| over * over).sum();
            let step = (limit.min(1.05 * least) - least) / squares.max(1.0);
            for (memory, over) in over {
                self.prices[memory] = (self.prices[memory] + step * over).max(0.0);
            }
        }
        self.prices = highest.1;
        Ok(())
    }

    fn select(&mut self, latency: f64) -> Result<Vec<PlacedSpan>, Spent> {
        let aim = aim(latency, latency, &self.prices);
        if self.filled != latency {
            self.counted.effort.pass(self.table.lanes.len())?;
            self.remaining.fill(aim);
        }
        let pass = Pass {
            aim: &aim,
            remaining: self.remaining,
        };
        select(self.table, self.counted, pass)
    }
}

fn aim(bound: f64, limit: f64, prices: &[f64]) -> Aim<'_> {
    Aim {
        costing: Costing::InTurn,
        bound,
        limit,
        prices,
    }
}
