//! The operations of a step, each worked at by the whole team and done when its call returns.
//!
//! Every output value is computed by one fixed sequence of operations, whatever the team, the
//! instruction set, the rows beside it and how the work is shared out.

mod products;

use std::ops::Range;

use gogrid_units::{TeamPace, Work};

pub use products::Embed;

use crate::attention::{Attention, AttentionRows, Plan};
use crate::cost::{pieces_per_point, times, units_per_chunk};
use crate::crew::Crew;
use crate::disjoint::Disjoint;
use crate::kv::KvBlock;
use crate::log_prob::{log_prob, log_prob_work};
use crate::norm::{NormRows, Normed, RmsNorm};
use crate::pointwise::{Add, AddScaled, Gate, GateKind, Softcap};
use crate::region::{Abandoned, Chunk, Operation, Pauses};
use crate::rope::{Rotary, RotaryPairs, Rotations, rotate_row};
use crate::simd::Simd;

/// The work of a chunk, given its range of units.
type RangeOf<'a> = dyn Fn(Range<usize>, &Pauses<'_>) -> Result<(), Abandoned> + Sync + 'a;

/// The operations of one step. Slices of rows are row after row; shapes are the caller's duty, and
/// a wrong one is a panic with both numbers.
///
/// By this crate's estimate of a slow core, at most 0.5 ms pass between two pause points. What is
/// done in one go limits the shapes for which that holds: a row of a norm, a bias, an embedding, a
/// rounded input or turned heads may be 125,000 wide, all keys of one position 50,000; for products
/// see [`matmul`](Self::matmul).
pub struct Ops<'a> {
    crew: &'a mut Crew,
    pace: &'a dyn TeamPace,
    simd: Simd,
}

/// Rows of keys and values for consecutive slots of one block.
pub struct KvRows<'a> {
    /// Where they go.
    pub block: &'a mut KvBlock,
    /// The first row's slot: its position modulo 32.
    pub slot: usize,
    /// `[rows, kv_heads * head_dim]`.
    pub keys: &'a [f32],
    /// `[rows, kv_heads * head_dim]`.
    pub values: &'a [f32],
    /// Set where a row has a key or a value that no half can hold: the first such row.
    pub overflow: Option<usize>,
}

/// Heads to turn.
pub struct RopeRows<'a> {
    /// `[rows, heads * head_dim]`, a row for each of the rotations.
    pub x: &'a mut [f32],
    /// Width of a head; elements after the pairs stay as they are.
    pub head_dim: usize,
    /// Which elements turn together.
    pub pairs: RotaryPairs,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(crew: &'a mut Crew, pace: &'a dyn TeamPace, simd: Simd) -> Self {
        Self { crew, pace, simd }
    }

    /// Members that take part in the next operation: those the pace allows, less the late.
    pub(crate) fn width(&mut self) -> usize {
        self.crew.narrow_to(self.pace.width())
    }

    /// `out = norm(x)`: `[rows, width]` both, with the width of the norm.
    ///
    /// # Errors
    /// [`Abandoned`] at a pause point, here and in all other operations.
    pub fn rms_norm(
        &mut self,
        norm: RmsNorm<'_>,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), Abandoned> {
        assert_eq!(x.len(), out.len(), "norm of x into out");
        let simd = self.simd;
        self.rows(out, (norm.weight.len(), 4), |from, out| {
            let x = &x[from..from + out.len()];
            simd.run(NormRows {
                norm,
                rows: Normed::Into(x, out),
            });
        })
    }

    /// `x = norm(x)` over rows of the norm's width: the heads of `[rows, heads, head_dim]`.
    pub fn norm_heads(&mut self, norm: RmsNorm<'_>, x: &mut [f32]) -> Result<(), Abandoned> {
        let simd = self.simd;
        self.rows(x, (norm.weight.len(), 4), |_, x| {
            simd.run(NormRows {
                norm,
                rows: Normed::InPlace(x),
            });
        })
    }

    /// `x += norm(y)`: `[rows, width]` both.
    pub fn add_normed(
        &mut self,
        x: &mut [f32],
        y: &[f32],
        norm: RmsNorm<'_>,
    ) -> Result<(), Abandoned> {
        assert_eq!(x.len(), y.len(), "x and y to add");
        let simd = self.simd;
        self.rows(x, (norm.weight.len(), 4), |from, x| {
            let y = &y[from..from + x.len()];
            simd.run(NormRows {
                norm,
                rows: Normed::Onto(x, y),
            });
        })
    }

    /// `x += y`, element by element.
    pub fn add(&mut self, x: &mut [f32], y: &[f32]) -> Result<(), Abandoned> {
        assert_eq!(x.len(), y.len(), "x and y to add");
        let simd = self.simd;
        self.rows(x, (1, 3), |from, x| simd.run(Add { x, y: &y[from..] }))
    }

    /// `x += scale y`, element by element.
    pub fn add_scaled(&mut self, x: &mut [f32], y: &[f32], scale: f32) -> Result<(), Abandoned> {
        assert_eq!(x.len(), y.len(), "x and y to add");
        let simd = self.simd;
        self.rows(x, (1, 3), |from, x| {
            let y = &y[from..];
            simd.run(AddScaled { x, y, scale });
        })
    }

    /// `x += bias` in each row: `[rows, width]` and `[width]`.
    pub fn add_bias(&mut self, x: &mut [f32], bias: &[f32]) -> Result<(), Abandoned> {
        let simd = self.simd;
        self.rows(x, (bias.len(), 3), |_, x| {
            for x in x.chunks_exact_mut(bias.len()) {
                simd.run(Add { x, y: bias });
            }
        })
    }

    /// `gate = activation(gate) * up`, element by element.
    pub fn gate(&mut self, kind: GateKind, gate: &mut [f32], up: &[f32]) -> Result<(), Abandoned> {
        assert_eq!(gate.len(), up.len(), "gate and up");
        let simd = self.simd;
        self.rows(gate, (1, 24), |from, gate| {
            simd.run(Gate {
                kind,
                gate,
                up: &up[from..],
            });
        })
    }

    /// Says of each row of `x`, `[rows, width]`, whether all its values are finite.
    pub fn finite(&mut self, x: &[f32], out: &mut [bool]) -> Result<(), Abandoned> {
        let width = x.len().checked_div(out.len()).unwrap_or(0);
        assert_eq!(width * out.len(), x.len(), "rows of {width}");
        let work = Work {
            bytes: 4 * width as u64,
            multiply_adds: width as u64,
        };
        let units = (out.len(), work);
        let out = Disjoint::new(out);
        self.units(units, &|row| {
            let x = &x[row * width..(row + 1) * width];
            // SAFETY: each row is one unit's.
            let out = unsafe { out.part(row..row + 1) };
            // A fold without a way out early, which the compiler makes vectors of.
            out[0] = x.iter().fold(true, |all, x| all & x.is_finite());
        })
    }

    /// `x = cap * tanh(x / cap)`, element by element.
    pub fn softcap(&mut self, cap: f32, x: &mut [f32]) -> Result<(), Abandoned> {
        let simd = self.simd;
        self.rows(x, (1, 32), |_, x| simd.run(Softcap { cap, x }))
    }

    /// The natural logarithm of each target's probability under the softmax of its row of logits:
    /// `[rows, vocab]`, with a target and an output for each row.
    pub fn log_probs(
        &mut self,
        logits: &[f32],
        targets: &[u32],
        out: &mut [f32],
    ) -> Result<(), Abandoned> {
        assert_eq!(targets.len(), out.len(), "targets and outputs");
        let vocab = logits.len().checked_div(targets.len()).unwrap_or(0);
        assert_eq!(
            vocab * targets.len(),
            logits.len(),
            "rows of {vocab} logits"
        );
        let simd = self.simd;
        let out = Disjoint::new(out);
        let units = (targets.len(), log_prob_work(vocab));
        self.pausing_units(units, &|row, pauses| {
            let logits = &logits[row * vocab..(row + 1) * vocab];
            // SAFETY: each row is one unit's.
            let out = unsafe { out.part(row..row + 1) };
            out[0] = log_prob(simd, (logits, targets[row]), pauses)?;
            Ok(())
        })
    }

    /// Makes the rotations of a step's rows.
    ///
    /// # Panics
    /// When `out` was made for fewer.
    pub fn rotations(&mut self, rotary: &Rotary<'_>, out: &mut Rotations) -> Result<(), Abandoned> {
        let pairs = rotary.pairs();
        out.resize(rotary);
        let (cos, sin) = out.parts();
        let (cos, sin) = (Disjoint::new(cos), Disjoint::new(sin));
        let each = Work {
            bytes: 0,
            multiply_adds: 60 * pairs as u64,
        };
        self.units((rotary.rows.len(), each), &|row| {
            let range = row * pairs..(row + 1) * pairs;
            // SAFETY: each row is one unit's.
            let parts = unsafe { (cos.part(range.clone()), sin.part(range)) };
            rotate_row(&rotary.rows[row], rotary.magnitude, parts);
        })
    }

    /// Turns heads by the rotations of their rows.
    pub fn rope(&mut self, rotations: &Rotations, rows: RopeRows<'_>) -> Result<(), Abandoned> {
        let RopeRows { x, head_dim, pairs } = rows;
        let turned = 2 * rotations.pairs();
        assert!(
            turned <= head_dim,
            "{turned} elements turn in a head of {head_dim}"
        );
        let width = x.len().checked_div(rotations.rows()).unwrap_or(0);
        assert_eq!(width * rotations.rows(), x.len(), "rows of heads");
        assert!(
            width.is_multiple_of(head_dim),
            "a row of {width} in heads of {head_dim}"
        );
        self.rows(x, (width.max(1), 4), |from, x| {
            for (row, x) in x.chunks_exact_mut(width).enumerate() {
                rotations.turn(pairs, from / width + row, x.chunks_exact_mut(head_dim));
            }
        })
    }

    /// Writes keys and values of `layer` to their blocks, and notes in each entry its first row that
    /// has one that no half can hold.
    pub fn write_kv(&mut self, layer: usize, rows: &mut [KvRows<'_>]) -> Result<(), Abandoned> {
        let simd = self.simd;
        let element = Work {
            bytes: 12,
            multiply_adds: 10,
        };
        let longest = rows.iter().map(|rows| rows.keys.len()).max().unwrap_or(0);
        let units = (rows.len(), times(element, longest));
        let rows = Disjoint::new(rows);
        self.pausing_units(units, &|index, pauses| {
            // SAFETY: each entry is one unit's.
            let rows = unsafe { &mut rows.part(index..index + 1)[0] };
            let shape = rows.block.layout().layer(layer);
            let width = shape.heads * shape.head_dim;
            assert_eq!(rows.keys.len(), rows.values.len(), "keys and values");
            assert_eq!(rows.keys.len() % width, 0, "rows of {width} keys");
            let pairs = rows
                .keys
                .chunks_exact(width)
                .zip(rows.values.chunks_exact(width));
            let row_work = times(element, width);
            let rows_at_once = pieces_per_point(simd.isa(), row_work);
            let count = pairs.len();
            for (row, pair) in pairs.enumerate() {
                if row.is_multiple_of(rows_at_once) {
                    pauses.point(times(row_work, rows_at_once.min(count - row)))?;
                }
                let at = (layer, rows.slot + row);
                let fits = rows.block.write_with(simd, at, pair);
                if !fits && rows.overflow.is_none() {
                    rows.overflow = Some(row);
                }
            }
            Ok(())
        })
    }

    /// Attention of each sequence's rows over its blocks.
    pub fn attention(
        &mut self,
        attention: &Attention,
        sequences: &mut [AttentionRows<'_>],
    ) -> Result<(), Abandoned> {
        let width = self.width();
        let mut scratch = self.crew.take_scratch();
        let done = Plan::new(attention, sequences, (width, &mut scratch))
            .map_or(Ok(()), |plan| self.attend(&plan));
        self.crew.put_scratch(scratch);
        done
    }

    fn attend(&mut self, plan: &Plan<'_>) -> Result<(), Abandoned> {
        let simd = self.simd;
        // SAFETY: each unit is computed once.
        let unit = |index, pauses: &Pauses<'_>| unsafe { plan.unit(simd, index, pauses) };
        self.pausing_units((plan.units(), plan.unit_work()), &unit)?;
        if !plan.is_split() {
            return Ok(());
        }
        self.pausing_units(plan.joins(), &|index, pauses| {
            // SAFETY: all units are done, and each index is joined once.
            unsafe { plan.join(simd, index, pauses) }
        })
    }

    /// Shares out `x` in whole rows of `width`; `cost` is multiply-adds for each element. The
    /// function is given where its rows begin, and the rows.
    fn rows(
        &mut self,
        x: &mut [f32],
        (width, cost): (usize, u64),
        each: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<(), Abandoned> {
        let rows = x.len().checked_div(width).unwrap_or(0);
        assert_eq!(
            rows * width,
            x.len(),
            "{} elements in rows of {width}",
            x.len()
        );
        let work = Work {
            bytes: 8 * width as u64,
            multiply_adds: cost * width as u64,
        };
        let x = Disjoint::new(x);
        self.ranges((rows, work), &|rows, _| {
            // SAFETY: the ranges of rows do not overlap.
            let part = unsafe { x.part(rows.start * width..rows.end * width) };
            each(rows.start * width, part);
            Ok(())
        })
    }

    /// Shares out units one by one; none takes longer than may pass between two pause points.
    fn units(
        &mut self,
        units: (usize, Work),
        each: &(dyn Fn(usize) + Sync),
    ) -> Result<(), Abandoned> {
        self.ranges(units, &|range, _| {
            range.for_each(each);
            Ok(())
        })
    }

    /// Shares out units that may be long and ask before all that they do, so nothing is told of
    /// them before.
    fn pausing_units(
        &mut self,
        (units, work): (usize, Work),
        each: &(dyn Fn(usize, &Pauses<'_>) -> Result<(), Abandoned> + Sync),
    ) -> Result<(), Abandoned> {
        let size = units_per_chunk(self.simd.isa(), work, (units, self.width()));
        let chunks = (units.div_ceil(size), Work::default());
        self.chunks(chunks, &|chunk, pauses| {
            let mut units = chunk * size..((chunk + 1) * size).min(units);
            units.try_for_each(|unit| each(unit, pauses))
        })
    }

    /// Shares out units in ranges that do not overlap, each a chunk.
    pub(crate) fn ranges(
        &mut self,
        (units, work): (usize, Work),
        each: &RangeOf<'_>,
    ) -> Result<(), Abandoned> {
        let width = self.width();
        let size = units_per_chunk(self.simd.isa(), work, (units, width));
        let chunks = (units.div_ceil(size), times(work, size));
        self.chunks(chunks, &|chunk, pauses| {
            each(chunk * size..((chunk + 1) * size).min(units), pauses)
        })
    }

    /// Shares out chunks, each of `work`.
    fn chunks(&mut self, (chunks, work): (usize, Work), run: &Chunk<'_>) -> Result<(), Abandoned> {
        let operation = Operation {
            run,
            pace: self.pace,
            work,
            chunks,
        };
        if chunks <= 1 || self.crew.taking_part() == 1 {
            self.crew.run_alone(&operation)
        } else {
            self.crew.run(&operation)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
