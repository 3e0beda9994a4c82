use std::ops::Range;

use super::PlacedSpan;
use super::corridor::{Beginning, Growth, NextStage, Pass, stages};
use super::effort::{Counted, Effort, Spent};
use super::remaining::devices;
use super::table::Table;

/// Of the plans that an aim lets through, the one with the fewest devices, and of those the one
/// whose devices come first, cut where it costs least; of equal cuts, the last.
pub(super) fn select(
    table: &Table,
    counted: Counted<'_>,
    pass: Pass<'_>,
) -> Result<Vec<PlacedSpan>, Spent> {
    let devices = table.lanes.len();
    let mut selection = Selection {
        limit: pass.aim.limit_with_prices(table),
        growth: Growth {
            table,
            shared: counted.shared,
            fits: true,
        },
        effort: counted.effort,
        pass,
        list: vec![Beginning::EMPTY],
    };
    for count in 1..=devices as u32 {
        if let Some(stages) = selection.go_on(0..1, (1 << devices) - 1, count)? {
            return Ok(stages);
        }
    }
    panic!("a plan was found, and no count of devices has it");
}

struct Selection<'a> {
    growth: Growth<'a>,
    effort: &'a Effort,
    pass: Pass<'a>,
    limit: f64,
    list: Vec<Beginning>,
}

impl Selection<'_> {
    /// The stages of the first plan that goes on from some of these beginnings, on `left` of the
    /// `free` devices.
    fn go_on(
        &mut self,
        from: Range<usize>,
        free: usize,
        left: u32,
    ) -> Result<Option<Vec<PlacedSpan>>, Spent> {
        if left == 0 {
            let best = from.min_by(|&a, &b| self.list[a].cost.total_cmp(&self.list[b].cost));
            return Ok(best.map(|best| stages(&self.list, best)));
        }
        let whole = &self.pass.remaining.whole;
        let whole = subsets(free, left).any(|set| whole[set] <= self.limit);
        if self.list[from.start].piece == 0 && !whole {
            return Ok(None);
        }
        for device in devices(free) {
            let rest: Vec<_> = subsets(free & !(1 << device), left - 1).collect();
            let grown = self.extend(from.clone(), device, &rest)?;
            let found = match grown.is_empty() {
                true => None,
                false => self.go_on(grown.clone(), free & !(1 << device), left - 1)?,
            };
            self.list.truncate(grown.start);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Adds the beginnings with one more stage on `device` that one of the sets `rest` can take to
    /// the end. The empty set is the only one for a stage that is to be the last.
    fn extend(
        &mut self,
        from: Range<usize>,
        device: usize,
        rest: &[usize],
    ) -> Result<Range<usize>, Spent> {
        let begins = self.list.len();
        let is_last = rest == [0];
        let pieces = self.growth.table.pieces;
        let Pass { aim, remaining } = self.pass;
        let mut grown = Vec::new();
        // Later cuts first: of equal ones, the first is kept.
        for index in from.rev() {
            let beginning = self.list[index];
            let stage = NextStage {
                beginning: &beginning,
                parent: index,
                device,
                to: remaining.reach(device, beginning.piece),
            };
            self.growth.extend(stage, self.pass, |next| {
                let ahead = match (is_last, next.piece == pieces) {
                    (true, true) => 0.0,
                    (false, false) => self.ahead(&next, rest),
                    _ => return,
                };
                let least = next.cost + self.growth.price(&next, aim) + ahead;
                let is_cheap = least <= self.limit && next.cost <= aim.limit;
                if is_cheap && self.growth.fits(&next) {
                    grown.push(next);
                }
            });
        }
        grown.sort_by_key(|next: &Beginning| next.piece);
        for next in grown {
            let mut same = self.list[begins..].iter();
            if !same.any(|known| known.piece == next.piece && known.is_no_worse(&next, next.cost)) {
                self.effort.keep_one()?;
                self.list.push(next);
            }
        }
        Ok(begins..self.list.len())
    }

    /// The least that one of these sets pays to the end.
    fn ahead(&self, beginning: &Beginning, sets: &[usize]) -> f64 {
        let costs = sets.iter().map(|&set| {
            self.pass
                .remaining
                .ahead(set, beginning.last, beginning.piece)
        });
        costs.fold(f64::INFINITY, f64::min)
    }
}

/// The subsets of a set that have `count` devices.
fn subsets(set: usize, count: u32) -> impl Iterator<Item = usize> {
    let subsets = std::iter::successors(Some(set), move |&sub| (sub != 0).then(|| (sub - 1) & set));
    subsets.filter(move |sub| sub.count_ones() == count)
}
