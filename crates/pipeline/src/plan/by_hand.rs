use super::table::Table;
use super::{PlacedSpan, Plan, PlanError, PlanRequest};

/// The plan that has the given stages in the given order. A device may have several of them.
///
/// Fails unless the stages hold all pieces in order, each once, and every memory has the room.
/// Takes any number of devices.
pub fn plan_by_hand(request: &PlanRequest, stages: &[PlacedSpan]) -> Result<Plan, PlanError> {
    let table = Table::unlimited(request)?;
    check_stages(stages, request.devices.len(), table.pieces)?;
    let plan = table.describe(request, stages.to_vec());
    for (memory, given) in request.memories.iter().enumerate() {
        let devices = request.devices.iter().zip(&plan.loads);
        let its = devices.filter(|(device, _)| device.memory == memory);
        let (needed, room) = (its.map(|(_, load)| load.bytes()).sum(), given.room);
        if needed > room {
            return Err(PlanError::OverRoom {
                memory,
                needed,
                room,
            });
        }
    }
    Ok(plan)
}

/// Whether stages hold all `pieces` in order, each once, on devices below `devices`.
pub fn check_stages(stages: &[PlacedSpan], devices: usize, pieces: usize) -> Result<(), PlanError> {
    let mut begins = 0;
    for (stage, &PlacedSpan { device, span }) in stages.iter().enumerate() {
        if device >= devices {
            return Err(PlanError::UnknownDevice {
                stage,
                device,
                devices,
            });
        }
        if span.start != begins || span.end <= span.start {
            return Err(PlanError::NotInOrder {
                stage,
                span,
                begins,
            });
        }
        begins = span.end;
    }
    if begins == pieces {
        Ok(())
    } else {
        Err(PlanError::NotTheWhole {
            end: begins,
            pieces,
        })
    }
}
