use std::io;
use std::sync::Arc;

use gogrid_host::Clock;
use gogrid_model::Model;
use gogrid_pipeline::{Footprint, Opening, PlacedSpan, PlacedStage};

use crate::core::{Room, Shape};
use crate::engine::{Engine, Parts};
use crate::error::OpenError;
use crate::ground::{self, Ground, Held};
use crate::limits::ROWS_IN_STEP_MAX;
use crate::observer::{self, Observer};
use crate::options::Options;
use crate::pace::DutyPace;
use crate::placing::{self, Placing, Timing, place};
use crate::senses::Senses;
use crate::status::{Prediction, StageStatus};
use crate::threads::Threads;

/// A pipeline whose stages stand and whose engine runs.
pub(crate) struct Opened {
    pub(crate) engine: Arc<Engine>,
    pub(crate) observer: Observer,
    pub(crate) room: Room,
    pub(crate) stages: Vec<StageStatus>,
    pub(crate) clock: Clock,
}

/// Plans, opens every stage, and starts the engine.
pub(crate) fn open(
    model: &Model,
    mut grounds: Vec<Ground>,
    options: &Options,
    (threads, senses): (&Threads, Box<dyn Senses>),
) -> Result<Opened, OpenError> {
    let chosen = grounds.len() > 1 && options.plan.is_none();
    let timing = if chosen {
        Timing::Measured
    } else {
        Timing::Unmeasured
    };
    let Placing { plan, .. } = place(model, &mut grounds, options, timing)?;
    let mut placed = Vec::new();
    for &stage in &plan.stages {
        placed.push(open_stage(model, &mut grounds, stage)?);
    }
    let footprints: Vec<Footprint> = placed
        .iter()
        .map(|placed| placed.stage.footprint())
        .collect();
    let stages = statuses(model, &grounds, (&plan.stages, &footprints));
    let windows: Vec<_> = model
        .decoder()
        .kv_groups
        .iter()
        .map(|group| group.window)
        .collect();
    let account = ground::account(&grounds, windows.len(), &footprints);
    let room = Room {
        accounts: vec![account],
        windows,
    };
    let clock = Clock::start();
    let engine = Engine::start(Parts {
        shape: shape(model, room.clone(), placed.len()),
        limits: options.limits.clone(),
        stages: placed,
        devices: grounds.iter().map(|ground| ground.device.clone()).collect(),
        paces: paces(&grounds),
        gate: Arc::clone(grounds[0].pace.gate()),
        threads: threads.clone(),
        clock,
    });
    let engine = Arc::new(engine.map_err(|e| not_started("engine", &e))?);
    let observer = Observer::start(observer::Parts {
        settings: options.settings(),
        senses,
        devices: grounds.iter().map(|ground| ground.device.clone()).collect(),
        ledgers: grounds.iter().map(|ground| ground.ledger.clone()).collect(),
        paces: paces(&grounds),
        gate: Arc::clone(grounds[0].pace.gate()),
        threads: threads.clone(),
        clock,
        engine: Arc::clone(&engine),
    });
    let observer = observer.map_err(|e| not_started("observer", &e))?;
    Ok(Opened {
        engine,
        observer,
        room,
        stages,
        clock,
    })
}

fn paces(grounds: &[Ground]) -> Vec<Arc<DutyPace>> {
    grounds
        .iter()
        .map(|ground| Arc::clone(&ground.pace))
        .collect()
}

fn not_started(what: &str, error: &io::Error) -> OpenError {
    OpenError::Device {
        device: what.to_owned(),
        problem: format!("its threads could not be started: {error}"),
    }
}

/// What `open` would do, without reading a weight beyond those it times.
pub(crate) fn predict(
    model: &Model,
    mut grounds: Vec<Ground>,
    options: &Options,
) -> Result<Prediction, OpenError> {
    let placing = place(model, &mut grounds, options, Timing::Measured)?;
    let (prefill, decode) = placing.seconds();
    let why = placing.why(&names(&grounds), options.plan.is_some());
    let plan = placing.plan;
    let footprint = |stage: &PlacedSpan| {
        grounds[stage.device]
            .backend
            .predict(model, stage.span, ROWS_IN_STEP_MAX)
    };
    let footprints: Vec<Footprint> = plan.stages.iter().map(footprint).collect();
    let device = |(index, ground): (usize, &Ground)| {
        let its = plan
            .stages
            .iter()
            .zip(&footprints)
            .filter(|(stage, _)| stage.device == index);
        let held = its.fold(Held::default(), |sum, (_, footprint)| Held {
            weights: sum.weights + footprint.weights,
            kv: sum.kv + placing::planned_kv(model, footprint),
            scratch: sum.scratch + footprint.scratch,
        });
        ground::device_status((&ground.device, &ground.ledger, &ground.pace), held)
    };
    Ok(Prediction {
        model: model.name().to_owned(),
        context: model.decoder().context,
        stages: statuses(model, &grounds, (&plan.stages, &footprints)),
        planned_tokens: placing::planned_tokens(model),
        devices: grounds.iter().enumerate().map(device).collect(),
        decode_tok_s: 1.0 / decode,
        prefill_tok_s: 1.0 / prefill,
        why,
    })
}

fn open_stage(
    model: &Model,
    grounds: &mut [Ground],
    PlacedSpan { device, span }: PlacedSpan,
) -> Result<PlacedStage, OpenError> {
    let Ground {
        device: name,
        backend,
        ledger,
        pace,
    } = &mut grounds[device];
    let pace = Arc::<DutyPace>::clone(pace);
    let opening = Opening {
        model,
        span,
        memory: ledger,
        pace,
        rows_max: ROWS_IN_STEP_MAX,
    };
    let refused = |error| OpenError::of_stage(&name.to_string(), error);
    let stage = backend.open(opening).map_err(refused)?;
    Ok(PlacedStage {
        device,
        span,
        stage,
    })
}

fn statuses(
    model: &Model,
    grounds: &[Ground],
    (stages, footprints): (&[PlacedSpan], &[Footprint]),
) -> Vec<StageStatus> {
    let both = stages.iter().zip(footprints);
    let status = both.map(|(stage, footprint)| {
        ground::stage_status(
            &grounds[stage.device].device,
            (stage.span, footprint),
            model,
        )
    });
    status.collect()
}

fn shape(model: &Model, room: Room, depth: usize) -> Shape {
    let (decoder, tokenizer) = (model.decoder(), model.tokenizer());
    // A vocabulary fits 32 bits.
    let ends = (0..tokenizer.vocab() as u32)
        .filter(|&id| tokenizer.ends(id))
        .collect();
    Shape {
        vocab: decoder.vocab,
        ends,
        depth,
        room,
    }
}

fn names(grounds: &[Ground]) -> Vec<String> {
    grounds
        .iter()
        .map(|ground| ground.device.to_string())
        .collect()
}
