use std::io;
use std::sync::Arc;

use gogrid_kernels::{Isa, KvLayer, attention_scratch};
use gogrid_lease::{Kind, Ledger};
use gogrid_model::{Attention, Decoder, Model};
use gogrid_pipeline::{Backend, Costs, Footprint, Opening, Stage, StageError};
use gogrid_units::{Bytes, Piece, PlainThreads, Span, Spawn};

use crate::buffers::{Buffers, Widths};
use crate::kv::Pool;
use crate::measure;
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
}

impl CpuOptions {
    /// `threads` threads, started plainly, and the best instructions there are.
    pub fn threads(threads: usize) -> Self {
        Self {
            threads,
            isa: Isa::detect(),
            spawn: Arc::new(PlainThreads),
        }
    }
}

/// One CPU device: a thread team, and the packed matrices its stages share.
pub struct CpuBackend {
    team: SharedTeam,
    isa: Isa,
    threads: usize,
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
            shared: Shared::default(),
        })
    }

    /// Threads of the team, the driver included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    pub(crate) fn open_stage(&mut self, request: &Opening<'_>) -> Result<CpuStage, StageError> {
        let Opening {
            model,
            span,
            memory,
            rows_max,
            ..
        } = *request;
        let decoder = model.decoder();
        let plan = StagePlan::of(model, span, rows_max);
        let scratch = memory.reserve(Kind::Scratch, plan.scratch)?;
        let common = Common::default();
        let mut loader = Loader {
            model,
            memory,
            shared: &mut self.shared,
            common,
        };
        let pieces = loader.load(span)?;
        let pairs = loader.common.pairs();
        let Common { inputs, ropes } = loader.common;
        let buffers = Buffers::new(rows_max, plan.widths, &inputs, &pairs);
        let shape = Shape {
            width: decoder.width,
            vocab: decoder.vocab,
            epsilon: decoder.norm_epsilon,
            rows_max,
        };
        Ok(CpuStage {
            shape,
            pools: group_layers(decoder, span)
                .iter()
                .map(|layers| Pool::new(layers))
                .collect(),
            pieces,
            ropes,
            buffers,
            attention: self.team.keep_for_attention(plan.attention),
            team: self.team.clone(),
            isa: self.isa,
            pace: Arc::clone(&request.pace),
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
    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        let plan = StagePlan::of(model, span, rows_max);
        let kv_block = group_layers(model.decoder(), span).into_iter();
        Footprint {
            weights: plan.weights,
            scratch: plan.scratch,
            kv_block: kv_block
                .map(|layers| Pool::new(&layers).block_bytes())
                .collect(),
            kv_blocks_held: vec![0; model.decoder().kv_groups.len()],
        }
    }

    fn measure(&mut self, model: &Model, memory: &Ledger) -> Result<Costs, StageError> {
        measure::costs(self, model, memory)
    }

    fn open(&mut self, request: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        Ok(Box::new(self.open_stage(&request)?))
    }
}

/// What a stage will hold.
struct StagePlan {
    weights: Bytes,
    /// Buffers, and what attention keeps.
    scratch: Bytes,
    attention: Bytes,
    widths: Widths,
}

impl StagePlan {
    fn of(model: &Model, span: Span, rows_max: usize) -> Self {
        let common = Common::of(model, span);
        let widths = widths(model.decoder(), span);
        let pairs = common.pairs();
        let attention = attention_bytes(model.decoder(), span);
        let buffers = Buffers::bytes_for(rows_max, widths, &common.inputs, &pairs);
        let weights = span_bytes(model, span);
        let scratch = buffers + attention;
        Self {
            weights,
            scratch,
            attention,
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

/// The layers of a span by KV group, in the order of their slots.
fn group_layers(decoder: &Decoder, span: Span) -> Vec<Vec<KvLayer>> {
    let mut groups = vec![Vec::new(); decoder.kv_groups.len()];
    for piece in span.pieces(decoder.layers.len()) {
        if let Piece::Mixer(layer) = piece {
            let spec = &decoder.layers[layer].mixer;
            groups[spec.kv_group].push(kv_layer(spec));
        }
    }
    groups
}

/// What attention needs to share one row's work out, for the longest sequence.
fn attention_bytes(decoder: &Decoder, span: Span) -> Bytes {
    let mixers = span
        .pieces(decoder.layers.len())
        .filter_map(|piece| match piece {
            Piece::Mixer(layer) => Some(&decoder.layers[layer].mixer),
            _ => None,
        });
    let positions = |spec: &Attention| spec.window.unwrap_or(decoder.context).min(decoder.context);
    let bytes = mixers.map(|m| attention_scratch(m.heads, m.head_dim, positions(m)));
    bytes.max().unwrap_or(Bytes::ZERO)
}
