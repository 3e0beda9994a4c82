//! Seconds for each piece, timed on a device with the model's own weights.
//!
//! Layers of one shape and one set of weight types cost the same, so one of each kind is loaded and
//! timed; the embedding is a copy of rows and the head is timed whole. Steps follow a stated number
//! of positions whose keys and values were written before, so that attention counts.
//!
//! A layer on its own stays in the caches and is faster than one of many, which the head is not: so
//! a run of layers is timed too, and a layer's costs are made longer by as much as it takes more than
//! the sum of its pieces.
//!
//! Time is the device's busy time, which other programs and rests do not lengthen as they do wall
//! time: see [`Meter`].

mod stopwatch;

use std::collections::HashMap;
use std::sync::Arc;

use gogrid_lease::{Kind, Ledger};
use gogrid_model::{Decoder, Model, Weight};
use gogrid_units::{Bytes, Moment, Piece, Span, WeightType};

use crate::stage::{Backend, Costs, Opening, Stage, StageError};
use crate::step::{
    BLOCK_TOKENS, BlockId, Input, OutputBuf, Positions, Rows, SequenceRows, Step, Want,
};
use stopwatch::{Bell, Figure, Stopwatch};

/// Rows of a timed prefill step.
const PREFILL_ROWS: usize = 64;
/// Positions before those of a timed step, where the model's context has so many.
const POSITIONS_BEFORE: usize = 256;
/// Weights of a run of layers that no cache near a core keeps.
const RUN_BYTES: Bytes = Bytes::mib(32);

/// Of all seconds of a model, the share that may be in doubt where costs are sure.
const DOUBT_MAX: f64 = 0.1;

/// Tells how long a device works. What it says of busy time may lag by a millisecond a lane.
#[derive(Clone, Copy)]
pub struct Meter<'a> {
    /// Wall time.
    pub clock: &'a dyn Fn() -> Moment,
    /// Nanoseconds for which the device was busy so far, summed over its lanes: the CPU time of its
    /// threads, or the time between a GPU's timestamps. Rests, and time that the system gave to
    /// other programs, are not in it. A figure that never moves stands for none, and wall time is
    /// all there is.
    pub busy: &'a dyn Fn() -> u64,
    /// Told each time a piece was loaded, on the thread that loaded it and times it: what the thread
    /// used for that is no busy time.
    pub loaded: &'a dyn Fn(),
    /// Threads that share the work, at least one; one for a device that is no team of threads.
    pub lanes: usize,
}

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

/// Seconds for a row of one kind of piece.
#[derive(Clone, Copy)]
struct PieceCost {
    decode: Figure,
    prefill: Figure,
}

/// Times every kind of piece of `model` on a device, on the calling thread, which must be the one
/// that may poll the backend's stages. Weights, scratch and keys and values are leased from
/// `memory` meanwhile.
///
/// # Errors
/// What the backend's stages fail with: [`StageError::Memory`] where a piece does not fit.
pub fn measure(
    backend: &mut dyn Backend,
    model: &Model,
    memory: &Ledger,
    meter: &Meter<'_>,
) -> Result<Costs, StageError> {
    let mut timing = Timing {
        backend,
        model,
        memory,
        stopwatch: Stopwatch::start(*meter),
    };
    let layers = model.decoder().layers.len();
    let mut known: HashMap<PieceKind, PieceCost> = HashMap::new();
    let (mut decode, mut prefill) = (Vec::new(), Vec::new());
    for (index, piece) in Span::whole_model(layers).pieces(layers).enumerate() {
        let kind = kind(model.decoder(), piece);
        let cost = match known.get(&kind) {
            Some(cost) => *cost,
            None => timing.time_piece(Span::new(index, index + 1))?,
        };
        known.insert(kind, cost);
        decode.push(cost.decode);
        prefill.push(cost.prefill);
    }
    let seconds = |figures: &[Figure]| figures.iter().map(|figure| figure.seconds).collect();
    let mut costs = Costs {
        decode: seconds(&decode),
        prefill: seconds(&prefill),
        is_sure: agree(&decode) && agree(&prefill),
    };
    let run = run_of_layers(model.decoder());
    if let Some(together) = timing.time_run(run)? {
        lengthen(&mut costs.decode, run, together.seconds);
        costs.is_sure &= agree(&[together]);
    }
    Ok(costs)
}

/// Whether what is in doubt is a small part of all.
fn agree(figures: &[Figure]) -> bool {
    let doubt: f64 = figures.iter().map(|figure| figure.doubt).sum();
    let seconds: f64 = figures.iter().map(|figure| figure.seconds).sum();
    doubt <= DOUBT_MAX * seconds
}

/// A device with what times it.
struct Timing<'a> {
    backend: &'a mut dyn Backend,
    model: &'a Model,
    memory: &'a Ledger,
    stopwatch: Stopwatch<'a>,
}

impl Timing<'_> {
    fn time_piece(&mut self, span: Span) -> Result<PieceCost, StageError> {
        let mut stage = self.open(span, PREFILL_ROWS)?;
        let decoder = self.model.decoder();
        // Both steps use the same blocks, and the longer one all of them.
        let prefill = step(decoder, PREFILL_ROWS);
        let _kv = self
            .memory
            .reserve(Kind::Kv, kv_bytes(&*stage.stage, &prefill))?;
        stage.write_context(decoder)?;
        let mut figure = |step| self.stopwatch.seconds_per_row(&mut stage, step);
        Ok(PieceCost {
            decode: figure(&step(decoder, 1))?,
            prefill: figure(&prefill)?,
        })
    }

    /// Seconds for a row in a run of layers; `None` where there is no room to time it, so that
    /// pieces count as they are.
    fn time_run(&mut self, span: Span) -> Result<Option<Figure>, StageError> {
        let mut stage = match self.open(span, PREFILL_ROWS) {
            Err(StageError::Memory(_)) => return Ok(None),
            opened => opened?,
        };
        let decoder = self.model.decoder();
        let decode = step(decoder, 1);
        let Ok(_kv) = self
            .memory
            .reserve(Kind::Kv, kv_bytes(&*stage.stage, &decode))
        else {
            return Ok(None);
        };
        stage.write_context(decoder)?;
        self.stopwatch
            .seconds_per_row(&mut stage, &decode)
            .map(Some)
    }

    fn open(&mut self, span: Span, rows_max: usize) -> Result<TimedStage, StageError> {
        let bell = Arc::new(Bell::new());
        let opening = Opening {
            waker: Arc::clone(&bell).into(),
            ..Opening::new(self.model, span, rows_max)
        };
        let stage = self.backend.open(opening)?;
        self.stopwatch.forget_load();
        Ok(TimedStage {
            stage,
            bell,
            has_embedding: span.has_embedding(),
            width: self.model.decoder().width,
            out: OutputBuf::default(),
        })
    }
}

/// A stage, and what is put into it.
struct TimedStage {
    stage: Box<dyn Stage>,
    bell: Arc<Bell>,
    has_embedding: bool,
    width: usize,
    out: OutputBuf,
}

impl TimedStage {
    /// Runs a step, sleeping while the stage waits for its device.
    fn run(&mut self, step: &Arc<Step>) -> Result<(), StageError> {
        self.out.clear();
        let rows = Rows::of_ids(vec![0; step.rows()]);
        let hidden = vec![0.5; step.rows() * self.width];
        let input = match self.has_embedding {
            true => Input::Rows(&rows),
            false => Input::Hidden(&hidden),
        };
        let ticket = self.stage.submit(step, input)?;
        loop {
            match self.stage.poll(ticket, &mut self.out) {
                std::task::Poll::Ready(done) => return done,
                std::task::Poll::Pending => self.bell.wait(),
            }
        }
    }

    /// Writes the keys and values that the timed steps' rows see: most before a step of one row.
    fn write_context(&mut self, decoder: &Decoder) -> Result<(), StageError> {
        if self
            .stage
            .footprint()
            .kv_block
            .iter()
            .all(|bytes| *bytes == Bytes::ZERO)
        {
            return Ok(());
        }
        let end = context_before(decoder, 1);
        for start in (0..end).step_by(PREFILL_ROWS) {
            self.run(&step_at(decoder, start, PREFILL_ROWS.min(end - start)))?;
        }
        Ok(())
    }
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

/// Positions before a timed step of `rows` rows.
fn context_before(decoder: &Decoder, rows: usize) -> usize {
    POSITIONS_BEFORE.min(decoder.context.saturating_sub(rows))
}

/// A timed step of one sequence, whose last row wants logits.
fn step(decoder: &Decoder, rows: usize) -> Arc<Step> {
    step_at(decoder, context_before(decoder, rows), rows)
}

fn step_at(decoder: &Decoder, start: usize, rows: usize) -> Arc<Step> {
    let blocks =
        (0..(start + rows).div_ceil(BLOCK_TOKENS)).map(|block| Some(BlockId(block as u32)));
    let tables = Arc::new(vec![blocks.collect(); decoder.kv_groups.len()]);
    let mut wants = vec![Want::Nothing; rows];
    wants[rows - 1] = Want::Logits;
    let rows = SequenceRows {
        tables,
        start,
        length: start + wants.len(),
        positions: Positions::Sequential,
        wants,
    };
    Arc::new(Step {
        sequences: vec![rows],
    })
}

/// Bytes of the blocks that the rows of `step` and those before them are in.
fn kv_bytes(stage: &dyn Stage, step: &Step) -> Bytes {
    let blocks = step.sequences[0]
        .tables
        .iter()
        .map(|table| table.len() as u64);
    let block_bytes = stage.footprint().kv_block;
    let bytes = block_bytes.into_iter().zip(blocks);
    bytes.map(|(block, blocks)| block.times(blocks)).sum()
}
