//! What a step is computed in: buffers for the largest step, made once and leased.

use std::sync::Arc;

use gogrid_lease::{Kind, Ledger};
use gogrid_model::{Decoder, Model};
use gogrid_pipeline::{Footprint, StageError};
use gogrid_units::{Bytes, Piece, Span};

use crate::device::{Ask, Buf, Device, buffer_bytes};
use crate::formats::UNIT;
use crate::kv::GroupShape;
use crate::limits::{FEED_FORWARD_ROWS, HEAD_ROWS, PARTIAL_BYTES, UPLOAD_BYTES};
use crate::parts::weight_bytes;
use crate::recorder::{BufferKind, Facts, Recorder};

/// Values of rows in a buffer: each row begins a unit of columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Widths {
    /// The residual stream.
    pub(crate) width: usize,
    /// Queries, keys and values of a row together.
    pub(crate) qkv: usize,
    /// All query heads.
    pub(crate) attended: usize,
    /// Gates, and what goes through them.
    pub(crate) hidden: usize,
    /// Zero without a head.
    pub(crate) vocab: usize,
    has_post_norm: bool,
}

fn padded(width: usize) -> usize {
    width.next_multiple_of(UNIT)
}

impl Widths {
    pub(crate) fn of(decoder: &Decoder, span: Span) -> Self {
        let mut widths = Self {
            width: padded(decoder.width),
            ..Self::default()
        };
        for piece in span.pieces(decoder.layers.len()) {
            match piece {
                Piece::Embedding => {}
                Piece::Mixer(layer) => {
                    let spec = &decoder.layers[layer].mixer;
                    let (queries, keys) =
                        (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
                    widths.qkv = widths.qkv.max(padded(queries + 2 * keys));
                    widths.attended = widths.attended.max(padded(queries));
                    widths.has_post_norm |= spec.residual.norm().is_some();
                }
                Piece::FeedForward(layer) => {
                    let spec = &decoder.layers[layer].feed_forward;
                    widths.hidden = widths.hidden.max(padded(spec.gate.rows));
                    widths.has_post_norm |= spec.residual.norm().is_some();
                }
                Piece::Head => widths.vocab = decoder.head.output.rows,
            }
        }
        widths
    }
}

/// Bytes of each buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    x: u64,
    qkv: u64,
    attended: u64,
    normed: u64,
    hidden: u64,
    roots: u64,
    gathered: u64,
    logits: u64,
    log_probs: u64,
    flags: u64,
    info: u64,
    parts: u64,
    upload: u64,
    readback: u64,
}

impl Sizes {
    fn of(model: &Model, span: Span, rows_max: usize) -> Self {
        let decoder = model.decoder();
        let widths = Widths::of(decoder, span);
        let floats = |count: usize| buffer_bytes(4 * count as u64);
        let is_headed = widths.vocab > 0;
        let (rows, head_rows) = (rows_max, if is_headed { HEAD_ROWS } else { 0 });
        let info = info_words(decoder, span, rows_max);
        let x = floats(rows * widths.width);
        let out = floats(head_rows * widths.vocab.max(widths.width)).max(match is_headed {
            true => 0,
            false => x,
        });
        Self {
            x,
            qkv: floats(rows * widths.qkv),
            attended: floats(rows * widths.attended),
            normed: floats(if widths.has_post_norm {
                rows * widths.width
            } else {
                0
            }),
            // Gates and what goes through them.
            hidden: floats(rows.min(FEED_FORWARD_ROWS) * 2 * widths.hidden),
            roots: floats(rows),
            gathered: floats(head_rows * widths.width),
            logits: floats(head_rows * widths.vocab),
            log_probs: floats(head_rows),
            flags: floats(rows),
            info: floats(info),
            parts: match widths.attended {
                0 => buffer_bytes(0),
                _ => PARTIAL_BYTES,
            },
            upload: (floats(info) + floats(rows) + x).max(UPLOAD_BYTES),
            readback: floats(rows) + out,
        }
    }

    /// Whether kernels can bind every buffer they compute in.
    fn check(&self, facts: &Facts, rows_max: usize) -> Result<(), StageError> {
        let bound = [
            self.x,
            self.qkv,
            self.attended,
            self.hidden,
            self.logits,
            self.info,
        ];
        let most = bound.into_iter().max().unwrap_or(0);
        match most <= facts.binding_bytes_max {
            true => Ok(()),
            false => Err(StageError::Unsupported(format!(
                "{}: steps of {rows_max} rows need a buffer of {}, of which the device binds {} at once",
                facts.name,
                Bytes(most),
                Bytes(facts.binding_bytes_max)
            ))),
        }
    }

    fn all(&self) -> [u64; 14] {
        let Self {
            x,
            qkv,
            attended,
            normed,
            hidden,
            roots,
            gathered,
            logits,
            log_probs,
            flags,
            info,
            parts,
            upload,
            readback,
        } = *self;
        [
            x, qkv, attended, normed, hidden, roots, gathered, logits, log_probs, flags, info,
            parts, upload, readback,
        ]
    }
}

/// Words that a step's description takes at most, with block tables for [`TABLE_WORDS`] blocks.
fn info_words(decoder: &Decoder, span: Span, rows: usize) -> usize {
    let mut pairs: Vec<(&gogrid_model::Rope, usize)> = Vec::new();
    let mut tiles = 0;
    for piece in span.pieces(decoder.layers.len()) {
        if let Piece::Mixer(layer) = piece {
            let rope = &decoder.layers[layer].mixer.rope;
            tiles = 4 * rows * decoder.kv_groups.len();
            if !pairs.iter().any(|(known, _)| *known == rope) {
                pairs.push((rope, rope.frequencies.len()));
            }
        }
    }
    let turns: usize = pairs.iter().map(|(_, pairs)| 2 * pairs * rows).sum();
    let groups = decoder.kv_groups.len();
    // Ids, two lists of the head, rows by group, tiles of two heights, rotations.
    3 * rows + 2 * rows * groups + 2 * tiles + turns + TABLE_WORDS
}

/// Blocks of all sequences of a step for which there is room from the start.
const TABLE_WORDS: usize = 4096;

/// Buffers of a stage.
pub(crate) struct Scratch<R: Recorder> {
    /// The residual stream.
    pub(crate) x: Arc<Buf<R>>,
    pub(crate) qkv: Arc<Buf<R>>,
    pub(crate) attended: Arc<Buf<R>>,
    /// A half-layer's output that is normed before it is added.
    pub(crate) normed: Arc<Buf<R>>,
    pub(crate) hidden: Arc<Buf<R>>,
    /// What rows are scaled by when they are normed.
    pub(crate) roots: Arc<Buf<R>>,
    /// Rows that the head gives something for.
    pub(crate) gathered: Arc<Buf<R>>,
    pub(crate) logits: Arc<Buf<R>>,
    pub(crate) log_probs: Arc<Buf<R>>,
    /// What is noted of each row that went out of its range.
    pub(crate) flags: Arc<Buf<R>>,
    pub(crate) info: Arc<Buf<R>>,
    /// Results of attention's parts.
    pub(crate) parts: Arc<Buf<R>>,
    pub(crate) upload: Arc<Buf<R>>,
    pub(crate) readback: Arc<Buf<R>>,
}

impl<R: Recorder> Scratch<R> {
    pub(crate) fn new(
        device: &Device<R>,
        memory: &Ledger,
        (model, span, rows_max): (&Model, Span, usize),
    ) -> Result<Self, StageError> {
        let sizes = Sizes::of(model, span, rows_max);
        sizes.check(device.facts(), rows_max)?;
        let leased = |bytes, place| {
            device.leased(Ask {
                memory,
                kind: Kind::Scratch,
                bytes,
                place,
            })
        };
        let buffer = |bytes| leased(bytes, BufferKind::Device);
        Ok(Self {
            x: buffer(sizes.x)?,
            qkv: buffer(sizes.qkv)?,
            attended: buffer(sizes.attended)?,
            normed: buffer(sizes.normed)?,
            hidden: buffer(sizes.hidden)?,
            roots: buffer(sizes.roots)?,
            gathered: buffer(sizes.gathered)?,
            logits: buffer(sizes.logits)?,
            log_probs: buffer(sizes.log_probs)?,
            flags: buffer(sizes.flags)?,
            info: buffer(sizes.info)?,
            parts: buffer(sizes.parts)?,
            upload: leased(sizes.upload, BufferKind::Upload)?,
            readback: leased(sizes.readback, BufferKind::Readback)?,
        })
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> Bytes {
        let all = [
            &self.x,
            &self.qkv,
            &self.attended,
            &self.normed,
            &self.hidden,
            &self.roots,
            &self.gathered,
            &self.logits,
            &self.log_probs,
            &self.flags,
            &self.info,
            &self.parts,
            &self.upload,
            &self.readback,
        ];
        Bytes(all.iter().map(|buffer| buffer.bytes).sum())
    }

    /// Room for a longer description of a step, and for attention's parts: both grow with the sequences. The old
    /// buffer is held until the new one is there.
    pub(crate) fn reach(
        &mut self,
        device: &Device<R>,
        memory: &Ledger,
        [info, upload, parts]: [u64; 3],
    ) -> Result<(), StageError> {
        let grow = |buffer: &mut Arc<Buf<R>>, bytes: u64, place| {
            if bytes > buffer.bytes {
                let bytes = bytes.next_multiple_of(1 << 16);
                *buffer = device.leased(Ask {
                    memory,
                    kind: Kind::Scratch,
                    bytes,
                    place,
                })?;
            }
            Ok(())
        };
        grow(&mut self.info, info, BufferKind::Device)?;
        grow(&mut self.parts, parts, BufferKind::Device)?;
        grow(&mut self.upload, upload, BufferKind::Upload)
    }
}

/// What a stage will hold.
pub(crate) fn predict(model: &Model, span: Span, (facts, rows_max): (&Facts, usize)) -> Footprint {
    let groups = GroupShape::of(model.decoder(), span);
    let buffers = Sizes::of(model, span, rows_max).all().iter().sum();
    let slack: Bytes = groups
        .iter()
        .map(|group| group.slack(facts.binding_bytes_max))
        .sum();
    Footprint {
        weights: weight_bytes(model, span, facts.binding_bytes_max),
        scratch: Bytes(buffers) + slack,
        kv_block: groups.iter().map(GroupShape::block_bytes).collect(),
        kv_blocks_held: vec![0; groups.len()],
    }
}
