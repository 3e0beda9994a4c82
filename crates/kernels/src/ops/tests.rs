//! The work that the pace is told at a pause point, at the shapes of large models.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use gogrid_units::{Go, Moment, Pace, PlainThreads, TeamPace, WeightType, Work};

use super::{Embed, KvRows, Ops, RopeRows};
use crate::activations::{Activations, Forms};
use crate::attention::{Attention, AttentionRows, attention_scratch};
use crate::cost::{POINT_NANOS_MAX, product_nanos};
use crate::kv::{KV_TOKENS, KvBlock, KvLayer, KvLayout};
use crate::norm::RmsNorm;
use crate::packed::{Packed, Packing};
use crate::pointwise::GateKind;
use crate::region::Abandoned;
use crate::rope::{Rotary, RotaryPairs, Rotations, TurnedRow};
use crate::simd::Isa;
use crate::team::Team;

/// The residual stream of a 70B model, its feed-forward's middle, a large vocabulary.
const WIDTH: usize = 8192;
const HIDDEN: usize = 28_672;
const VOCAB: usize = 262_144;
const CONTEXT: usize = 131_072;

/// Keeps the longest work it was told and the sum of all, and ends the step after some points.
struct Told {
    isa: Isa,
    /// The weights that the work reads, which may make it slower.
    weights: WeightType,
    points_left: AtomicUsize,
    longest_nanos: AtomicU64,
    multiply_adds: AtomicU64,
}

impl Pace for Told {
    fn point(&self, work: Work) -> Go {
        self.longest_nanos
            .fetch_max(product_nanos(self.isa, self.weights, work), Relaxed);
        self.multiply_adds.fetch_add(work.multiply_adds, Relaxed);
        match self
            .points_left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
        {
            Ok(_) => Go::Go,
            Err(_) => Go::Abandon,
        }
    }

    fn rest(&self, _until: Moment) {}

    fn is_over(&self) -> bool {
        false
    }

    fn charge(&self, _busy_nanos: u64) {}
}

impl TeamPace for Told {
    fn width(&self) -> usize {
        usize::MAX
    }

    fn gave_way(&self, _nanos: u64) {}
}

type Op<'a> = dyn FnMut(&mut Ops<'_>) -> Result<(), Abandoned> + 'a;

/// `op` tells of at most half a millisecond at a point, and of `multiply_adds` in all.
fn check(name: &str, multiply_adds: usize, op: &mut Op<'_>) {
    for isa in Isa::available() {
        for threads in [1, 2] {
            let told = run((isa, WeightType::Q4_1, threads), usize::MAX, (name, op));
            assert!(told >= multiply_adds as u64, "{name}, {isa}: told {told}");
        }
    }
}

/// As [`check`], but looks only at the first `points` of work with weights of `ty`.
fn check_first((points, ty): (usize, WeightType), name: &str, op: &mut Op<'_>) {
    for isa in Isa::available() {
        run((isa, ty, 1), points, (name, op));
    }
}

/// The multiply-adds it was told of.
fn run(
    (isa, weights, threads): (Isa, WeightType, usize),
    points: usize,
    (name, op): (&str, &mut Op<'_>),
) -> u64 {
    let mut team = Team::new(threads, Arc::new(PlainThreads)).expect("threads");
    team.keep_scratch(attention_scratch(1, 256, CONTEXT))
        .expect("there is memory");
    let pace = Told {
        isa,
        weights,
        points_left: AtomicUsize::new(points),
        longest_nanos: AtomicU64::new(0),
        multiply_adds: AtomicU64::new(0),
    };
    let done = team.step(&pace, isa, |ops| op(ops));
    assert!(done.is_ok() || points < usize::MAX, "{name}: {done:?}");
    let longest = pace.longest_nanos.into_inner();
    assert!(
        longest <= POINT_NANOS_MAX,
        "{name}, {isa}: {longest} ns at a point"
    );
    pace.multiply_adds.into_inner()
}

#[test]
fn half_a_millisecond_of_rows() {
    for width in [WIDTH, HIDDEN] {
        let (y, weight) = (vec![1.0; 5 * width], vec![1.0; width]);
        let norm = RmsNorm {
            weight: &weight,
            epsilon: 1e-5,
        };
        let mut x = y.clone();
        let len = x.len();
        check("norm", len, &mut |ops| ops.rms_norm(norm, &y, &mut x));
        check("normed sum", len, &mut |ops| {
            ops.add_normed(&mut x, &y, norm)
        });
        check("heads", len, &mut |ops| ops.norm_heads(norm, &mut x));
        check("bias", len, &mut |ops| ops.add_bias(&mut x, &weight));
        let forms = Forms::of(WeightType::Q4_1).and(Forms::of(WeightType::Q4K));
        let mut rounded = Activations::new(forms, 5, width).expect("there is memory");
        check("rounding", len, &mut |ops| ops.quantise(&y, &mut rounded));
    }
}

#[test]
fn half_a_millisecond_of_elements() {
    let y = vec![1.0; VOCAB];
    let mut x = y.clone();
    check("sum", VOCAB, &mut |ops| ops.add(&mut x, &y));
    check("scaled sum", VOCAB, &mut |ops| {
        ops.add_scaled(&mut x, &y, 0.22)
    });
    check("cap", VOCAB, &mut |ops| ops.softcap(30.0, &mut x));
    for kind in [GateKind::Silu, GateKind::GeluTanh] {
        check("gate", VOCAB, &mut |ops| ops.gate(kind, &mut x, &y));
    }
}

#[test]
fn half_a_millisecond_of_a_vocabulary() {
    let (logits, mut out) = (vec![1.0; 2 * VOCAB], [0.0; 2]);
    check("log-probabilities", 20 * 2 * VOCAB, &mut |ops| {
        ops.log_probs(&logits, &[0, 9], &mut out)
    });
}

#[test]
fn half_a_millisecond_of_rotations() {
    let (head_dim, rows) = (256, 40);
    let frequencies = vec![0.1; head_dim / 2];
    let turned = |position| TurnedRow {
        position,
        frequencies: &frequencies,
    };
    let turned: Vec<_> = (CONTEXT - rows..CONTEXT).map(turned).collect();
    let rotary = Rotary {
        magnitude: 1.0,
        rows: &turned,
    };
    let mut rotations = Rotations::with_capacity(rows, head_dim / 2).expect("there is memory");
    let pairs = rows * head_dim / 2;
    check("rotations", pairs, &mut |ops| {
        ops.rotations(&rotary, &mut rotations)
    });
    let mut x = vec![1.0; rows * 64 * head_dim];
    let len = x.len();
    check("rope", len, &mut |ops| {
        let pairs = RotaryPairs::Halves;
        ops.rope(
            &rotations,
            RopeRows {
                x: &mut x,
                head_dim,
                pairs,
            },
        )
    });
}

fn blocks(count: usize, layer: KvLayer) -> Vec<KvBlock> {
    let layout = KvLayout::new(&[layer]);
    (0..count)
        .map(|_| KvBlock::new(&layout).expect("there is memory"))
        .collect()
}

#[test]
fn half_a_millisecond_of_written_keys() {
    // As many heads of keys as of queries.
    let layer = KvLayer {
        heads: 64,
        head_dim: 128,
    };
    let mut blocks = blocks(3, layer);
    let row = vec![1.0; KV_TOKENS * WIDTH];
    check("keys", 3 * row.len(), &mut |ops| {
        let rows = |block| KvRows {
            block,
            slot: 0,
            keys: &row,
            values: &row,
            overflow: None,
        };
        let mut rows: Vec<_> = blocks.iter_mut().map(rows).collect();
        ops.write_kv(0, &mut rows)
    });
}

/// Heads, heads of keys, rows at the end of the context, pause points to look at.
fn check_attention((heads, kv_heads): (usize, usize), rows: usize, points: Option<usize>) {
    let head_dim = 256;
    let layer = KvLayer {
        heads: kv_heads,
        head_dim,
    };
    let block = &blocks(1, layer)[0];
    let blocks = vec![Some(block); CONTEXT / KV_TOKENS];
    let q = vec![1.0; rows * heads * head_dim];
    let mut out = q.clone();
    let attention = Attention {
        layer: 0,
        heads,
        scale: 1.0,
        softcap: None,
        window: None,
    };
    let mut op = |ops: &mut Ops<'_>| {
        let rows = AttentionRows {
            q: &q,
            out: &mut out,
            blocks: &blocks,
            start: CONTEXT - rows,
        };
        ops.attention(&attention, &mut [rows])
    };
    match points {
        Some(points) => check_first((points, WeightType::Q4_1), "attention", &mut op),
        None => check("attention", 2 * CONTEXT * head_dim, &mut op),
    }
}

#[test]
fn half_a_millisecond_of_attention() {
    check_attention((1, 1), 1, None);
    check_attention((64, 8), 1, Some(20));
    check_attention((64, 8), 100, Some(20));
}

fn packed(ty: WeightType, rows: usize, cols: usize) -> Packed {
    let read = &mut |_: Range<usize>, out: &mut [u8]| {
        out.fill(0);
        Ok::<_, Infallible>(())
    };
    Packed::pack(
        Packing {
            stored: ty,
            kept: ty,
            rows,
            cols,
        },
        read,
    )
    .expect("there is memory")
}

#[test]
fn half_a_millisecond_of_embeddings() {
    let table = packed(WeightType::Q4_1, 16, WIDTH);
    let ids = [3; 30];
    let mut out = vec![0.0; ids.len() * WIDTH];
    let len = out.len();
    check("embedding", len, &mut |ops| {
        let embed = Embed {
            table: &table,
            ids: &ids,
            scale: 1.0,
        };
        ops.embed(embed, &mut out)
    });
}

#[test]
fn half_a_millisecond_of_products() {
    let rows = 48;
    for ty in WeightType::ALL {
        for cols in [4096, WIDTH, 14_336, HIDDEN] {
            let weights = packed(ty, rows, cols);
            for tokens in [1, 3, 16, 100] {
                let x = Activations::new(Forms::of(ty), tokens, cols).expect("there is memory");
                let mut out = vec![0.0; tokens * rows];
                let name = format!("{ty} of {cols} by {tokens}");
                check_first((2, ty), &name, &mut |ops| {
                    ops.matmul(&x, &mut [(&weights, &mut out)])
                });
            }
        }
    }
}

#[test]
fn products_tell_of_all_their_work() {
    let (rows, cols, tokens) = (48, 9984, 11);
    let weights = packed(WeightType::Q4K, rows, cols);
    let floats = packed(WeightType::F16, rows, cols);
    let forms = Forms::of(WeightType::Q4K).and(Forms::of(WeightType::F16));
    let x = Activations::new(forms, tokens, cols).expect("there is memory");
    let (mut a, mut b) = (vec![0.0; tokens * rows], vec![0.0; tokens * rows]);
    check("products", 2 * tokens * rows * cols, &mut |ops| {
        ops.matmul(&x, &mut [(&weights, &mut a), (&floats, &mut b)])
    });
}

#[test]
fn rows_with_pause_points_inside_tell_of_all_their_work_and_can_be_abandoned() {
    let (rows, cols) = (64, HIDDEN);
    for ty in [WeightType::F32, WeightType::F16, WeightType::Bf16] {
        let weights = packed(ty, rows, cols);
        let x = Activations::new(Forms::of(ty), 2, cols).expect("there is memory");
        let mut out = vec![0.0; 2 * rows];
        let mut op = |ops: &mut Ops<'_>| ops.matmul(&x, &mut [(&weights, &mut out)]);
        check("wide rows", 2 * rows * cols, &mut op);
        for isa in Isa::available() {
            // Nothing is told after the step is given up, in its first chunk or the one after.
            for points in 0..2 {
                let told = run((isa, ty, 1), points, ("abandoned", &mut op));
                assert!(told < 2 * (rows * cols) as u64, "{isa}, {ty}: {told}");
            }
        }
    }
}
