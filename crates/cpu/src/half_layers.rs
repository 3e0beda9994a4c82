//! The arithmetic of each piece on the rows of a step.

use std::fmt::Display;
use std::ops::Range;

use gogrid_kernels::capability::KV_MAX;
use gogrid_kernels::{
    Abandoned, Attention, AttentionRows, Embed, GateKind, KvBlock, KvRows, Ops, RmsNorm, RopeRows,
    RotaryPairs,
};
use gogrid_model::{Activation, Residual, RopePairs, Vector};
use gogrid_pipeline::{BLOCK_TOKENS, BlockId, RowFault, Rows, SequenceRows};
use gogrid_units::Piece;

use crate::buffers::{Buffers, InputIndex};
use crate::kv::{Pool, Taken};
use crate::weights::{EmbeddingPart, FeedForwardPart, HalfLayer, LinearPart, MixerPart, Pieces};

/// A step on its way through a stage's pieces. The residual stream is in `buffers.x`.
pub(crate) struct Run<'a, 'o> {
    pub(crate) ops: &'a mut Ops<'o>,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) sequences: &'a [SequenceRows],
    /// What sequences read, by KV group.
    pub(crate) pools: &'a [Pool],
    /// What they write, by KV group.
    pub(crate) taken: &'a mut [Taken],
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) epsilon: f32,
    /// Rows whose numbers went out of range.
    pub(crate) faults: Vec<RowFault>,
}

impl Run<'_, '_> {
    /// `x = table[ids] * scale`, and what rows bring themselves as it is.
    pub(crate) fn embed(&mut self, part: &EmbeddingPart, rows: &Rows) -> Result<(), Abandoned> {
        let width = self.width;
        let mut done = 0;
        for run in &rows.embedded {
            self.look_up(part, &rows.ids, done..run.rows.start)?;
            let x = &mut self.buffers.x[run.rows.start * width..run.rows.end * width];
            x.copy_from_slice(&run.values);
            done = run.rows.end;
        }
        self.look_up(part, &rows.ids, done..self.rows)
    }

    fn look_up(
        &mut self,
        part: &EmbeddingPart,
        ids: &[u32],
        rows: Range<usize>,
    ) -> Result<(), Abandoned> {
        if rows.is_empty() {
            return Ok(());
        }
        let x = &mut self.buffers.x[rows.start * self.width..rows.end * self.width];
        let embed = Embed {
            table: &part.table.packed,
            ids: &ids[rows],
            scale: part.scale,
        };
        self.ops.embed(embed, x)
    }

    pub(crate) fn half_layer(&mut self, half: &HalfLayer) -> Result<(), Abandoned> {
        match half {
            HalfLayer::Mixer(part) => self.mixer(part),
            HalfLayer::FeedForward(part) => self.feed_forward(part),
        }
    }

    fn mixer(&mut self, part: &MixerPart) -> Result<(), Abandoned> {
        let spec = &part.spec;
        self.quantise(spec.norm.as_ref(), part.normed)?;
        self.project(part)?;
        self.rotate(part)?;
        self.write_kv(part)?;
        self.attend(part)?;
        let Buffers {
            attended,
            output,
            inputs,
            ..
        } = &mut *self.buffers;
        let attended = &attended[..self.rows * spec.heads * spec.head_dim];
        let output = &mut output[..self.rows * self.width];
        let input = &mut inputs[part.attended.0];
        self.ops.quantise(attended, input)?;
        self.ops
            .matmul(input, &mut [(&part.o.weight.packed, output)])?;
        add_bias(self.ops, &part.o, output)?;
        self.add_output(&spec.residual)
    }

    /// Queries, keys and values of what was quantised, with their biases and norms.
    fn project(&mut self, part: &MixerPart) -> Result<(), Abandoned> {
        let spec = &part.spec;
        let Buffers {
            q, k, v, inputs, ..
        } = &mut *self.buffers;
        let q = &mut q[..self.rows * spec.heads * spec.head_dim];
        let k = &mut k[..self.rows * spec.kv_heads * spec.head_dim];
        let v = &mut v[..self.rows * spec.kv_heads * spec.head_dim];
        let input = &inputs[part.normed.0];
        let outputs = &mut [
            (&part.q.weight.packed, &mut *q),
            (&part.k.weight.packed, &mut *k),
            (&part.v.weight.packed, &mut *v),
        ];
        self.ops.matmul(input, outputs)?;
        for (linear, out) in [(&part.q, &mut *q), (&part.k, &mut *k), (&part.v, v)] {
            add_bias(self.ops, linear, out)?;
        }
        for (norm, heads) in [(&spec.q_norm, q), (&spec.k_norm, k)] {
            if let Some(norm) = norm {
                // A head's, or a whole row's: it goes by the width of the norm.
                self.ops.norm_heads(rms_norm(norm, self.epsilon), heads)?;
            }
        }
        Ok(())
    }

    fn rotate(&mut self, part: &MixerPart) -> Result<(), Abandoned> {
        let spec = &part.spec;
        if spec.rope.frequencies.is_empty() {
            return Ok(());
        }
        let Buffers {
            q, k, rotations, ..
        } = &mut *self.buffers;
        let pairs = match spec.rope.pairs {
            RopePairs::Adjacent => RotaryPairs::Adjacent,
            RopePairs::Halves => RotaryPairs::Halves,
        };
        for (x, heads) in [(q, spec.heads), (k, spec.kv_heads)] {
            let x = &mut x[..self.rows * heads * spec.head_dim];
            let rows = RopeRows {
                x,
                head_dim: spec.head_dim,
                pairs,
            };
            self.ops.rope(&rotations[part.rotation], rows)?;
        }
        Ok(())
    }

    /// Keys and values to their blocks: a run of rows for each block they fall in.
    fn write_kv(&mut self, part: &MixerPart) -> Result<(), Abandoned> {
        let width = part.spec.kv_heads * part.spec.head_dim;
        let (mut keys, mut values) = (&self.buffers.k[..], &self.buffers.v[..]);
        let mut writes = Vec::new();
        let taken = &mut self.taken[part.spec.kv_group];
        for (rows, blocks) in self.sequences.iter().zip(taken) {
            let (mut position, end) = (rows.start, rows.start + rows.wants.len());
            for block in blocks {
                let slot = position % BLOCK_TOKENS;
                let count = (BLOCK_TOKENS - slot).min(end - position);
                let (keys_here, keys_after) = keys.split_at(count * width);
                let (values_here, values_after) = values.split_at(count * width);
                (keys, values) = (keys_after, values_after);
                writes.push(KvRows {
                    block,
                    slot,
                    keys: keys_here,
                    values: values_here,
                    overflow: None,
                });
                position += count;
            }
        }
        self.ops.write_kv(part.kv_slot, &mut writes)?;
        let mut first = 0;
        for write in &writes {
            if let Some(row) = write.overflow {
                self.faults.push(RowFault {
                    row: first + row,
                    what: format!(
                        "a key or value that the KV cache cannot hold, past {KV_MAX} or not finite, in {}",
                        part.piece
                    ),
                });
            }
            first += write.keys.len() / width;
        }
        Ok(())
    }

    /// All pieces but the head. Where it is `watched`, the rows that hold a value that is not finite are
    /// noted after each, else after the last: once lost, a value stays lost along the residual stream.
    pub(crate) fn pieces(
        &mut self,
        pieces: &Pieces,
        rows: &Rows,
        watched: bool,
    ) -> Result<(), Abandoned> {
        self.faults.clear();
        if let Some(part) = &pieces.embedding {
            self.embed(part, rows)?;
            if watched {
                self.note_not_finite(&Piece::Embedding)?;
            }
        }
        for half in &pieces.halves {
            self.half_layer(half)?;
            if watched {
                self.note_not_finite(&half.piece())?;
            }
        }
        Ok(())
    }

    /// Notes the rows that hold a value that is not finite, unless something was noted of them before;
    /// `place` says where they were found.
    pub(crate) fn note_not_finite(&mut self, place: &dyn Display) -> Result<(), Abandoned> {
        let Buffers { x, finite, .. } = &mut *self.buffers;
        let finite = &mut finite[..self.rows];
        self.ops.finite(&x[..self.rows * self.width], finite)?;
        for (row, _) in finite.iter().enumerate().filter(|(_, finite)| !**finite) {
            if self.faults.iter().any(|fault| fault.row == row) {
                continue;
            }
            let what = format!("a value that is not finite after {place}");
            self.faults.push(RowFault { row, what });
        }
        Ok(())
    }

    fn attend(&mut self, part: &MixerPart) -> Result<(), Abandoned> {
        let spec = &part.spec;
        let width = spec.heads * spec.head_dim;
        let blocks: Vec<Vec<Option<&KvBlock>>> = self
            .sequences
            .iter()
            .zip(&self.taken[spec.kv_group])
            .map(|(rows, written)| blocks_of(rows, (&self.pools[spec.kv_group], written)))
            .collect();
        let Buffers { q, attended, .. } = &mut *self.buffers;
        let (mut q, mut out) = (&q[..], &mut attended[..]);
        let mut sequences = Vec::with_capacity(self.sequences.len());
        for (rows, blocks) in self.sequences.iter().zip(&blocks) {
            let len = rows.wants.len() * width;
            let (q_here, q_after) = q.split_at(len);
            let (out_here, out_after) = out.split_at_mut(len);
            (q, out) = (q_after, out_after);
            let start = rows.start;
            sequences.push(AttentionRows {
                q: q_here,
                out: out_here,
                blocks,
                start,
            });
        }
        let attention = Attention {
            layer: part.kv_slot,
            heads: spec.heads,
            scale: spec.scale,
            softcap: spec.softcap,
            window: spec.window,
        };
        self.ops.attention(&attention, &mut sequences)
    }

    fn feed_forward(&mut self, part: &FeedForwardPart) -> Result<(), Abandoned> {
        let spec = &part.spec;
        self.quantise(spec.norm.as_ref(), part.normed)?;
        let Buffers {
            gate,
            up,
            output,
            inputs,
            ..
        } = &mut *self.buffers;
        let gate = &mut gate[..self.rows * spec.gate.rows];
        let up = &mut up[..self.rows * spec.up.rows];
        let output = &mut output[..self.rows * self.width];
        let input = &inputs[part.normed.0];
        let outputs = &mut [(&part.gate.packed, &mut *gate), (&part.up.packed, &mut *up)];
        self.ops.matmul(input, outputs)?;
        let kind = match spec.activation {
            Activation::Silu => GateKind::Silu,
            Activation::GeluTanh => GateKind::GeluTanh,
        };
        self.ops.gate(kind, gate, up)?;
        let input = &mut inputs[part.gated.0];
        self.ops.quantise(gate, input)?;
        self.ops.matmul(input, &mut [(&part.down.packed, output)])?;
        self.add_output(&spec.residual)
    }

    /// `input = norm(x)`, or `x` where there is no norm.
    fn quantise(&mut self, norm: Option<&Vector>, input: InputIndex) -> Result<(), Abandoned> {
        let len = self.rows * self.width;
        let Buffers {
            x, normed, inputs, ..
        } = &mut *self.buffers;
        let (x, normed) = (&x[..len], &mut normed[..len]);
        let input = &mut inputs[input.0];
        let Some(norm) = norm else {
            return self.ops.quantise(x, input);
        };
        self.ops.rms_norm(rms_norm(norm, self.epsilon), x, normed)?;
        self.ops.quantise(normed, input)
    }

    /// `x += output`, through what the half-layer has at its end.
    fn add_output(&mut self, residual: &Residual) -> Result<(), Abandoned> {
        let len = self.rows * self.width;
        let Buffers { x, output, .. } = &mut *self.buffers;
        let (x, output) = (&mut x[..len], &output[..len]);
        match residual {
            Residual::Add => self.ops.add(x, output),
            Residual::AddNormed(norm) => {
                self.ops.add_normed(x, output, rms_norm(norm, self.epsilon))
            }
            Residual::AddScaled(scale) => self.ops.add_scaled(x, output, *scale),
        }
    }
}

/// A sequence's blocks in the order of its table: those before its rows from the pool, then those
/// that its rows are written to.
fn blocks_of<'b>(
    rows: &SequenceRows,
    (pool, written): (&'b Pool, &'b [KvBlock]),
) -> Vec<Option<&'b KvBlock>> {
    let before = &rows.tables[pool.group()][..rows.start / BLOCK_TOKENS];
    let read = |entry: &Option<BlockId>| entry.and_then(|id| pool.get(id));
    let blocks = before.iter().map(read);
    blocks.chain(written.iter().map(Some)).collect()
}

pub(crate) fn rms_norm(norm: &Vector, epsilon: f32) -> RmsNorm<'_> {
    RmsNorm {
        weight: &norm.values,
        epsilon,
    }
}

fn add_bias(ops: &mut Ops<'_>, linear: &LinearPart, out: &mut [f32]) -> Result<(), Abandoned> {
    match &linear.bias {
        Some(bias) => ops.add_bias(out, &bias.values),
        None => Ok(()),
    }
}
