use gogrid_units::Span;

use super::PlacedSpan;
use super::remaining::devices as members;
use super::table::Table;

/// How far back from the end sets of devices reach under one period, each stage as long as it may
/// be. Quick, and exact but where a link is only gained by a stage that could be longer: what it
/// finds is a plan, and what it does not find may be there.
pub(super) struct Reaches<'a> {
    table: &'a Table,
    forward: Vec<Vec<usize>>,
    /// For each device and end, where its longest span begins.
    backward: Vec<Vec<usize>>,
    /// For each set of devices and the first of them, where their longest run to the model's end
    /// begins, and the device after the first, if any.
    first: Vec<(usize, Option<usize>)>,
}

impl<'a> Reaches<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        let rows = vec![vec![0; table.pieces + 1]; table.lanes.len()];
        Self {
            table,
            forward: rows.clone(),
            backward: rows,
            first: vec![(table.pieces, None); table.lanes.len() << table.lanes.len()],
        }
    }

    /// The shortest period that is found above `low`, and stages that take it.
    pub(super) fn search(&mut self, mut low: f64) -> Option<(f64, Vec<PlacedSpan>)> {
        let mut best = self.try_period(f64::INFINITY).ok()?;
        while low < best.0 {
            let middle = low + (best.0 - low) / 2.0;
            match self.try_period(if middle < best.0 { middle } else { low }) {
                Ok(found) => best = found,
                Err(next) => low = next,
            }
        }
        Some(best)
    }

    /// The period and the stages of a plan that takes at most `period`; or the least period above it
    /// under which something reaches further.
    fn try_period(&mut self, period: f64) -> Result<(f64, Vec<PlacedSpan>), f64> {
        let next = self.set_period(period);
        let devices = self.table.lanes.len();
        for set in 1..1 << devices {
            for device in members(set) {
                self.first[set * devices + device] = self.reach_back(set, device, period);
            }
        }
        let begins = self.first.iter().position(|first| first.0 == 0);
        match begins {
            Some(row) => {
                let stages = self.stages(row / devices, row % devices);
                Ok((self.table.period(&stages), stages))
            }
            None => Err(next),
        }
    }

    fn set_period(&mut self, period: f64) -> f64 {
        let crossings = self.table.links.iter().flatten().copied();
        let longer = crossings.filter(|&crossing| crossing > period);
        let mut next = longer.fold(f64::INFINITY, f64::min);
        for (device, lane) in self.table.lanes.iter().enumerate() {
            next = next.min(lane.reach(period, &mut self.forward[device]));
            let mut start = 0;
            for (end, slot) in self.backward[device].iter_mut().enumerate() {
                while self.forward[device][start] < end {
                    start += 1;
                }
                *slot = start;
            }
        }
        next
    }

    fn reach_back(&self, set: usize, device: usize, period: f64) -> (usize, Option<usize>) {
        let pieces = self.table.pieces;
        let rest = set & !(1 << device);
        let mut best = (self.backward[device][pieces], None);
        for after in members(rest) {
            let end = self.first[rest * self.table.lanes.len() + after].0;
            let start = self.backward[device][end];
            let crosses = self.table.links[device][after] <= period;
            if crosses && start < end && start < best.0 {
                best = (start, Some(after));
            }
        }
        best
    }

    fn stages(&self, mut set: usize, mut device: usize) -> Vec<PlacedSpan> {
        let mut stages = Vec::new();
        loop {
            let devices = self.table.lanes.len();
            let (start, after) = self.first[set * devices + device];
            set &= !(1 << device);
            let end = after.map_or(self.table.pieces, |next| self.first[set * devices + next].0);
            let span = Span::new(start, end);
            stages.push(PlacedSpan { device, span });
            match after {
                Some(next) => device = next,
                None => return stages,
            }
        }
    }
}
