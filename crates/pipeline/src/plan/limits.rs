use gogrid_units::Bytes;

use super::{PlanDuty, PlanError, PlanRequest, plan};

/// A limit of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The bytes that stages may hold in this memory.
    Room(usize),
    /// The share of time that this device may be busy.
    Duty(usize),
}

/// What one limit costs: the best plan without it, against the best plan with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitCost {
    /// The limit that was lifted, all others kept.
    pub limit: Limit,
    /// The minimised seconds without it.
    pub seconds_without: f64,
    /// The seconds with it over those without: 1 when it costs nothing.
    pub ratio: f64,
    /// Whether the plan without it is proven to be the best. If not, the limit may cost more.
    pub is_proven: bool,
}

/// What the room of every memory that a device is on and the duty of every device cost, by planning again
/// without each.
pub fn what_limits_cost(request: &PlanRequest) -> Result<Vec<LimitCost>, PlanError> {
    let seconds = plan(request)?.seconds();
    let has_device = |memory: &usize| {
        let mut devices = request.devices.iter();
        devices.any(|device| device.memory == *memory)
    };
    let rooms = (0..request.memories.len())
        .filter(has_device)
        .map(Limit::Room);
    let duties = (0..request.devices.len()).map(Limit::Duty);
    rooms
        .chain(duties)
        .map(|limit| {
            let mut without = request.clone();
            match limit {
                Limit::Room(memory) => without.memories[memory].room = Bytes(u64::MAX),
                Limit::Duty(device) => without.devices[device].duty = PlanDuty::FULL,
            }
            let plan_without = plan(&without)?;
            // A plan with the limit is one without it.
            let seconds_without = plan_without.seconds().min(seconds);
            let ratio = if seconds_without > 0.0 {
                seconds / seconds_without
            } else {
                1.0
            };
            Ok(LimitCost {
                limit,
                seconds_without,
                ratio,
                is_proven: plan_without.is_proven,
            })
        })
        .collect()
}
