use gogrid_model::Decoder;
use gogrid_pipeline::{Footprint, PlacedSpan, Runner};
use gogrid_units::{Bytes, Piece, Span};

use crate::core::{Account, Layout, Room};
use crate::machine::Hardware;
use crate::status::StageStatus;

/// Where the stages of a model stand, and the room that sequences have there.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) spans: Vec<PlacedSpan>,
    pub(crate) footprints: Vec<Footprint>,
    /// For each span the opening of its device that its stage was opened on.
    pub(crate) openings: Vec<u64>,
    /// The same in the status's words.
    pub(crate) stages: Vec<StageStatus>,
    pub(crate) layout: Layout,
}

/// Stages on their drivers.
pub(crate) struct Standing {
    pub(crate) runner: Runner,
    pub(crate) placement: Placement,
}

/// What of a model decides where its sequences have room, and what its pieces are called.
#[derive(Clone, Debug)]
pub(crate) struct ModelShape {
    pub(crate) layers: usize,
    /// The window of each KV group.
    pub(crate) windows: Vec<Option<usize>>,
    /// The KV group of each layer.
    pub(crate) groups: Vec<usize>,
}

impl ModelShape {
    pub(crate) fn of(decoder: &Decoder) -> Self {
        Self {
            layers: decoder.layers.len(),
            windows: decoder.kv_groups.iter().map(|group| group.window).collect(),
            groups: decoder
                .layers
                .iter()
                .map(|layer| layer.mixer.kv_group)
                .collect(),
        }
    }

    /// The layers of `group` whose keys and values a stage of these pieces has.
    pub(crate) fn layers_of(&self, group: usize, span: Span) -> Vec<usize> {
        let pieces = span.pieces(self.layers);
        let layers = pieces.filter_map(|piece| match piece {
            Piece::Mixer(layer) if self.groups[layer] == group => Some(layer),
            _ => None,
        });
        layers.collect()
    }
}

impl Placement {
    pub(crate) fn new(
        hardware: &Hardware,
        model: &ModelShape,
        spans: Vec<PlacedSpan>,
        footprints: Vec<Footprint>,
    ) -> Self {
        let room = room(hardware, model, (&spans, &footprints));
        let stages = statuses(hardware, model.layers, (&spans, &footprints));
        let rows_are_alone = spans
            .iter()
            .all(|placed| hardware.devices[placed.device].gpu_name.is_none());
        let openings = spans
            .iter()
            .map(|placed| hardware.devices[placed.device].opening());
        Self {
            openings: openings.collect(),
            spans,
            footprints,
            stages,
            layout: Layout {
                room,
                depth: 1,
                rows_are_alone,
            },
        }
    }
}

impl Placement {
    /// Whether the stage at this place was opened on another opening of its device than the present one.
    pub(super) fn is_outlived(&self, hardware: &Hardware, placed: PlacedSpan) -> bool {
        let stage = self.spans.iter().position(|&span| span == placed);
        stage.is_some_and(|stage| self.openings[stage] != hardware.devices[placed.device].opening())
    }

    /// No stage stands any more; what room there was counts for nothing.
    pub(super) fn nowhere(&self) -> Self {
        Self {
            spans: Vec::new(),
            footprints: Vec::new(),
            openings: Vec::new(),
            stages: Vec::new(),
            layout: self.layout.clone(),
        }
    }
}

/// Stages in the status's words.
pub(crate) fn statuses(
    hardware: &Hardware,
    layers: usize,
    (spans, footprints): (&[PlacedSpan], &[Footprint]),
) -> Vec<StageStatus> {
    let status = |(&PlacedSpan { device, span }, footprint): (&PlacedSpan, &Footprint)| {
        let block: Bytes = footprint.kv_block.iter().copied().sum();
        StageStatus {
            device: hardware.devices[device].name.clone(),
            first_piece: span.start,
            end_piece: span.end,
            pieces: in_words(span, layers),
            weights_bytes: footprint.weights.0,
            scratch_bytes: footprint.scratch.0,
            kv_bytes_per_token: block.0 / gogrid_pipeline::BLOCK_TOKENS as u64,
        }
    };
    spans.iter().zip(footprints).map(status).collect()
}

/// An account for each memory that some stage is on, with the blocks of all its stages there.
fn room(
    hardware: &Hardware,
    model: &ModelShape,
    (spans, footprints): (&[PlacedSpan], &[Footprint]),
) -> Room {
    let groups = model.windows.len();
    let mut accounts = Vec::new();
    for (index, memory) in hardware.memories.iter().enumerate() {
        let placed = spans.iter().zip(footprints);
        let here: Vec<_> = placed
            .filter(|(placed, _)| hardware.devices[placed.device].memory == index)
            .collect();
        if here.is_empty() {
            continue;
        }
        let mut names: Vec<_> = here
            .iter()
            .map(|(placed, _)| hardware.devices[placed.device].name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        let block = |group: usize| here.iter().map(|(_, f)| f.kv_block[group]).sum();
        accounts.push(Account {
            device: names.join(" and "),
            ledger: memory.ledger.clone(),
            kv_block: (0..groups).map(block).collect(),
        });
    }
    Room {
        accounts,
        windows: model.windows.clone(),
    }
}

/// `embedding, layers 0-14, attention of layer 15`.
pub(crate) fn in_words(span: Span, layers: usize) -> String {
    let mut words = Vec::new();
    if span.has_embedding() {
        words.push("embedding".to_owned());
    }
    // Mixer of layer l is piece 2 l + 1, its feed-forward the one after.
    let first = span.start.max(1);
    let end = span.end.min(2 * layers + 1);
    if first < end && first.is_multiple_of(2) {
        words.push(format!("feed-forward of layer {}", first / 2 - 1));
    }
    let whole = (first / 2)..(end.saturating_sub(1) / 2);
    match whole.len() {
        0 => {}
        1 => words.push(format!("layer {}", whole.start)),
        _ => words.push(format!("layers {}-{}", whole.start, whole.end - 1)),
    }
    if first < end && end.is_multiple_of(2) {
        words.push(format!("attention of layer {}", end / 2 - 1));
    }
    if span.has_head(layers) {
        words.push("head".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_words() {
        let check = |start, end, words| assert_eq!(in_words(Span::new(start, end), 3), words);
        check(0, 8, "embedding, layers 0-2, head");
        check(0, 1, "embedding");
        check(0, 2, "embedding, attention of layer 0");
        check(2, 5, "feed-forward of layer 0, layer 1");
        check(3, 4, "attention of layer 1");
        check(4, 5, "feed-forward of layer 1");
        check(
            2,
            6,
            "feed-forward of layer 0, layer 1, attention of layer 2",
        );
        check(6, 8, "feed-forward of layer 2, head");
        check(7, 8, "head");
    }
}
