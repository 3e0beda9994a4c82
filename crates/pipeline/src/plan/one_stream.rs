use std::ops::{Range, RangeInclusive};

use gogrid_units::Span;

use super::PlacedSpan;
use super::table::Table;
use super::throughput::{Reaches, devices, subsets};

/// The stages of the shortest latency, or `None` when the model does not fit.
///
/// With a bound on every device's paced seconds, a dynamic programme over sets of devices and
/// first pieces gives the least sum of busy seconds and crossings. The sum falls as the bound
/// rises, so the least of `max(bound, sum)` is where they meet: the search closes in on it from
/// both sides, over bounds that some span takes.
pub(super) fn search(table: &Table) -> Option<Vec<PlacedSpan>> {
    let mut sums = Sums::new(table);
    let least = sums.least_sum()?;
    let (mut low, mut high) = (least, sums.latency());
    let mut turn = Try::Low;
    while low < high {
        let below = high.next_down();
        let (bound, following) = match turn {
            Try::Low => (low, Try::Below),
            Try::Below => (below, Try::Middle),
            Try::Middle => (low + (below - low) / 2.0, Try::Below),
        };
        turn = following;
        let (sum, next) = sums.fill(bound, below);
        if sum < high {
            high = sums.latency();
        }
        if sum > bound {
            // Nothing under this bound has a sum within it: it takes a higher bound, or this sum.
            low = next.min(sum).max(low.next_up());
        } else if bound == below {
            // No better plan has a lower sum.
            low = low.max(sum);
        }
    }
    sums.fill(high, high);
    Some(sums.select())
}

/// The bound that is tried next.
enum Try {
    /// The lowest: its sum is near the best, as the sum changes slowly.
    Low,
    /// Just below the best so far: it ends the search, or raises the low end.
    Below,
    /// Between the ends: so that the search is short whatever the costs are.
    Middle,
}

/// Least sums of runs from a piece to the model's end.
struct Sums<'a> {
    table: &'a Table,
    reaches: Reaches<'a>,
    limit: f64,
    /// For each set of devices, the least sum by first piece. Infinite where it is above the
    /// limit, where no plan has such a run, and where fewer of the devices do as well.
    least: Vec<f64>,
    /// The same, with the sums of the set's parts.
    within: Vec<f64>,
    /// For each set, the pieces between which its sums in `least` are finite; empty when none is.
    live: Vec<Range<usize>>,
    floor: Floor,
    window: Window,
}

impl<'a> Sums<'a> {
    fn new(table: &'a Table) -> Self {
        let cells = (table.pieces + 1) << table.lanes.len();
        Self {
            table,
            reaches: Reaches::new(table),
            limit: f64::INFINITY,
            least: vec![f64::INFINITY; cells],
            within: vec![f64::INFINITY; cells],
            live: vec![0..0; 1 << table.lanes.len()],
            floor: Floor::new(table),
            window: Window::new(table.pieces + 1),
        }
    }

    /// The least sum of all, or `None` when the model does not fit. Tries limits from a little
    /// above what no plan can be under: the closer the limit, the less is searched.
    fn least_sum(&mut self) -> Option<f64> {
        self.reaches.set_period(f64::INFINITY);
        if self.reaches.first[self.live.len() - 1].0 > 0 {
            return None;
        }
        self.floor.set_reach(&self.reaches.forward);
        let floor = self.floor.of(self.live.len() - 1, self.table.pieces);
        let limits = [1.02, 1.1, 1.5].map(|slack| floor * slack);
        let sums = limits.into_iter().chain([f64::INFINITY]);
        sums.map(|limit| self.fill(f64::INFINITY, limit).0)
            .find(|sum| sum.is_finite())
    }

    /// The least sum with every device's paced seconds at most `bound`, if it is at most `limit`,
    /// else infinity; and the least bound above this one that allows more.
    fn fill(&mut self, bound: f64, limit: f64) -> (f64, f64) {
        let next = self.reaches.set_period(bound);
        self.reaches.set_last();
        self.floor.set_reach(&self.reaches.forward);
        self.limit = limit;
        let end = self.cell(0, self.table.pieces);
        (self.least[end], self.within[end]) = (0.0, 0.0);
        self.live[0] = self.table.pieces..self.table.pieces + 1;
        for set in 1..self.live.len() {
            self.fill_set(set);
        }
        let all = self.live.len() - 1;
        let sum = if self.alive(all).contains(&0) {
            self.within[self.cell(all, 0)]
        } else {
            f64::INFINITY
        };
        (sum, next)
    }

    /// The first pieces that a run over `set` can have in some plan: it reaches the end, and the
    /// other devices reach it. Empty when there are none.
    fn alive(&self, set: usize) -> RangeInclusive<usize> {
        let others = (self.live.len() - 1) & !set;
        self.reaches.first[set].0..=self.reaches.last[others]
    }

    fn fill_set(&mut self, set: usize) {
        let alive = self.alive(set);
        self.live[set] = 0..0;
        if alive.is_empty() {
            return;
        }
        let (from, to) = (*alive.start(), *alive.end());
        let row = self.cell(set, 0);
        self.least[row + from..=row + to].fill(f64::INFINITY);
        self.within[row + from..=row + to].fill(f64::INFINITY);
        let mut begun = to + 1..from;
        for device in devices(set) {
            let part = set & !(1 << device);
            self.include(set, part, from.max(self.reaches.first[part].0)..to + 1);
            let own = self.begin_with(device, set, from..to + 1);
            begun = begun.start.min(own.start)..begun.end.max(own.end);
        }
        let others = (self.live.len() - 1) & !set;
        let mut live = 0..0;
        for piece in begun {
            let (least, within) = (&mut self.least[row + piece], &mut self.within[row + piece]);
            if *least < *within && *least + self.floor.of(others, piece) <= self.limit {
                *within = *least;
                live = if live.is_empty() { piece } else { live.start }..piece + 1;
            } else {
                *least = f64::INFINITY;
            }
        }
        self.live[set] = live;
    }

    /// Takes the sums of a part of `set` into those within it.
    fn include(&mut self, set: usize, part: usize, pieces: Range<usize>) {
        if pieces.is_empty() {
            return;
        }
        let (row, part_row) = (self.cell(set, 0), self.cell(part, 0));
        // A part's number is below its set's, so its row is before.
        let (parts, sets) = self.within.split_at_mut(row);
        let part = &parts[part_row + pieces.start..part_row + pieces.end];
        for (within, &other) in sets[pieces].iter_mut().zip(part) {
            *within = if other < *within { other } else { *within };
        }
    }

    /// Takes into `set`'s sums the runs whose first stage is on `device`, and returns between
    /// which pieces it looked.
    fn begin_with(&mut self, device: usize, set: usize, alive: Range<usize>) -> Range<usize> {
        let part = set & !(1 << device);
        let live = self.live[part].clone();
        if live.is_empty() {
            return alive.end..alive.start;
        }
        let (row, part_row) = (self.cell(set, 0), self.cell(part, 0));
        let before = &self.table.lanes[device].before;
        let reach = &self.reaches.forward[device];
        let crossing = if part == 0 { 0.0 } else { self.table.crossing };
        let from = alive.start.max(self.reaches.backward[device][live.start]);
        let to = alive.end.min(live.end - 1);
        let mut end = live.end - 1;
        self.window.clear();
        for piece in (from..to).rev() {
            while end > piece && end >= live.start {
                self.window
                    .push(end, self.least[part_row + end] + before[end]);
                end -= 1;
            }
            let Some(sum) = self.window.least_up_to(reach[piece]) else {
                continue;
            };
            let cell = &mut self.least[row + piece];
            *cell = cell.min(sum + crossing - before[piece]);
        }
        from..to
    }

    /// The latency of the plan that has the least sum.
    fn latency(&self) -> f64 {
        let sets = (1..self.live.len()).filter(|&set| self.has_whole(set));
        let mut set = sets
            .min_by(|&a, &b| self.least[self.cell(a, 0)].total_cmp(&self.least[self.cell(b, 0)]))
            .expect("a plan was found");
        let mut latency = self.least[self.cell(set, 0)];
        let mut start = 0;
        while set != 0 {
            let (device, end) = self.first_stage(set, start);
            latency = latency.max(self.table.lanes[device].paced(Span::new(start, end)));
            set &= !(1 << device);
            start = end;
        }
        latency
    }

    fn has_whole(&self, set: usize) -> bool {
        self.live[set].contains(&0)
    }

    /// The first stage of the run over `set` from `start` on that has the least sum.
    fn first_stage(&self, set: usize, start: usize) -> (usize, usize) {
        let sum = self.least[self.cell(set, start)];
        for device in devices(set) {
            let part = set & !(1 << device);
            let crossing = if part == 0 { 0.0 } else { self.table.crossing };
            let before = &self.table.lanes[device].before;
            let live = &self.live[part];
            let reach = self.reaches.forward[device][start] + 1;
            for end in live.start.max(start + 1)..live.end.min(reach) {
                let rest = self.least[self.cell(part, end)] + before[end];
                if rest + crossing - before[start] == sum {
                    return (device, end);
                }
            }
        }
        unreachable!("a finite sum was made from a first stage");
    }

    /// Of the plans whose sum is at most the present limit, the one with the fewest devices, and
    /// of those the one whose devices come first, cut where its sum is least.
    fn select(&self) -> Vec<PlacedSpan> {
        let sets = (1..self.live.len())
            .filter(|&set| self.has_whole(set) && self.least[self.cell(set, 0)] <= self.limit);
        let count = sets.map(usize::count_ones).min().expect("a plan was found");
        let mut free = self.live.len() - 1;
        let mut order = Vec::new();
        // For each number of stages, the least sum by the piece where they end.
        let mut fronts = vec![vec![f64::INFINITY; self.table.pieces + 1]];
        fronts[0][0] = 0.0;
        for left in (0..count).rev() {
            let last = fronts.last().expect("there is the empty front");
            let (device, front) = devices(free)
                .map(|device| (device, self.extend(last, device)))
                .find(|(device, front)| self.completes(front, free & !(1 << device), left))
                .expect("some device goes on");
            free &= !(1 << device);
            order.push(device);
            fronts.push(self.hopeful(front, free));
        }
        self.cut(&order, &fronts)
    }

    /// Least sums with one more stage on `device`.
    fn extend(&self, front: &[f64], device: usize) -> Vec<f64> {
        let mut further = vec![f64::INFINITY; front.len()];
        for (start, &sum) in front.iter().enumerate().filter(|(_, sum)| sum.is_finite()) {
            let reach = self.reaches.forward[device][start];
            for (end, slot) in further
                .iter_mut()
                .enumerate()
                .take(reach + 1)
                .skip(start + 1)
            {
                *slot = slot.min(sum + self.stage_sum(device, Span::new(start, end)));
            }
        }
        further
    }

    /// Without the sums that no run over the `free` devices takes to the end within the limit.
    fn hopeful(&self, mut front: Vec<f64>, free: usize) -> Vec<f64> {
        for (piece, sum) in front.iter_mut().enumerate().take(self.table.pieces) {
            let goes_on = self.alive(free).contains(&piece) && {
                let rest = self.within[self.cell(free, piece)] + self.table.crossing;
                *sum + rest <= self.limit
            };
            if !goes_on {
                *sum = f64::INFINITY;
            }
        }
        front
    }

    /// Busy seconds of a stage, and the crossing before it.
    fn stage_sum(&self, device: usize, span: Span) -> f64 {
        let crossing = if span.start == 0 {
            0.0
        } else {
            self.table.crossing
        };
        self.table.lanes[device].busy(span) + crossing
    }

    /// Whether `left` of the `free` devices can take a front to the end within the limit.
    fn completes(&self, front: &[f64], free: usize, left: u32) -> bool {
        if left == 0 {
            return front[self.table.pieces] <= self.limit;
        }
        let sets = subsets(free).filter(|&set| set.count_ones() == left);
        sets.into_iter().any(|set| {
            self.live[set].clone().any(|start| {
                let rest = self.least[self.cell(set, start)] + self.table.crossing;
                front[start] + rest <= self.limit
            })
        })
    }

    /// The cuts of the least sum for stages on these devices in this order; of equal ones, the
    /// last.
    fn cut(&self, order: &[usize], fronts: &[Vec<f64>]) -> Vec<PlacedSpan> {
        let mut end = self.table.pieces;
        let mut stages = Vec::new();
        for (stage, &device) in order.iter().enumerate().rev() {
            let reach = &self.reaches.forward[device];
            let start = (0..end)
                .rev()
                .filter(|&start| reach[start] >= end)
                .find(|&start| {
                    let sum = fronts[stage][start] + self.stage_sum(device, Span::new(start, end));
                    sum == fronts[stage + 1][end]
                })
                .expect("a finite sum was made from a cut");
            stages.push(PlacedSpan {
                device,
                span: Span::new(start, end),
            });
            end = start;
        }
        stages.reverse();
        stages
    }

    fn cell(&self, set: usize, piece: usize) -> usize {
        set * (self.table.pieces + 1) + piece
    }
}

/// What the busy seconds and crossings of some devices are at least, whatever the order and cuts:
/// each piece as long as on its fastest device, times how much slower than that a device always
/// is, the least slow devices taking as much as any one span of theirs can hold.
struct Floor {
    /// For each piece, the fastest devices' seconds of all pieces before it.
    fastest: Vec<f64>,
    /// How many times as long as the fastest each device takes, at least.
    slowness: Vec<f64>,
    /// The devices by slowness, the least first.
    by_slowness: Vec<usize>,
    /// The devices by room, the largest first.
    by_room: Vec<usize>,
    /// For each device, the most of the fastest devices' seconds that one span of it can hold.
    room: Vec<f64>,
    crossing: f64,
}

impl Floor {
    fn new(table: &Table) -> Self {
        let seconds =
            |device: usize, piece: usize| table.lanes[device].busy(Span::new(piece, piece + 1));
        let devices = 0..table.lanes.len();
        let mut fastest = vec![0.0];
        let mut slowness = vec![f64::INFINITY; devices.len()];
        for piece in 0..table.pieces {
            let least = devices
                .clone()
                .map(|d| seconds(d, piece))
                .fold(f64::INFINITY, f64::min);
            fastest.push(fastest[piece] + least);
            for device in devices.clone().filter(|_| least > 0.0) {
                slowness[device] = slowness[device].min(seconds(device, piece) / least);
            }
        }
        let by_room: Vec<_> = devices.clone().collect();
        let mut by_slowness = by_room.clone();
        by_slowness.sort_by(|&a, &b| slowness[a].total_cmp(&slowness[b]));
        let room = vec![0.0; devices.len()];
        Self {
            fastest,
            slowness,
            by_slowness,
            by_room,
            room,
            crossing: table.crossing,
        }
    }

    fn set_reach(&mut self, reach: &[Vec<usize>]) {
        for (room, reach) in self.room.iter_mut().zip(reach) {
            let spans = reach.iter().enumerate();
            let held = spans.map(|(start, &end)| self.fastest[end] - self.fastest[start]);
            *room = held.fold(0.0, f64::max);
        }
        self.by_room
            .sort_by(|&a, &b| self.room[b].total_cmp(&self.room[a]));
    }

    /// The least seconds in which the devices of a set run all pieces before `piece`, with the
    /// crossing to the next; a part in 10^9 less, so that no rounding makes it too much.
    fn of(&self, set: usize, piece: usize) -> f64 {
        let (mut left, mut sum) = (self.fastest[piece], 0.0);
        for &device in self
            .by_slowness
            .iter()
            .filter(|&device| set >> device & 1 == 1)
        {
            if left <= 0.0 {
                break;
            }
            let taken = left.min(self.room[device]);
            if taken > 0.0 {
                sum += taken * self.slowness[device];
                left -= taken;
            }
        }
        // A part in 10^9 left over is no reason to count one more.
        let mut left = self.fastest[piece] * (1.0 - 1e-9);
        for &device in self.by_room.iter().filter(|&device| set >> device & 1 == 1) {
            if left <= 0.0 {
                break;
            }
            sum += self.crossing;
            left -= self.room[device];
        }
        sum * (1.0 - 1e-9)
    }
}

/// The least value in a window over ends that only moves back: a queue whose values rise from its
/// front, since a value with a later end and no less is never the least again.
struct Window {
    items: Vec<(usize, f64)>,
    front: usize,
}

impl Window {
    fn new(len: usize) -> Self {
        Self {
            items: Vec::with_capacity(len),
            front: 0,
        }
    }

    fn clear(&mut self) {
        self.items.clear();
        self.front = 0;
    }

    /// Takes in the next earlier end.
    fn push(&mut self, end: usize, value: f64) {
        if value == f64::INFINITY {
            return;
        }
        while self.items.len() > self.front && self.items[self.items.len() - 1].1 >= value {
            self.items.pop();
        }
        self.items.push((end, value));
    }

    /// The least value of ends up to `reach`, which must not rise from call to call.
    fn least_up_to(&mut self, reach: usize) -> Option<f64> {
        while self
            .items
            .get(self.front)
            .is_some_and(|item| item.0 > reach)
        {
            self.front += 1;
        }
        self.items.get(self.front).map(|item| item.1)
    }
}
