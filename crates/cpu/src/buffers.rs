//! What a step is computed in: buffers for the largest step, made once and leased.

use gogrid_kernels::{Activations, Buffer, Forms, Rotations};
use gogrid_units::{Bytes, OutOfMemory};

use crate::limits::HEAD_ROWS;

/// The widest rows of a stage's pieces, in values.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Widths {
    /// The residual stream.
    pub(crate) width: usize,
    /// All query heads.
    pub(crate) queries: usize,
    /// All key heads, and all value heads.
    pub(crate) keys: usize,
    /// The feed-forward's middle.
    pub(crate) hidden: usize,
    /// Logits of the rows that want log-probabilities; zero without a head.
    pub(crate) vocab: usize,
}

/// Which quantised input a matrix reads: an index into [`Buffers::inputs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InputIndex(pub(crate) usize);

/// The shapes of quantised inputs that a stage's matrices read, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputShapes {
    shapes: Vec<(Forms, usize)>,
}

impl InputShapes {
    /// The input with `cols` columns in `forms`.
    pub(crate) fn index(&mut self, forms: Forms, cols: usize) -> InputIndex {
        let known = self.shapes.iter().position(|shape| *shape == (forms, cols));
        InputIndex(known.unwrap_or_else(|| {
            self.shapes.push((forms, cols));
            self.shapes.len() - 1
        }))
    }
}

/// Buffers for `rows_max` rows.
pub(crate) struct Buffers {
    /// The residual stream.
    pub(crate) x: Buffer<f32>,
    /// A half-layer's normed input.
    pub(crate) normed: Buffer<f32>,
    /// A half-layer's output before the residual sum.
    pub(crate) output: Buffer<f32>,
    pub(crate) q: Buffer<f32>,
    pub(crate) k: Buffer<f32>,
    pub(crate) v: Buffer<f32>,
    pub(crate) attended: Buffer<f32>,
    pub(crate) gate: Buffer<f32>,
    pub(crate) up: Buffer<f32>,
    /// [`HEAD_ROWS`] rows of logits.
    pub(crate) logits: Buffer<f32>,
    /// Whether all values of a row are finite. Not counted: a byte for each row.
    pub(crate) finite: Vec<bool>,
    pub(crate) inputs: Vec<Activations>,
    /// One for each distinct rotation.
    pub(crate) rotations: Vec<Rotations>,
}

impl Buffers {
    /// `pairs` are those of each distinct rotation.
    pub(crate) fn new(
        rows_max: usize,
        widths: Widths,
        inputs: &InputShapes,
        pairs: &[usize],
    ) -> Result<Self, OutOfMemory> {
        let rows = |width: usize| Buffer::zeroed(rows_max * width);
        let input = |&(forms, cols): &(Forms, usize)| Activations::new(forms, rows_max, cols);
        let rotation = |&pairs| Rotations::with_capacity(rows_max, pairs);
        Ok(Self {
            x: rows(widths.width)?,
            normed: rows(widths.width)?,
            output: rows(widths.width)?,
            q: rows(widths.queries)?,
            k: rows(widths.keys)?,
            v: rows(widths.keys)?,
            attended: rows(widths.queries)?,
            gate: rows(widths.hidden)?,
            up: rows(widths.hidden)?,
            logits: Buffer::zeroed(HEAD_ROWS * widths.vocab)?,
            finite: vec![true; rows_max],
            inputs: inputs.shapes.iter().map(input).collect::<Result<_, _>>()?,
            rotations: pairs.iter().map(rotation).collect::<Result<_, _>>()?,
        })
    }

    /// Bytes that [`Buffers::new`] takes, with rotations of `pairs`.
    pub(crate) fn bytes_for(
        rows_max: usize,
        widths: Widths,
        inputs: &InputShapes,
        pairs: &[usize],
    ) -> Bytes {
        let Widths {
            width,
            queries,
            keys,
            hidden,
            vocab,
        } = widths;
        let rows = |width: usize| Buffer::<f32>::bytes_for(rows_max * width);
        let twice = rows(queries) + rows(keys) + rows(hidden);
        let logits = Buffer::<f32>::bytes_for(HEAD_ROWS * vocab);
        let input = |&(forms, cols): &(Forms, usize)| Activations::bytes_for(forms, rows_max, cols);
        let inputs: Bytes = inputs.shapes.iter().map(input).sum();
        let rotation = |&pairs| Rotations::bytes_for(rows_max, pairs);
        let rotations: Bytes = pairs.iter().map(rotation).sum();
        rows(width).times(3) + twice.times(2) + logits + inputs + rotations
    }
}
