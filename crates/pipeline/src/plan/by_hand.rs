use super::table::Table;
use super::{PlacedSpan, Plan, PlanError, PlanRequest};

/// The plan that has the given stages in the given order. A device may have several of them.
///
/// Fails unless the stages hold all pieces in order, each once, and every device has the room.
/// Takes any number of devices.
pub fn plan_by_hand(request: &PlanRequest, stages: &[PlacedSpan]) -> Result<Plan, PlanError> {
    let table = Table::unlimited(request)?;
    check_order(stages, request.devices.len(), table.pieces)?;
    let plan = table.describe(request, stages.to_vec());
    for (device, (load, given)) in plan.loads.iter().zip(&request.devices).enumerate() {
        let (needed, room) = (load.bytes(), given.room);
        if needed > room {
            return Err(PlanError::OverRoom {
                device,
                needed,
                room,
            });
        }
    }
    Ok(plan)
}

fn check_order(stages: &[PlacedSpan], devices: usize, pieces: usize) -> Result<(), PlanError> {
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
