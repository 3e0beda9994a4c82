//! A stage's weights: read, packed, and every byte leased.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};

use gogrid_kernels::{Forms, PackError, Packed, Packing, Region};
use gogrid_lease::{Kind, Lease, Ledger};
use gogrid_model::{
    Attention, Embedding, FeedForward, Head, Linear, Model, ModelId, Rope, Vector, Weight,
};
use gogrid_pipeline::StageError;
use gogrid_units::{Bytes, Piece, Span};

use crate::buffers::{InputIndex, InputShapes};

/// A packed matrix with the lease on its bytes, which it may have with others.
pub(crate) struct Held {
    pub(crate) packed: Packed,
    _lease: Arc<Lease>,
}

/// Memory that small matrices share, which come one after another in a span, and the lease on it: it is
/// held until the last of them is dropped, as the memory is.
struct Together {
    region: Region,
    lease: Arc<Lease>,
}

/// The pieces of a span, in order.
pub(crate) struct Pieces {
    pub(crate) embedding: Option<EmbeddingPart>,
    pub(crate) halves: Vec<HalfLayer>,
    pub(crate) head: Option<HeadPart>,
}

/// One half-layer, with the index of its layer.
pub(crate) enum HalfLayer {
    Mixer(Box<MixerPart>),
    FeedForward(Box<FeedForwardPart>),
}

impl HalfLayer {
    /// Which piece it is.
    pub(crate) fn piece(&self) -> Piece {
        match self {
            Self::Mixer(part) => part.piece,
            Self::FeedForward(part) => part.piece,
        }
    }
}

pub(crate) struct EmbeddingPart {
    pub(crate) table: Arc<Held>,
    pub(crate) scale: f32,
}

pub(crate) struct MixerPart {
    pub(crate) piece: Piece,
    /// Shapes, norms and switches; its weights' extents are not read again.
    pub(crate) spec: Attention,
    /// Which of the stage's layers in the same KV group this is.
    pub(crate) kv_slot: usize,
    /// Which of the stage's distinct rotations it uses.
    pub(crate) rotation: usize,
    /// What queries, keys and values are made of.
    pub(crate) normed: InputIndex,
    /// What the output is made of.
    pub(crate) attended: InputIndex,
    pub(crate) q: LinearPart,
    pub(crate) k: LinearPart,
    pub(crate) v: LinearPart,
    pub(crate) o: LinearPart,
}

pub(crate) struct FeedForwardPart {
    pub(crate) piece: Piece,
    pub(crate) spec: FeedForward,
    /// What gate and up are made of.
    pub(crate) normed: InputIndex,
    /// What the output is made of.
    pub(crate) gated: InputIndex,
    pub(crate) gate: Arc<Held>,
    pub(crate) up: Arc<Held>,
    pub(crate) down: Arc<Held>,
}

pub(crate) struct LinearPart {
    pub(crate) weight: Arc<Held>,
    pub(crate) bias: Option<Vector>,
}

pub(crate) struct HeadPart {
    /// With the scale of logits in its weights.
    pub(crate) norm: Vector,
    pub(crate) softcap: Option<f32>,
    pub(crate) output: Arc<Held>,
    /// What logits are made of.
    pub(crate) input: InputIndex,
}

/// Which matrix of which model: a model's matrices differ in place or extent.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    model: ModelId,
    file: usize,
    offset: u64,
    rows: usize,
}

/// Packed matrices that stages of one device share, so that a table tied between the embedding and
/// the head is held once.
#[derive(Default)]
pub(crate) struct Shared {
    held: HashMap<Place, Weak<Held>>,
}

impl Shared {
    /// Forgets matrices that no stage has any more: what is left of each would stay as long as the
    /// device is open, and every opening of a model brings hundreds.
    pub(crate) fn forget_dropped(&mut self) {
        self.held.retain(|_, held| is_alive(held));
    }
}

/// What the pieces of a stage have in common, collected while they are read or counted.
#[derive(Default)]
pub(crate) struct Common {
    pub(crate) inputs: InputShapes,
    /// The distinct rotations.
    pub(crate) ropes: Vec<Rope>,
}

/// Reads and packs for one stage.
pub(crate) struct Loader<'a> {
    pub(crate) model: &'a Model,
    pub(crate) memory: &'a Ledger,
    pub(crate) shared: &'a mut Shared,
    pub(crate) common: Common,
    /// The sizes of the regions that small matrices will share, in order.
    to_share: VecDeque<Bytes>,
    /// The one that is being filled.
    together: Option<Together>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(model: &'a Model, memory: &'a Ledger, shared: &'a mut Shared) -> Self {
        Self {
            model,
            memory,
            shared,
            common: Common::default(),
            to_share: VecDeque::new(),
            together: None,
        }
    }

    pub(crate) fn load(&mut self, span: Span) -> Result<Pieces, StageError> {
        let decoder = self.model.decoder();
        self.to_share = self.regions(span);
        let mut pieces = Pieces {
            embedding: None,
            halves: Vec::new(),
            head: None,
        };
        let mut slots = vec![0; decoder.kv_groups.len()];
        for piece in span.pieces(decoder.layers.len()) {
            match piece {
                Piece::Embedding => pieces.embedding = Some(self.embedding(&decoder.embedding)?),
                Piece::Mixer(layer) => {
                    let spec = &decoder.layers[layer].mixer;
                    let slot = &mut slots[spec.kv_group];
                    let part = self.mixer(piece, spec, *slot)?;
                    *slot += 1;
                    pieces.halves.push(HalfLayer::Mixer(Box::new(part)));
                }
                Piece::FeedForward(layer) => {
                    let spec = &decoder.layers[layer].feed_forward;
                    let part = self.feed_forward(piece, spec)?;
                    pieces.halves.push(HalfLayer::FeedForward(Box::new(part)));
                }
                Piece::Head => pieces.head = Some(self.head(&decoder.head)?),
            }
        }
        Ok(pieces)
    }

    fn embedding(&mut self, spec: &Embedding) -> Result<EmbeddingPart, StageError> {
        Ok(EmbeddingPart {
            table: self.matrix(&spec.table)?,
            scale: spec.scale,
        })
    }

    fn mixer(
        &mut self,
        piece: Piece,
        spec: &Attention,
        kv_slot: usize,
    ) -> Result<MixerPart, StageError> {
        let MixerUse {
            rotation,
            normed,
            attended,
        } = self.common.mixer(spec);
        Ok(MixerPart {
            piece,
            kv_slot,
            rotation,
            normed,
            attended,
            q: self.linear(&spec.q)?,
            k: self.linear(&spec.k)?,
            v: self.linear(&spec.v)?,
            o: self.linear(&spec.o)?,
            spec: spec.clone(),
        })
    }

    fn feed_forward(
        &mut self,
        piece: Piece,
        spec: &FeedForward,
    ) -> Result<FeedForwardPart, StageError> {
        let (normed, gated) = self.common.feed_forward(spec);
        Ok(FeedForwardPart {
            piece,
            normed,
            gated,
            gate: self.matrix(&spec.gate)?,
            up: self.matrix(&spec.up)?,
            down: self.matrix(&spec.down)?,
            spec: spec.clone(),
        })
    }

    fn head(&mut self, spec: &Head) -> Result<HeadPart, StageError> {
        let input = self.common.head(spec);
        Ok(HeadPart {
            output: self.matrix(&spec.output)?,
            input,
            norm: spec.scaled_norm(),
            softcap: spec.softcap,
        })
    }

    fn linear(&mut self, spec: &Linear) -> Result<LinearPart, StageError> {
        Ok(LinearPart {
            weight: self.matrix(&spec.weight)?,
            bias: spec.bias.clone(),
        })
    }

    /// Sizes of regions for the span's small matrices that no stage holds already, in the order in which
    /// they are read.
    fn regions(&self, span: Span) -> VecDeque<Bytes> {
        let decoder = self.model.decoder();
        let mut places = HashSet::new();
        let mut regions = VecDeque::new();
        for piece in span.pieces(decoder.layers.len()) {
            for weight in decoder.piece_weights(piece) {
                let (place, bytes) = (self.place(weight), packed_bytes(weight));
                let is_held = |place| self.shared.held.get(place).is_some_and(is_alive);
                if !Region::suits(bytes) || is_held(&place) || !places.insert(place) {
                    continue;
                }
                match regions.back_mut() {
                    Some(last) if *last + bytes <= Region::BYTES_MAX => *last += bytes,
                    _ => regions.push_back(bytes),
                }
            }
        }
        regions
    }

    /// The region with room for a matrix of so many bytes: `None` for a large one, and for one that was
    /// not counted, since another stage held it then and has dropped it meanwhile.
    fn region(&mut self, bytes: Bytes) -> Result<Option<&mut Together>, StageError> {
        if !Region::suits(bytes) {
            return Ok(None);
        }
        let has_room = |it: &Together| it.region.has_room(bytes);
        if !self.together.as_ref().is_some_and(has_room)
            && let Some(size) = self.to_share.pop_front_if(|size| *size >= bytes)
        {
            let lease = Arc::new(self.memory.reserve(Kind::Weights, size)?);
            let region = Region::new(size)?;
            self.together = Some(Together { region, lease });
        }
        Ok(self.together.as_mut().filter(|it| has_room(it)))
    }

    fn place(&self, weight: &Weight) -> Place {
        Place {
            model: self.model.id(),
            file: weight.file,
            offset: weight.offset,
            rows: weight.rows,
        }
    }

    /// The packed matrix, shared if a stage of this device has it already.
    fn matrix(&mut self, weight: &Weight) -> Result<Arc<Held>, StageError> {
        let Weight {
            rows,
            cols,
            stored,
            kept,
            ..
        } = *weight;
        let place = self.place(weight);
        if let Some(held) = self.shared.held.get(&place).and_then(Weak::upgrade) {
            return Ok(held);
        }
        let bytes = packed_bytes(weight);
        let memory = self.memory;
        let model = self.model;
        let (region, lease) = match self.region(bytes)? {
            Some(Together { region, lease }) => (Some(region), Arc::clone(lease)),
            None => (None, Arc::new(memory.reserve(Kind::Weights, bytes)?)),
        };
        let mut read = |rows, out: &mut [u8]| model.read_rows(weight, rows, out);
        let packing = Packing {
            stored,
            kept,
            rows,
            cols,
        };
        let packed = Packed::pack_in(region, packing, &mut read).map_err(|error| match error {
            PackError::Read(error) => StageError::from(error),
            PackError::Memory(error) => error.into(),
        })?;
        let held = Arc::new(Held {
            packed,
            _lease: lease,
        });
        self.shared.held.insert(place, Arc::downgrade(&held));
        Ok(held)
    }
}

fn is_alive(held: &Weak<Held>) -> bool {
    held.strong_count() > 0
}

/// What a mixer uses of what the stage has in common.
pub(crate) struct MixerUse {
    rotation: usize,
    normed: InputIndex,
    attended: InputIndex,
}

impl Common {
    /// What all pieces of `span` have in common.
    pub(crate) fn of(model: &Model, span: Span) -> Self {
        let mut common = Self::default();
        let decoder = model.decoder();
        for piece in span.pieces(decoder.layers.len()) {
            match piece {
                Piece::Embedding => {}
                Piece::Mixer(layer) => drop(common.mixer(&decoder.layers[layer].mixer)),
                Piece::FeedForward(layer) => {
                    common.feed_forward(&decoder.layers[layer].feed_forward);
                }
                Piece::Head => drop(common.head(&decoder.head)),
            }
        }
        common
    }

    /// The pairs of each distinct rotation.
    pub(crate) fn pairs(&self) -> Vec<usize> {
        self.ropes
            .iter()
            .map(|rope| rope.frequencies.len())
            .collect()
    }

    fn mixer(&mut self, spec: &Attention) -> MixerUse {
        let known = self.ropes.iter().position(|rope| *rope == spec.rope);
        let rotation = known.unwrap_or_else(|| {
            self.ropes.push(spec.rope.clone());
            self.ropes.len() - 1
        });
        let normed = self.input(&[&spec.q.weight, &spec.k.weight, &spec.v.weight]);
        MixerUse {
            rotation,
            normed,
            attended: self.input(&[&spec.o.weight]),
        }
    }

    fn feed_forward(&mut self, spec: &FeedForward) -> (InputIndex, InputIndex) {
        (
            self.input(&[&spec.gate, &spec.up]),
            self.input(&[&spec.down]),
        )
    }

    fn head(&mut self, spec: &Head) -> InputIndex {
        self.input(&[&spec.output])
    }

    /// The input of matrices that read the same rows.
    fn input(&mut self, weights: &[&Weight]) -> InputIndex {
        let forms = weights
            .iter()
            .map(|w| Forms::of(w.kept))
            .fold(Forms::default(), Forms::and);
        self.inputs.index(forms, weights[0].cols)
    }
}

/// Bytes a matrix takes when packed. The model's reader has checked that rows are whole blocks.
fn packed_bytes(weight: &Weight) -> Bytes {
    let bytes = Packed::bytes_for(weight.kept, weight.rows, weight.cols);
    bytes.expect("an opened model's rows are whole blocks")
}

/// Bytes of all matrices of a span, a shared one counted once.
pub(crate) fn span_bytes(model: &Model, span: Span) -> Bytes {
    let decoder = model.decoder();
    let mut places = HashSet::new();
    let mut bytes = Bytes::ZERO;
    for piece in span.pieces(decoder.layers.len()) {
        for weight in decoder.piece_weights(piece) {
            if places.insert((weight.file, weight.offset, weight.rows)) {
                bytes += packed_bytes(weight);
            }
        }
    }
    bytes
}
