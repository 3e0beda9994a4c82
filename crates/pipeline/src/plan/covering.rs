use super::table::Table;

/// How near the least period is found.
const NEAR: f64 = 1e-4;

/// A period that no plan is below: each device has one span, of as many bytes as one of its spans
/// within the period holds, and the counted memories have no more than their room. Infinite when the
/// model does not fit.
pub(super) fn least_period(table: &Table, shared: &[usize]) -> f64 {
    let mut covering = Covering::new(table, shared);
    let longest = table.lanes.iter().map(|lane| lane.paced[table.pieces]);
    let mut high = longest.fold(0.0, f64::max);
    if let Err(next) = covering.covers(high) {
        return next;
    }
    let mut low = 0.0;
    while high - low > NEAR * high {
        let middle = low + (high - low) / 2.0;
        match covering.covers(middle) {
            Ok(()) => high = middle,
            Err(next) => low = next.min(high),
        }
    }
    low
}

struct Covering<'a> {
    table: &'a Table,
    shared: &'a [usize],
    /// Bytes of all pieces, each on the device that packs it smallest.
    needed: u64,
    reach: Vec<usize>,
    /// For each memory, what is held there at most.
    held: Vec<u64>,
}

impl<'a> Covering<'a> {
    fn new(table: &'a Table, shared: &'a [usize]) -> Self {
        let smallest = (0..table.pieces).map(|piece| {
            let lanes = table.lanes.iter();
            let bytes = lanes.map(|lane| lane.held[piece + 1] - lane.held[piece]);
            bytes.min().unwrap_or(0)
        });
        Self {
            table,
            shared,
            needed: smallest.sum(),
            reach: vec![0; table.pieces + 1],
            held: vec![0; table.rooms.len()],
        }
    }

    /// Whether the memories can hold all pieces; or the least period above this one that changes
    /// anything.
    fn covers(&mut self, period: f64) -> Result<(), f64> {
        let mut next = f64::INFINITY;
        self.held.fill(0);
        for lane in &self.table.lanes {
            next = next.min(lane.reach(period, &mut self.reach));
            if self.reach[0] == self.table.pieces {
                return Ok(());
            }
            let spans = self.reach.iter().enumerate();
            let bytes = spans.map(|(start, &end)| lane.held[end] - lane.held[start]);
            self.held[lane.memory] += bytes.max().unwrap_or(0);
        }
        for &memory in self.shared {
            self.held[memory] = self.held[memory].min(self.table.rooms[memory]);
        }
        match self.held.iter().sum::<u64>() >= self.needed {
            true => Ok(()),
            false => Err(next),
        }
    }
}
