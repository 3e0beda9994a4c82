use gogrid_units::Bytes;

use super::{PlanError, PlanRequest, plan};

/// A limit on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The bytes it may hold.
    Room,
    /// The share of time it may be busy.
    Duty,
}

/// What one limit costs: the best plan without it, against the best plan with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitCost {
    /// Index of the device.
    pub device: usize,
    /// The limit that was lifted there, all others kept.
    pub limit: Limit,
    /// The minimised seconds without it.
    pub seconds_without: f64,
    /// The seconds with it over those without: 1 when it costs nothing.
    pub ratio: f64,
}

/// For every device, what its room and its duty cost, by planning again without each.
pub fn what_limits_cost(request: &PlanRequest) -> Result<Vec<LimitCost>, PlanError> {
    let seconds = plan(request)?.seconds();
    let devices = 0..request.devices.len();
    let limits = devices.flat_map(|device| [(device, Limit::Room), (device, Limit::Duty)]);
    limits
        .map(|(device, limit)| {
            let mut without = request.clone();
            match limit {
                Limit::Room => without.devices[device].room = Bytes(u64::MAX),
                Limit::Duty => without.devices[device].duty = 1.0,
            }
            let seconds_without = plan(&without)?.seconds();
            let ratio = if seconds_without > 0.0 {
                seconds / seconds_without
            } else {
                1.0
            };
            Ok(LimitCost {
                device,
                limit,
                seconds_without,
                ratio,
            })
        })
        .collect()
}
