use super::remaining::devices;

/// A part in 10^9 less, so that no rounding makes a floor too high.
const SLACK: f64 = 1.0 - 1e-9;

/// What the pieces before each cost at least, whatever the order and cuts of the devices that run
/// them: each piece as much as on its cheapest device, times how much dearer than that a device
/// always is, the least dear devices taking as much as any one span of theirs can hold.
pub(super) struct Floor {
    lines: [Line; 2],
    /// The least that a crossing costs.
    pub(super) crossing: f64,
    /// For each device, what credit may save.
    pub(super) credit: Vec<f64>,
    /// The least costs of the pieces before each, with the crossing to the next, of the set that
    /// was filled in last.
    pub(super) row: Vec<f64>,
}

/// The floor where each device costs so much for each piece.
struct Line {
    /// The cheapest devices' cost of all pieces before each index.
    cheapest: Vec<f64>,
    /// How many times the cheapest's cost each device's is, at least.
    dearness: Vec<f64>,
    /// The devices by dearness, the least first.
    by_dearness: Vec<usize>,
    /// The devices by room, the largest first.
    by_room: Vec<usize>,
    /// For each device, the most of the cheapest devices' cost that one span of it can hold.
    room: Vec<f64>,
}

impl Floor {
    pub(super) fn new(devices: usize, cells: usize) -> Self {
        let line = || Line {
            cheapest: vec![0.0; cells],
            dearness: vec![0.0; devices],
            by_dearness: (0..devices).collect(),
            by_room: (0..devices).collect(),
            room: vec![0.0; devices],
        };
        Self {
            lines: [line(), line()],
            crossing: 0.0,
            credit: vec![0.0; devices],
            row: vec![0.0; cells],
        }
    }

    /// Takes in each device's costs with credit and without, and its reach.
    pub(super) fn set(&mut self, lanes: &[(&[f64], &[f64], &[usize])]) {
        let with: Vec<_> = lanes.iter().map(|lane| (lane.0, lane.2)).collect();
        let without: Vec<_> = lanes.iter().map(|lane| (lane.1, lane.2)).collect();
        self.lines[0].set(&with);
        self.lines[1].set(&without);
    }

    /// Fills in the row of a set, for pieces up to `to`.
    pub(super) fn fill(&mut self, set: usize, to: usize) {
        self.row[..=to].fill(0.0);
        let credit: f64 = devices(set).map(|device| self.credit[device]).sum();
        self.lines[0].raise(set, 0.0, &mut self.row[..=to]);
        self.lines[1].raise(set, credit, &mut self.row[..=to]);
        self.lines[0].cross(set, self.crossing, &mut self.row[..=to]);
    }
}

impl Line {
    fn set(&mut self, lanes: &[(&[f64], &[usize])]) {
        self.dearness.fill(f64::INFINITY);
        for piece in 0..self.cheapest.len() - 1 {
            let cost = |lane: &(&[f64], _)| lane.0[piece + 1] - lane.0[piece];
            let least = lanes.iter().map(cost).fold(f64::INFINITY, f64::min);
            self.cheapest[piece + 1] = self.cheapest[piece] + least;
            if least > 0.0 {
                for (dearness, lane) in self.dearness.iter_mut().zip(lanes) {
                    *dearness = dearness.min(cost(lane) / least);
                }
            }
        }
        for (room, lane) in self.room.iter_mut().zip(lanes) {
            let spans = lane.1.iter().enumerate();
            let held = spans.map(|(start, &end)| self.cheapest[end] - self.cheapest[start]);
            *room = held.fold(0.0, f64::max);
        }
        let (dearness, room) = (&self.dearness, &self.room);
        self.by_dearness
            .sort_by(|&a, &b| dearness[a].total_cmp(&dearness[b]));
        self.by_room.sort_by(|&a, &b| room[b].total_cmp(&room[a]));
    }

    /// Raises a row to what the set's devices cost at least, less `credit`.
    fn raise(&self, set: usize, credit: f64, row: &mut [f64]) {
        let mut order = self.by_dearness.iter().filter(|&&d| set >> d & 1 == 1);
        let (mut sum, mut taken) = (0.0, 0.0);
        let mut device = order.next();
        for (floor, &cheapest) in row.iter_mut().zip(&self.cheapest) {
            while let Some(&full) = device {
                if cheapest - taken <= self.room[full] {
                    break;
                }
                taken += self.room[full];
                if self.room[full] > 0.0 {
                    sum += self.room[full] * self.dearness[full];
                }
                device = order.next();
            }
            let left = cheapest - taken;
            let partly = device.filter(|_| left > 0.0);
            let cost = sum + partly.map_or(0.0, |&partly| left * self.dearness[partly]);
            *floor = floor.max(cost * SLACK - credit);
        }
    }

    /// Adds a crossing for each device that the pieces take at least.
    fn cross(&self, set: usize, crossing: f64, row: &mut [f64]) {
        let mut order = self.by_room.iter().filter(|&&d| set >> d & 1 == 1);
        let (mut crossings, mut held) = (0.0, 0.0);
        for (floor, &cheapest) in row.iter_mut().zip(&self.cheapest) {
            // A part in 10^9 left over is no reason to count one more.
            while cheapest * SLACK > held {
                let Some(&device) = order.next() else { break };
                crossings += crossing;
                held += self.room[device];
            }
            *floor += crossings * SLACK;
        }
    }
}
