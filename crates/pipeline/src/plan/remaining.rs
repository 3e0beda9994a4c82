use std::ops::Range;

use super::floor::Floor;
use super::priced::{Ahead, Priced, Scratch};
use super::table::Table;
use super::window::Window;

/// What a pass of the dynamic programme looks for.
#[derive(Clone, Copy)]
pub(super) struct Aim<'a> {
    pub(super) costing: Costing,
    /// No device's paced seconds are more than this; without timing, no crossing's either.
    pub(super) bound: f64,
    /// No plan that costs more, with prices, is of interest.
    pub(super) limit: f64,
    /// For each memory, what a byte held there costs.
    pub(super) prices: &'a [f64],
}

/// What a plan costs, beside the price of its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Costing {
    /// The wall seconds of each stage in turn, and the crossings.
    InTurn,
    /// Nothing.
    Free,
}

/// The least costs from each piece on to the model's end, for each set of devices of which some may
/// follow, and each device that comes before: a dynamic programme over sets.
///
/// Only costs that some plan within the limit can have are kept, the others are infinite. Without
/// prices they are exact. With prices they are at most a part in 10^9 too high, and too low only
/// where the largest scratch of a span is not its last.
pub(super) struct Remaining<'a> {
    table: &'a Table,
    lanes: Vec<Priced>,
    /// The least costs of runs on some of a set, by the device before and the set: see `row`.
    within: Vec<f64>,
    /// For each row of these, between which pieces costs are finite.
    within_live: Vec<Range<usize>>,
    /// The same of runs on all of a set, where no fewer of its devices do as well.
    costs: Vec<f64>,
    live: Vec<Range<usize>>,
    /// For each set, the least cost of the whole model.
    pub(super) whole: Vec<f64>,
    /// For each set, where the longest run from the first piece ends.
    last: Vec<usize>,
    /// The rows of one set by its first device, and their live ranges.
    begun: Vec<Vec<f64>>,
    begun_live: Vec<Range<usize>>,
    floor: Floor,
    scratch: Scratch,
    /// Whether nothing costs anything.
    is_plain: bool,
    links: Vec<Vec<f64>>,
}

impl<'a> Remaining<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        let devices = table.lanes.len();
        let rows = devices << (devices - 1);
        let cells = table.pieces + 1;
        Self {
            table,
            lanes: table.lanes.iter().map(|_| Priced::new(cells)).collect(),
            within: vec![0.0; rows * cells],
            within_live: vec![0..0; rows],
            costs: vec![0.0; rows * cells],
            live: vec![0..0; rows],
            whole: vec![f64::INFINITY; 1 << devices],
            last: vec![0; 1 << devices],
            begun: vec![vec![f64::INFINITY; cells]; devices],
            begun_live: vec![0..0; devices],
            floor: Floor::new(devices, cells),
            scratch: Scratch {
                values: vec![0.0; cells],
                windows: [Window::new(cells), Window::new(cells)],
            },
            is_plain: false,
            links: table.links.clone(),
        }
    }

    /// Fills in all costs. Returns the least bound above the aim's that allows more.
    pub(super) fn fill(&mut self, aim: Aim<'_>) -> f64 {
        let mut next = self.set_links(aim);
        for (priced, lane) in self.lanes.iter_mut().zip(&self.table.lanes) {
            next = next.min(priced.set(lane, aim));
        }
        self.set_last();
        self.is_plain = aim.is_plain();
        match self.is_plain {
            true => self.floor.row.fill(0.0),
            false => self.set_floor(aim),
        }
        let limit = aim.limit_with_prices(self.table);
        let all = self.whole.len() - 1;
        for set in 1..=all {
            let to = match set == all {
                true => 0,
                false => self.last[all & !set].min(self.table.pieces - 1),
            };
            if !self.is_plain {
                self.floor.fill(all & !set, to);
            }
            for device in devices(set) {
                self.begin(set, device, to);
                self.prune(device, limit);
            }
            self.follow(set, to);
        }
        next
    }

    /// The least cost of the whole model on any devices, with prices; infinite above the limit.
    pub(super) fn least(&self) -> f64 {
        self.whole.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The least cost, with prices, of the pieces from `piece` on, on devices of `set`, all of them
    /// or some, when `before` has the piece before.
    pub(super) fn ahead(&self, set: usize, before: usize, piece: usize) -> f64 {
        let row = self.row(set, before);
        match self.within_live[row].contains(&piece) {
            true => self.within[row * (self.table.pieces + 1) + piece],
            false => f64::INFINITY,
        }
    }

    /// Between which pieces [`ahead`](Self::ahead) is finite.
    pub(super) fn live(&self, set: usize, before: usize) -> Range<usize> {
        self.within_live[self.row(set, before)].clone()
    }

    pub(super) fn reach(&self, device: usize, piece: usize) -> usize {
        self.lanes[device].reach[piece]
    }

    /// What it costs to cross from each device to each; infinite where no plan may.
    pub(super) fn links(&self) -> &[Vec<f64>] {
        &self.links
    }

    pub(super) fn link(&self, from: usize, to: usize) -> f64 {
        self.links[from][to]
    }

    fn set_links(&mut self, aim: Aim<'_>) -> f64 {
        let mut next = f64::INFINITY;
        let crossings = self.table.links.iter().flatten();
        for (link, &crossing) in self.links.iter_mut().flatten().zip(crossings) {
            *link = match aim.costing {
                Costing::InTurn => crossing,
                Costing::Free if crossing <= aim.bound => 0.0,
                Costing::Free => {
                    next = next.min(crossing);
                    f64::INFINITY
                }
            };
        }
        next
    }

    fn set_last(&mut self) {
        for set in 1..self.last.len() {
            let ends = devices(set).map(|d| self.lanes[d].reach[self.last[set & !(1 << d)]]);
            self.last[set] = ends.max().expect("the set is not empty");
        }
    }

    fn set_floor(&mut self, aim: Aim<'_>) {
        let lanes: Vec<_> = self
            .lanes
            .iter()
            .map(|lane| (&lane.at_once[..], &lane.paced[..], &lane.reach[..]))
            .collect();
        self.floor.set(&lanes);
        for (device, lane) in self.lanes.iter().enumerate() {
            self.floor.credit[device] = lane.credit;
        }
        let crossings = self.links.iter().enumerate().flat_map(|(from, row)| {
            let others = row.iter().enumerate().filter(move |(to, _)| *to != from);
            others.map(|(_, &link)| link)
        });
        self.floor.crossing = match aim.costing {
            Costing::InTurn if self.links.len() > 1 => crossings.fold(f64::INFINITY, f64::min),
            _ => 0.0,
        };
    }

    /// Fills the row of runs over `set` that `device` begins, from pieces up to `to`.
    fn begin(&mut self, set: usize, device: usize, to: usize) {
        let rest = set & !(1 << device);
        let row = self.row(rest, device);
        let cells = self.table.pieces + 1;
        // No stage ends where the model begins.
        let live = self.live[row].start.max(1)..self.live[row].end;
        let ahead = Ahead {
            costs: &self.costs[row * cells..(row + 1) * cells],
            live,
            may_end: rest == 0,
            to,
        };
        let lane = &self.lanes[device];
        let begun = &mut self.begun[device];
        self.begun_live[device] = match self.is_plain {
            true => lane.begin_plain(&ahead, begun),
            false => lane.begin(&ahead, &mut self.scratch, begun),
        };
    }

    /// Drops the begun costs that no plan within the limit has.
    fn prune(&mut self, device: usize, limit: f64) {
        let (row, floor) = (&mut self.begun[device], &self.floor.row);
        let (mut from, mut to) = (usize::MAX, 0);
        for piece in self.begun_live[device].clone() {
            if row[piece] + floor[piece] > limit {
                row[piece] = f64::INFINITY;
            } else {
                (from, to) = (from.min(piece), piece + 1);
            }
        }
        self.begun_live[device] = if from < to { from..to } else { 0..0 };
    }

    /// Fills the rows of `set` for each device that may come before, for pieces up to `to`.
    fn follow(&mut self, set: usize, to: usize) {
        let parts = devices(set).map(|device| set & !(1 << device));
        let parts = parts.map(|part| self.whole[part]);
        let firsts = devices(set).filter(|&device| self.begun_live[device].contains(&0));
        let whole = firsts.map(|device| self.begun[device][0]);
        self.whole[set] = parts.chain(whole).fold(f64::INFINITY, f64::min);
        let all = self.whole.len() - 1;
        for before in devices(all & !set) {
            let live = self.include_parts(set, before, to);
            self.include_begun(set, before, live);
        }
    }

    /// Takes the costs of a set's parts into those within it. Returns between which pieces.
    fn include_parts(&mut self, set: usize, before: usize, to: usize) -> Range<usize> {
        let cells = self.table.pieces + 1;
        let row = self.row(set, before);
        let mut live = 0..0;
        // A part's row is before its set's.
        let (parts, within) = self.within.split_at_mut(row * cells);
        for device in devices(set).filter(|device| set != 1 << device) {
            let below = (1 << before) - 1;
            let part = set & !(1 << device);
            let part = before * (self.whole.len() / 2) + ((part & below) | (part >> 1 & !below));
            let its = self.within_live[part].start..self.within_live[part].end.min(to + 1);
            if its.is_empty() {
                continue;
            }
            live = widen(within, live, &its);
            let others = &parts[part * cells..][its.clone()];
            for (cost, &other) in within[its].iter_mut().zip(others) {
                *cost = if other < *cost { other } else { *cost };
            }
        }
        live
    }

    /// Takes in the begun costs, and drops them where the set's parts, whose costs are `live`, do as
    /// well.
    fn include_begun(&mut self, set: usize, before: usize, live: Range<usize>) {
        let cells = self.table.pieces + 1;
        let row = self.row(set, before);
        let costs = &mut self.costs[row * cells..(row + 1) * cells];
        let mut own = 0..0;
        for device in devices(set) {
            let its = self.begun_live[device].clone();
            if its.is_empty() {
                continue;
            }
            own = widen(costs, own, &its);
            let link = self.links[before][device];
            let others = &self.begun[device][its.clone()];
            for (cost, &other) in costs[its].iter_mut().zip(others) {
                let other = other + link;
                *cost = if other < *cost { other } else { *cost };
            }
        }
        let within = &mut self.within[row * cells..(row + 1) * cells];
        let (mut from, mut end) = (usize::MAX, 0);
        self.within_live[row] = match own.is_empty() {
            true => live,
            false => widen(within, live, &own),
        };
        for piece in own {
            if costs[piece] < within[piece] {
                within[piece] = costs[piece];
                (from, end) = (from.min(piece), piece + 1);
            } else {
                costs[piece] = f64::INFINITY;
            }
        }
        self.live[row] = if from < end { from..end } else { 0..0 };
    }

    /// The row of a device that comes before, and of a set that it is not in.
    fn row(&self, set: usize, before: usize) -> usize {
        let below = (1 << before) - 1;
        let squeezed = (set & below) | (set >> 1 & !below);
        before * (self.whole.len() / 2) + squeezed
    }
}

impl Aim<'_> {
    /// Whether nothing costs anything.
    fn is_plain(&self) -> bool {
        self.costing == Costing::Free && self.prices.iter().all(|&price| price == 0.0)
    }

    /// The limit on a plan's cost and the price of all it holds; a little above, so that no
    /// rounding of prices makes it too low.
    pub(super) fn limit_with_prices(&self, table: &Table) -> f64 {
        let rooms = self.prices.iter().zip(&table.rooms);
        let paid: f64 = rooms.map(|(price, &room)| price * room as f64).sum();
        match paid > 0.0 {
            true => (self.limit + paid) * (1.0 + 1e-9),
            false => self.limit,
        }
    }
}

/// The least range that holds two others, the second not empty; what is new in it is made infinite.
fn widen(row: &mut [f64], live: Range<usize>, more: &Range<usize>) -> Range<usize> {
    if live.is_empty() {
        row[more.clone()].fill(f64::INFINITY);
        return more.clone();
    }
    if more.start < live.start {
        row[more.start..live.start].fill(f64::INFINITY);
    }
    if more.end > live.end {
        row[live.end..more.end].fill(f64::INFINITY);
    }
    live.start.min(more.start)..live.end.max(more.end)
}

/// The devices of a set, in order.
pub(super) fn devices(set: usize) -> impl Iterator<Item = usize> {
    let sets = std::iter::successors(Some(set), |&set| Some(set & set.wrapping_sub(1)));
    sets.take_while(|&set| set != 0)
        .map(|set| set.trailing_zeros() as usize)
}
