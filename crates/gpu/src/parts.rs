//! The pieces of a stage on the device, and how a span of a model becomes them.

use std::collections::HashSet;
use std::sync::Arc;

use gogrid_model::{Attention, Decoder, FeedForward, Head, Model, Residual, Rope, Vector};
use gogrid_pipeline::StageError;
use gogrid_units::{Bytes, Piece, Span};

use crate::device::{Buf, buffer_bytes};
use crate::formats::UNIT;
use crate::recorder::Recorder;
use crate::weights::{Loader, Matrix, MatrixSource};

/// The pieces of a span, in order.
pub(crate) struct Pieces<R: Recorder> {
    pub(crate) embedding: Option<EmbeddingPart<R>>,
    pub(crate) halves: Vec<HalfLayer<R>>,
    pub(crate) head: Option<HeadPart<R>>,
    /// Norms and biases.
    pub(crate) vectors: Arc<Buf<R>>,
    /// The distinct rotations of its mixers.
    pub(crate) ropes: Vec<Rope>,
}

pub(crate) struct EmbeddingPart<R: Recorder> {
    pub(crate) table: Arc<Matrix<R>>,
    pub(crate) scale: f32,
}

pub(crate) enum HalfLayer<R: Recorder> {
    Mixer(Box<MixerPart<R>>),
    FeedForward(Box<FeedForwardPart<R>>),
}

impl<R: Recorder> HalfLayer<R> {
    /// Which piece it is.
    pub(crate) fn piece(&self) -> Piece {
        match self {
            Self::Mixer(part) => part.piece,
            Self::FeedForward(part) => part.piece,
        }
    }
}

/// Where a vector begins in the buffer of vectors, in values; none where there is none.
pub(crate) type At = Option<u32>;

pub(crate) struct MixerPart<R: Recorder> {
    pub(crate) piece: Piece,
    pub(crate) spec: MixerShape,
    /// Index of its layer among those of its KV group here.
    pub(crate) kv_slot: usize,
    pub(crate) rotation: usize,
    pub(crate) norm: At,
    /// Queries, keys and values in one row, by matrices of one type each; where their rows begin.
    pub(crate) qkv: Vec<Arc<Matrix<R>>>,
    pub(crate) qkv_bias: At,
    pub(crate) q_norm: At,
    pub(crate) k_norm: At,
    /// Whether the norms of queries and keys are over all heads of a row together.
    pub(crate) is_normed_whole: bool,
    pub(crate) o: Arc<Matrix<R>>,
    pub(crate) o_bias: At,
    pub(crate) residual: Onto,
}

/// How a product is added to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Onto {
    /// Multiplied.
    Scaled(f32),
    /// Through the norm that begins there in the buffer of vectors.
    Normed(u32),
}

/// What attention's kernels need to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MixerShape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) scale: f32,
    pub(crate) softcap: Option<f32>,
    pub(crate) window: Option<usize>,
    pub(crate) kv_group: usize,
    pub(crate) pairs: usize,
    pub(crate) are_halves: bool,
}

pub(crate) struct FeedForwardPart<R: Recorder> {
    pub(crate) piece: Piece,
    pub(crate) norm: At,
    pub(crate) hidden: usize,
    pub(crate) gate_up: GateUp<R>,
    pub(crate) down: Arc<Matrix<R>>,
    pub(crate) is_silu: bool,
    pub(crate) residual: Onto,
}

/// Gate and up: in one matrix where they have one type.
pub(crate) enum GateUp<R: Recorder> {
    Together(Arc<Matrix<R>>),
    Apart([Arc<Matrix<R>>; 2]),
}

pub(crate) struct HeadPart<R: Recorder> {
    pub(crate) output: Arc<Matrix<R>>,
    pub(crate) norm: At,
    pub(crate) softcap: Option<f32>,
}

/// Runs of weights of one type and width, each of which becomes one matrix.
fn runs<'a>(weights: &[&'a gogrid_model::Weight]) -> Vec<MatrixSource<'a>> {
    let mut runs: Vec<MatrixSource<'a>> = Vec::new();
    for &weight in weights {
        match runs.last_mut() {
            Some(run) if run.weights[0].kept == weight.kept => run.weights.push(weight),
            _ => runs.push(MatrixSource {
                weights: vec![weight],
                is_gated: false,
            }),
        }
    }
    runs
}

fn alone(weight: &gogrid_model::Weight) -> MatrixSource<'_> {
    MatrixSource {
        weights: vec![weight],
        is_gated: false,
    }
}

fn qkv(spec: &Attention) -> Vec<MatrixSource<'_>> {
    runs(&[&spec.q.weight, &spec.k.weight, &spec.v.weight])
}

fn gate_up(spec: &FeedForward) -> Vec<MatrixSource<'_>> {
    match spec.gate.kept == spec.up.kept {
        true => vec![MatrixSource {
            weights: vec![&spec.gate, &spec.up],
            is_gated: true,
        }],
        false => vec![alone(&spec.gate), alone(&spec.up)],
    }
}

/// The matrices of a piece.
pub(crate) fn sources(decoder: &Decoder, piece: Piece) -> Vec<MatrixSource<'_>> {
    match piece {
        Piece::Embedding => vec![alone(&decoder.embedding.table)],
        Piece::Mixer(layer) => {
            let spec = &decoder.layers[layer].mixer;
            let mut sources = qkv(spec);
            sources.push(alone(&spec.o.weight));
            sources
        }
        Piece::FeedForward(layer) => {
            let spec = &decoder.layers[layer].feed_forward;
            let mut sources = gate_up(spec);
            sources.push(alone(&spec.down));
            sources
        }
        Piece::Head => vec![alone(&decoder.head.output)],
    }
}

/// Bytes of all weights of a span, a shared one counted once, on a device that binds so many bytes.
pub(crate) fn weight_bytes(model: &Model, span: Span, binding_bytes_max: u64) -> Bytes {
    let decoder = model.decoder();
    let mut places = HashSet::new();
    let mut bytes = Bytes::ZERO;
    let mut vectors = Vectors::default();
    for piece in span.pieces(decoder.layers.len()) {
        vectors.put_piece(decoder, piece);
        for source in sources(decoder, piece) {
            let first = source.weights[0];
            if places.insert((first.file, first.offset, source.weights.len())) {
                bytes += source.bytes(binding_bytes_max);
            }
        }
    }
    bytes + Bytes(buffer_bytes(4 * vectors.values.len() as u64))
}

/// Vectors one after the other, each padded with zeros to whole units.
#[derive(Default)]
struct Vectors {
    values: Vec<f32>,
}

/// Where the vectors of a piece are.
#[derive(Default)]
struct PieceVectors {
    norm: At,
    bias: At,
    q_norm: At,
    k_norm: At,
    o_bias: At,
    post_norm: At,
}

impl PieceVectors {
    fn onto(&self, residual: &Residual) -> Onto {
        match (residual, self.post_norm) {
            (Residual::AddScaled(scale), _) => Onto::Scaled(*scale),
            (Residual::AddNormed(_), Some(at)) => Onto::Normed(at),
            (Residual::Add | Residual::AddNormed(_), _) => Onto::Scaled(1.0),
        }
    }
}

impl Vectors {
    fn put(&mut self, vector: &Vector) -> At {
        self.put_values(&vector.values)
    }

    fn put_values(&mut self, values: &[f32]) -> At {
        // A model's norms and biases have far fewer values than 2^32.
        let at = self.values.len() as u32;
        self.values.extend(values);
        self.values
            .resize(self.values.len().next_multiple_of(UNIT), 0.0);
        Some(at)
    }

    fn put_piece(&mut self, decoder: &Decoder, piece: Piece) -> PieceVectors {
        match piece {
            Piece::Embedding => PieceVectors::default(),
            Piece::Mixer(layer) => self.put_mixer(&decoder.layers[layer].mixer),
            Piece::FeedForward(layer) => {
                let spec = &decoder.layers[layer].feed_forward;
                PieceVectors {
                    norm: spec.norm.as_ref().and_then(|norm| self.put(norm)),
                    post_norm: spec.residual.norm().and_then(|norm| self.put(norm)),
                    ..PieceVectors::default()
                }
            }
            Piece::Head => PieceVectors {
                norm: self.put(&decoder.head.scaled_norm()),
                ..PieceVectors::default()
            },
        }
    }

    fn put_mixer(&mut self, spec: &Attention) -> PieceVectors {
        let linears = [&spec.q, &spec.k, &spec.v];
        let bias = linears.iter().any(|linear| linear.bias.is_some()).then(|| {
            let each = linears.iter().flat_map(|linear| match &linear.bias {
                Some(bias) => bias.values.clone(),
                None => vec![0.0; linear.weight.rows],
            });
            each.collect::<Vec<_>>()
        });
        let mut put = |vector: Option<&Vector>| vector.and_then(|vector| self.put(vector));
        PieceVectors {
            q_norm: put(spec.q_norm.as_ref()),
            k_norm: put(spec.k_norm.as_ref()),
            o_bias: put(spec.o.bias.as_ref()),
            post_norm: put(spec.residual.norm()),
            norm: put(spec.norm.as_ref()),
            bias: bias.and_then(|bias| self.put_values(&bias)),
        }
    }
}

impl<R: Recorder> Loader<'_, R> {
    /// Reads and uploads the pieces of a span.
    pub(crate) fn load(&mut self, span: Span) -> Result<Pieces<R>, StageError> {
        let decoder = self.model.decoder();
        let mut vectors = Vectors::default();
        let (mut embedding, mut halves, mut head) = (None, Vec::new(), None);
        let (mut ropes, mut slots) = (Vec::new(), vec![0; decoder.kv_groups.len()]);
        for piece in span.pieces(decoder.layers.len()) {
            let at = vectors.put_piece(decoder, piece);
            match piece {
                Piece::Embedding => {
                    embedding = Some(EmbeddingPart {
                        table: self.matrix(&alone(&decoder.embedding.table))?,
                        scale: decoder.embedding.scale,
                    });
                }
                Piece::Mixer(layer) => {
                    let spec = &decoder.layers[layer].mixer;
                    let slot = &mut slots[spec.kv_group];
                    let place = MixerPlace {
                        piece,
                        kv_slot: *slot,
                        rotation: rotation(&mut ropes, &spec.rope),
                    };
                    *slot += 1;
                    halves.push(HalfLayer::Mixer(Box::new(self.mixer(spec, place, at)?)));
                }
                Piece::FeedForward(layer) => {
                    let spec = &decoder.layers[layer].feed_forward;
                    let part = self.feed_forward(spec, piece, &at)?;
                    halves.push(HalfLayer::FeedForward(Box::new(part)));
                }
                Piece::Head => head = Some(self.head(&decoder.head, &at)?),
            }
        }
        Ok(Pieces {
            embedding,
            halves,
            head,
            vectors: self.vectors(&vectors.values)?,
            ropes,
        })
    }

    fn mixer(
        &mut self,
        spec: &Attention,
        place: MixerPlace,
        at: PieceVectors,
    ) -> Result<MixerPart<R>, StageError> {
        let qkv = qkv(spec).into_iter().map(|source| self.matrix(&source));
        Ok(MixerPart {
            qkv: qkv.collect::<Result<_, _>>()?,
            o: self.matrix(&alone(&spec.o.weight))?,
            piece: place.piece,
            kv_slot: place.kv_slot,
            rotation: place.rotation,
            norm: at.norm,
            qkv_bias: at.bias,
            q_norm: at.q_norm,
            k_norm: at.k_norm,
            is_normed_whole: spec
                .q_norm
                .as_ref()
                .is_some_and(|norm| norm.values.len() != spec.head_dim),
            o_bias: at.o_bias,
            residual: at.onto(&spec.residual),
            spec: MixerShape {
                heads: spec.heads,
                kv_heads: spec.kv_heads,
                head_dim: spec.head_dim,
                scale: spec.scale,
                softcap: spec.softcap,
                window: spec.window,
                kv_group: spec.kv_group,
                pairs: spec.rope.frequencies.len(),
                are_halves: spec.rope.pairs == gogrid_model::RopePairs::Halves,
            },
        })
    }

    fn feed_forward(
        &mut self,
        spec: &FeedForward,
        piece: Piece,
        at: &PieceVectors,
    ) -> Result<FeedForwardPart<R>, StageError> {
        let mut matrices = Vec::new();
        for source in gate_up(spec) {
            matrices.push(self.matrix(&source)?);
        }
        let gate_up = match <[_; 2]>::try_from(matrices) {
            Ok(two) => GateUp::Apart(two),
            Err(mut one) => GateUp::Together(one.remove(0)),
        };
        Ok(FeedForwardPart {
            piece,
            gate_up,
            down: self.matrix(&alone(&spec.down))?,
            norm: at.norm,
            hidden: spec.gate.rows,
            is_silu: spec.activation == gogrid_model::Activation::Silu,
            residual: at.onto(&spec.residual),
        })
    }

    fn head(&mut self, spec: &Head, at: &PieceVectors) -> Result<HeadPart<R>, StageError> {
        Ok(HeadPart {
            output: self.matrix(&alone(&spec.output))?,
            norm: at.norm,
            softcap: spec.softcap,
        })
    }
}

struct MixerPlace {
    piece: Piece,
    kv_slot: usize,
    rotation: usize,
}

fn rotation(ropes: &mut Vec<Rope>, rope: &Rope) -> usize {
    let known = ropes.iter().position(|known| known == rope);
    known.unwrap_or_else(|| {
        ropes.push(rope.clone());
        ropes.len() - 1
    })
}
