//! The memory in which one row's attention is shared out between threads. It follows the longest
//! sequence that was run, never the context that a file claims.

use gogrid_kernels::attention_scratch;
use gogrid_lease::{Kind, Lease, Ledger};
use gogrid_model::{Attention, Decoder};
use gogrid_pipeline::{BLOCK_TOKENS, StageError};
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
    /// It reaches so far, or could not when a sequence was in the block that ends here.
    positions: usize,
    keeping: Keeping,
    /// What it had at first, and what came with each growth. A growth at least doubles the positions, so
    /// they are few.
    leases: Vec<Lease>,
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
            leases: vec![lease],
        })
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.leases.iter().map(Lease::bytes).sum()
    }

    /// Makes room for sequences up to `positions`, doubling. Where the ledger or the system refuses,
    /// it stays as it is until a sequence comes to its next block: attention is then not shared out as
    /// finely, and its results are equal.
    pub(crate) fn reach(&mut self, positions: usize) {
        if positions <= self.positions {
            return;
        }
        let goal = positions.next_power_of_two().min(self.shapes.context);
        self.positions = match self.grow(self.shapes.bytes(goal)) {
            Ok(()) => goal,
            Err(_) => positions.next_multiple_of(BLOCK_TOKENS),
        };
    }

    fn grow(&mut self, bytes: Bytes) -> Result<(), StageError> {
        let more = bytes.saturating_sub(self.bytes());
        if more > Bytes::ZERO {
            let lease = self.memory.reserve(Kind::Scratch, more)?;
            self.keeping.grow(bytes)?;
            self.leases.push(lease);
        }
        Ok(())
    }
}
