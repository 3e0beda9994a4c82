use std::ops::Range;

use gogrid_units::Span;

use super::remaining::{Aim, Costing};
use super::table::Lane;
use super::window::Window;

/// One device as a pass sees it: seconds and prices in one figure.
pub(super) struct Priced {
    /// Of the pieces before each index, with credit.
    pub(super) at_once: Vec<f64>,
    /// Of the pieces before each index, without.
    pub(super) paced: Vec<f64>,
    pub(super) credit: f64,
    /// For each end, what the scratch of a span that ends there costs at least.
    scratch: Vec<f64>,
    /// Of the whole model, of which it may hold a table once that it would hold twice.
    whole: f64,
    /// For each first piece, where its longest span ends.
    pub(super) reach: Vec<usize>,
    /// For each end, where its longest span begins.
    back: Vec<usize>,
    /// For each first piece, the last end up to which credit lasts.
    kink: Vec<usize>,
    /// Whether credit always lasts, so that the paced seconds are not needed.
    is_straight: bool,
}

/// What follows a stage.
pub(super) struct Ahead<'a> {
    pub(super) costs: &'a [f64],
    pub(super) live: Range<usize>,
    /// Whether the stage may be the last.
    pub(super) may_end: bool,
    /// The last piece that the stage may begin with.
    pub(super) to: usize,
}

impl Priced {
    pub(super) fn new(cells: usize) -> Self {
        Self {
            at_once: vec![0.0; cells],
            paced: vec![0.0; cells],
            credit: 0.0,
            scratch: vec![0.0; cells],
            whole: f64::INFINITY,
            reach: vec![0; cells],
            back: vec![0; cells],
            kink: vec![0; cells],
            is_straight: true,
        }
    }

    /// Takes in a pass's bound and prices; returns the least bound that would change anything.
    pub(super) fn set(&mut self, lane: &Lane, aim: Aim<'_>) -> f64 {
        let next = lane.reach(aim.bound, &mut self.reach);
        let price = aim.prices[lane.memory];
        let timed = f64::from(u8::from(aim.costing == Costing::InTurn));
        for end in 0..self.reach.len() {
            // Far below 2^53, or near enough.
            let held = lane.held[end] as f64 * price;
            self.at_once[end] = timed * lane.at_once[end] + held;
            self.paced[end] = timed * lane.paced[end] + held;
            let scratch = end.checked_sub(1).map_or(0, |last| lane.scratch[last]);
            self.scratch[end] = scratch as f64 * price;
        }
        self.credit = timed * lane.credit;
        let span = Span::new(0, self.reach.len() - 1);
        self.whole = match self.reach[0] == span.end {
            true => timed * lane.in_turn(span) + lane.bytes(span) as f64 * price,
            false => f64::INFINITY,
        };
        self.set_back();
        self.set_kink(lane, aim.costing);
        next
    }

    fn set_back(&mut self) {
        let mut start = 0;
        for (end, back) in self.back.iter_mut().enumerate() {
            while self.reach[start] < end {
                start += 1;
            }
            *back = start;
        }
    }

    fn set_kink(&mut self, lane: &Lane, costing: Costing) {
        let excess = |piece: usize| lane.paced[piece] - lane.at_once[piece];
        let mut end = 0;
        self.is_straight = true;
        for (start, kink) in self.kink.iter_mut().enumerate() {
            end = end.max(start);
            while end < self.reach[start]
                && (costing == Costing::Free || excess(end + 1) - excess(start) <= lane.credit)
            {
                end += 1;
            }
            self.is_straight &= end >= self.reach[start];
            *kink = end;
        }
    }

    /// The least costs of runs that this device begins, by first piece; returns between
    /// which pieces it wrote any.
    pub(super) fn begin(
        &self,
        ahead: &Ahead<'_>,
        scratch: &mut Scratch,
        begun: &mut [f64],
    ) -> Range<usize> {
        let Some(ends) = ahead.ends() else {
            return 0..0;
        };
        let from = self.back[ends.start];
        let to = (ahead.to + 1).min(ends.end - 1);
        let values = &mut scratch.values[..];
        ahead.copy_to(&ends, values);
        for (value, scratch) in values[ends.clone()]
            .iter_mut()
            .zip(&self.scratch[ends.clone()])
        {
            *value += scratch;
        }
        let mut queues = scratch
            .windows
            .each_mut()
            .map(|window| Queue::new(window, ends.end));
        for start in (from..to).rev() {
            let after = start.max(ends.start - 1);
            queues[0].take(after, |end| values[end] + self.at_once[end]);
            let mut least = queues[0].window.least_up_to(self.kink[start]) - self.at_once[start];
            if !self.is_straight {
                let after = self.kink[start].max(ends.start - 1);
                queues[1].take(after, |end| values[end] + self.paced[end]);
                let paced = queues[1].window.least_up_to(self.reach[start]);
                least = least.min(paced - self.paced[start] - self.credit);
            }
            begun[start] = least;
        }
        if from == 0 && to > 0 && ahead.may_end {
            begun[0] = begun[0].min(self.whole);
        }
        from..to
    }

    /// The same where all costs are zero, or infinite.
    pub(super) fn begin_plain(&self, ahead: &Ahead<'_>, begun: &mut [f64]) -> Range<usize> {
        let Some(ends) = ahead.ends() else {
            return 0..0;
        };
        let from = self.back[ends.start];
        let to = (ahead.to + 1).min(ends.end - 1);
        let is_there = |end: usize| ahead.may_end || ahead.costs[end] == 0.0;
        let (mut nearest, mut end) = (usize::MAX, ends.end);
        for start in (from..to).rev() {
            while end > (start + 1).max(ends.start) {
                end -= 1;
                nearest = if is_there(end) { end } else { nearest };
            }
            let reaches = nearest <= self.reach[start];
            begun[start] = if reaches { 0.0 } else { f64::INFINITY };
        }
        from..to
    }
}

impl Ahead<'_> {
    /// Between which ends a stage may end, if at all.
    fn ends(&self) -> Option<Range<usize>> {
        let pieces = self.costs.len() - 1;
        match self.may_end {
            true => Some(pieces..pieces + 1),
            false => Some(self.live.clone()).filter(|live| !live.is_empty()),
        }
    }

    /// Writes what follows each of these ends.
    fn copy_to(&self, ends: &Range<usize>, values: &mut [f64]) {
        match self.may_end {
            true => values[ends.start] = 0.0,
            false => values[ends.clone()].copy_from_slice(&self.costs[ends.clone()]),
        }
    }
}

/// What one row is worked out in.
pub(super) struct Scratch {
    pub(super) values: Vec<f64>,
    pub(super) windows: [Window; 2],
}

/// A window, and the ends that are in it.
struct Queue<'a> {
    window: &'a mut Window,
    /// The earliest end that it has taken.
    taken: usize,
}

impl<'a> Queue<'a> {
    fn new(window: &'a mut Window, end: usize) -> Self {
        window.clear();
        Self { window, taken: end }
    }

    /// Takes all ends after `after`.
    fn take(&mut self, after: usize, value: impl Fn(usize) -> f64) {
        while self.taken > after + 1 {
            self.taken -= 1;
            self.window.push(self.taken, value(self.taken));
        }
    }
}
