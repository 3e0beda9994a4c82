use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use gogrid_units::WeightType;

use crate::error::{ModelError, shown};
use crate::names::GGUF;
use crate::tensors::{Content, Position, Tensor, TensorSource};

use super::shape::SyntheticShape;
use super::stretches::{Stretches, mix};

/// Decides all weights. Two openings of a shape have the same.
const SEED: u64 = 0x60_6772_6964;

/// The tensors of a shape, laid out as in a GGUF file that is nowhere: what a byte of it is follows from
/// where it is.
#[derive(Debug)]
pub(crate) struct SyntheticWeights {
    /// Stands for the file in messages.
    title: PathBuf,
    /// In the order of their offsets, one after the other from 0 on.
    tensors: Vec<MadeTensor>,
}

/// A tensor and what makes its bytes.
#[derive(Debug)]
struct MadeTensor {
    tensor: Tensor,
    bytes: u64,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// Norms: floats of 1.
    Ones,
    Random(RandomRows),
}

/// A matrix. Those with the same type and columns share stretches.
#[derive(Debug)]
struct RandomRows {
    /// Tells it from other matrices.
    key: u64,
    row_bytes: u64,
    stretches: Arc<Stretches>,
}

impl SyntheticWeights {
    pub(crate) fn new(shape: &SyntheticShape) -> Result<Self, ModelError> {
        let mut layout = Layout {
            shape,
            tensors: Vec::new(),
            offset: 0,
            stretches: HashMap::new(),
        };
        layout.all()?;
        Ok(Self {
            title: PathBuf::from(shape.title()),
            tensors: layout.tensors,
        })
    }
}

/// Lays the tensors of a shape out, one after the other.
struct Layout<'a> {
    shape: &'a SyntheticShape,
    tensors: Vec<MadeTensor>,
    offset: u64,
    stretches: HashMap<(WeightType, usize), Arc<Stretches>>,
}

impl Layout<'_> {
    fn all(&mut self) -> Result<(), ModelError> {
        let shape = *self.shape;
        let SyntheticShape { width, vocab, .. } = shape;
        self.matrix(GGUF.embedding, shape.table(), (vocab, width))?;
        for layer in 0..shape.layers {
            self.layer(&format!("{}{layer}.", GGUF.layer))?;
        }
        self.norm(GGUF.final_norm, width);
        match shape.tied {
            true => Ok(()),
            false => self.matrix(GGUF.output, shape.head, (vocab, width)),
        }
    }

    fn layer(&mut self, prefix: &str) -> Result<(), ModelError> {
        let SyntheticShape {
            width,
            hidden,
            heads,
            kv_heads,
            head_dim,
            ..
        } = *self.shape;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let name = |name: &str| format!("{prefix}{name}.weight");
        self.norm(&name(GGUF.norm), width);
        for (matrix, extents) in [
            (GGUF.q, (queries, width)),
            (GGUF.k, (keys, width)),
            (GGUF.v, (keys, width)),
            (GGUF.o, (width, queries)),
            (GGUF.gate, (hidden, width)),
            (GGUF.up, (hidden, width)),
            (GGUF.down, (width, hidden)),
        ] {
            self.matrix(&name(matrix), self.shape.matrices, extents)?;
        }
        self.norm(&name(GGUF.feed_forward_norm), width);
        Ok(())
    }

    fn norm(&mut self, name: &str, len: usize) {
        let bytes = (len * size_of::<f32>()) as u64;
        let tensor = self.tensor(name, WeightType::F32, vec![len]);
        self.push(tensor, bytes, Values::Ones);
    }

    fn matrix(
        &mut self,
        name: &str,
        ty: WeightType,
        (rows, cols): (usize, usize),
    ) -> Result<(), ModelError> {
        let Some(row_bytes) = ty.row_bytes(cols) else {
            let shape = self.shape.name;
            let what = format!("{shape}: {cols} columns of {name} are no whole blocks of {ty}");
            return Err(ModelError::Request { what });
        };
        let Some(bytes) = rows.checked_mul(row_bytes) else {
            let shape = self.shape.name;
            let what =
                format!("{shape}: {rows} rows of {name}, of {row_bytes} bytes each, are too many");
            return Err(ModelError::Request { what });
        };
        let key = mix(SEED ^ self.tensors.len() as u64);
        let stretches = self.stretches.entry((ty, cols));
        let stretches = stretches.or_insert_with(|| Arc::new(Stretches::new(ty, cols, key)));
        let random = RandomRows {
            key,
            row_bytes: row_bytes as u64,
            stretches: Arc::clone(stretches),
        };
        let tensor = self.tensor(name, ty, vec![rows, cols]);
        self.push(tensor, bytes as u64, Values::Random(random));
        Ok(())
    }

    fn tensor(&self, name: &str, ty: WeightType, shape: Vec<usize>) -> Tensor {
        Tensor {
            name: name.to_owned(),
            ty,
            shape,
            file: 0,
            offset: self.offset,
            described_at: None,
        }
    }

    fn push(&mut self, tensor: Tensor, bytes: u64, values: Values) {
        self.offset += bytes;
        self.tensors.push(MadeTensor {
            tensor,
            bytes,
            values,
        });
    }
}

impl Values {
    /// Fills `out` with the bytes from `start` of the tensor on.
    fn fill(&self, start: u64, out: &mut [u8]) {
        match self {
            Self::Ones => {
                let one = 1_f32.to_le_bytes();
                for (at, byte) in (start..).zip(out) {
                    *byte = one[(at % 4) as usize];
                }
            }
            Self::Random(rows) => rows.fill(start, out),
        }
    }
}

impl RandomRows {
    /// A row is stretches, picked by where they are, the last cut off where it is longer than the row.
    fn fill(&self, start: u64, mut out: &mut [u8]) {
        let stretch_bytes = self.stretches.len as u64;
        let mut at = start;
        while !out.is_empty() {
            let (row, in_row) = (at / self.row_bytes, at % self.row_bytes);
            let (index, skip) = (in_row / stretch_bytes, in_row % stretch_bytes);
            let stretch = self.stretches.pick(mix(self.key ^ mix(row) ^ index));
            // At most a stretch.
            let rest = (self.row_bytes - in_row).min(stretch_bytes - skip) as usize;
            let (filled, unfilled) = out.split_at_mut(rest.min(out.len()));
            let stretch = &stretch[skip as usize..][..filled.len()];
            filled.copy_from_slice(stretch);
            at += filled.len() as u64;
            out = unfilled;
        }
    }
}

impl Content for SyntheticWeights {
    /// # Panics
    /// When the bytes are not all of one tensor.
    fn read_at(&self, position: Position<'_>, out: &mut [u8]) -> Result<(), ModelError> {
        let Position { offset, field, .. } = position;
        let after = self.tensors.partition_point(|t| t.tensor.offset <= offset);
        let made = &self.tensors[after - 1];
        let start = offset - made.tensor.offset;
        let end = start + out.len() as u64;
        assert!(
            end <= made.bytes,
            "{field}: {start}..{end} of {}",
            made.bytes
        );
        made.values.fill(start, out);
        Ok(())
    }

    /// Nothing can change what is made anew at each reading.
    fn check_unchanged(&self) -> Result<(), ModelError> {
        Ok(())
    }
}

impl TensorSource for SyntheticWeights {
    fn find(&self, name: &str) -> Option<Tensor> {
        let found = self.tensors.iter().find(|made| made.tensor.name == name);
        found.map(|made| made.tensor.clone())
    }

    fn names(&self, visit: &mut dyn FnMut(&str)) {
        self.tensors
            .iter()
            .for_each(|made| visit(&made.tensor.name));
    }

    fn missing(&self, name: &str) -> ModelError {
        ModelError::Missing {
            file: self.title.clone(),
            field: format!("tensor {name}"),
            remedy: "a synthetic shape has the tensors of a llama only".to_owned(),
        }
    }

    fn refuse(&self, tensor: &Tensor, what: String) -> ModelError {
        ModelError::Malformed {
            file: self.title.clone(),
            field: shown(&tensor.name),
            offset: None,
            what,
        }
    }
}
