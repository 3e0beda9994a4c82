use std::cmp::Ordering;
use std::collections::BinaryHeap;

use gogrid_units::Span;

use super::effort::{Counted, Effort};
use super::remaining::{Aim, Costing, Remaining, devices};
use super::table::{Lane, Table};
use super::{PLAN_DEVICES_MAX, PlacedSpan};

/// The most memories that several devices can share.
pub(super) const SHARED_MAX: usize = PLAN_DEVICES_MAX / 2;

/// A beginning of a plan: stages that hold all pieces before one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    /// Without prices.
    pub(super) cost: f64,
    /// Bytes in each of the shared memories.
    pub(super) held: [u64; SHARED_MAX],
    /// The devices that it has.
    pub(super) used: usize,
    /// The device of its last stage; of the empty beginning, any.
    pub(super) last: usize,
    /// Where it ends.
    pub(super) piece: usize,
    /// The beginning that it goes on from, in the same list; of the empty one, itself.
    pub(super) parent: usize,
}

impl Beginning {
    pub(super) const EMPTY: Self = Self {
        cost: 0.0,
        held: [0; SHARED_MAX],
        used: 0,
        last: 0,
        piece: 0,
        parent: 0,
    };

    /// Whether it costs at most `cost` and holds no more than another in any shared memory.
    pub(super) fn is_no_worse(&self, other: &Self, cost: f64) -> bool {
        let mut held = self.held.iter().zip(&other.held);
        self.cost <= cost && held.all(|(own, others)| own <= others)
    }
}

/// One more stage, of any length.
#[derive(Clone, Copy)]
pub(super) struct NextStage<'a> {
    pub(super) beginning: &'a Beginning,
    /// Its index in the list.
    pub(super) parent: usize,
    pub(super) device: usize,
    /// The last end that it may have.
    pub(super) to: usize,
}

/// What is looked for, and what remains to be paid at least.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) aim: &'a Aim<'a>,
    pub(super) remaining: &'a Remaining<'a>,
}

/// How stages are put after beginnings: what they cost, and what they hold of shared memories.
pub(super) struct Growth<'a> {
    pub(super) table: &'a Table,
    /// The memories that are counted.
    pub(super) shared: &'a [usize],
    /// Whether stages must fit.
    pub(super) fits: bool,
}

impl Growth<'_> {
    /// Calls `each` with every beginning that has one more stage and for which the shared memories
    /// have room.
    pub(super) fn extend(
        &self,
        stage: NextStage<'_>,
        pass: Pass<'_>,
        mut each: impl FnMut(Beginning),
    ) {
        let NextStage {
            beginning,
            parent,
            device,
            to,
        } = stage;
        let Pass { aim, remaining } = pass;
        let lane = &self.table.lanes[device];
        let shared = self.shared.iter().position(|&memory| memory == lane.memory);
        let start = beginning.piece;
        let link = match start {
            0 => 0.0,
            _ => remaining.link(beginning.last, device),
        };
        let mut scratch = 0;
        for end in start + 1..=to {
            let span = Span::new(start, end);
            if lane.paced(span) > aim.bound {
                return;
            }
            scratch = lane.scratch[end - 1].max(scratch);
            let mut held = beginning.held;
            if let Some(shared) = shared {
                held[shared] += lane.bytes_with(span, scratch);
                let whole = span.len() == self.table.pieces;
                let over = held[shared] > self.table.rooms[lane.memory];
                if self.fits && over && (whole || lane.tied == 0) {
                    return;
                }
            }
            let seconds = match aim.costing {
                Costing::InTurn => lane.in_turn(span),
                Costing::Free => 0.0,
            };
            each(Beginning {
                cost: beginning.cost + link + seconds,
                held,
                used: beginning.used | 1 << device,
                last: device,
                piece: end,
                parent,
            });
        }
    }

    /// Whether it keeps the room of every shared memory.
    pub(super) fn fits(&self, beginning: &Beginning) -> bool {
        let rooms = self.shared.iter().map(|&memory| self.table.rooms[memory]);
        !self.fits || rooms.zip(beginning.held).all(|(room, held)| held <= room)
    }

    /// The price of what it holds.
    pub(super) fn price(&self, beginning: &Beginning, aim: &Aim<'_>) -> f64 {
        let prices = self.shared.iter().map(|&memory| aim.prices[memory]);
        let held = beginning.held.iter().zip(prices);
        held.map(|(&held, price)| held as f64 * price).sum()
    }
}

/// The stages of a beginning, by its index in a list.
pub(super) fn stages(list: &[Beginning], mut index: usize) -> Vec<PlacedSpan> {
    let mut stages = Vec::new();
    while list[index].piece > 0 {
        let Beginning {
            last,
            piece,
            parent,
            ..
        } = list[index];
        stages.push(PlacedSpan {
            device: last,
            span: Span::new(list[parent].piece, piece),
        });
        index = parent;
    }
    stages.reverse();
    stages
}

/// More beginnings than were to be looked at. The best plan until then, if any: its cost and stages.
pub(super) struct TooMany(pub(super) Option<(f64, Vec<PlacedSpan>)>);

/// A best-first search among the plans that the remaining costs let through.
pub(super) struct Corridor<'a> {
    growth: Growth<'a>,
    effort: &'a Effort,
    list: Vec<Beginning>,
    /// For each set of devices, last device and piece, the last beginning found there, counted from
    /// one.
    found: Vec<u32>,
    /// For each beginning, the one found before it in the same place, counted from one.
    before: Vec<u32>,
    open: BinaryHeap<Open>,
    /// What crossings cost: see [`Remaining::links`].
    links: Vec<Vec<f64>>,
    /// For each device, the most bytes that one span of it holds, without scratch.
    span_max: Vec<u64>,
}

impl<'a> Corridor<'a> {
    pub(super) fn new(table: &'a Table, counted: Counted<'a>) -> Self {
        let devices = table.lanes.len();
        Self {
            growth: Growth {
                table,
                shared: counted.shared,
                fits: true,
            },
            effort: counted.effort,
            list: Vec::new(),
            found: vec![0; (devices << devices) * (table.pieces + 1)],
            before: Vec::new(),
            open: BinaryHeap::new(),
            links: table.links.clone(),
            span_max: vec![0; devices],
        }
    }

    /// The plan that costs least of those within the aim's limit that fit; or an error when more
    /// than `most` beginnings have to be looked at, or no effort is left.
    pub(super) fn least(
        &mut self,
        mut aim: Aim<'_>,
        remaining: &Remaining<'_>,
        most: usize,
    ) -> Result<Option<(f64, Vec<PlacedSpan>)>, TooMany> {
        self.begin(remaining, true);
        let mut best = None;
        let mut limit = aim.limit_with_prices(self.growth.table);
        while let Some(Open { least, index }) = self.open.pop() {
            if least > limit {
                break;
            }
            let beginning = self.list[index];
            if beginning.piece == self.growth.table.pieces {
                if beginning.cost <= aim.limit {
                    best = Some((beginning.cost, index));
                    aim.limit = beginning.cost.next_down();
                    limit = aim.limit_with_prices(self.growth.table);
                }
                if aim.costing == Costing::Free {
                    break;
                }
            } else if !self.is_beaten(&beginning, index) {
                let aim = &aim;
                self.expand(index, limit, Pass { aim, remaining });
            }
            if self.list.len() > most || self.effort.check().is_err() {
                break;
            }
        }
        let best = best.map(|(cost, index)| (cost, stages(&self.list, index)));
        match self.list.len() <= most && self.effort.check().is_ok() {
            true => Ok(best),
            false => Err(TooMany(best)),
        }
    }

    /// The beginning that is a whole model and costs least with prices, whether it fits or not;
    /// `None` when there is none within the limit, or no effort is left.
    pub(super) fn priced(&mut self, aim: &Aim<'_>, remaining: &Remaining<'_>) -> Option<Beginning> {
        self.begin(remaining, false);
        let limit = aim.limit_with_prices(self.growth.table);
        while let Some(Open { index, .. }) = self.open.pop() {
            let beginning = self.list[index];
            if beginning.piece == self.growth.table.pieces {
                return Some(beginning);
            }
            self.expand(index, limit, Pass { aim, remaining });
            self.effort.check().ok()?;
        }
        None
    }

    fn begin(&mut self, remaining: &Remaining<'_>, fits: bool) {
        self.clear();
        let lanes = self.growth.table.lanes.iter().enumerate();
        let most = lanes.map(|(device, lane)| {
            let ends = (0..self.growth.table.pieces).map(|start| remaining.reach(device, start));
            let held = ends
                .enumerate()
                .map(|(start, end)| lane.held[end] - lane.held[start]);
            held.max().unwrap_or(0)
        });
        self.span_max = most.collect();
        remaining.links().clone_into(&mut self.links);
        self.growth.fits = fits;
        self.add(Beginning::EMPTY, remaining.least());
    }

    fn clear(&mut self) {
        for index in 0..self.list.len() {
            let place = self.place(&self.list[index]);
            self.found[place] = 0;
        }
        self.list.clear();
        self.before.clear();
        self.open.clear();
    }

    fn expand(&mut self, index: usize, limit: f64, pass: Pass<'_>) {
        let Pass { aim, remaining } = pass;
        let beginning = self.list[index];
        let pieces = self.growth.table.pieces;
        let free = ((1 << self.growth.table.lanes.len()) - 1) & !beginning.used;
        let mut grown = Vec::new();
        for device in devices(free) {
            let rest = free & !(1 << device);
            let reach = remaining.reach(device, beginning.piece);
            let live = remaining.live(rest, device);
            let stage = NextStage {
                beginning: &beginning,
                parent: index,
                device,
                to: match reach == pieces {
                    true => pieces,
                    false => reach.min(live.end.saturating_sub(1)),
                },
            };
            self.growth.extend(stage, pass, |next| {
                let ahead = match next.piece == pieces {
                    true => 0.0,
                    false => remaining.ahead(rest, device, next.piece),
                };
                if ahead < f64::INFINITY {
                    grown.push((next, ahead));
                }
            });
        }
        for (next, ahead) in grown {
            let least = next.cost + self.growth.price(&next, aim) + ahead;
            if least <= limit && self.growth.fits(&next) && self.has_room_for_rest(&next) {
                // Any plan does where nothing costs: the longest beginning first.
                let first = match aim.costing {
                    Costing::Free => -(next.piece as f64),
                    Costing::InTurn => least,
                };
                self.add(next, first);
            }
        }
    }

    /// Whether the devices that a beginning leaves have room for all other pieces, if those could be
    /// cut anywhere.
    fn has_room_for_rest(&self, beginning: &Beginning) -> bool {
        let Growth {
            table,
            shared,
            fits,
        } = self.growth;
        if !fits || shared.is_empty() || beginning.piece == table.pieces {
            return true;
        }
        let rest = |lane: &Lane| lane.held[table.pieces] - lane.held[beginning.piece];
        let needed = table.lanes.iter().map(rest).min().unwrap_or(0);
        let (mut alone, mut together) = (0, [0; SHARED_MAX]);
        for (device, lane) in table.lanes.iter().enumerate() {
            if beginning.used >> device & 1 == 0 {
                let index = shared.iter().position(|&memory| memory == lane.memory);
                *index.map_or(&mut alone, |index| &mut together[index]) += self.span_max[device];
            }
        }
        let left = shared.iter().zip(beginning.held).zip(together);
        let together = left.map(|((&memory, held), most)| most.min(table.rooms[memory] - held));
        alone + together.sum::<u64>() >= needed
    }

    /// Takes in a beginning, unless one that is no worse is known.
    fn add(&mut self, beginning: Beginning, least: f64) {
        let index = self.list.len();
        if self.is_beaten(&beginning, index) || self.effort.keep_one().is_err() {
            return;
        }
        let place = self.place(&beginning);
        self.list.push(beginning);
        self.before.push(self.found[place]);
        // Far below 2^32: see `PLAN_EFFORT_MAX`.
        self.found[place] = index as u32 + 1;
        self.open.push(Open { least, index });
    }

    /// Whether another beginning of the same devices and pieces is no worse, with what the way on
    /// from its last device may cost more.
    fn is_beaten(&self, beginning: &Beginning, index: usize) -> bool {
        devices(beginning.used).any(|last| {
            let other = Beginning { last, ..*beginning };
            let least = beginning.cost - self.detour(last, beginning);
            let mut next = self.found[self.place(&other)];
            while let Some(known) = (next as usize).checked_sub(1) {
                if known != index && self.list[known].is_no_worse(&other, least) {
                    return true;
                }
                next = self.before[known];
            }
            false
        })
    }

    /// How much longer than the way on from a beginning's last device the one from `last` is at most.
    fn detour(&self, last: usize, beginning: &Beginning) -> f64 {
        if last == beginning.last || beginning.piece == self.growth.table.pieces {
            return 0.0;
        }
        let free = ((1 << self.links.len()) - 1) & !beginning.used;
        let more = devices(free).map(|to| self.links[last][to] - self.links[beginning.last][to]);
        // Where neither can go on, the difference is no number, which `max` leaves out.
        more.fold(0.0, f64::max)
    }

    fn place(&self, beginning: &Beginning) -> usize {
        let devices = self.growth.table.lanes.len();
        let row = beginning.used * devices + beginning.last;
        row * (self.growth.table.pieces + 1) + beginning.piece
    }
}

/// A beginning that is still to go on from, and what plans with it cost at least.
struct Open {
    least: f64,
    index: usize,
}

impl Ord for Open {
    /// The least is the greatest, and of equals the one found last, which is the longest.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_cost = other.least.total_cmp(&self.least);
        by_cost.then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}
