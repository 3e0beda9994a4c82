use std::cell::{Cell, RefCell};

use super::PlacedSpan;
use super::corridor::Beginning;
use super::table::Table;

/// The effort that [`plan`](super::plan) makes at most. One unit is one beginning of a plan that is
/// kept to go on from. A pass over all sets of devices counts as many units as take about as long:
/// 512 for eight devices.
///
/// So a plan keeps at most 100,000 beginnings (20 MB) and makes at most 200 passes over eight
/// devices, whatever the request is.
pub const PLAN_EFFORT_MAX: usize = 100_000;

// A beginning, its place in the queue and its link to another; twice, since lists grow by doubling.
const _: () = assert!(2 * (size_of::<Beginning>() + 20) * PLAN_EFFORT_MAX <= 20_000_000);

/// A search had to end before it was through.
#[derive(Debug)]
pub(super) struct Spent;

/// What a search may still do, and the best plan that it has found.
pub(super) struct Effort {
    left: Cell<usize>,
    /// Whether something was left out for want of effort.
    is_cut_short: Cell<bool>,
    /// The minimised seconds and the stages.
    best: RefCell<Option<(f64, Vec<PlacedSpan>)>>,
}

impl Effort {
    pub(super) fn new(most: usize) -> Self {
        Self {
            left: Cell::new(most),
            is_cut_short: Cell::new(false),
            best: RefCell::new(None),
        }
    }

    /// Counts one beginning, which may be kept unless this fails.
    pub(super) fn keep_one(&self) -> Result<(), Spent> {
        self.spend(1)
    }

    /// Counts one pass over the sets of so many devices.
    pub(super) fn pass(&self, devices: usize) -> Result<(), Spent> {
        self.spend((devices << devices) / 4)
    }

    fn spend(&self, units: usize) -> Result<(), Spent> {
        match self.left.get().checked_sub(units) {
            Some(left) => self.left.set(left),
            None => self.is_cut_short.set(true),
        }
        self.check()
    }

    /// Fails when something was left out for want of effort.
    pub(super) fn check(&self) -> Result<(), Spent> {
        match self.is_cut_short.get() {
            true => Err(Spent),
            false => Ok(()),
        }
    }

    /// Remembers a plan of the whole table if it is the best so far and fits in every memory.
    pub(super) fn offer(&self, table: &Table, seconds: f64, stages: Vec<PlacedSpan>) {
        let mut best = self.best.borrow_mut();
        let is_better = best.as_ref().is_none_or(|best| seconds < best.0);
        if is_better && table.overfilled(&stages).is_empty() {
            *best = Some((seconds, stages));
        }
    }

    pub(super) fn into_best(self) -> Option<Vec<PlacedSpan>> {
        self.best.into_inner().map(|best| best.1)
    }
}

/// What is counted while a search goes on.
#[derive(Clone, Copy)]
pub(super) struct Counted<'a> {
    /// The memories whose bytes are counted; in the others each span fits alone, and no more is
    /// looked at.
    pub(super) shared: &'a [usize],
    pub(super) effort: &'a Effort,
}
