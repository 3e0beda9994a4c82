//! Whether the kernels can do a model's pieces.

use gogrid_kernels::capability::{self, AttentionShape, Beyond};
use gogrid_kernels::{Isa, Packed};
use gogrid_model::{Attention, Decoder, Model, Weight};
use gogrid_pipeline::StageError;
use gogrid_units::{Piece, Span};

/// Holds every piece of `span` against the kernels' table.
pub(crate) fn check(model: &Model, span: Span, isa: Isa) -> Result<(), StageError> {
    let decoder = model.decoder();
    let unsupported = |place: &dyn std::fmt::Display, beyond: Beyond| {
        StageError::Unsupported(format!("{place}: {beyond}"))
    };
    capability::row(decoder.width).map_err(|e| unsupported(&"the residual stream", e))?;
    for piece in span.pieces(decoder.layers.len()) {
        for weight in decoder.piece_weights(piece) {
            Packed::can_keep(weight.stored, weight.kept)
                .map_err(|e| StageError::CannotKeep(format!("{}: {e}", weight.name)))?;
            let columns = capability::columns(isa, weight.kept, weight.cols);
            columns.map_err(|e| unsupported(&weight.name, e))?;
        }
        shape(decoder, piece).map_err(|e| unsupported(&piece, e))?;
    }
    Ok(())
}

fn shape(decoder: &Decoder, piece: Piece) -> Result<(), Beyond> {
    match piece {
        Piece::Embedding | Piece::Head => Ok(()),
        Piece::Mixer(layer) => attention(&decoder.layers[layer].mixer),
        Piece::FeedForward(layer) => {
            let Weight { rows, .. } = decoder.layers[layer].feed_forward.gate;
            capability::row(rows)
        }
    }
}

fn attention(spec: &Attention) -> Result<(), Beyond> {
    capability::attention(&AttentionShape {
        heads: spec.heads,
        kv_heads: spec.kv_heads,
        head_dim: spec.head_dim,
        pairs: spec.rope.frequencies.len(),
        window: spec.window,
    })
}
