use std::io;
use std::sync::Arc;

use gogrid_kernels::{Isa, KvLayer};
use gogrid_lease::{Kind, Ledger};
use gogrid_model::{Attention, Decoder, KvGroup, Model};
use gogrid_pipeline::{Backend, Footprint, Opening, Stage, StageError};
use gogrid_units::{Bytes, Piece, PlainThreads, Span, Spawn, TeamPace};

use crate::attention_scratch::{AttentionScratch, Shapes};
use crate::buffers::{Buffers, Widths};
use crate::capability;
use crate::kv::{GroupLayers, Pool};
use crate::pace::StagePace;
use crate::stage::{CpuStage, Memory, Shape};
use crate::team::SharedTeam;
use crate::weights::{Common, Loader, Shared, span_bytes};

/// How a CPU device computes.
#[derive(Clone)]
pub struct CpuOptions {
    /// Threads, the device's driver included; at least one.
    pub threads: usize,
    /// The instructions to use.
    pub isa: Isa,
    /// Starts the team's threads but the driver.
    pub spawn: Arc<dyn Spawn>,
    /// The ledger of the device's memory.
    pub memory: Ledger,
    /// The pace its work keeps.
    pub pace: Arc<dyn TeamPace>,
}

impl CpuOptions {
    /// `threads` threads, started plainly, and the best instructions there are.
    pub fn new(threads: usize, memory: Ledger, pace: Arc<dyn TeamPace>) -> Self {
        Self {
            threads,
            isa: Isa::detect(),
            spawn: Arc::new(PlainThreads),
            memory,
            pace,
        }
    }
}

/// The instructions that a CPU device computes with here, as `Avx512`: its speed depends on them.
pub fn instructions() -> String {
    format!("{:?}", Isa::detect())
}

/// One CPU device: a thread team, and the packed matrices its stages share.
pub struct CpuBackend {
    team: SharedTeam,
    isa: Isa,
    threads: usize,
    memory: Ledger,
    pace: Arc<dyn TeamPace>,
    shared: Shared,
}

impl CpuBackend {
    /// Starts the team's threads; the thread that polls the stages is the first of them.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(options: &CpuOptions) -> io::Result<Self> {
        let team = SharedTeam::new(options.threads, Arc::clone(&options.spawn))?;
        Ok(Self {
            team,
            isa: options.isa,
            threads: options.threads,
            memory: options.memory.clone(),
            pace: Arc::clone(&options.pace),
            shared: Shared::default(),
        })
    }

    /// Threads of the team, the driver included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    fn open_stage(&mut self, request: &Opening<'_>) -> Result<CpuStage, StageError> {
        let Opening {
            model,
            span,
            rows_max,
            ..
        } = *request;
        capability::check(model, span, self.isa)?;
        let memory = &self.memory;
        let decoder = model.decoder();
        let plan = StagePlan::of(model, span, rows_max);
        let scratch = memory.reserve(Kind::Scratch, plan.buffers)?;
        let attention = AttentionScratch::new(plan.attention, &self.team, memory)?;
        self.shared.forget_dropped();
        let mut loader = Loader::new(model, memory, &mut self.shared);
        let pieces = loader.load(span)?;
        model.check_unchanged()?;
        let pairs = loader.common.pairs();
        let Common { inputs, ropes } = loader.common;
        let buffers = Buffers::new(rows_max, plan.widths, &inputs, &pairs)?;
        let shape = Shape {
            width: decoder.width,
            vocab: decoder.vocab,
            epsilon: decoder.norm_epsilon,
            rows_max,
        };
        Ok(CpuStage {
            span,
            shape,
            pools: pools(decoder, span),
            pieces,
            ropes,
            buffers,
            attention,
            team: self.team.clone(),
            isa: self.isa,
            pace: StagePace {
                device: Arc::clone(&self.pace),
                cancel: request.cancel.clone(),
            },
            open: None,
            tickets: 0,
            footprint: Memory {
                weights: plan.weights,
                scratch,
            },
        })
    }
}

impl Backend for CpuBackend {
    fn check(&self, model: &Model, span: Span) -> Result<(), StageError> {
        capability::check(model, span, self.isa)
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        let plan = StagePlan::of(model, span, rows_max);
        let pools = pools(model.decoder(), span);
        Footprint {
            weights: plan.weights,
            scratch: plan.buffers + plan.attention.first_bytes(),
            kv_block: pools.iter().map(Pool::block_bytes).collect(),
            kv_blocks_held: vec![0; pools.len()],
        }
    }

    fn open(&mut self, opening: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        Ok(Box::new(self.open_stage(&opening)?))
    }
}

/// What a stage will hold.
struct StagePlan {
    weights: Bytes,
    buffers: Bytes,
    attention: Shapes,
    widths: Widths,
}

impl StagePlan {
    fn of(model: &Model, span: Span, rows_max: usize) -> Self {
        let common = Common::of(model, span);
        let widths = widths(model.decoder(), span);
        let pairs = common.pairs();
        Self {
            weights: span_bytes(model, span),
            buffers: Buffers::bytes_for(rows_max, widths, &common.inputs, &pairs),
            attention: Shapes::of(model.decoder(), span),
            widths,
        }
    }
}

/// The widest rows of a span's pieces.
fn widths(decoder: &Decoder, span: Span) -> Widths {
    let mut widths = Widths {
        width: decoder.width,
        ..Widths::default()
    };
    for piece in span.pieces(decoder.layers.len()) {
        match piece {
            Piece::Embedding => {}
            Piece::Mixer(layer) => {
                let spec = &decoder.layers[layer].mixer;
                widths.queries = widths.queries.max(spec.heads * spec.head_dim);
                widths.keys = widths.keys.max(spec.kv_heads * spec.head_dim);
            }
            Piece::FeedForward(layer) => {
                let spec = &decoder.layers[layer].feed_forward;
                widths.hidden = widths.hidden.max(spec.gate.rows);
            }
            Piece::Head => widths.vocab = decoder.head.output.rows,
        }
    }
    widths
}

fn kv_layer(spec: &Attention) -> KvLayer {
    KvLayer {
        heads: spec.kv_heads,
        head_dim: spec.head_dim,
    }
}

/// The pool of each KV group, empty, for the layers of a span.
fn pools(decoder: &Decoder, span: Span) -> Vec<Pool> {
    let group = |group: &KvGroup| GroupLayers {
        window: group.window,
        layers: Vec::new(),
    };
    let mut groups: Vec<_> = decoder.kv_groups.iter().map(group).collect();
    for piece in span.pieces(decoder.layers.len()) {
        if let Piece::Mixer(layer) = piece {
            let spec = &decoder.layers[layer].mixer;
            let layers = &mut groups[spec.kv_group].layers;
            layers.push((layer, kv_layer(spec)));
        }
    }
    let pools = groups.iter().enumerate();
    pools.map(|(index, of)| Pool::new(index, of)).collect()
}
