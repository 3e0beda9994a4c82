//! Seconds for each piece, timed on this device with the model's own weights.
//!
//! Layers of one shape and one set of weight types cost the same, so one of each kind is loaded and
//! timed; the embedding is a copy of rows and the head is timed whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use gogrid_lease::Ledger;
use gogrid_model::{Model, Weight};
use gogrid_pipeline::{
    BLOCK_TOKENS, BlockId, Costs, Input, Opening, OutputBuf, SequenceRows, Stage, StageError, Step,
    Want,
};
use gogrid_units::{FullSpeed, Piece, Span, WeightType};

use crate::backend::CpuBackend;
use crate::stage::CpuStage;

/// Rows of a timed prefill step.
const PREFILL_ROWS: usize = 64;
/// The shortest timed stretch, and the most steps it may take.
const STRETCH_SECONDS: f64 = 0.004;
const STEPS_MAX: usize = 64;

/// What decides a piece's cost: its kind, and its matrices' types and shapes.
type PieceKind = (
    std::mem::Discriminant<Piece>,
    Vec<(WeightType, usize, usize)>,
);

pub(crate) fn costs(
    backend: &mut CpuBackend,
    model: &Model,
    memory: &Ledger,
) -> Result<Costs, StageError> {
    let layers = model.decoder().layers.len();
    let mut known: HashMap<PieceKind, (f64, f64)> = HashMap::new();
    let mut costs = Costs {
        decode: Vec::new(),
        prefill: Vec::new(),
    };
    for (index, piece) in Span::whole_model(layers).pieces(layers).enumerate() {
        let shape = |weight: &&Weight| (weight.kept, weight.rows, weight.cols);
        let weights = model.decoder().piece_weights(piece);
        let kind = (
            std::mem::discriminant(&piece),
            weights.iter().map(shape).collect(),
        );
        let seconds = match known.get(&kind) {
            Some(seconds) => *seconds,
            None => {
                let span = Span::new(index, index + 1);
                let pace = Arc::new(FullSpeed);
                let opening = Opening {
                    model,
                    span,
                    memory,
                    pace,
                    rows_max: PREFILL_ROWS,
                };
                let mut stage = backend.open_stage(&opening)?;
                let groups = model.decoder().kv_groups.len();
                let decode = seconds_per_row(&mut stage, 1, groups)?;
                let prefill = seconds_per_row(&mut stage, PREFILL_ROWS, groups)?;
                known.insert(kind, (decode, prefill));
                (decode, prefill)
            }
        };
        costs.decode.push(seconds.0);
        costs.prefill.push(seconds.1);
    }
    Ok(costs)
}

/// Seconds for a row in steps of `rows`: the fastest of several stretches, after one to warm up.
fn seconds_per_row(stage: &mut CpuStage, rows: usize, groups: usize) -> Result<f64, StageError> {
    let blocks = (0..rows.div_ceil(BLOCK_TOKENS)).map(|block| Some(BlockId(block as u32)));
    let tables = Arc::new(vec![blocks.collect(); groups]);
    let mut wants = vec![Want::Nothing; rows];
    wants[rows - 1] = Want::Logits;
    let step = Arc::new(Step {
        sequences: vec![SequenceRows {
            tables,
            start: 0,
            wants,
        }],
    });
    let mut best = f64::INFINITY;
    let mut out = OutputBuf::default();
    for stretch in 0..4 {
        let began = now();
        let mut steps = 0;
        while steps < STEPS_MAX && began.elapsed().as_secs_f64() < STRETCH_SECONDS {
            run(stage, &step, &mut out)?;
            steps += 1;
        }
        if stretch > 0 {
            best = best.min(began.elapsed().as_secs_f64() / (steps * rows) as f64);
        }
    }
    Ok(best)
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is measured here is this device's time"
)]
fn now() -> Instant {
    Instant::now()
}

fn run(stage: &mut CpuStage, step: &Arc<Step>, out: &mut OutputBuf) -> Result<(), StageError> {
    out.clear();
    let ids = vec![0; step.rows()];
    let hidden = vec![0.5; step.rows() * stage.shape.width];
    let input = match stage.pieces.embedding {
        Some(_) => Input::Ids(&ids),
        None => Input::Hidden(&hidden),
    };
    let ticket = stage.submit(step, input)?;
    match stage.poll(ticket, out) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => unreachable!("a CPU stage computes when it is polled"),
    }
}
