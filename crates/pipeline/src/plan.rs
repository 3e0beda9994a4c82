//! Where the pieces of a model stand: ordered contiguous spans on devices, chosen exactly.

mod by_hand;
mod corridor;
mod covering;
mod describe;
mod effort;
mod floor;
mod fluid;
mod limits;
mod one_stream;
mod priced;
mod reaches;
mod refusal;
mod remaining;
mod select;
mod table;
mod throughput;
mod window;

use gogrid_units::{Bytes, Span};

use crate::stage::Costs;

pub use by_hand::{check_stages, plan_by_hand};
pub use effort::PLAN_EFFORT_MAX;
use effort::{Effort, Spent};
pub use limits::{Limit, LimitCost, what_limits_cost};
pub use refusal::{MemoryNeed, PlanError};
use table::Table;

/// The most devices the exact search takes.
pub const PLAN_DEVICES_MAX: usize = 8;

/// What a planner is asked.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// The devices, at most [`PLAN_DEVICES_MAX`].
    pub devices: Vec<PlanDevice>,
    /// The memories that the devices name.
    pub memories: Vec<PlanMemory>,
    /// The link from each device (a row) to each device (a column). A device's link to itself is
    /// not looked at.
    pub links: Vec<Vec<PlanLink>>,
    /// Bytes of one row of the residual stream.
    pub row_bytes: Bytes,
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
    /// Index of its memory in the request. Several devices may name one.
    pub memory: usize,
    /// The share of wall time it may be busy.
    pub duty: PlanDuty,
}

/// How a device keeps to its share of time, as `governor::Duty` does it.
///
/// A device that waits earns the right to be busy later, its credit. In any `t` seconds it is busy
/// for at most `credit + share * t`, and never more than `burst * t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanDuty {
    /// The share of wall time it may be busy, above 0 and at most 1.
    pub share: f64,
    /// The share of its speed that it works with while it has credit, from `share` to 1: a team of
    /// threads is then one thread wider than its share pays for, and other devices have all of it.
    pub burst: f64,
    /// The most seconds of work it may have earned by waiting; not negative, and may be infinite.
    pub credit: f64,
}

impl PlanDuty {
    /// No limit.
    pub const FULL: Self = Self {
        share: 1.0,
        burst: 1.0,
        credit: 0.0,
    };
}

/// A memory, which one device has or several share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanMemory {
    /// Bytes that stages may hold there: the memory's cap less what is leased already.
    pub room: Bytes,
}

/// The way from a device to another. A unit of work crosses it at once: in the latency, and its
/// rows' bytes over the bandwidth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanLink {
    /// Seconds that a crossing takes whatever its size.
    pub latency: f64,
    /// Above zero; infinite where the rows stay in the same memory.
    pub bytes_per_second: f64,
}

impl PlanLink {
    /// A link within a memory.
    pub const fn same_memory(latency: f64) -> Self {
        Self {
            latency,
            bytes_per_second: f64::INFINITY,
        }
    }
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
    /// devices' busy seconds divided by their share, and of what any link carries.
    pub period: f64,
    /// Seconds from one unit of work to the next with one in flight: the devices' seconds in turn
    /// ([`DeviceLoad::in_turn`]) and the crossings, or the largest of the devices' busy seconds
    /// divided by their share if that is more.
    pub latency: f64,
    /// What the minimised seconds are made of.
    pub bound_by: BoundBy,
    /// Whether the search was through, so that no placement is better. Not so where it was cut short
    /// by the most effort that it may make, and for a plan by hand, which is compared with no other.
    pub is_proven: bool,
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
    /// Busy seconds of this device, divided by its share.
    Device(usize),
    /// The crossings of one link.
    Crossing,
    /// Every device and crossing in turn.
    Chain,
}

/// What a plan asks of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeviceLoad {
    /// Seconds of work.
    pub busy: f64,
    /// Seconds that the work and the rest it owes take: a unit comes no faster than this.
    pub paced: f64,
    /// Wall seconds of one unit of work when the device has waited for the others before: the
    /// paced seconds less what credit spares, and at least the work itself.
    ///
    /// A device that a plan by hand has twice counts as if its stages followed one another.
    pub in_turn: f64,
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

/// The best placement that uses each device at most once; of equal ones, the one with the fewest
/// devices, and of those the one whose devices come first in the request.
///
/// Exact: a dynamic programme over sets of devices, for up to [`PLAN_DEVICES_MAX`] devices, and
/// where devices share a memory a best-first search that the programme guides. Costs are taken to
/// 48 binary places of their total, so that sums do not depend on their order.
///
/// Where that would take more effort than [`PLAN_EFFORT_MAX`], the best placement found until then,
/// which [`Plan::is_proven`] tells.
pub fn plan(request: &PlanRequest) -> Result<Plan, PlanError> {
    plan_with_effort(request, PLAN_EFFORT_MAX)
}

/// As [`plan`], with another bound on the effort.
pub fn plan_with_effort(request: &PlanRequest, effort_max: usize) -> Result<Plan, PlanError> {
    let table = Table::new(request)?;
    let effort = Effort::new(effort_max);
    let found = match request.objective {
        Objective::Throughput => throughput::search(&table, &effort),
        Objective::OneStream => one_stream::search(&table, &effort),
    };
    let (stages, is_proven) = match found {
        Ok(stages) => (stages, true),
        Err(Spent) => (best_or_any(&table, effort, effort_max)?, false),
    };
    match stages {
        Some(stages) => Ok(Plan {
            is_proven,
            ..table.describe(request, stages)
        }),
        None => Err(refusal::does_not_fit(&table, request)),
    }
}

/// The best plan that a search found until it was cut short, or else any that fits; `None` when
/// there is none.
fn best_or_any(
    table: &Table,
    effort: Effort,
    effort_max: usize,
) -> Result<Option<Vec<PlacedSpan>>, PlanError> {
    if let Some(stages) = effort.into_best() {
        return Ok(Some(stages));
    }
    let any = throughput::any_that_fits(table, Effort::new(effort_max));
    any.map_err(|Spent| PlanError::CutShort { effort: effort_max })
}
