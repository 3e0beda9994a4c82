use gogrid_units::{Bytes, Span};

use super::{PLAN_DEVICES_MAX, PlacedSpan, PlanDevice, PlanDuty, PlanError, PlanLink, PlanRequest};

/// Bytes of a device's pieces together, and of a room, are taken to be no more: so that sums over
/// all devices stay within 64 bits.
const BYTES_MAX: u64 = 1 << 56;

/// The request, made ready for searching. Seconds are whole multiples of one unit, so small that
/// nobody sees it and so large that every sum of them is exact in any order.
pub(super) struct Table {
    pub(super) pieces: usize,
    pub(super) lanes: Vec<Lane>,
    /// Seconds in which the whole workload crosses from each device to each.
    pub(super) links: Vec<Vec<f64>>,
    /// Bytes of each memory.
    pub(super) rooms: Vec<u64>,
}

/// One device.
#[derive(Clone)]
pub(super) struct Lane {
    /// Busy seconds of the pieces before each index.
    pub(super) busy: Vec<f64>,
    /// Wall seconds of the same while there is credit.
    pub(super) at_once: Vec<f64>,
    /// Wall seconds of the same without credit.
    pub(super) paced: Vec<f64>,
    /// Paced seconds that full credit spares.
    pub(super) credit: f64,
    pub(super) memory: usize,
    /// Weights, keys and values of the pieces before each index.
    pub(super) held: Vec<u64>,
    pub(super) scratch: Vec<u64>,
    /// Bytes of the whole model that it holds once and not twice.
    pub(super) tied: u64,
    /// For each first piece, where the longest span that fits in an empty memory ends.
    pub(super) fit: Vec<usize>,
}

impl Table {
    pub(super) fn new(request: &PlanRequest) -> Result<Self, PlanError> {
        match request.devices.len() {
            0..=PLAN_DEVICES_MAX => Self::unlimited(request),
            given => Err(PlanError::TooManyDevices { given }),
        }
    }

    /// A table of any number of devices, which no search takes.
    pub(super) fn unlimited(request: &PlanRequest) -> Result<Self, PlanError> {
        check_request(request)?;
        let crossings = crossings(request);
        let seconds: Vec<_> = request
            .devices
            .iter()
            .map(|device| seconds(device, request))
            .collect();
        let grid = grid(request, &seconds, &crossings);
        let rooms: Vec<_> = request
            .memories
            .iter()
            .map(|memory| memory.room.0.min(BYTES_MAX))
            .collect();
        let lanes = request.devices.iter().zip(&seconds);
        Ok(Self {
            pieces: request.devices[0].pieces.len(),
            lanes: lanes
                .map(|(device, seconds)| {
                    Lane::new(device, seconds, grid).fitted(rooms[device.memory])
                })
                .collect(),
            links: crossings
                .iter()
                .map(|row| row.iter().map(|&s| round_to(grid, s)).collect())
                .collect(),
            rooms,
        })
    }

    /// The table of the first `pieces` pieces, fewer than all.
    pub(super) fn beginning(&self, pieces: usize) -> Self {
        let lanes = self.lanes.iter().map(|lane| {
            Lane {
                busy: lane.busy[..=pieces].to_vec(),
                at_once: lane.at_once[..=pieces].to_vec(),
                paced: lane.paced[..=pieces].to_vec(),
                held: lane.held[..=pieces].to_vec(),
                scratch: lane.scratch[..pieces].to_vec(),
                tied: 0,
                fit: Vec::new(),
                ..*lane
            }
            .fitted(self.rooms[lane.memory])
        });
        Self {
            pieces,
            lanes: lanes.collect(),
            links: self.links.clone(),
            rooms: self.rooms.clone(),
        }
    }

    /// The table of some of the devices.
    pub(super) fn only(&self, devices: &[usize]) -> Self {
        let row = |&from: &usize| devices.iter().map(|&to| self.links[from][to]).collect();
        Self {
            pieces: self.pieces,
            lanes: devices
                .iter()
                .map(|&device| self.lanes[device].clone())
                .collect(),
            links: devices.iter().map(row).collect(),
            rooms: self.rooms.clone(),
        }
    }

    /// The table in which a plan is cut only at some pieces, the first and the end among them. Its
    /// plans are plans of this one.
    pub(super) fn cut_at(&self, cuts: &[usize]) -> Self {
        let lanes = self.lanes.iter().map(|lane| {
            let sums = |sums: &[f64]| cuts.iter().map(|&cut| sums[cut]).collect();
            let scratch = cuts.windows(2).map(|cut| {
                let pieces = lane.scratch[cut[0]..cut[1]].iter();
                pieces.copied().max().unwrap_or(0)
            });
            Lane {
                busy: sums(&lane.busy),
                at_once: sums(&lane.at_once),
                paced: sums(&lane.paced),
                held: cuts.iter().map(|&cut| lane.held[cut]).collect(),
                scratch: scratch.collect(),
                fit: Vec::new(),
                ..*lane
            }
            .fitted(self.rooms[lane.memory])
        });
        Self {
            pieces: cuts.len() - 1,
            lanes: lanes.collect(),
            links: self.links.clone(),
            rooms: self.rooms.clone(),
        }
    }

    /// The longest crossing between two devices.
    pub(super) fn crossing_max(&self) -> f64 {
        self.links.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// The shortest crossing between two devices; zero when there is one device.
    pub(super) fn crossing_min(&self) -> f64 {
        let others = self.links.iter().enumerate().flat_map(|(from, row)| {
            let others = row.iter().enumerate().filter(move |(to, _)| *to != from);
            others.map(|(_, &link)| link)
        });
        others.reduce(f64::min).unwrap_or(0.0)
    }

    /// The memories that these stages hold too much of.
    pub(super) fn overfilled(&self, stages: &[PlacedSpan]) -> Vec<usize> {
        let over = |&memory: &usize| {
            let its = stages
                .iter()
                .filter(|stage| self.lanes[stage.device].memory == memory);
            let held = its.map(|stage| self.lanes[stage.device].bytes(stage.span));
            held.sum::<u64>() > self.rooms[memory]
        };
        (0..self.rooms.len()).filter(over).collect()
    }

    /// The longest of the stages' paced seconds and of their crossings.
    pub(super) fn period(&self, stages: &[PlacedSpan]) -> f64 {
        let paced = |stage: &PlacedSpan| self.lanes[stage.device].paced(stage.span);
        let crossings = stages
            .windows(2)
            .map(|pair| self.links[pair[0].device][pair[1].device]);
        stages
            .iter()
            .map(paced)
            .chain(crossings)
            .fold(0.0, f64::max)
    }

    /// The memories in which some plan could hold too much although each span fits there alone.
    pub(super) fn contended(&self) -> Vec<usize> {
        let contended = |&memory: &usize| {
            let lanes = self.lanes.iter().filter(|lane| lane.memory == memory);
            let most = lanes.map(|lane| {
                let ends = lane.fit.iter().enumerate().take(self.pieces);
                let spans = ends.filter(|&(start, &end)| start < end);
                spans
                    .map(|(start, &end)| lane.bytes(Span::new(start, end)))
                    .max()
                    .unwrap_or(0)
            });
            most.sum::<u64>() > self.rooms[memory]
        };
        (0..self.rooms.len()).filter(contended).collect()
    }
}

impl Lane {
    fn new(device: &PlanDevice, seconds: &[f64], grid: f64) -> Self {
        let PlanDuty {
            share,
            burst,
            credit,
        } = device.duty;
        let sums = |divisor: f64| {
            let mut before = vec![0.0];
            for (index, &seconds) in seconds.iter().enumerate() {
                before.push(before[index] + round_to(grid, seconds / divisor));
            }
            before
        };
        let mut held = vec![0];
        for (index, piece) in device.pieces.iter().enumerate() {
            held.push(held[index] + piece.weights.0 + piece.kv.0);
        }
        let paced = sums(share);
        Self {
            busy: sums(1.0),
            at_once: sums(burst),
            // More credit than the whole model takes is no use.
            credit: round_to(grid, (credit / share).min(paced[seconds.len()])),
            paced,
            memory: device.memory,
            held,
            scratch: device.pieces.iter().map(|piece| piece.scratch.0).collect(),
            tied: device.tied.0,
            fit: Vec::new(),
        }
    }

    /// Finds where the longest spans end. The end never moves back as the start moves on.
    fn fitted(mut self, room: u64) -> Self {
        let pieces = self.scratch.len();
        let (mut end, mut largest) = (0, 0);
        let mut fit = Vec::with_capacity(pieces + 1);
        for start in 0..pieces {
            end = end.max(start);
            if largest < start {
                let rest = start..end.max(start + 1);
                largest = rest
                    .max_by_key(|&piece| self.scratch[piece])
                    .unwrap_or(start);
            }
            while end < pieces {
                let grown = self.scratch[end].max(self.scratch[largest]);
                if self.bytes_with(Span::new(start, end + 1), grown) > room {
                    break;
                }
                if self.scratch[end] == grown {
                    largest = end;
                }
                end += 1;
            }
            fit.push(end);
        }
        fit.push(pieces);
        self.fit = fit;
        self
    }

    pub(super) fn bytes(&self, span: Span) -> u64 {
        let scratch = self.scratch[span.start..span.end].iter().copied().max();
        self.bytes_with(span, scratch.unwrap_or(0))
    }

    /// Bytes of a span whose largest scratch is known.
    pub(super) fn bytes_with(&self, span: Span, scratch: u64) -> u64 {
        let whole = span.len() == self.scratch.len();
        let tied = if whole { self.tied } else { 0 };
        self.held[span.end] - self.held[span.start] + scratch - tied
    }

    pub(super) fn paced(&self, span: Span) -> f64 {
        self.paced[span.end] - self.paced[span.start]
    }

    /// The most paced seconds of one span that fits.
    pub(super) fn longest_paced(&self) -> f64 {
        let ends = self.fit.iter().enumerate();
        let spans = ends.map(|(start, &end)| self.paced[end] - self.paced[start]);
        spans.fold(0.0, f64::max)
    }

    /// Wall seconds of a unit of work of a span, after waiting.
    pub(super) fn in_turn(&self, span: Span) -> f64 {
        let at_once = self.at_once[span.end] - self.at_once[span.start];
        in_turn(at_once, self.paced(span), self.credit)
    }

    /// For each first piece, where the longest span ends that fits in memory and takes at most
    /// `bound` paced seconds. Returns the least bound above this one that would change any.
    pub(super) fn reach(&self, bound: f64, reach: &mut [usize]) -> f64 {
        let mut blocked = f64::INFINITY;
        let mut end = 0;
        for (start, (slot, &fit)) in reach.iter_mut().zip(&self.fit).enumerate() {
            end = end.max(start);
            let before = self.paced[start];
            while end < fit && self.paced[end + 1] - before <= bound {
                end += 1;
            }
            if end < fit {
                blocked = blocked.min(self.paced[end + 1] - before);
            }
            *slot = end;
        }
        blocked
    }
}

/// The one formula of a device's time: wall seconds of a unit of work that begins with full credit.
///
/// `governor::Duty` lets a device be busy for `credit + share * t` seconds of any `t`, so `busy`
/// seconds of work end when `busy = credit + share * t`: after `busy / share - credit / share`. All
/// the while it works with at most `burst` of its speed, so no sooner than after `busy / burst`. A
/// device may be in debt by up to a slice before it rests, so the work's end may come earlier, by at
/// most the rest of one slice.
///
/// The credit is full when the device waits for others long enough in every unit, and where it does
/// not, a unit comes every `busy / share` seconds. So the period of one stream is the larger of the
/// two: see [`Plan::latency`](super::Plan::latency).
pub(super) fn in_turn(at_once: f64, paced: f64, credit: f64) -> f64 {
    at_once.max(paced - credit)
}

fn check_request(request: &PlanRequest) -> Result<(), PlanError> {
    let first = request.devices.first().ok_or(PlanError::NoDevices)?;
    let devices = request.devices.len();
    for (device, given) in request.devices.iter().enumerate() {
        let links = request.links.get(device).map_or(&[][..], |row| &row[..]);
        check(given, first.pieces.len(), request.memories.len())
            .and_then(|()| check_links(links, device, devices))
            .map_err(|what| PlanError::Figure { device, what })?;
    }
    Ok(())
}

fn check(device: &PlanDevice, pieces: usize, memories: usize) -> Result<(), String> {
    let PlanDevice { costs, memory, .. } = device;
    let lengths = [device.pieces.len(), costs.decode.len(), costs.prefill.len()];
    if pieces < 2 || lengths != [pieces; 3] {
        return Err(format!(
            "bytes of {} pieces, decode seconds of {}, prefill seconds of {}; {} expected",
            lengths[0],
            lengths[1],
            lengths[2],
            pieces.max(2)
        ));
    }
    let mut seconds = costs.decode.iter().chain(&costs.prefill);
    if let Some(bad) = seconds.find(|s| !(s.is_finite() && **s >= 0.0)) {
        return Err(format!("a piece that takes {bad} seconds"));
    }
    if *memory >= memories {
        return Err(format!("memory {memory}, and there are {memories}"));
    }
    check_duty(device.duty)?;
    check_bytes(device)
}

fn check_duty(duty: PlanDuty) -> Result<(), String> {
    let PlanDuty {
        share,
        burst,
        credit,
    } = duty;
    if !(share > 0.0 && share <= 1.0) {
        return Err(format!("a duty of {share}; above 0 and at most 1 expected"));
    }
    if !(burst >= share && burst <= 1.0) {
        return Err(format!("a burst of {burst}; {share} to 1 expected"));
    }
    if credit.is_nan() || credit < 0.0 {
        return Err(format!("a credit of {credit} seconds"));
    }
    Ok(())
}

fn check_bytes(device: &PlanDevice) -> Result<(), String> {
    let pieces = &device.pieces;
    let [first, .., last] = &pieces[..] else {
        unreachable!("there are two pieces at least");
    };
    let ends = first.weights.min(last.weights);
    if device.tied > ends {
        return Err(format!(
            "a tied table of {} in an embedding or head of {ends}",
            device.tied
        ));
    }
    let of = |piece: &super::PieceBytes| {
        [piece.weights, piece.kv, piece.scratch].map(|bytes| u128::from(bytes.0))
    };
    let sum: u128 = pieces.iter().flat_map(of).sum();
    if sum > u128::from(BYTES_MAX) {
        let most = Bytes(BYTES_MAX);
        return Err(format!("{sum} bytes of pieces; at most {most} expected"));
    }
    Ok(())
}

fn check_links(links: &[PlanLink], device: usize, devices: usize) -> Result<(), String> {
    if links.len() != devices {
        let given = links.len();
        return Err(format!("links to {given} devices; {devices} expected"));
    }
    let mut others = links.iter().enumerate().filter(|(to, _)| *to != device);
    let bad = others.find(|(_, link)| {
        let latency = link.latency.is_finite() && link.latency >= 0.0;
        !(latency && link.bytes_per_second > 0.0)
    });
    match bad {
        Some((to, link)) => Err(format!(
            "a link to device {to} of {} seconds and {} bytes a second",
            link.latency, link.bytes_per_second
        )),
        None => Ok(()),
    }
}

/// Seconds of each piece for the whole workload.
fn seconds(device: &PlanDevice, request: &PlanRequest) -> Vec<f64> {
    let prefill_rows = f64::from(request.workload.prefill_rows);
    let decode_rows = f64::from(request.workload.decode_rows);
    let costs = device.costs.prefill.iter().zip(&device.costs.decode);
    costs
        .map(|(prefill, decode)| prefill * prefill_rows + decode * decode_rows)
        .collect()
}

/// Seconds in which the whole workload crosses from each device to each, at once.
fn crossings(request: &PlanRequest) -> Vec<Vec<f64>> {
    let rows = u64::from(request.workload.prefill_rows) + u64::from(request.workload.decode_rows);
    // Far below 2^53.
    let bytes = rows as f64 * request.row_bytes.0 as f64;
    let row = |(from, links): (usize, &Vec<PlanLink>)| {
        let crossing = |(to, link): (usize, &PlanLink)| match to == from {
            true => 0.0,
            false => link.latency + bytes / link.bytes_per_second,
        };
        links.iter().enumerate().map(crossing).collect()
    };
    request.links.iter().enumerate().map(row).collect()
}

/// The unit that seconds are rounded to.
fn grid(request: &PlanRequest, seconds: &[Vec<f64>], crossings: &[Vec<f64>]) -> f64 {
    let paced = request.devices.iter().zip(seconds);
    let largest = paced
        .map(|(device, seconds)| seconds.iter().sum::<f64>() / device.duty.share)
        .fold(0.0, f64::max);
    let crossing = crossings.iter().flatten().copied().fold(0.0, f64::max);
    let total = largest + crossing;
    if total > 0.0 {
        2.0_f64.powi(total.log2().ceil() as i32 - 48)
    } else {
        1.0
    }
}

fn round_to(grid: f64, seconds: f64) -> f64 {
    (seconds / grid).round() * grid
}
