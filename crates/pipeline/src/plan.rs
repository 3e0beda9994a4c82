//! Where the pieces of a model stand: ordered contiguous spans on devices, chosen exactly.

mod by_hand;
mod limits;
mod one_stream;
mod table;
mod throughput;

use gogrid_units::{Bytes, Span};

use crate::stage::Costs;

pub use by_hand::plan_by_hand;
pub use limits::{Limit, LimitCost, what_limits_cost};
use table::Table;

/// The most devices the exact search takes.
pub const PLAN_DEVICES_MAX: usize = 8;

/// What a planner is asked.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// The devices, at most [`PLAN_DEVICES_MAX`].
    pub devices: Vec<PlanDevice>,
    /// Seconds for one row of the residual stream to cross from a device to another.
    pub crossing_seconds: f64,
    /// The rows that are planned for.
    pub workload: Workload,
    /// What is minimised.
    pub objective: Objective,
}

/// A device, as measured and as limited.
#[derive(Clone, Debug)]
pub struct PlanDevice {
    /// Seconds for each piece.
    pub costs: Costs,
    /// Bytes each piece would hold there.
    pub pieces: Vec<PieceBytes>,
    /// Of the bytes of the first piece and of the last, those that are the same bytes when both
    /// are on this device: a tied embedding table. Zero when it is not tied.
    pub tied: Bytes,
    /// Bytes it may hold: its memory cap less what is leased already. Each device's own: where
    /// devices share a memory, a plan is exact only if its bytes together are within it.
    pub room: Bytes,
    /// The share of wall time it may be busy, above 0 and at most 1.
    pub duty: f64,
}

/// Bytes that one piece holds on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceBytes {
    /// Packed weights.
    pub weights: Bytes,
    /// Keys and values, at the size that will be leased.
    pub kv: Bytes,
    /// Buffers: of the pieces of a span, the largest counts. What they need side by side must be
    /// in it.
    pub scratch: Bytes,
}

/// Rows of one unit of work; the plan's seconds are for one such unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Rows that are run among many others.
    pub prefill_rows: u32,
    /// Rows that are run alone.
    pub decode_rows: u32,
}

impl Workload {
    /// One token generated: the plan's seconds are seconds per token.
    pub const TOKEN: Self = Self {
        prefill_rows: 0,
        decode_rows: 1,
    };
}

/// What a plan minimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// [`Plan::period`]: many requests in flight.
    Throughput,
    /// [`Plan::latency`]: one request at a time.
    OneStream,
}

/// Pieces on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlacedSpan {
    /// Index of the device in the request.
    pub device: usize,
    /// The pieces.
    pub span: Span,
}

/// A placement, and what it is predicted to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The stages in pipeline order.
    pub stages: Vec<PlacedSpan>,
    /// What was minimised.
    pub objective: Objective,
    /// Seconds from one unit of work to the next with the pipeline full: the largest of the
    /// devices' busy seconds divided by their duty, and of one crossing.
    pub period: f64,
    /// Seconds from one unit of work to the next with one in flight: all busy seconds and
    /// crossings, or the largest of the devices' busy seconds divided by their duty if that is
    /// more.
    pub latency: f64,
    /// What the minimised seconds are made of.
    pub bound_by: BoundBy,
    /// One for each device of the request.
    pub loads: Vec<DeviceLoad>,
}

impl Plan {
    /// The seconds that were minimised.
    pub fn seconds(&self) -> f64 {
        match self.objective {
            Objective::Throughput => self.period,
            Objective::OneStream => self.latency,
        }
    }
}

/// What the minimised seconds of a plan are made of: the limit that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    /// Busy seconds of this device, divided by its duty.
    Device(usize),
    /// One crossing.
    Crossing,
    /// Every device and crossing in turn.
    Chain,
}

/// What a plan asks of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeviceLoad {
    /// Seconds of work.
    pub busy: f64,
    /// Seconds that the work and the rest it owes take.
    pub paced: f64,
    /// Packed weights.
    pub weights: Bytes,
    /// Keys and values.
    pub kv: Bytes,
    /// Buffers.
    pub scratch: Bytes,
}

impl DeviceLoad {
    /// All bytes.
    pub fn bytes(&self) -> Bytes {
        self.weights + self.kv + self.scratch
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The request names no device.
    #[error("no device to plan for")]
    NoDevices,
    /// The exact search does not take so many.
    #[error("{given} devices; a plan is made for at most {PLAN_DEVICES_MAX}, choose among them")]
    TooManyDevices {
        /// Devices in the request.
        given: usize,
    },
    /// A figure of the request cannot be used.
    #[error("device {device}: {what}")]
    Figure {
        /// Index of the device.
        device: usize,
        /// What is wrong.
        what: String,
    },
    /// No placement keeps every device within its room.
    #[error(
        "the model needs {needed} on one device and does not fit; room: {}; the first \
         {pieces_placed} of {pieces} pieces would fit, {placed}",
        list(rooms)
    )]
    DoesNotFit {
        /// Bytes of the whole model on the device that packs it smallest.
        needed: Bytes,
        /// Room on each device.
        rooms: Vec<Bytes>,
        /// Bytes of the longest beginning of the model that fits over all devices.
        placed: Bytes,
        /// Its pieces.
        pieces_placed: usize,
        /// Pieces of the model.
        pieces: usize,
    },
    /// A plan written by hand names a device that is not there.
    #[error("stage {stage} is on device {device}, and there are {devices}")]
    UnknownDevice {
        /// Index of the stage.
        stage: usize,
        /// The device it names.
        device: usize,
        /// Devices in the request.
        devices: usize,
    },
    /// A plan written by hand leaves out pieces, or has some twice.
    #[error("stage {stage} has {span}; it must have at least one piece and begin at {begins}")]
    NotInOrder {
        /// Index of the stage.
        stage: usize,
        /// Its span.
        span: Span,
        /// The piece after those of the stages before it.
        begins: usize,
    },
    /// A plan written by hand ends before the model or after it.
    #[error("the stages end at piece {end} of {pieces}")]
    NotTheWhole {
        /// Where the last stage ends.
        end: usize,
        /// Pieces of the model.
        pieces: usize,
    },
    /// A plan written by hand puts more on a device than it may hold.
    #[error("device {device} would hold {needed}, and has room for {room}")]
    OverRoom {
        /// Index of the device.
        device: usize,
        /// Bytes of its stages.
        needed: Bytes,
        /// Its room.
        room: Bytes,
    },
}

/// The best placement that uses each device at most once; of equal ones, the one with the fewest
/// devices, and of those the one whose devices come first in the request.
///
/// Exact: a dynamic programme over sets of devices, for up to [`PLAN_DEVICES_MAX`] devices. Costs
/// are taken to 50 binary places of their total, so that sums do not depend on their order.
pub fn plan(request: &PlanRequest) -> Result<Plan, PlanError> {
    let table = Table::new(request)?;
    let stages = match request.objective {
        Objective::Throughput => throughput::search(&table),
        Objective::OneStream => one_stream::search(&table),
    };
    match stages {
        Some(stages) => Ok(table.describe(request, stages)),
        None => Err(table.does_not_fit(request)),
    }
}

fn list(rooms: &[Bytes]) -> String {
    let rooms: Vec<_> = rooms.iter().map(Bytes::to_string).collect();
    rooms.join(", ")
}
