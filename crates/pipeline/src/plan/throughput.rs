use gogrid_units::Span;

use super::PlacedSpan;
use super::table::Table;

/// The stages of the shortest period, or `None` when the model does not fit.
///
/// Whether a period is possible is a question of how far back from the end each set of devices
/// reaches under it. The answer changes only at periods that some span takes, so the search jumps
/// from one to another and ends at the least exactly.
pub(super) fn search(table: &Table) -> Option<Vec<PlacedSpan>> {
    let mut reaches = Reaches::new(table);
    let mut high = reaches.try_period(f64::INFINITY).ok()?;
    let mut low = 0.0;
    while low < high {
        let middle = low + (high - low) / 2.0;
        match reaches.try_period(if middle < high { middle } else { low }) {
            Ok(period) => high = period,
            Err(next) => low = next,
        }
    }
    reaches.try_period(high).ok()?;
    Some(reaches.select())
}

/// What sets of devices reach under one period.
pub(super) struct Reaches<'a> {
    table: &'a Table,
    period: f64,
    /// For each device and first piece, where its longest span ends.
    pub(super) forward: Vec<Vec<usize>>,
    /// For each device and end, where its longest span begins.
    pub(super) backward: Vec<Vec<usize>>,
    /// For each set of devices, the first piece of the longest run to the model's end, and the
    /// device that begins it.
    pub(super) first: Vec<(usize, usize)>,
    /// For each set of devices, where the longest run from the model's first piece ends.
    pub(super) last: Vec<usize>,
}

impl<'a> Reaches<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        let rows = vec![vec![0; table.pieces + 1]; table.lanes.len()];
        let sets = 1 << table.lanes.len();
        let (first, last) = (vec![(table.pieces, 0); sets], vec![0; sets]);
        Self {
            table,
            period: 0.0,
            forward: rows.clone(),
            backward: rows,
            first,
            last,
        }
    }

    /// The period of a plan that takes at most `period`; or, if there is none, the least period
    /// above it that some plan might take.
    fn try_period(&mut self, period: f64) -> Result<f64, f64> {
        let next = self.set_period(period);
        if self.crossing_allowed() {
            if self.first[self.first.len() - 1].0 == 0 {
                return Ok(self.found());
            }
            return Err(next);
        }
        let alone = (0..self.table.lanes.len()).filter(|device| self.first[1 << device].0 == 0);
        let whole = Span::new(0, self.table.pieces);
        let best = alone
            .map(|device| self.table.lanes[device].paced(whole))
            .reduce(f64::min);
        best.ok_or(next.min(self.table.crossing))
    }

    /// Fills in what is reached under `period`, and returns the least period above it under which
    /// some device reaches further.
    pub(super) fn set_period(&mut self, period: f64) -> f64 {
        self.period = period;
        let mut next = f64::INFINITY;
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
        for set in 1..self.first.len() {
            self.first[set] = devices(set)
                .map(|device| {
                    (
                        self.backward[device][self.first[set & !(1 << device)].0],
                        device,
                    )
                })
                .min()
                .expect("the set is not empty");
        }
        next
    }

    /// Fills in `last` under the present period.
    pub(super) fn set_last(&mut self) {
        for set in 1..self.last.len() {
            let ends = devices(set).map(|d| self.forward[d][self.last[set & !(1 << d)]]);
            self.last[set] = ends.max().expect("the set is not empty");
        }
    }

    fn crossing_allowed(&self) -> bool {
        self.period >= self.table.crossing
    }

    /// The period of the run to the model's end that all devices together make.
    fn found(&self) -> f64 {
        let mut period: f64 = 0.0;
        let mut set = self.first.len() - 1;
        let mut stages = 0;
        while set != 0 {
            let (start, device) = self.first[set];
            set &= !(1 << device);
            let end = self.first[set].0;
            period = period.max(self.table.lanes[device].paced(Span::new(start, end)));
            stages += usize::from(end > start);
        }
        if stages > 1 {
            period.max(self.table.crossing)
        } else {
            period
        }
    }

    /// Of the plans that take at most the present period, the one with the fewest devices, and of
    /// those the one whose devices come first.
    fn select(&self) -> Vec<PlacedSpan> {
        let sets = (1..self.first.len()).filter(|&set| self.first[set].0 == 0);
        let count = sets.map(usize::count_ones).min().expect("a plan was found");
        let (mut start, mut free) = (0, self.first.len() - 1);
        let mut stages = Vec::new();
        for left in (0..count).rev() {
            let device = devices(free)
                .find(|&device| {
                    let end = self.forward[device][start];
                    let others = free & !(1 << device);
                    subsets(others).any(|s| s.count_ones() == left && self.first[s].0 <= end)
                })
                .expect("some device goes on");
            let span = Span::new(start, self.forward[device][start]);
            stages.push(PlacedSpan { device, span });
            start = span.end;
            free &= !(1 << device);
        }
        stages
    }
}

/// The devices of a set, in order.
pub(super) fn devices(set: usize) -> impl Iterator<Item = usize> {
    let sets = std::iter::successors(Some(set), |&set| Some(set & set.wrapping_sub(1)));
    sets.take_while(|&set| set != 0)
        .map(|set| set.trailing_zeros() as usize)
}

/// The subsets of a set, the set itself first and the empty one last.
pub(super) fn subsets(set: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(set), move |&sub| (sub != 0).then(|| (sub - 1) & set))
}
