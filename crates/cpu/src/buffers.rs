//! What a step is computed in: buffers for the largest step, made once and leased.

use gogrid_kernels::{Activations, Forms, Rotations};
use gogrid_units::Bytes;

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

/// Rows whose logits are held at once for log-probabilities.
pub(crate) const HEAD_ROWS: usize = 16;

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
    pub(crate) x: Vec<f32>,
    /// A half-layer's normed input.
    pub(crate) normed: Vec<f32>,
    /// A half-layer's output before the residual sum.
    pub(crate) output: Vec<f32>,
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
    pub(crate) attended: Vec<f32>,
    pub(crate) gate: Vec<f32>,
    pub(crate) up: Vec<f32>,
    /// [`HEAD_ROWS`] rows of logits.
    pub(crate) logits: Vec<f32>,
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
    ) -> Self {
        let rows = |width: usize| vec![0.0; rows_max * width];
        let input = |&(forms, cols): &(Forms, usize)| Activations::new(forms, rows_max, cols);
        Self {
            x: rows(widths.width),
            normed: rows(widths.width),
            output: rows(widths.width),
            q: rows(widths.queries),
            k: rows(widths.keys),
            v: rows(widths.keys),
            attended: rows(widths.queries),
            gate: rows(widths.hidden),
            up: rows(widths.hidden),
            logits: vec![0.0; HEAD_ROWS * widths.vocab],
            inputs: inputs.shapes.iter().map(input).collect(),
            rotations: (pairs.iter())
                .map(|&pairs| Rotations::with_capacity(rows_max, pairs))
                .collect(),
        }
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
        let values = rows_max * (3 * width + 2 * queries + 2 * keys + 2 * hidden);
        let floats = Bytes::of((values + HEAD_ROWS * vocab) * size_of::<f32>());
        let input = |&(forms, cols): &(Forms, usize)| Activations::bytes_for(forms, rows_max, cols);
        let inputs: Bytes = inputs.shapes.iter().map(input).sum();
        floats + inputs + Rotations::bytes_for(rows_max, pairs.iter().sum())
    }
}
