use super::table::{Lane, Table, in_turn};

/// What the best plan may be like, from a model that can be cut anywhere. Nothing relies on it but
/// the time that a search takes.
pub(super) struct Guess {
    pub(super) latency: f64,
    /// The devices that have a part, and the next best.
    pub(super) devices: Vec<usize>,
    /// For each memory, what a byte more of it would save.
    pub(super) prices: Vec<f64>,
    /// The memories where that is something.
    pub(super) pinched: Vec<usize>,
}

/// Halvings of the range that the latency is in.
const HALVINGS: usize = 24;

pub(super) fn guess(table: &Table, shared: &[usize]) -> Guess {
    let longest = table.lanes.iter().map(|lane| lane.paced[table.pieces]);
    let longest = longest.fold(0.0, f64::max) + table.crossing_max() * table.lanes.len() as f64;
    let (mut low, mut high) = (0.0, longest);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        match Filling::new(table, shared, middle).latency <= middle {
            true => high = middle,
            false => low = middle,
        }
    }
    Filling::new(table, shared, high).guess(high)
}

/// The model poured into devices, the cheapest first.
struct Filling<'a> {
    table: &'a Table,
    /// Devices by what a whole model would cost at the rate of the part that each can have.
    order: Vec<usize>,
    /// The part of the model that each device has.
    parts: Vec<f64>,
    /// The devices that have less than they could, for want of memory.
    pinched: Vec<usize>,
    latency: f64,
}

impl<'a> Filling<'a> {
    fn new(table: &'a Table, shared: &[usize], bound: f64) -> Self {
        let most = |lane: &Lane| {
            let paced = lane.paced[table.pieces];
            let fits = if paced > 0.0 {
                lane.longest_paced() / paced
            } else {
                1.0
            };
            fits.min(bound / paced.max(f64::MIN_POSITIVE))
        };
        let most: Vec<_> = table.lanes.iter().map(most).collect();
        let cost = |device: usize| {
            let part = most[device];
            (seconds(&table.lanes[device], part) + table.crossing_min()) / part
        };
        let mut order: Vec<_> = (0..most.len()).filter(|&d| most[d] > 0.0).collect();
        order.sort_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        let mut filling = Self {
            table,
            order,
            parts: vec![0.0; most.len()],
            pinched: Vec::new(),
            latency: 0.0,
        };
        filling.pour(shared, &most);
        filling
    }

    fn pour(&mut self, shared: &[usize], most: &[f64]) {
        let mut rooms: Vec<_> = self.table.rooms.iter().map(|&room| room as f64).collect();
        let mut left = 1.0;
        for &device in &self.order {
            let lane = &self.table.lanes[device];
            let held = lane.held[self.table.pieces] as f64;
            let counts = shared.contains(&lane.memory);
            let fits = if counts {
                rooms[lane.memory] / held
            } else {
                1.0
            };
            if fits < most[device].min(left) {
                self.pinched.push(device);
            }
            let part = most[device].min(left).min(fits);
            rooms[lane.memory] -= part * held;
            self.parts[device] = part;
            left -= part;
            if part > 0.0 {
                self.latency += seconds(lane, part) + self.table.crossing_min();
            }
        }
        self.latency -= self.table.crossing_min();
        if left > 1e-9 {
            self.latency = f64::INFINITY;
        }
    }

    fn guess(&self, latency: f64) -> Guess {
        let has_part = |&&device: &&usize| self.parts[device] > 0.0;
        let last = self.order.iter().rfind(has_part);
        let dearest = last.map_or(0.0, |&device| self.rate(device));
        let mut prices = vec![0.0; self.table.rooms.len()];
        for &device in &self.pinched {
            let lane = &self.table.lanes[device];
            let saved = (dearest - self.rate(device)) / lane.held[self.table.pieces] as f64;
            let price: &mut f64 = &mut prices[lane.memory];
            *price = price.max(saved);
        }
        let devices = self.order.iter().copied();
        let next = self.order.iter().filter(|d| !has_part(d)).take(1).copied();
        let mut devices: Vec<_> = devices.filter(|d| has_part(&d)).chain(next).collect();
        devices.sort_unstable();
        Guess {
            latency,
            devices,
            pinched: (0..prices.len()).filter(|&m| prices[m] > 0.0).collect(),
            prices,
        }
    }

    /// Seconds that the whole model would take at the rate of a little more of it.
    fn rate(&self, device: usize) -> f64 {
        let (lane, part) = (&self.table.lanes[device], self.parts[device]);
        let (at_once, paced) = (
            lane.at_once[self.table.pieces],
            lane.paced[self.table.pieces],
        );
        match paced * part - lane.credit > at_once * part {
            true => paced,
            false => at_once,
        }
    }
}

fn seconds(lane: &Lane, part: f64) -> f64 {
    let pieces = lane.scratch.len();
    in_turn(
        lane.at_once[pieces] * part,
        lane.paced[pieces] * part,
        lane.credit,
    )
}

/// For each memory, the price of a byte with which it shows best that no plan of this period fits:
/// the same for each that is too small for what its devices could run meanwhile.
pub(super) fn covering_prices(table: &Table, shared: &[usize], period: f64) -> Vec<f64> {
    let price = |memory: usize| {
        let could = could_hold(table, memory, period);
        let binds = shared.contains(&memory) && could > table.rooms[memory] as f64;
        f64::from(u8::from(binds))
    };
    (0..table.rooms.len()).map(price).collect()
}

/// Bytes that a memory's devices could run in a period, if it had room for them.
fn could_hold(table: &Table, memory: usize, period: f64) -> f64 {
    let lanes = table.lanes.iter().filter(|lane| lane.memory == memory);
    let most = lanes.map(|lane| {
        let paced = lane.paced[table.pieces].max(f64::MIN_POSITIVE);
        let part = (period / paced).min(lane.longest_paced() / paced);
        part * lane.held[table.pieces] as f64
    });
    most.sum()
}
