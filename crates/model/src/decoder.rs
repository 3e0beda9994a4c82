//! A decoder, described by data. Every supported family is one of these; no code knows a family
//! but the readers that fill it in.

use gogrid_units::{Bytes, Piece, Span, WeightType};

/// A decoder-only transformer: shapes, switches, and where its weights are.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The family, as GGUF names it: `llama`, `gemma3`.
    pub architecture: &'static str,
    /// Rows of the embedding table: token ids are below this.
    pub vocab: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// The longest sequence it was made for, in tokens.
    pub context: usize,
    /// Epsilon of every RMS norm.
    pub norm_epsilon: f32,
    /// Token ids to rows of the residual stream.
    pub embedding: Embedding,
    /// The layers, in order.
    pub layers: Vec<Layer>,
    /// The residual stream to logits.
    pub head: Head,
    /// The KV groups: layers of one group see the same tokens, so share block tables.
    pub kv_groups: Vec<KvGroup>,
}

/// The embedding table, `[vocab, width]`.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[vocab, width]`.
    pub table: Weight,
    /// What a row is multiplied by (Gemma: the root of the width; Granite: a constant; else 1).
    pub scale: f32,
}

/// One layer: two half-layers, each adding to the residual stream.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `x += residual(o(attention(norm(x))))`.
    pub mixer: Attention,
    /// `x += residual(down(act(gate(norm(x))) * up(norm(x))))`.
    pub feed_forward: FeedForward,
}

/// Grouped-query attention with rotary positions.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head, the same for queries, keys and values.
    pub head_dim: usize,
    /// RMS norm before, `[width]`; none in OLMo 2.
    pub norm: Option<Vector>,
    /// `[heads * head_dim, width]`.
    pub q: Linear,
    /// `[kv_heads * head_dim, width]`.
    pub k: Linear,
    /// `[kv_heads * head_dim, width]`.
    pub v: Linear,
    /// `[width, heads * head_dim]`.
    pub o: Linear,
    /// RMS norm of queries before the rotation: over each head, `[head_dim]`, or over all heads of a
    /// row together, `[heads * head_dim]` (OLMo 2).
    pub q_norm: Option<Vector>,
    /// RMS norm of keys before the rotation: `[head_dim]` or `[kv_heads * head_dim]`.
    pub k_norm: Option<Vector>,
    /// What becomes of the output.
    pub residual: Residual,
    /// The rotation of queries and keys; without frequencies in a layer that turns nothing (SmolLM3).
    pub rope: Rope,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)` after scaling (Gemma 2).
    pub softcap: Option<f32>,
    /// Tokens a query sees, itself included: keys at positions `p - window + 1 ..= p`.
    /// `None` sees all. Always the window of its KV group.
    pub window: Option<usize>,
    /// Index into [`Decoder::kv_groups`].
    pub kv_group: usize,
}

/// The gated feed-forward.
#[derive(Clone, Debug)]
pub struct FeedForward {
    /// RMS norm before, `[width]`; none in OLMo 2.
    pub norm: Option<Vector>,
    /// `[hidden, width]`.
    pub gate: Weight,
    /// `[hidden, width]`.
    pub up: Weight,
    /// `[width, hidden]`.
    pub down: Weight,
    /// What the gate goes through.
    pub activation: Activation,
    /// What becomes of the output.
    pub residual: Residual,
}

/// How the output of a half-layer is added to the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Residual {
    /// As it is.
    Add,
    /// Through an RMS norm, `[width]` (Gemma, OLMo 2).
    AddNormed(Vector),
    /// Multiplied (Granite).
    AddScaled(f32),
}

impl Residual {
    /// The norm that outputs go through.
    pub const fn norm(&self) -> Option<&Vector> {
        match self {
            Self::AddNormed(norm) => Some(norm),
            Self::Add | Self::AddScaled(_) => None,
        }
    }
}

/// The gate's nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

/// The last norm and the projection to logits.
#[derive(Clone, Debug)]
pub struct Head {
    /// `[width]`.
    pub norm: Vector,
    /// `[vocab, width]`; the same extent as the embedding table when they are tied.
    pub output: Weight,
    /// What logits are multiplied by, before their cap (Granite, else 1).
    pub scale: f32,
    /// Logits become `cap * tanh(logit / cap)` (Gemma 2).
    pub softcap: Option<f32>,
}

impl Head {
    /// The weights of the norm with [`scale`](Self::scale) in them: as only a product lies between norm
    /// and logits, they may be multiplied before it.
    pub fn scaled_norm(&self) -> Vector {
        Vector {
            name: self.norm.name.clone(),
            values: self.norm.values.iter().map(|w| w * self.scale).collect(),
        }
    }
}

/// A matrix and, where the family has one, a bias.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[rows, cols]`.
    pub weight: Weight,
    /// `[rows]`.
    pub bias: Option<Vector>,
}

/// Where a matrix `[rows, cols]` is, row after row, and how to keep it. A part of a fused tensor
/// (Phi-3's qkv) is a weight of its own, since its rows are consecutive.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// The tensor's name in the file, for messages.
    pub name: String,
    /// How the file stores it.
    pub stored: WeightType,
    /// How a stage keeps it: `stored`, or what it is quantised to while loading.
    pub kept: WeightType,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Index of the file in the model.
    pub file: usize,
    /// Byte offset of the first row in that file; checked against the file's length.
    pub offset: u64,
}

/// A small vector, read when the model is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector {
    /// The tensor's name in the file, for messages.
    pub name: String,
    /// Its values, with anything the family adds (Gemma's `1 +`) already in.
    pub values: Vec<f32>,
}

/// Rotary position embedding (Su et al. 2021), with every scaling folded into the frequencies.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which two elements of a head turn together.
    pub pairs: RopePairs,
    /// Radians per position of each pair; twice as many leading elements of a head are turned and
    /// the rest left as they are. May be empty.
    pub frequencies: Vec<f32>,
    /// Other frequencies for long sequences (LongRoPE, Ding et al. 2024).
    pub long: Option<LongFrequencies>,
    /// What sine and cosine are multiplied by (YaRN and LongRoPE; else 1).
    pub magnitude: f32,
}

/// The frequencies of sequences that are longer than the context a model was first made for. All rows
/// of a sequence turn by one list: a sequence that grows past the border begins again from its rows,
/// as transformers' `generate` does for Phi-3.
#[derive(Clone, Debug, PartialEq)]
pub struct LongFrequencies {
    /// The most tokens of a sequence that is not long.
    pub above: usize,
    /// As many as [`Rope::frequencies`].
    pub frequencies: Vec<f32>,
}

impl Rope {
    /// The frequencies of all rows of a sequence of `length` tokens.
    pub fn frequencies_at(&self, length: usize) -> &[f32] {
        match &self.long {
            Some(long) if length > long.above => &long.frequencies,
            _ => &self.frequencies,
        }
    }
}

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(2 i, 2 i + 1)`: llama, granite and smollm3 in GGUF files.
    Adjacent,
    /// `(i, i + n)` with `n` the number of pairs: everything else.
    Halves,
}

/// Layers whose keys and values cover the same tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvGroup {
    /// Tokens kept, or `None` for all.
    pub window: Option<usize>,
}

impl Decoder {
    /// Every matrix, in the order of the pieces; a tied head is listed like any other.
    pub fn weights(&self) -> Vec<&Weight> {
        let pieces = Span::whole_model(self.layers.len()).pieces(self.layers.len());
        pieces.flat_map(|piece| self.piece_weights(piece)).collect()
    }

    /// The most tokens of a sequence that turns by the frequencies for short ones; `None` where all
    /// sequences turn alike. It is the same for all layers.
    pub fn rotations_change_above(&self) -> Option<usize> {
        let ropes = self.layers.iter().map(|layer| &layer.mixer.rope);
        ropes
            .filter_map(|rope| Some(rope.long.as_ref()?.above))
            .next()
    }

    /// The matrices of one piece.
    pub fn piece_weights(&self, piece: Piece) -> Vec<&Weight> {
        match piece {
            Piece::Embedding => vec![&self.embedding.table],
            Piece::Mixer(layer) => {
                let mixer = &self.layers[layer].mixer;
                [&mixer.q, &mixer.k, &mixer.v, &mixer.o]
                    .map(|l| &l.weight)
                    .to_vec()
            }
            Piece::FeedForward(layer) => {
                let ffn = &self.layers[layer].feed_forward;
                vec![&ffn.gate, &ffn.up, &ffn.down]
            }
            Piece::Head => vec![&self.head.output],
        }
    }

    /// Bytes of weights that a step of one row reads in a piece, in the GGUF layout of the types they are
    /// kept in: all there are, but of the embedding table a row.
    pub fn bytes_read(&self, piece: Piece) -> Bytes {
        match piece {
            Piece::Embedding => Bytes::of(self.embedding.table.kept_row_bytes()),
            _ => {
                let weights = self.piece_weights(piece).into_iter();
                weights.map(Weight::kept_bytes).sum()
            }
        }
    }
}

impl Weight {
    /// Bytes of one row as the file stores it.
    pub const fn row_bytes(&self) -> usize {
        // A whole number of blocks: the reader of the file has held every row to that.
        self.cols / self.stored.block_len() * self.stored.block_bytes()
    }

    /// Bytes of all rows in the GGUF layout of the type they are kept in.
    pub const fn kept_bytes(&self) -> Bytes {
        Bytes::of(self.kept_row_bytes()).times(self.rows as u64)
    }

    const fn kept_row_bytes(&self) -> usize {
        self.cols / self.kept.block_len() * self.kept.block_bytes()
    }
}
