//! A decoder's forward pass over a whole sequence at once. No cache, no blocks, no batch.

use gogrid_model::{
    Attention, Decoder, FeedForward, Linear, Model, ModelError, Residual, Vector, Weight,
};
use gogrid_pipeline::Rows;

use super::dequantise::dequantise;
use super::math::{Matrix, activate, rms_norm, rotate, soft_cap, softmax};

/// What a model means: its weights as stored, widened, and the forward pass written straight down
/// in `f64`. Stages are compared with it. It is slow, and meant for tiny models.
pub struct Reference {
    decoder: Decoder,
    embedding: Matrix,
    layers: Vec<LayerMatrices>,
    output: Matrix,
    length: Option<usize>,
}

struct LayerMatrices {
    q: Matrix,
    k: Matrix,
    v: Matrix,
    o: Matrix,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

impl Reference {
    /// Reads and widens every weight.
    pub fn load(model: &Model) -> Result<Self, ModelError> {
        let decoder = model.decoder().clone();
        let matrix = |weight: &Weight| read(model, weight);
        let layer = |layer: &gogrid_model::Layer| {
            Ok::<_, ModelError>(LayerMatrices {
                q: matrix(&layer.mixer.q.weight)?,
                k: matrix(&layer.mixer.k.weight)?,
                v: matrix(&layer.mixer.v.weight)?,
                o: matrix(&layer.mixer.o.weight)?,
                gate: matrix(&layer.feed_forward.gate)?,
                up: matrix(&layer.feed_forward.up)?,
                down: matrix(&layer.feed_forward.down)?,
            })
        };
        Ok(Self {
            embedding: matrix(&decoder.embedding.table)?,
            layers: decoder.layers.iter().map(layer).collect::<Result<_, _>>()?,
            output: matrix(&decoder.head.output)?,
            decoder,
            length: None,
        })
    }

    /// The same, with rows turned as those of a sequence of `length` tokens, whatever their number is:
    /// llama.cpp goes by the context that was opened.
    pub fn turned_for(self, length: usize) -> Self {
        Self {
            length: Some(length),
            ..self
        }
    }

    /// The logits after each of `ids`, `[ids, vocab]`.
    pub fn logits(&self, ids: &[u32]) -> Vec<Vec<f32>> {
        let positions: Vec<_> = (0..ids.len()).collect();
        self.logits_at(&Rows::of_ids(ids.to_vec()), &positions)
    }

    /// The logits after each row of one sequence that stands at `positions` for the rotation,
    /// `[rows, vocab]`. What a row sees goes by its index.
    pub fn logits_at(&self, rows: &Rows, positions: &[usize]) -> Vec<Vec<f32>> {
        // x: [tokens, width], the residual stream
        let mut x: Vec<Vec<f64>> = (0..rows.len()).map(|row| self.input(rows, row)).collect();
        for (layer, matrices) in self.decoder.layers.iter().zip(&self.layers) {
            let mixed = self.attention(&layer.mixer, matrices, (&x, positions));
            add(&mut x, &mixed);
            let fed = self.feed_forward(&layer.feed_forward, matrices, &x);
            add(&mut x, &fed);
        }
        x.iter().map(|row| self.head(row)).collect()
    }

    /// A row's own embedding, or its id's: `[width]`
    fn input(&self, rows: &Rows, row: usize) -> Vec<f64> {
        let own = rows.embedded.iter().find(|run| run.rows.contains(&row));
        match own {
            Some(run) => {
                let width = self.decoder.width;
                let values = &run.values[(row - run.rows.start) * width..][..width];
                values.iter().map(|&v| f64::from(v)).collect()
            }
            None => self.embed(rows.ids[row]),
        }
    }

    /// id -> `[width]`
    fn embed(&self, id: u32) -> Vec<f64> {
        let scale = f64::from(self.decoder.embedding.scale);
        let row = self.embedding.row(id as usize);
        row.iter().map(|&v| f64::from(v) * scale).collect()
    }

    /// `[tokens, width] -> [tokens, width]`
    fn attention(
        &self,
        mixer: &Attention,
        m: &LayerMatrices,
        (x, positions): (&[Vec<f64>], &[usize]),
    ) -> Vec<Vec<f64>> {
        let epsilon = self.decoder.norm_epsilon;
        let length = self.length.unwrap_or(x.len());
        // q: [tokens, heads * head_dim]; k, v: [tokens, kv_heads * head_dim]
        let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
        for (&position, row) in positions.iter().zip(x) {
            let normed = maybe_norm(row, mixer.norm.as_ref(), epsilon);
            let turned = |linear: &Linear, matrix: &Matrix, norm: Option<&[f32]>| {
                let mut out = linear_out(linear, matrix, &normed);
                if let Some(norm) = norm {
                    // Each head, or all heads together.
                    for heads in out.chunks_exact_mut(norm.len()) {
                        heads.copy_from_slice(&rms_norm(heads, norm, epsilon));
                    }
                }
                for head in out.chunks_exact_mut(mixer.head_dim) {
                    rotate(head, &mixer.rope, (position, length));
                }
                out
            };
            let q_norm = mixer.q_norm.as_ref().map(|n| n.values.as_slice());
            let k_norm = mixer.k_norm.as_ref().map(|n| n.values.as_slice());
            q.push(turned(&mixer.q, &m.q, q_norm));
            k.push(turned(&mixer.k, &m.k, k_norm));
            v.push(linear_out(&mixer.v, &m.v, &normed));
        }
        let out = |position: usize| {
            let heads = attend(mixer, position, &q[position], (&k, &v));
            let out = linear_out(&mixer.o, &m.o, &heads);
            to_add(out, &mixer.residual, epsilon)
        };
        (0..x.len()).map(out).collect()
    }

    /// `[tokens, width] -> [tokens, width]`
    fn feed_forward(&self, ff: &FeedForward, m: &LayerMatrices, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let epsilon = self.decoder.norm_epsilon;
        let out = |row: &Vec<f64>| {
            let normed = maybe_norm(row, ff.norm.as_ref(), epsilon);
            // gate, up: [hidden]
            let (gate, up) = (m.gate.times(&normed), m.up.times(&normed));
            let gated: Vec<f64> = gate
                .iter()
                .zip(&up)
                .map(|(&g, u)| activate(ff.activation, g) * u)
                .collect();
            to_add(m.down.times(&gated), &ff.residual, epsilon)
        };
        x.iter().map(out).collect()
    }

    /// `[width] -> [vocab]`
    fn head(&self, row: &[f64]) -> Vec<f32> {
        let head = &self.decoder.head;
        let normed = rms_norm(row, &head.norm.values, self.decoder.norm_epsilon);
        let logits = self.output.times(&normed);
        // The one rounding: logits are f32.
        let scale = f64::from(head.scale);
        let capped = logits
            .iter()
            .map(|&l| soft_cap(l * scale, head.softcap) as f32);
        capped.collect()
    }
}

/// What a half-layer reads: `[width] -> [width]`
fn maybe_norm(row: &[f64], norm: Option<&Vector>, epsilon: f32) -> Vec<f64> {
    match norm {
        Some(norm) => rms_norm(row, &norm.values, epsilon),
        None => row.to_vec(),
    }
}

/// What a half-layer adds to the residual stream: `[width] -> [width]`
fn to_add(out: Vec<f64>, residual: &Residual, epsilon: f32) -> Vec<f64> {
    match residual {
        Residual::Add => out,
        Residual::AddNormed(norm) => rms_norm(&out, &norm.values, epsilon),
        Residual::AddScaled(scale) => out.iter().map(|o| o * f64::from(*scale)).collect(),
    }
}

/// What the query heads at `position` make of the keys and values up to it:
/// `[heads * head_dim], [tokens, kv_heads * head_dim] × 2 -> [heads * head_dim]`
fn attend(
    mixer: &Attention,
    position: usize,
    q: &[f64],
    (k, v): (&[Vec<f64>], &[Vec<f64>]),
) -> Vec<f64> {
    let dim = mixer.head_dim;
    let first = mixer.window.map_or(0, |w| (position + 1).saturating_sub(w));
    let mut out = Vec::new();
    for (head, q) in q.chunks_exact(dim).enumerate() {
        let kv_head = head * mixer.kv_heads / mixer.heads;
        let part = |row: &Vec<f64>| row[kv_head * dim..][..dim].to_vec();
        let seen = first..=position;
        let score = |key: &Vec<f64>| {
            let dot: f64 = q.iter().zip(part(key)).map(|(a, b)| a * b).sum();
            soft_cap(dot * f64::from(mixer.scale), mixer.softcap)
        };
        let weights = softmax(&k[seen.clone()].iter().map(score).collect::<Vec<_>>());
        let mut sum = vec![0.0; dim];
        for (weight, value) in weights.iter().zip(&v[seen]) {
            for (s, value) in sum.iter_mut().zip(part(value)) {
                *s += weight * value;
            }
        }
        out.extend(sum);
    }
    out
}

/// `[rows, cols] × [cols] + [rows] -> [rows]`
fn linear_out(linear: &Linear, matrix: &Matrix, x: &[f64]) -> Vec<f64> {
    let mut out = matrix.times(x);
    if let Some(bias) = &linear.bias {
        for (o, &b) in out.iter_mut().zip(&bias.values) {
            *o += f64::from(b);
        }
    }
    out
}

fn add(x: &mut [Vec<f64>], y: &[Vec<f64>]) {
    for (x, y) in x.iter_mut().flatten().zip(y.iter().flatten()) {
        *x += y;
    }
}

fn read(model: &Model, weight: &Weight) -> Result<Matrix, ModelError> {
    let row_bytes = weight.stored.row_bytes(weight.cols);
    let row_bytes = row_bytes.expect("the model checks that rows are whole blocks");
    let mut data = vec![0; row_bytes * weight.rows];
    model.read_rows(weight, 0..weight.rows, &mut data)?;
    Ok(Matrix {
        cols: weight.cols,
        values: dequantise(weight.stored, &data),
    })
}
