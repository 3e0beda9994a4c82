//! Seconds for each piece, timed on this device with the model's own weights.
//!
//! Layers of one shape and one set of weight types cost the same, so one of each kind is loaded and
//! timed; the embedding is a copy of rows and the head is timed whole. Steps follow a stated number
//! of positions whose keys and values are zeros, so that attention counts.
//!
//! A layer on its own stays in the caches and is faster than one of many, which the head is not: so
//! a run of layers is timed too, and a layer's costs are made longer by as much as it takes more than
//! the sum of its pieces.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use gogrid_lease::{Kind, Ledger};
use gogrid_model::{Decoder, Model, Weight};
use gogrid_pipeline::{
    BLOCK_TOKENS, BlockId, Costs, Input, Opening, OutputBuf, SequenceRows, Stage, StageError, Step,
    Want,
};
use gogrid_units::{Bytes, FullSpeed, Piece, Span, WeightType};

use crate::backend::CpuBackend;
use crate::stage::CpuStage;

/// Rows of a timed prefill step.
const PREFILL_ROWS: usize = 64;
/// Positions before those of a timed step, where the model's context has so many.
const POSITIONS_BEFORE: usize = 256;
/// The shortest timed stretch, and the most steps it may take.
const STRETCH_SECONDS: f64 = 0.004;
const STEPS_MAX: usize = 64;
/// Weights of a run of layers that no cache near a core keeps.
const RUN_BYTES: Bytes = Bytes::mib(32);

/// What decides a piece's cost: its kind, its attention, and its matrices' types and shapes.
type PieceKind = (
    std::mem::Discriminant<Piece>,
    Option<AttentionShape>,
    Vec<(WeightType, usize, usize)>,
);

/// What decides the cost of attention, its matrices aside.
#[derive(PartialEq, Eq, Hash)]
struct AttentionShape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
}

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
        let kind = kind(model.decoder(), piece);
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
                let (decode, prefill) = (
                    step(model.decoder(), 1),
                    step(model.decoder(), PREFILL_ROWS),
                );
                // Both steps use the same blocks, and the longer one all of them.
                let _kv = memory.reserve(Kind::Kv, kv_bytes(&stage, &prefill))?;
                let decode = seconds_per_row(&mut stage, &decode)?;
                let prefill = seconds_per_row(&mut stage, &prefill)?;
                known.insert(kind, (decode, prefill));
                (decode, prefill)
            }
        };
        costs.decode.push(seconds.0);
        costs.prefill.push(seconds.1);
    }
    let run = run_of_layers(model.decoder());
    if let Some(mut stage) = open_run(backend, model, (run, memory))? {
        let decode = step(model.decoder(), 1);
        let _kv = memory.reserve(Kind::Kv, kv_bytes(&stage, &decode))?;
        let together = seconds_per_row(&mut stage, &decode)?;
        lengthen(&mut costs.decode, run, together);
    }
    Ok(costs)
}

/// The first layers that have [`RUN_BYTES`] of weights together, or all.
fn run_of_layers(decoder: &Decoder) -> Span {
    let mut bytes = Bytes::ZERO;
    let mut end = 1;
    while end < 2 * decoder.layers.len() + 1 && bytes < RUN_BYTES {
        let layer = Span::new(end, end + 2).pieces(decoder.layers.len());
        bytes = layer.fold(bytes, |bytes, piece| {
            let weights = decoder.piece_weights(piece);
            bytes + weights.iter().map(|weight| weight.kept_bytes()).sum()
        });
        end += 2;
    }
    Span::new(1, end)
}

/// The run as a stage; `None` where there is no room to time it, so that pieces count as they are.
fn open_run(
    backend: &mut CpuBackend,
    model: &Model,
    (span, memory): (Span, &Ledger),
) -> Result<Option<CpuStage>, StageError> {
    let opening = Opening {
        model,
        span,
        memory,
        pace: Arc::new(FullSpeed),
        rows_max: 1,
    };
    match backend.open_stage(&opening) {
        Err(StageError::Memory(_)) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Makes the costs of all layers' pieces longer by what a run of some takes more than their sum.
fn lengthen(costs: &mut [f64], run: Span, together: f64) {
    let apart: f64 = costs[run.start..run.end].iter().sum();
    let factor = (together / apart).max(1.0);
    let head = costs.len() - 1;
    costs[1..head].iter_mut().for_each(|cost| *cost *= factor);
}

fn kind(decoder: &Decoder, piece: Piece) -> PieceKind {
    let attention = match piece {
        Piece::Mixer(layer) => {
            let mixer = &decoder.layers[layer].mixer;
            Some(AttentionShape {
                heads: mixer.heads,
                kv_heads: mixer.kv_heads,
                head_dim: mixer.head_dim,
                window: mixer.window,
            })
        }
        Piece::Embedding | Piece::FeedForward(_) | Piece::Head => None,
    };
    let shape = |weight: &&Weight| (weight.kept, weight.rows, weight.cols);
    let weights = decoder.piece_weights(piece);
    (
        std::mem::discriminant(&piece),
        attention,
        weights.iter().map(shape).collect(),
    )
}

/// A step of one sequence whose last row wants logits.
fn step(decoder: &Decoder, rows: usize) -> Arc<Step> {
    let start = POSITIONS_BEFORE.min(decoder.context.saturating_sub(rows));
    let blocks =
        (0..(start + rows).div_ceil(BLOCK_TOKENS)).map(|block| Some(BlockId(block as u32)));
    let tables = Arc::new(vec![blocks.collect(); decoder.kv_groups.len()]);
    let mut wants = vec![Want::Nothing; rows];
    wants[rows - 1] = Want::Logits;
    let rows = SequenceRows {
        tables,
        start,
        wants,
    };
    Arc::new(Step {
        sequences: vec![rows],
    })
}

/// Bytes of the blocks that a step of [`step`] makes.
fn kv_bytes(stage: &CpuStage, step: &Step) -> Bytes {
    let blocks = step.sequences[0]
        .tables
        .iter()
        .map(|table| table.len() as u64);
    let block_bytes = stage.footprint().kv_block;
    let bytes = block_bytes.into_iter().zip(blocks);
    bytes.map(|(block, blocks)| block.times(blocks)).sum()
}

/// Seconds for a row in such steps: the fastest of several stretches, after one to warm up.
fn seconds_per_row(stage: &mut CpuStage, step: &Arc<Step>) -> Result<f64, StageError> {
    let rows = step.rows();
    let mut best = f64::INFINITY;
    let mut out = OutputBuf::default();
    for stretch in 0..4 {
        let began = now();
        let mut steps = 0;
        while steps < STEPS_MAX && began.elapsed().as_secs_f64() < STRETCH_SECONDS {
            run(stage, step, &mut out)?;
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

#[cfg(test)]
mod tests {
    use gogrid_model::OpenOptions;
    use gogrid_pipeline::Backend;
    use gogrid_testkit::{Family, RandomModel, Spec};

    use super::*;
    use crate::backend::CpuOptions;

    fn model() -> Model {
        let spec = Spec {
            family: Family::Gemma3,
            weights: WeightType::Q4_0,
            seed: 1,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tiny.gguf");
        RandomModel::new(spec)
            .write_gguf(&path)
            .expect("it is written");
        Model::open(&path, &OpenOptions::default()).expect("it opens")
    }

    #[test]
    fn mixers_are_of_one_kind_only_with_the_same_attention() {
        let decoder = model().decoder().clone();
        let kinds = |decoder: &Decoder| {
            let mixers = (0..decoder.layers.len()).map(|layer| kind(decoder, Piece::Mixer(layer)));
            mixers.collect::<std::collections::HashSet<_>>().len()
        };
        // Windowed layers, and full ones.
        assert_eq!(kinds(&decoder), 2);
        let mut reshaped = decoder;
        let mixer = &mut reshaped.layers[0].mixer;
        (mixer.heads, mixer.head_dim) = (mixer.heads * 2, mixer.head_dim / 2);
        assert_eq!(kinds(&reshaped), 3);
    }

    #[test]
    fn timed_steps_follow_positions_within_the_context() {
        let mut decoder = model().decoder().clone();
        let mut check = |context, rows, start, blocks| {
            decoder.context = context;
            let step = step(&decoder, rows);
            let sequence = &step.sequences[0];
            assert_eq!((sequence.start, sequence.wants.len()), (start, rows));
            assert!(sequence.tables.iter().all(|table| table.len() == blocks));
        };
        check(4096, 1, 256, 9);
        check(4096, 64, 256, 10);
        check(200, 1, 199, 7);
        check(200, 64, 136, 7);
    }

    #[test]
    fn keys_and_values_of_timed_steps_are_leased() {
        let model = model();
        let mut backend = CpuBackend::new(&CpuOptions::threads(1)).expect("a team of one");
        let layers = model.decoder().layers.len();
        let pieces = (0..Span::whole_model(layers).end).map(|piece| {
            let footprint = backend.predict(&model, Span::new(piece, piece + 1), PREFILL_ROWS);
            (footprint.weights + footprint.scratch, footprint.kv_block)
        });
        let pieces: Vec<_> = pieces.collect();
        // All but the mixers' blocks: those are refused, by kind.
        let alone = pieces.iter().map(|(bytes, _)| *bytes).take(2).max();
        let refused = backend.measure(&model, &Ledger::new(alone.expect("two pieces")));
        match refused {
            Err(StageError::Memory(refusal)) => assert_eq!(refusal.kind, Kind::Kv),
            other => panic!("{other:?}"),
        }
        let memory = Ledger::new(Bytes::gib(1));
        backend.measure(&model, &memory).expect("there is room");
        assert_eq!(memory.used(), Bytes::ZERO);
    }
}
