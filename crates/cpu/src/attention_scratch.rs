//! The memory in which one row's attention is shared out between threads. It follows the longest
//! sequence that was run, never the context that a file claims.

use gogrid_kernels::attention_scratch;
use gogrid_lease::{Kind, Lease, Ledger};
use gogrid_model::{Attention, Decoder};
use gogrid_pipeline::StageError;
use gogrid_units::{Bytes, Piece, Span};

use crate::limits::FIRST_POSITIONS;
use crate::team::{Keeping, SharedTeam};

/// The shapes of a span's attention, which decide the scratch for a row.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    mixers: Vec<MixerShape>,
    /// Tokens that a sequence may have.
    context: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MixerShape {
    heads: usize,
    head_dim: usize,
    window: Option<usize>,
}

impl Shapes {
    pub(crate) fn of(decoder: &Decoder, span: Span) -> Self {
        let mut mixers: Vec<MixerShape> = Vec::new();
        for piece in span.pieces(decoder.layers.len()) {
            let Piece::Mixer(layer) = piece else { continue };
            let Attention {
                heads,
                head_dim,
                window,
                ..
            } = decoder.layers[layer].mixer;
            let shape = MixerShape {
                heads,
                head_dim,
                window,
            };
            if !mixers.contains(&shape) {
                mixers.push(shape);
            }
        }
        let context = decoder.context;
        Self { mixers, context }
    }

    /// Bytes for rows of sequences up to `positions`.
    fn bytes(&self, positions: usize) -> Bytes {
        let bytes = self.mixers.iter().map(|mixer| {
            let seen = mixer.window.unwrap_or(positions).min(positions);
            attention_scratch(mixer.heads, mixer.head_dim, seen)
        });
        bytes.max().unwrap_or(Bytes::ZERO)
    }

    fn first_positions(&self) -> usize {
        self.context.min(FIRST_POSITIONS)
    }

    /// Bytes that a stage has at first.
    pub(crate) fn first_bytes(&self) -> Bytes {
        self.bytes(self.first_positions())
    }
}

/// A stage's part in the scratch of its team, leased.
pub(crate) struct AttentionScratch {
    shapes: Shapes,
    memory: Ledger,
    /// It was asked to reach so far.
    positions: usize,
    keeping: Keeping,
    lease: Lease,
}

impl AttentionScratch {
    pub(crate) fn new(
        shapes: Shapes,
        team: &SharedTeam,
        memory: &Ledger,
    ) -> Result<Self, StageError> {
        let bytes = shapes.first_bytes();
        let lease = memory.reserve(Kind::Scratch, bytes)?;
        Ok(Self {
            positions: shapes.first_positions(),
            keeping: team.keep_for_attention(bytes)?,
            memory: memory.clone(),
            shapes,
            lease,
        })
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.lease.bytes()
    }

    /// Makes room for sequences up to `positions`, doubling. Where the ledger or the system refuses,
    /// it stays as it is until sequences are twice as long: attention is then not shared out as
    /// finely, and its results are equal.
    pub(crate) fn reach(&mut self, positions: usize) {
        if positions <= self.positions {
            return;
        }
        self.positions = positions.next_power_of_two().min(self.shapes.context);
        let bytes = self.shapes.bytes(self.positions);
        if bytes <= self.lease.bytes() {
            return;
        }
        let Ok(lease) = self.memory.reserve(Kind::Scratch, bytes) else {
            return;
        };
        if self.keeping.grow(bytes).is_ok() {
            self.lease = lease;
        }
    }
}
