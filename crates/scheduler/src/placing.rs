use gogrid_governor::Duty;
use gogrid_model::Model;
use gogrid_pipeline::{
    BoundBy, Costs, DeviceLoad, Footprint, Limit, PLAN_EFFORT_MAX, PieceBytes, PlacedSpan, Plan,
    PlanDevice, PlanDuty, PlanError, PlanLink, PlanMemory, PlanRequest, STAGES_MAX, Workload,
    check_stages, plan, plan_by_hand, what_limits_cost,
};
use gogrid_units::{Bytes, Span};

use crate::core::blocks_at_most;
use crate::error::OpenError;
use crate::limits::{CROSSING_SECONDS, PLANNED_TOKENS_MAX, ROWS_IN_STEP_MAX, SLICE};
use crate::log;
use crate::machine::{DeviceContext, Hardware};
use crate::opening::Opener;
use crate::options::Options;

/// Where the stages stand, and what it was worked out from. Devices are counted among those that can
/// be used.
pub(crate) struct Placing {
    pub(crate) plan: Plan,
    /// Whether the search for the best placement had to end before it was through.
    pub(crate) is_cut_short: bool,
    request: PlanRequest,
    usable: Vec<usize>,
    /// Devices that nobody asked for and that cannot run the model, each with the reason.
    left_out: Vec<String>,
}

/// Whether the seconds of a plan matter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timing {
    /// Pieces are timed on every device.
    Measured,
    /// There is nothing to choose, so every piece counts the same.
    Unmeasured,
}

/// Chooses where the pieces of the model stand on the devices that can be used, or checks the
/// placement written by hand. A device that nobody asked for is left out where it cannot run the model.
pub(crate) fn place(
    opener: &Opener,
    usable: &[usize],
    options: &Options,
    timing: Timing,
) -> Result<Placing, OpenError> {
    let whole = Span::whole_model(opener.shape.layers);
    let mut candidates = Candidates {
        opener,
        by_hand: options.plan.as_deref().unwrap_or_default(),
        usable: usable.to_vec(),
        left_out: Vec::new(),
    };
    candidates.keep(|device| {
        let checked = device.backend().check(&opener.model, whole);
        checked.map_err(|error| OpenError::of_stage(&device.name, error))
    })?;
    let devices = candidates.keep(|device| plan_device(opener, device, timing))?;
    let Candidates {
        usable, left_out, ..
    } = candidates;
    // What it takes to bring rows into a memory of a device's own is in the seconds measured there.
    let link = PlanLink::same_memory(CROSSING_SECONDS);
    let memories = opener.hardware.memories.iter().map(|memory| PlanMemory {
        room: memory.ledger.room(),
    });
    let request = PlanRequest {
        links: vec![vec![link; devices.len()]; devices.len()],
        devices,
        memories: memories.collect(),
        row_bytes: Bytes(opener.model.decoder().width as u64 * 4),
        workload: Workload::TOKEN,
        objective: options.objective,
    };
    let plan = match (&options.plan, timing) {
        (Some(stages), _) => plan_by_hand(&request, &among(opener, stages, &usable)?),
        (None, Timing::Unmeasured) => plan_by_hand(&request, &[whole_on_first(opener)]),
        (None, Timing::Measured) => plan(&request),
    };
    let plan = plan.map_err(refused)?;
    let is_searched = options.plan.is_none() && timing == Timing::Measured;
    Ok(Placing {
        is_cut_short: is_searched && !plan.is_proven,
        plan,
        request,
        usable,
        left_out,
    })
}

/// Devices that a model may be placed on.
struct Candidates<'a> {
    opener: &'a Opener,
    /// The placement written by hand, if there is one.
    by_hand: &'a [PlacedSpan],
    usable: Vec<usize>,
    left_out: Vec<String>,
}

impl Candidates<'_> {
    /// Keeps the devices for which `work` goes well, with what it gives. Where it fails on one that somebody
    /// asked for, or on all, that is an error.
    fn keep<T>(
        &mut self,
        work: impl Fn(&DeviceContext) -> Result<T, OpenError>,
    ) -> Result<Vec<T>, OpenError> {
        let (mut kept, mut given, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for index in std::mem::take(&mut self.usable) {
            match work(&self.opener.hardware.devices[index]) {
                Ok(one) => {
                    kept.push(index);
                    given.push(one);
                }
                Err(error) if self.can_do_without(index) => failed.push(error),
                Err(error) => return Err(error),
            }
        }
        if kept.is_empty() && !failed.is_empty() {
            return Err(failed.swap_remove(0));
        }
        for error in failed {
            log::warn(&format_args!("not used for this model: {error}"));
            self.left_out.push(error.to_string());
        }
        self.usable = kept;
        Ok(given)
    }

    fn can_do_without(&self, index: usize) -> bool {
        let is_named = self.by_hand.iter().any(|stage| stage.device == index);
        self.opener.hardware.devices[index].is_optional && !is_named
    }
}

fn whole_on_first(opener: &Opener) -> PlacedSpan {
    PlacedSpan {
        device: 0,
        span: Span::whole_model(opener.shape.layers),
    }
}

/// Stages by index into the machine's devices, as counted among the usable ones.
fn among(
    opener: &Opener,
    stages: &[PlacedSpan],
    usable: &[usize],
) -> Result<Vec<PlacedSpan>, OpenError> {
    check_line(opener, stages)?;
    let counted = |&PlacedSpan { device, span }: &PlacedSpan| {
        let place = usable.iter().position(|&index| index == device);
        let lost = || {
            let name = &opener.hardware.devices[device].name;
            OpenError::BadDevice(format!("{name} is lost"))
        };
        Ok(PlacedSpan {
            device: place.ok_or_else(lost)?,
            span,
        })
    };
    stages.iter().map(counted).collect()
}

/// Whether stages follow one another over the whole model, on devices that are there.
pub(crate) fn check_line(opener: &Opener, stages: &[PlacedSpan]) -> Result<(), OpenError> {
    if stages.len() > STAGES_MAX {
        let problem = format!(
            "{} stages; a pipeline has at most {STAGES_MAX}",
            stages.len()
        );
        return Err(OpenError::BadOption {
            field: "plan",
            problem,
        });
    }
    let pieces = Span::whole_model(opener.shape.layers).end;
    check_stages(stages, opener.hardware.devices.len(), pieces).map_err(refused)
}

impl Placing {
    /// Whether every device's costs are sure.
    pub(crate) fn is_sure(&self) -> bool {
        self.request
            .devices
            .iter()
            .all(|device| device.costs.is_sure)
    }

    /// The stages, by index into the machine's devices.
    pub(crate) fn stages(&self) -> Vec<PlacedSpan> {
        let stages = self.plan.stages.iter().map(|stage| PlacedSpan {
            device: self.usable[stage.device],
            span: stage.span,
        });
        stages.collect()
    }

    /// Seconds of one row of a prefill's chunks, and of one alone, with one request. The rows of a
    /// chunk go the way of one row together, one chunk after the other.
    pub(crate) fn seconds(&self) -> (f64, f64) {
        let chunk = Workload {
            // At most some thousands.
            prefill_rows: ROWS_IN_STEP_MAX as u32,
            decode_rows: 0,
        };
        let request = PlanRequest {
            workload: chunk,
            ..self.request.clone()
        };
        let prefill = plan_by_hand(&request, &self.plan.stages);
        let rows = f64::from(chunk.prefill_rows);
        (
            prefill.map_or(f64::NAN, |plan| plan.latency / rows),
            self.plan.latency,
        )
    }

    /// Why it is this placement, a line for each reason.
    pub(crate) fn why(&self, hardware: &Hardware, by_hand: bool) -> Vec<String> {
        let usable = self.usable.iter();
        let names: Vec<_> = usable
            .map(|&index| hardware.devices[index].name.clone())
            .collect();
        let names = &names[..];
        let mut why = self.loads(names);
        let left_out = hardware.left_out.iter().chain(&self.left_out);
        why.extend(left_out.map(|problem| format!("not used: {problem}")));
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
        if self.is_cut_short {
            why.push(format!(
                "this placement is the best found in {PLAN_EFFORT_MAX} steps, and not proven to be \
                 the best"
            ));
        }
        for cost in what_limits_cost(&self.request).unwrap_or_default() {
            let (limit, ratio) = (self.limit_in_words(cost.limit, names), cost.ratio);
            why.push(match (ratio > 1.0005, cost.is_proven) {
                (true, true) => format!("the {limit} costs a factor of {ratio:.2}"),
                (true, false) => format!("the {limit} costs a factor of {ratio:.2} or more"),
                (false, true) => format!("the {limit} costs nothing"),
                (false, false) => format!("the {limit} is not known to cost anything"),
            });
        }
        why
    }

    /// What the plan gives each device.
    fn loads(&self, names: &[String]) -> Vec<String> {
        let devices = self.plan.loads.iter().zip(&self.request.devices);
        let line = |(name, (load, device)): (&String, (&DeviceLoad, &PlanDevice))| {
            format!(
                "{name}: the whole model would take {:.3} ms a token there; this plan gives it \
                 {:.3} ms, {:.3} ms with its rests, and {} of {}",
                device.costs.decode.iter().sum::<f64>() * 1e3,
                load.busy * 1e3,
                load.in_turn * 1e3,
                load.bytes(),
                self.request.memories[device.memory].room,
            )
        };
        names.iter().zip(devices).map(line).collect()
    }

    fn limit_in_words(&self, limit: Limit, names: &[String]) -> String {
        match limit {
            Limit::Room(memory) => {
                let devices = names.iter().zip(&self.request.devices);
                let its = devices.filter(|(_, device)| device.memory == memory);
                let its: Vec<_> = its.map(|(name, _)| &**name).collect();
                format!("memory limit of {}", its.join(" and "))
            }
            Limit::Duty(device) => format!("compute limit of {}", names[device]),
        }
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
fn piece_bytes(model: &Model, device: &DeviceContext) -> Vec<PieceBytes> {
    let whole = Span::whole_model(model.decoder().layers.len());
    let backend = device.backend();
    let predict = |span| backend.predict(model, span, ROWS_IN_STEP_MAX);
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
    opener: &Opener,
    device: &DeviceContext,
    timing: Timing,
) -> Result<PlanDevice, OpenError> {
    let model = &*opener.model;
    let whole = Span::whole_model(opener.shape.layers);
    let pieces = piece_bytes(model, device);
    let apart: Bytes = pieces.iter().map(|piece| piece.weights).sum();
    let backend = device.backend();
    let together = backend.predict(model, whole, ROWS_IN_STEP_MAX).weights;
    drop(backend);
    let costs = match timing {
        Timing::Unmeasured => Costs {
            decode: vec![1.0; whole.len()],
            prefill: vec![1.0; whole.len()],
            is_sure: false,
        },
        Timing::Measured => opener.costs(device)?,
    };
    Ok(PlanDevice {
        costs,
        pieces,
        tied: apart.saturating_sub(together),
        memory: device.memory,
        duty: duty(
            (device.cores, device.lanes),
            opener.share() * device.quota_share,
        ),
    })
}

/// How a device keeps to its share, with so many cores and threads. The limit is on cores' time, so
/// fewer threads than cores may each work for more of it.
fn duty((cores, threads): (usize, usize), share: f64) -> PlanDuty {
    let cores_per_thread = cores as f64 / threads as f64;
    let share_of_thread = (share * cores_per_thread).min(1.0);
    let cores = u32::try_from(cores).expect("no machine has 2^32 cores");
    // As wide as a team is that has no debt.
    let width = Duty::new(share, cores, SLICE).width().min(threads);
    PlanDuty {
        share: share_of_thread,
        burst: (width as f64 / threads as f64).max(share_of_thread),
        credit: Duty::CREDIT_PER_CORE.as_secs_f64() * cores_per_thread,
    }
}

fn refused(error: PlanError) -> OpenError {
    match error {
        PlanError::OverRoom { needed, room, .. } => {
            let problem = format!("{needed} needed on all devices together, {room} under the cap");
            OpenError::DoesNotFit(problem)
        }
        PlanError::DoesNotFit { .. } | PlanError::CutShort { .. } => {
            OpenError::DoesNotFit(error.to_string())
        }
        PlanError::NoDevices | PlanError::TooManyDevices { .. } => {
            OpenError::BadDevice(error.to_string())
        }
        other => OpenError::BadOption {
            field: "plan",
            problem: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
