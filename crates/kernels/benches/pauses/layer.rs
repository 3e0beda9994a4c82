//! One layer of a model of 7 billion parameters, and a head, with weights of no meaning.

use std::convert::Infallible;
use std::ops::Range;

use gogrid_kernels::{
    Abandoned, Activations, Attention, AttentionRows, Forms, GateKind, KV_TOKENS, KvBlock, KvLayer,
    KvLayout, KvRows, Ops, Packed, Packing, RmsNorm, RopeRows, Rotary, RotaryPairs, Rotations,
    TurnedRow,
};
use gogrid_units::WeightType;

pub(crate) const WIDTH: usize = 4096;
pub(crate) const HEADS: usize = 32;
pub(crate) const HEAD_DIM: usize = WIDTH / HEADS;

/// A matrix of unremarkable weights.
pub(crate) fn matrix(ty: WeightType, rows: usize, cols: usize) -> Packed {
    let mut read = |_: Range<usize>, out: &mut [u8]| {
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = ((i * 7919) >> 3) as u8 & 0x3f;
        }
        Ok::<_, Infallible>(())
    };
    Packed::pack(
        Packing {
            stored: ty,
            kept: ty,
            rows,
            cols,
        },
        &mut read,
    )
    .expect("there is memory")
}

/// The figures that differ from model to model.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) kv_heads: usize,
    pub(crate) hidden: usize,
}

/// The weights; matrices of one shape are one.
pub(crate) struct Weights {
    pub(crate) shape: Shape,
    square: Packed,
    key: Packed,
    up: Packed,
    down: Packed,
    norm: Vec<f32>,
}

impl Weights {
    pub(crate) fn new(ty: WeightType, shape: Shape) -> Self {
        Self {
            shape,
            square: matrix(ty, WIDTH, WIDTH),
            key: matrix(ty, shape.kv_heads * HEAD_DIM, WIDTH),
            up: matrix(ty, shape.hidden, WIDTH),
            down: matrix(ty, WIDTH, shape.hidden),
            norm: vec![1.0; WIDTH],
        }
    }

    fn norm(&self) -> RmsNorm<'_> {
        RmsNorm {
            weight: &self.norm,
            epsilon: 1e-5,
        }
    }
}

/// The rows of a step and how many tokens are before and with them: `sequences` of as many rows
/// each, that see the same keys.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) sequences: usize,
    pub(crate) rows_each: usize,
    pub(crate) context: usize,
}

impl Step {
    pub(crate) fn rows(self) -> usize {
        self.sequences * self.rows_each
    }
}

/// Keys and values, and attention over them.
pub(crate) struct Cache {
    blocks: Vec<KvBlock>,
    kv_heads: usize,
    q: Vec<f32>,
    out: Vec<f32>,
}

impl Cache {
    pub(crate) fn new(kv_heads: usize, step: Step) -> Self {
        let layout = KvLayout::new(&[KvLayer {
            heads: kv_heads,
            head_dim: HEAD_DIM,
        }]);
        let blocks = step.context.div_ceil(KV_TOKENS);
        Self {
            blocks: (0..blocks)
                .map(|_| KvBlock::new(&layout).expect("there is memory"))
                .collect(),
            kv_heads,
            q: vec![0.5; step.rows() * WIDTH],
            out: vec![0.0; step.rows() * WIDTH],
        }
    }

    pub(crate) fn attend(&mut self, step: Step, ops: &mut Ops<'_>) -> Result<(), Abandoned> {
        let blocks: Vec<_> = self.blocks.iter().map(Some).collect();
        let each = step.rows_each * WIDTH;
        let queries = self.q.chunks_exact(each);
        let sequence = |(q, out)| AttentionRows {
            q,
            out,
            blocks: &blocks,
            start: step.context - step.rows_each,
        };
        let pairs = queries.zip(self.out.chunks_exact_mut(each));
        let mut sequences: Vec<_> = pairs.map(sequence).collect();
        let attention = Attention {
            layer: 0,
            heads: HEADS,
            scale: 0.1,
            softcap: None,
            window: None,
        };
        ops.attention(&attention, &mut sequences)
    }

    /// A row of each block at a time, as long as there are rows.
    fn write(&mut self, (k, v): (&[f32], &[f32]), ops: &mut Ops<'_>) -> Result<(), Abandoned> {
        let width = self.kv_heads * HEAD_DIM;
        let each = KV_TOKENS.min(k.len() / width) * width;
        let parts = k.chunks_exact(each).zip(v.chunks_exact(each));
        let write = |(block, (keys, values))| KvRows {
            block,
            slot: 0,
            keys,
            values,
            overflow: None,
        };
        let mut rows: Vec<_> = self.blocks.iter_mut().zip(parts).map(write).collect();
        ops.write_kv(0, &mut rows)
    }
}

/// The rows between the operations of a layer.
pub(crate) struct Layer<'a> {
    weights: &'a Weights,
    step: Step,
    cache: Cache,
    x: Vec<f32>,
    normed: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    input: Activations,
    gated: Activations,
    positions: Vec<usize>,
    rotations: Rotations,
}

impl<'a> Layer<'a> {
    pub(crate) fn new(weights: &'a Weights, step: Step) -> Self {
        let (rows, Shape { kv_heads, hidden }) = (step.rows(), weights.shape);
        let forms = Forms::of(weights.square.weight_type());
        let first = step.context - step.rows_each;
        Self {
            weights,
            step,
            cache: Cache::new(kv_heads, step),
            x: vec![1.0; rows * WIDTH],
            normed: vec![0.0; rows * WIDTH],
            k: vec![0.0; rows * kv_heads * HEAD_DIM],
            v: vec![0.0; rows * kv_heads * HEAD_DIM],
            gate: vec![0.0; rows * hidden],
            up: vec![0.0; rows * hidden],
            input: Activations::new(forms, rows, WIDTH).expect("there is memory"),
            gated: Activations::new(forms, rows, hidden).expect("there is memory"),
            positions: (0..rows).map(|row| first + row % step.rows_each).collect(),
            rotations: Rotations::with_capacity(rows, HEAD_DIM / 2).expect("there is memory"),
        }
    }

    pub(crate) fn run(&mut self, ops: &mut Ops<'_>) -> Result<(), Abandoned> {
        // The last layer's sums must not grow from step to step.
        self.x.fill(1.0);
        self.project(ops)?;
        self.rotate(ops)?;
        self.cache.write((&self.k, &self.v), ops)?;
        self.cache.attend(self.step, ops)?;
        ops.quantise(&self.cache.out, &mut self.input)?;
        let weights = self.weights;
        ops.matmul(&self.input, &mut [(&weights.square, &mut self.normed[..])])?;
        ops.add(&mut self.x, &self.normed)?;
        self.feed_forward(ops)
    }

    fn project(&mut self, ops: &mut Ops<'_>) -> Result<(), Abandoned> {
        let weights = self.weights;
        ops.rms_norm(weights.norm(), &self.x, &mut self.normed)?;
        ops.quantise(&self.normed, &mut self.input)?;
        let out = &mut [
            (&weights.square, &mut self.cache.q[..]),
            (&weights.key, &mut self.k[..]),
            (&weights.key, &mut self.v[..]),
        ];
        ops.matmul(&self.input, out)
    }

    fn rotate(&mut self, ops: &mut Ops<'_>) -> Result<(), Abandoned> {
        let turned = |&position| TurnedRow {
            position,
            frequencies: &[0.1; HEAD_DIM / 2],
        };
        let turned: Vec<_> = self.positions.iter().map(turned).collect();
        let rotary = Rotary {
            magnitude: 1.0,
            rows: &turned,
        };
        ops.rotations(&rotary, &mut self.rotations)?;
        for x in [&mut self.cache.q, &mut self.k] {
            let rows = RopeRows {
                x,
                head_dim: HEAD_DIM,
                pairs: RotaryPairs::Adjacent,
            };
            ops.rope(&self.rotations, rows)?;
        }
        Ok(())
    }

    fn feed_forward(&mut self, ops: &mut Ops<'_>) -> Result<(), Abandoned> {
        let weights = self.weights;
        ops.rms_norm(weights.norm(), &self.x, &mut self.normed)?;
        ops.quantise(&self.normed, &mut self.input)?;
        let out = &mut [
            (&weights.up, &mut self.gate[..]),
            (&weights.up, &mut self.up[..]),
        ];
        ops.matmul(&self.input, out)?;
        ops.gate(GateKind::Silu, &mut self.gate, &self.up)?;
        ops.quantise(&self.gate, &mut self.gated)?;
        ops.matmul(&self.gated, &mut [(&weights.down, &mut self.normed[..])])?;
        ops.add(&mut self.x, &self.normed)
    }
}
