//! Puts a decoder together: sizes and switches on one side, a file's tensors on the other.

use std::cell::RefCell;
use std::collections::HashSet;

use gogrid_units::WeightType;

use crate::decoder::{
    Attention, Decoder, Embedding, FeedForward, Head, KvGroup, Layer, Linear, LongFrequencies,
    Residual, Rope, Vector, Weight,
};
use crate::error::{ModelError, shown};
use crate::family::{Norms, QueryKeyNorms};
use crate::limits::VOCAB_MAX;
use crate::names::Names;
use crate::params::{Params, Tied};
use crate::rope::{Divisors, LongDivisors, RopeSpec};
use crate::tensors::{Content, Position, Tensor, TensorSource};

/// What a decoder is put together from.
pub(crate) struct Assembly<'a> {
    pub(crate) params: &'a Params,
    pub(crate) names: &'a Names,
    pub(crate) source: &'a dyn TensorSource,
    pub(crate) content: &'a dyn Content,
    /// What float matrices are quantised to while loading.
    pub(crate) quantise: Option<WeightType>,
    /// What the file's norms lack: 1 in Gemma's safetensors.
    pub(crate) norm_offset: f32,
    /// The names of tensors that have a place in the decoder.
    pub(crate) used: RefCell<HashSet<String>>,
}

impl Assembly<'_> {
    /// The decoder. Every tensor it needs is there in its right shape, and the file has no tensor
    /// that it does not know.
    pub(crate) fn decoder(&self) -> Result<Decoder, ModelError> {
        let params = self.params;
        params.check()?;
        let embedding = self.embedding()?;
        let vocab = embedding.table.rows;
        let head = self.head(&embedding.table)?;
        let ropes = Ropes {
            global: self.rope(&params.rope)?,
            windowed: params
                .windowed_rope
                .as_ref()
                .map(|r| self.rope(r))
                .transpose()?,
        };
        let kv_groups = kv_groups(&params.windows);
        let layer = |index| self.layer(index, &ropes, &kv_groups);
        let layers = (0..params.windows.len()).map(layer);
        let layers = layers.collect::<Result<_, _>>()?;
        self.refuse_strangers()?;
        Ok(Decoder {
            architecture: params.family.name,
            vocab,
            width: params.width,
            context: params.context,
            norm_epsilon: params.norm_epsilon,
            embedding,
            layers,
            head,
            kv_groups,
        })
    }

    fn embedding(&self) -> Result<Embedding, ModelError> {
        let tensor = self.required(self.names.embedding)?;
        // The last but one dimension: those before it, if any, are held to 1 with the shape.
        let rows = tensor.shape.iter().rev().nth(1).copied().unwrap_or(0);
        let rows = self.params.vocab.unwrap_or(rows);
        if rows > VOCAB_MAX {
            let what = format!("{rows} rows are over the limit of {VOCAB_MAX}");
            return Err(self.source.refuse(&tensor, what));
        }
        Ok(Embedding {
            table: self.matrix(&tensor, (rows, self.params.width))?,
            scale: self.params.scales.embeddings,
        })
    }

    fn head(&self, table: &Weight) -> Result<Head, ModelError> {
        let name = self.names.output;
        let there = self.source.find(name).is_some();
        let tied = match self.params.tied {
            Tied::Yes => true,
            Tied::No => false,
            Tied::IfMissing => !there,
        };
        let output = if tied {
            // A copy of the table under the head's name is not an error.
            self.used.borrow_mut().insert(name.to_owned());
            table.clone()
        } else {
            self.matrix(&self.required(name)?, (table.rows, table.cols))?
        };
        Ok(Head {
            norm: self.norm(self.names.final_norm, self.params.width)?,
            output,
            scale: self.params.scales.logits,
            softcap: self.params.logit_softcap,
        })
    }

    fn layer(&self, index: usize, ropes: &Ropes, groups: &[KvGroup]) -> Result<Layer, ModelError> {
        let prefix = format!("{}{index}.", self.names.layer);
        let window = self.params.windows[index];
        let group = groups.iter().position(|group| group.window == window);
        let rope = ropes.of(window, self.params.turned[index]);
        let mixer = self.attention(&prefix, rope, (window, group.unwrap_or(0)))?;
        let feed_forward = self.feed_forward(&prefix)?;
        Ok(Layer {
            mixer,
            feed_forward,
        })
    }

    fn attention(
        &self,
        prefix: &str,
        rope: Rope,
        (window, kv_group): (Option<usize>, usize),
    ) -> Result<Attention, ModelError> {
        let (params, names) = (self.params, self.names);
        let (width, head_dim) = (params.width, params.head_dim);
        let [q, k, v] = self.queries_keys_values(prefix)?;
        let o = self.linear(
            &at(prefix, names.o),
            (width, params.heads * head_dim),
            params.output_bias,
        )?;
        let query_key_norm = |name, heads: usize| {
            let len = match params.family.query_key_norms {
                QueryKeyNorms::None => return Ok(None),
                QueryKeyNorms::Heads => head_dim,
                QueryKeyNorms::Whole => heads * head_dim,
            };
            let name = at(prefix, name) + ".weight";
            self.norm(&name, len).map(Some)
        };
        Ok(Attention {
            heads: params.heads,
            kv_heads: params.kv_heads,
            head_dim,
            norm: self.norm_before(&at(prefix, names.norm))?,
            q,
            k,
            v,
            o,
            q_norm: query_key_norm(names.q_norm, params.heads)?,
            k_norm: query_key_norm(names.k_norm, params.kv_heads)?,
            residual: self.residual(&at(prefix, names.post_norm))?,
            rope,
            scale: params.scales.scores,
            softcap: params.attention_softcap,
            window,
            kv_group,
        })
    }

    fn queries_keys_values(&self, prefix: &str) -> Result<[Linear; 3], ModelError> {
        let (params, names) = (self.params, self.names);
        let (q_rows, kv_rows) = (
            params.heads * params.head_dim,
            params.kv_heads * params.head_dim,
        );
        if !params.family.fused {
            let biased = params.biases;
            let linear = |name, rows| self.linear(&at(prefix, name), (rows, params.width), biased);
            return Ok([
                linear(names.q, q_rows)?,
                linear(names.k, kv_rows)?,
                linear(names.v, kv_rows)?,
            ]);
        }
        let name = at(prefix, names.qkv);
        let whole = self.linear(&name, (q_rows + 2 * kv_rows, params.width), false)?;
        Ok([
            part(&whole, 0, q_rows),
            part(&whole, q_rows, kv_rows),
            part(&whole, q_rows + kv_rows, kv_rows),
        ])
    }

    fn feed_forward(&self, prefix: &str) -> Result<FeedForward, ModelError> {
        let (params, names) = (self.params, self.names);
        let (hidden, width) = (params.hidden, params.width);
        let weight = |name, shape| {
            let tensor = self.required(&(at(prefix, name) + ".weight"))?;
            self.matrix(&tensor, shape)
        };
        let (gate, up) = if params.family.fused {
            let whole = weight(names.gate_up, (2 * hidden, width))?;
            (rows(&whole, 0, hidden), rows(&whole, hidden, hidden))
        } else {
            let gate = weight(names.gate, (hidden, width))?;
            (gate, weight(names.up, (hidden, width))?)
        };
        Ok(FeedForward {
            norm: self.norm_before(&at(prefix, names.feed_forward_norm))?,
            gate,
            up,
            down: weight(names.down, (width, hidden))?,
            activation: params.family.activation,
            residual: self.residual(&at(prefix, names.feed_forward_post_norm))?,
        })
    }

    /// The norm of what a half-layer reads.
    fn norm_before(&self, name: &str) -> Result<Option<Vector>, ModelError> {
        match self.params.family.norms {
            Norms::After => Ok(None),
            Norms::Before | Norms::Both => {
                let name = format!("{name}.weight");
                self.norm(&name, self.params.width).map(Some)
            }
        }
    }

    /// What becomes of a half-layer's output; `name` is that of the norm that it may go through. No
    /// family has a norm there and a multiplier too.
    fn residual(&self, name: &str) -> Result<Residual, ModelError> {
        let scale = self.params.scales.residuals;
        match self.params.family.norms {
            Norms::After | Norms::Both => {
                let name = format!("{name}.weight");
                self.norm(&name, self.params.width).map(Residual::AddNormed)
            }
            Norms::Before if scale == 1.0 => Ok(Residual::Add),
            Norms::Before => Ok(Residual::AddScaled(scale)),
        }
    }

    /// A matrix and its bias: one that must be there, or one that may (llama's `attention_bias`).
    fn linear(
        &self,
        name: &str,
        shape: (usize, usize),
        biased: bool,
    ) -> Result<Linear, ModelError> {
        let bias = format!("{name}.bias");
        let has_bias = biased || self.source.find(&bias).is_some();
        let tensor = self.required(&format!("{name}.weight"))?;
        Ok(Linear {
            weight: self.matrix(&tensor, shape)?,
            bias: has_bias.then(|| self.vector(&bias, shape.0)).transpose()?,
        })
    }

    fn matrix(&self, tensor: &Tensor, (rows, cols): (usize, usize)) -> Result<Weight, ModelError> {
        self.expect_shape(tensor, &[rows, cols])?;
        let float = tensor.ty.block_len() == 1;
        let kept = self
            .quantise
            .filter(|ty| float && ty.row_bytes(cols).is_some());
        Ok(Weight {
            name: tensor.name.clone(),
            stored: tensor.ty,
            kept: kept.unwrap_or(tensor.ty),
            rows,
            cols,
            file: tensor.file,
            offset: tensor.offset,
        })
    }

    fn norm(&self, name: &str, len: usize) -> Result<Vector, ModelError> {
        let mut vector = self.vector(name, len)?;
        for value in &mut vector.values {
            *value += self.norm_offset;
        }
        Ok(vector)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vector, ModelError> {
        let tensor = self.required(name)?;
        self.expect_shape(&tensor, &[len])?;
        let Some(width) = Some(tensor.ty)
            .filter(|ty| ty.block_len() == 1)
            .map(WeightType::block_bytes)
        else {
            let what = format!("a vector of {}; f32, f16 or bf16 expected", tensor.ty);
            return Err(self.source.refuse(&tensor, what));
        };
        let mut bytes = vec![0; len * width];
        let position = Position {
            file: tensor.file,
            offset: tensor.offset,
            field: name,
        };
        self.content.read_at(position, &mut bytes)?;
        let values: Vec<f32> = bytes
            .chunks_exact(width)
            .map(|b| widen(tensor.ty, b))
            .collect();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let what = format!("value {index} is {}", values[index]);
            return Err(self.source.refuse(&tensor, what));
        }
        let name = name.to_owned();
        Ok(Vector { name, values })
    }

    fn rope(&self, spec: &RopeSpec) -> Result<Rope, ModelError> {
        let long = |long: &LongDivisors| {
            let frequencies = self.frequencies(spec, Some(&long.divisors))?;
            Ok::<_, ModelError>(LongFrequencies {
                above: long.above,
                frequencies,
            })
        };
        Ok(Rope {
            pairs: spec.pairs,
            frequencies: self.frequencies(spec, spec.divisors.as_ref())?,
            long: spec.long.as_ref().map(long).transpose()?,
            magnitude: spec.total_magnitude(),
        })
    }

    fn frequencies(
        &self,
        spec: &RopeSpec,
        divisors: Option<&Divisors>,
    ) -> Result<Vec<f32>, ModelError> {
        let pairs = spec.rotated / 2;
        let divisors = match divisors {
            None => None,
            Some(Divisors::Values(values)) => Some(values.clone()),
            Some(Divisors::Tensor(name)) => Some(self.vector(name, pairs)?.values),
        };
        let wrong = |what: String| Err(self.params.refuse("rope factors", what));
        match &divisors {
            Some(d) if d.len() != pairs => {
                return wrong(format!("{} of them for {pairs} pairs", d.len()));
            }
            Some(d) if !d.iter().all(|d| d.is_finite() && *d > 0.0) => {
                return wrong("one of them is not above zero".to_owned());
            }
            _ => {}
        }
        let frequencies = spec.frequencies(divisors.as_deref());
        if !frequencies.iter().all(|f| f.is_finite()) {
            return wrong("a frequency is not finite".to_owned());
        }
        Ok(frequencies)
    }

    fn required(&self, name: &str) -> Result<Tensor, ModelError> {
        self.used.borrow_mut().insert(name.to_owned());
        let tensor = self.source.find(name);
        tensor.ok_or_else(|| self.source.missing(name))
    }

    fn expect_shape(&self, tensor: &Tensor, shape: &[usize]) -> Result<(), ModelError> {
        // Outermost first, so the dimensions of 1 that a writer added to a shape come before it.
        let ones = tensor.shape.len().saturating_sub(shape.len());
        let (added, own) = tensor.shape.split_at(ones);
        if own == shape && added.iter().all(|length| *length == 1) {
            return Ok(());
        }
        let what = format!("shape {:?}, the model needs {shape:?}", tensor.shape);
        Err(self.source.refuse(tensor, what))
    }

    /// A tensor without a place would be arithmetic left out in silence.
    fn refuse_strangers(&self) -> Result<(), ModelError> {
        let used = self.used.borrow();
        let mut stranger = None;
        self.source.names(&mut |name| {
            let ignored = || self.names.ignored.iter().any(|end| name.ends_with(end));
            // The first by name, whatever order the source has.
            let earlier = stranger.as_deref().is_none_or(|first: &str| name < first);
            if earlier && !used.contains(name) && !ignored() {
                stranger = Some(name.to_owned());
            }
        });
        let Some(tensor) = stranger.and_then(|name| self.source.find(&name)) else {
            return Ok(());
        };
        let family = self.params.family.name;
        let what = if tensor.name.contains("exps") || tensor.name.contains("experts") {
            "a tensor of a mixture of experts; only dense models are supported".to_owned()
        } else {
            format!("a tensor that no {family} model has")
        };
        let mut error = self.source.refuse(&tensor, what);
        if let ModelError::Malformed { field, .. } = &mut error {
            *field = shown(&tensor.name);
        }
        Err(error)
    }
}

struct Ropes {
    global: Rope,
    windowed: Option<Rope>,
}

impl Ropes {
    /// The rotation of a layer with this window, or that of one that turns nothing.
    fn of(&self, window: Option<usize>, turns: bool) -> Rope {
        let windowed = self.windowed.as_ref().filter(|_| window.is_some());
        let rope = windowed.unwrap_or(&self.global);
        match turns {
            true => rope.clone(),
            false => Rope {
                pairs: rope.pairs,
                frequencies: Vec::new(),
                long: None,
                magnitude: 1.0,
            },
        }
    }
}

/// One group for each distinct window, in the order in which layers have them.
fn kv_groups(windows: &[Option<usize>]) -> Vec<KvGroup> {
    let mut groups: Vec<KvGroup> = Vec::new();
    for &window in windows {
        if !groups.iter().any(|group| group.window == window) {
            groups.push(KvGroup { window });
        }
    }
    groups
}

fn at(prefix: &str, name: &str) -> String {
    format!("{prefix}{name}")
}

/// `len` rows of a matrix and its bias, from row `start` on.
fn part(whole: &Linear, start: usize, len: usize) -> Linear {
    let bias = whole.bias.as_ref().map(|bias| Vector {
        name: bias.name.clone(),
        values: bias.values[start..start + len].to_vec(),
    });
    Linear {
        weight: rows(&whole.weight, start, len),
        bias,
    }
}

/// `len` rows of a matrix, from row `start` on.
fn rows(whole: &Weight, start: usize, len: usize) -> Weight {
    Weight {
        rows: len,
        offset: whole.offset + (start * whole.row_bytes()) as u64,
        ..whole.clone()
    }
}

/// One stored float as f32.
fn widen(ty: WeightType, bytes: &[u8]) -> f32 {
    match (ty, bytes) {
        (WeightType::F16, &[a, b]) => half::f16::from_le_bytes([a, b]).to_f32(),
        (WeightType::Bf16, &[a, b]) => half::bf16::from_le_bytes([a, b]).to_f32(),
        (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => f32::NAN,
    }
}
