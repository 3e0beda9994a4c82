use gogrid_model::Model;
use gogrid_pipeline::{
    BoundBy, Costs, Footprint, Limit, PieceBytes, PlacedSpan, Plan, PlanDevice, PlanError,
    PlanRequest, Workload, plan, plan_by_hand, what_limits_cost,
};
use gogrid_units::{Bytes, Span};

use crate::core::blocks_at_most;
use crate::error::OpenError;
use crate::ground::Ground;
use crate::limits::{CROSSING_SECONDS, PLANNED_TOKENS_MAX, ROWS_IN_STEP_MAX};
use crate::options::Options;
use crate::resource_manager::ResourceConfig;

/// Where the stages stand, and what it was worked out from.
pub(crate) struct Placing {
    pub(crate) plan: Plan,
    request: PlanRequest,
    /// The same, without room on devices that shared memory kept out.
    searched: PlanRequest,
}

/// Whether the seconds of a plan matter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timing {
    /// Pieces are timed on every device.
    Measured,
    /// There is nothing to choose, so every piece counts the same.
    Unmeasured,
}

/// Chooses where the pieces of `model` stand, or checks the placement written by hand.
pub(crate) fn place(
    model: &Model,
    grounds: &mut [Ground],
    options: &Options,
    timing: Timing,
) -> Result<Placing, OpenError> {
    check_compute(&options.limits)?;
    let devices = grounds
        .iter_mut()
        .map(|ground| plan_device(model, ground, options, timing));
    let request = PlanRequest {
        devices: devices.collect::<Result<_, _>>()?,
        crossing_seconds: CROSSING_SECONDS,
        workload: Workload::TOKEN,
        objective: options.objective,
    };
    let whole = [PlacedSpan {
        device: 0,
        span: Span::whole_model(model.decoder().layers.len()),
    }];
    let given = match (&options.plan, timing) {
        (Some(stages), _) => Some(&stages[..]),
        (None, Timing::Unmeasured) => Some(&whole[..]),
        (None, Timing::Measured) => None,
    };
    // All devices' ledger: they are one memory.
    let room = grounds[0].ledger.room();
    let (plan, searched) = match given {
        Some(stages) => {
            let plan = plan_by_hand(&request, stages).map_err(|error| refused(error, grounds))?;
            if bytes(&plan) > room {
                return Err(over_shared(bytes(&plan), room));
            }
            (plan, request.clone())
        }
        None => choose(&request, room, grounds)?,
    };
    Ok(Placing {
        plan,
        request,
        searched,
    })
}

/// The best plan, and the request it is the best of.
///
/// The planner counts each device's room by itself, and these devices share `room`. Where the best
/// plan's bytes pass it together, each choice of fewer devices is planned, and the best of those
/// plans that fit is taken. So the search is exact only while shared memory does not bind: of one
/// choice of devices it looks at no other cuts than the best.
fn choose(
    request: &PlanRequest,
    room: Bytes,
    grounds: &[Ground],
) -> Result<(Plan, PlanRequest), OpenError> {
    let best = plan(request).map_err(|error| refused(error, grounds))?;
    let mut least = bytes(&best);
    if least <= room {
        return Ok((best, request.clone()));
    }
    let mut chosen: Option<(Plan, PlanRequest)> = None;
    // At most `PLAN_DEVICES_MAX` devices have a plan.
    for set in 1..(1_usize << request.devices.len()) - 1 {
        let mut fewer = request.clone();
        let devices = fewer.devices.iter_mut().enumerate();
        for (_, device) in devices.filter(|(index, _)| set >> index & 1 == 0) {
            device.room = Bytes::ZERO;
        }
        // A choice of devices that the model does not fit on is none.
        let Ok(plan) = plan(&fewer) else {
            continue;
        };
        least = least.min(bytes(&plan));
        let better = |(best, _): &(Plan, PlanRequest)| plan.seconds() < best.seconds();
        if bytes(&plan) <= room && chosen.as_ref().is_none_or(better) {
            chosen = Some((plan, fewer));
        }
    }
    match chosen {
        Some(chosen) => Ok(chosen),
        None => Err(over_shared(least, room)),
    }
}

/// Refuses a share of compute with which no step would ever end.
pub(crate) fn check_compute(limits: &ResourceConfig) -> Result<(), OpenError> {
    if limits.max_compute_usage_percent == 0.0 {
        let problem = "0 leaves nothing to compute with".to_owned();
        return Err(OpenError::BadOption {
            field: "max_compute_usage_percent",
            problem,
        });
    }
    Ok(())
}

impl Placing {
    /// Seconds of one row among many, and of one alone, with one request.
    pub(crate) fn seconds(&self) -> (f64, f64) {
        let prefill = Workload {
            prefill_rows: 1,
            decode_rows: 0,
        };
        let request = PlanRequest {
            workload: prefill,
            ..self.request.clone()
        };
        let prefill = plan_by_hand(&request, &self.plan.stages);
        (
            prefill.map_or(f64::NAN, |plan| one_stream(&plan)),
            one_stream(&self.plan),
        )
    }

    /// Why it is this placement, a line for each reason.
    pub(crate) fn why(&self, names: &[String], by_hand: bool) -> Vec<String> {
        let mut why = Vec::new();
        for (name, (load, device)) in names
            .iter()
            .zip(self.plan.loads.iter().zip(&self.request.devices))
        {
            let (alone, room) = (device.costs.decode.iter().sum::<f64>(), device.room);
            why.push(format!(
                "{name}: the whole model would take {:.3} ms a token there; this plan gives it \
                 {:.3} ms and {} of its {room}",
                alone * 1e3,
                load.busy * 1e3,
                load.bytes(),
            ));
        }
        let bound_by = match self.plan.bound_by {
            BoundBy::Device(device) => format!("the share of {}", names[device]),
            BoundBy::Crossing => "a crossing between devices".to_owned(),
            BoundBy::Chain => "the way through all stages".to_owned(),
        };
        let milliseconds = self.plan.seconds() * 1e3;
        why.push(format!("{bound_by} decides: {milliseconds:.3} ms a token"));
        if by_hand {
            why.push("the placement was given by hand".to_owned());
            return why;
        }
        for cost in what_limits_cost(&self.searched).unwrap_or_default() {
            let limit = match cost.limit {
                Limit::Room => "memory",
                Limit::Duty => "compute",
            };
            let (name, ratio) = (&names[cost.device], cost.ratio);
            why.push(match ratio > 1.0005 {
                true => format!("the {limit} limit of {name} costs a factor of {ratio:.2}"),
                false => format!("the {limit} limit of {name} costs nothing"),
            });
        }
        why
    }
}

/// Tokens whose keys and values a placement leaves room for.
pub(crate) fn planned_tokens(model: &Model) -> usize {
    model.decoder().context.min(PLANNED_TOKENS_MAX)
}

/// What a sequence of `planned_tokens` holds where a stage has this footprint.
pub(crate) fn planned_kv(model: &Model, footprint: &Footprint) -> Bytes {
    let groups = model.decoder().kv_groups.iter().zip(&footprint.kv_block);
    let blocks = |window| blocks_at_most(window, planned_tokens(model)) as u64;
    groups
        .map(|(group, block)| block.times(blocks(group.window)))
        .sum()
}

/// What each piece holds on a device.
///
/// The pieces of a span share some buffers and need others side by side, and of their scratch the
/// planner counts the largest. So a piece has the scratch of the widest span whose largest it is:
/// the embedding its own, a half-layer that of all pieces before the head, the head that of the
/// whole model. No part of a span needs more scratch than the span, so this is enough for all.
fn piece_bytes(model: &Model, ground: &Ground) -> Vec<PieceBytes> {
    let whole = Span::whole_model(model.decoder().layers.len());
    let predict = |span| ground.backend.predict(model, span, ROWS_IN_STEP_MAX);
    let (before_head, _) = whole.split_at(whole.end - 1);
    let (half_layer, head) = (predict(before_head).scratch, predict(whole).scratch);
    let pieces = (whole.start..whole.end).map(|piece| {
        let footprint = predict(Span::new(piece, piece + 1));
        PieceBytes {
            weights: footprint.weights,
            kv: planned_kv(model, &footprint),
            scratch: match piece {
                0 => footprint.scratch,
                _ if piece == before_head.end => head,
                _ => half_layer,
            },
        }
    });
    pieces.collect()
}

fn plan_device(
    model: &Model,
    ground: &mut Ground,
    options: &Options,
    timing: Timing,
) -> Result<PlanDevice, OpenError> {
    let whole = Span::whole_model(model.decoder().layers.len());
    let pieces = piece_bytes(model, ground);
    let apart: Bytes = pieces.iter().map(|piece| piece.weights).sum();
    let together = ground
        .backend
        .predict(model, whole, ROWS_IN_STEP_MAX)
        .weights;
    let costs = match timing {
        Timing::Unmeasured => Costs {
            decode: vec![1.0; whole.len()],
            prefill: vec![1.0; whole.len()],
        },
        Timing::Measured => {
            let measured = ground.backend.measure(model, &ground.ledger);
            measured.map_err(|error| OpenError::of_stage(&ground.device.to_string(), error))?
        }
    };
    Ok(PlanDevice {
        costs,
        pieces,
        tied: apart.saturating_sub(together),
        room: ground.ledger.room(),
        duty: duty(ground.device.cores.len(), options),
    })
}

/// Seconds of one request's unit of work. A device rests within its work, after every slice, so
/// what it owes is not rested while others work, as [`Plan::latency`] has it.
fn one_stream(plan: &Plan) -> f64 {
    let paced: f64 = plan.loads.iter().map(|load| load.paced).sum();
    let pairs = plan.stages.windows(2);
    let crossings = pairs
        .filter(|pair| pair[0].device != pair[1].device)
        .count();
    paced + CROSSING_SECONDS * crossings as f64
}

/// The share of time that the threads of a device of `cores` cores may work. The limit is on cores'
/// time, so fewer threads than cores may each work for more of it.
fn duty(cores: usize, options: &Options) -> f64 {
    let threads = options.threads.unwrap_or(cores);
    let share = options.limits.max_compute_usage_percent;
    (share * cores as f64 / threads as f64).min(1.0)
}

/// Bytes of all devices together.
fn bytes(plan: &Plan) -> Bytes {
    plan.loads.iter().map(|load| load.bytes()).sum()
}

fn over_shared(needed: Bytes, room: Bytes) -> OpenError {
    let problem = format!("{needed} needed on all devices together, {room} under the cap");
    OpenError::DoesNotFit(problem)
}

fn refused(error: PlanError, grounds: &[Ground]) -> OpenError {
    match error {
        PlanError::OverRoom {
            device,
            needed,
            room,
        } => {
            let device = &grounds[device].device;
            OpenError::DoesNotFit(format!("{device}: {needed} needed, {room} under the cap"))
        }
        PlanError::DoesNotFit { .. } => OpenError::DoesNotFit(error.to_string()),
        PlanError::NoDevices | PlanError::TooManyDevices { .. } => OpenError::BadOption {
            field: "device",
            problem: error.to_string(),
        },
        other => OpenError::BadOption {
            field: "plan",
            problem: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
