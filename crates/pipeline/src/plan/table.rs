use gogrid_units::{Bytes, Span};

use super::{
    BoundBy, DeviceLoad, Objective, PLAN_DEVICES_MAX, PieceBytes, PlacedSpan, Plan, PlanDevice,
    PlanError, PlanRequest,
};

/// The request, made ready for searching.
pub(super) struct Table {
    pub(super) pieces: usize,
    pub(super) lanes: Vec<Lane>,
    /// Seconds of one crossing of the whole workload.
    pub(super) crossing: f64,
}

/// One device.
pub(super) struct Lane {
    /// Busy seconds of the pieces before each index.
    pub(super) before: Vec<f64>,
    /// For each first piece, where the longest span that fits in memory ends.
    fit: Vec<usize>,
    duty: f64,
}

impl Table {
    pub(super) fn new(request: &PlanRequest) -> Result<Self, PlanError> {
        let table = Self::unlimited(request)?;
        match request.devices.len() {
            0..=PLAN_DEVICES_MAX => Ok(table),
            given => Err(PlanError::TooManyDevices { given }),
        }
    }

    /// A table of any number of devices, which no search takes.
    pub(super) fn unlimited(request: &PlanRequest) -> Result<Self, PlanError> {
        let first = request.devices.first().ok_or(PlanError::NoDevices)?;
        let pieces = first.pieces.len();
        for (device, given) in request.devices.iter().enumerate() {
            check(given, pieces, request.crossing_seconds)
                .map_err(|what| PlanError::Figure { device, what })?;
        }
        let rows = request.workload.prefill_rows + request.workload.decode_rows;
        let crossing = request.crossing_seconds * f64::from(rows);
        let seconds: Vec<_> = request
            .devices
            .iter()
            .map(|d| seconds(d, request))
            .collect();
        let grid = grid(&seconds, crossing);
        let lanes = request.devices.iter().zip(&seconds);
        Ok(Self {
            pieces,
            lanes: lanes
                .map(|(device, seconds)| Lane::new(device, seconds, grid))
                .collect(),
            crossing: round_to(grid, crossing),
        })
    }

    /// The plan that has these stages.
    pub(super) fn describe(&self, request: &PlanRequest, stages: Vec<PlacedSpan>) -> Plan {
        let loads: Vec<_> = (0..self.lanes.len())
            .map(|index| self.load(index, &request.devices[index], &stages))
            .collect();
        let slowest = (0..loads.len())
            .reduce(|a, b| {
                if loads[b].paced > loads[a].paced {
                    b
                } else {
                    a
                }
            })
            .expect("a plan has a device");
        let crossings = stages
            .windows(2)
            .filter(|two| two[0].device != two[1].device)
            .count();
        // At most as many as there are stages: exact in a double.
        let crossing_sum = self.crossing * crossings as f64;
        let crossing_one = if crossings > 0 { self.crossing } else { 0.0 };
        let chain = loads.iter().map(|load| load.busy).sum::<f64>() + crossing_sum;
        let paced = loads[slowest].paced;
        let bound_by = match request.objective {
            Objective::Throughput if crossing_one > paced => BoundBy::Crossing,
            Objective::OneStream if chain > paced => BoundBy::Chain,
            _ => BoundBy::Device(slowest),
        };
        let (period, latency) = (paced.max(crossing_one), paced.max(chain));
        Plan {
            stages,
            objective: request.objective,
            period,
            latency,
            bound_by,
            loads,
        }
    }

    fn load(&self, index: usize, device: &PlanDevice, stages: &[PlacedSpan]) -> DeviceLoad {
        let mut load = DeviceLoad::default();
        let mut ends = 0;
        for stage in stages.iter().filter(|stage| stage.device == index) {
            let bytes = bytes(device, stage.span);
            load.busy += self.lanes[index].busy(stage.span);
            load.weights += bytes.weights;
            load.kv += bytes.kv;
            load.scratch += bytes.scratch;
            ends += usize::from(stage.span.start == 0) + usize::from(stage.span.end == self.pieces);
        }
        if ends == 2 {
            load.weights = load.weights.saturating_sub(device.tied);
        }
        load.paced = load.busy / self.lanes[index].duty;
        load
    }

    pub(super) fn does_not_fit(&self, request: &PlanRequest) -> PlanError {
        let whole = Span::new(0, self.pieces);
        let needed = request
            .devices
            .iter()
            .map(|device| total(device, whole))
            .min();
        let (end, placed) = self.longest_beginning(request);
        PlanError::DoesNotFit {
            needed: needed.unwrap_or_default(),
            rooms: request.devices.iter().map(|device| device.room).collect(),
            placed,
            pieces_placed: end,
            pieces: self.pieces,
        }
    }

    /// The most pieces from the first on that fit over all devices, and their bytes there.
    fn longest_beginning(&self, request: &PlanRequest) -> (usize, Bytes) {
        let mut best = vec![(0, Bytes::ZERO); 1 << self.lanes.len()];
        for set in 1..best.len() {
            for device in (0..self.lanes.len()).filter(|device| set >> device & 1 == 1) {
                let (start, placed) = best[set & !(1 << device)];
                let end = self.lanes[device].fit[start];
                if end > best[set].0 {
                    let span = Span::new(start, end);
                    best[set] = (end, placed + total(&request.devices[device], span));
                }
            }
            // A set is as good as its best part, where no device of it adds a piece.
            for device in (0..self.lanes.len()).filter(|device| set >> device & 1 == 1) {
                if best[set & !(1 << device)].0 > best[set].0 {
                    best[set] = best[set & !(1 << device)];
                }
            }
        }
        best[best.len() - 1]
    }
}

impl Lane {
    fn new(device: &PlanDevice, seconds: &[f64], grid: f64) -> Self {
        let mut before = vec![0.0; seconds.len() + 1];
        for (index, &seconds) in seconds.iter().enumerate() {
            before[index + 1] = before[index] + round_to(grid, seconds);
        }
        Self {
            before,
            fit: fit(device),
            duty: device.duty,
        }
    }

    pub(super) fn busy(&self, span: Span) -> f64 {
        self.before[span.end] - self.before[span.start]
    }

    pub(super) fn paced(&self, span: Span) -> f64 {
        self.busy(span) / self.duty
    }

    /// For each first piece, where the longest span ends that fits in memory and takes at most
    /// `bound` paced seconds. Returns the least bound above this one that would change any.
    pub(super) fn reach(&self, bound: f64, reach: &mut [usize]) -> f64 {
        let budget = self.budget(bound);
        let mut blocked = f64::INFINITY;
        let mut end = 0;
        for (start, (slot, &fit)) in reach.iter_mut().zip(&self.fit).enumerate() {
            end = end.max(start);
            while end < fit && self.before[end + 1] - self.before[start] <= budget {
                end += 1;
            }
            if end < fit {
                blocked = blocked.min(self.before[end + 1] - self.before[start]);
            }
            *slot = end;
        }
        blocked / self.duty
    }

    /// The most busy seconds whose paced seconds, as computed, are at most `bound`.
    fn budget(&self, bound: f64) -> f64 {
        let mut busy = bound * self.duty;
        while busy / self.duty > bound {
            busy = busy.next_down();
        }
        while busy.is_finite() && busy.next_up() / self.duty <= bound {
            busy = busy.next_up();
        }
        busy
    }
}

fn check(device: &PlanDevice, pieces: usize, crossing: f64) -> Result<(), String> {
    let PlanDevice { costs, duty, .. } = device;
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
    let seconds = costs.decode.iter().chain(&costs.prefill).chain([&crossing]);
    if let Some(bad) = seconds.copied().find(|s| !(s.is_finite() && *s >= 0.0)) {
        return Err(format!("a piece or crossing that takes {bad} seconds"));
    }
    if !(*duty > 0.0 && *duty <= 1.0) {
        return Err(format!("a duty of {duty}; above 0 and at most 1 expected"));
    }
    let ends = device.pieces[0]
        .weights
        .min(device.pieces[pieces - 1].weights);
    if device.tied > ends {
        return Err(format!(
            "a tied table of {} in an embedding or head of {ends}",
            device.tied
        ));
    }
    Ok(())
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

/// The unit seconds are rounded to: so small that nobody sees it, so large that every sum of them
/// has at most 53 binary digits and is exact in any order.
fn grid(seconds: &[Vec<f64>], crossing: f64) -> f64 {
    let largest = seconds
        .iter()
        .map(|s| s.iter().sum::<f64>())
        .fold(0.0, f64::max);
    let total = largest + crossing * seconds.len() as f64;
    if total > 0.0 {
        2.0_f64.powi(total.log2().ceil() as i32 - 48)
    } else {
        1.0
    }
}

fn round_to(grid: f64, seconds: f64) -> f64 {
    (seconds / grid).round() * grid
}

/// Bytes of a span on a device; a tied table that it has at both ends counts once.
fn bytes(device: &PlanDevice, span: Span) -> PieceBytes {
    let mut sum = PieceBytes::default();
    for piece in &device.pieces[span.start..span.end] {
        sum.weights += piece.weights;
        sum.kv += piece.kv;
        sum.scratch = sum.scratch.max(piece.scratch);
    }
    sum
}

fn total(device: &PlanDevice, span: Span) -> Bytes {
    let bytes = bytes(device, span);
    let whole = span.len() == device.pieces.len();
    let tied = if whole { device.tied } else { Bytes::ZERO };
    (bytes.weights + bytes.kv + bytes.scratch).saturating_sub(tied)
}

/// For each first piece, where the longest span that fits in the device's room ends. The end
/// never moves back as the start moves on, so one pass finds all.
fn fit(device: &PlanDevice) -> Vec<usize> {
    let pieces = &device.pieces;
    let (mut held, mut scratch) = (0_u128, 0_u64);
    let mut end = 0;
    let mut ends = Vec::with_capacity(pieces.len() + 1);
    for start in 0..pieces.len() {
        if end < start {
            (end, held, scratch) = (start, 0, 0);
        }
        while let Some(next) = pieces.get(end) {
            let whole = start == 0 && end + 1 == pieces.len();
            let tied = if whole { device.tied.0 } else { 0 };
            let grown = held + sum(next) - u128::from(tied);
            if grown + u128::from(scratch.max(next.scratch.0)) > u128::from(device.room.0) {
                break;
            }
            (held, scratch) = (held + sum(next), scratch.max(next.scratch.0));
            end += 1;
        }
        ends.push(end);
        if end > start {
            held -= sum(&pieces[start]);
            if pieces[start].scratch.0 == scratch {
                let rest = pieces[start + 1..end].iter();
                scratch = rest.map(|piece| piece.scratch.0).max().unwrap_or(0);
            }
        }
    }
    ends.push(pieces.len());
    ends
}

fn sum(piece: &PieceBytes) -> u128 {
    u128::from(piece.weights.0) + u128::from(piece.kv.0)
}
