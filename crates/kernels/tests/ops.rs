//! Every operation against plain arithmetic in double precision, with the same bits in any team
//! and on any instruction set.
#![cfg(not(loom))]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use gogrid_kernels::{
    Abandoned, Activations, Embed, Forms, GateKind, Isa, Ops, Packed, Packing, RmsNorm, RopeRows,
    Rotary, RotaryPairs, Rotations, Team, TurnedRow,
};
use gogrid_units::{FullSpeed, Go, Moment, Pace, PlainThreads, TeamPace, WeightType, Work};

fn floats(seed: usize, len: usize) -> Vec<f32> {
    let mut state = seed as u64 * 2 + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 4.0
    };
    (0..len).map(|_| next()).collect()
}

/// Runs `op` on a copy of `x` in several teams and on every instruction set, demands equal bits,
/// and compares with `want` to `relative` of its size plus as much absolute.
fn check(
    x: &[f32],
    want: &[f64],
    relative: f64,
    op: impl Fn(&mut Ops<'_>, &mut [f32]) -> Result<(), Abandoned>,
) {
    let mut first: Option<Vec<u32>> = None;
    for threads in 1..=3 {
        let mut team = Team::new(threads, Arc::new(PlainThreads)).expect("threads");
        for isa in Isa::available() {
            let mut out = x.to_vec();
            let done = team.step(&FullSpeed, isa, |ops| op(ops, &mut out));
            assert_eq!(done, Ok(()));
            let bits: Vec<_> = out.iter().map(|x| x.to_bits()).collect();
            let first = first.get_or_insert_with(|| bits.clone());
            assert_eq!(bits, *first, "{isa} with {threads} threads");
            for (index, (got, want)) in out.iter().zip(want).enumerate() {
                let off = (f64::from(*got) - want).abs();
                assert!(
                    off <= relative * (want.abs() + 1.0),
                    "{index}: {got}, not {want}"
                );
            }
        }
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// Widths around a vector, and rows enough for many chunks.
const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 15), (2, 16), (5, 40), (3, 577), (400, 576)];

fn normed(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f64> {
    let rows = x.chunks(weight.len()).flat_map(|row| {
        let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64;
        let scale = (mean + f64::from(epsilon)).sqrt().recip();
        let row = row.iter().zip(weight);
        row.map(move |(x, w)| f64::from(*x) * scale * f64::from(*w))
            .collect::<Vec<_>>()
    });
    rows.collect()
}

#[test]
fn norms_into_in_place_and_onto() {
    for (rows, width) in SHAPES {
        let (x, y, weight) = (
            floats(1, rows * width),
            floats(2, rows * width),
            floats(3, width),
        );
        let norm = RmsNorm {
            weight: &weight,
            epsilon: 1e-5,
        };
        let want = normed(&y, &weight, 1e-5);
        check(&x, &want, 2e-6, |ops, out| ops.rms_norm(norm, &y, out));
        check(&y, &want, 2e-6, |ops, y| ops.norm_heads(norm, y));
        let sum: Vec<_> = wide(&x).iter().zip(&want).map(|(a, b)| a + b).collect();
        check(&x, &sum, 2e-6, |ops, x| ops.add_normed(x, &y, norm));
    }
}

#[test]
fn sums_and_biases() {
    for (rows, width) in SHAPES {
        let (x, y, bias) = (
            floats(4, rows * width),
            floats(5, rows * width),
            floats(6, width),
        );
        let sum: Vec<_> = wide(&x).iter().zip(wide(&y)).map(|(a, b)| a + b).collect();
        check(&x, &sum, 1e-7, |ops, x| ops.add(x, &y));
        let scaled: Vec<_> = wide(&x)
            .iter()
            .zip(wide(&y))
            .map(|(a, b)| a + 0.22 * b)
            .collect();
        check(&x, &scaled, 1e-7, |ops, x| ops.add_scaled(x, &y, 0.22));
        let biased: Vec<_> = wide(&x)
            .iter()
            .zip(wide(&bias).iter().cycle())
            .map(|(a, b)| a + b)
            .collect();
        check(&x, &biased, 1e-7, |ops, x| ops.add_bias(x, &bias));
    }
}

#[test]
fn gates_and_caps() {
    for (rows, width) in SHAPES {
        let (gate, up) = (floats(7, rows * width), floats(8, rows * width));
        let through = |f: fn(f64) -> f64| -> Vec<_> {
            wide(&gate)
                .iter()
                .zip(wide(&up))
                .map(|(x, up)| f(*x) * up)
                .collect()
        };
        let silu = through(|x| x / (1.0 + (-x).exp()));
        check(&gate, &silu, 1e-6, |ops, gate| {
            ops.gate(GateKind::Silu, gate, &up)
        });
        let gelu = through(|x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        });
        check(&gate, &gelu, 1e-6, |ops, gate| {
            ops.gate(GateKind::GeluTanh, gate, &up)
        });
        let capped: Vec<_> = wide(&gate).iter().map(|x| 3.0 * (x / 3.0).tanh()).collect();
        check(&gate, &capped, 1e-6, |ops, x| ops.softcap(3.0, x));
    }
}

#[test]
fn log_probabilities() {
    for (rows, vocab) in [(1, 1), (2, 17), (3, 49152), (40, 1000)] {
        let logits = floats(9, rows * vocab);
        let targets: Vec<_> = (0..rows).map(|row| (row * 7919 % vocab) as u32).collect();
        let want = logits.chunks(vocab).zip(&targets).map(|(row, target)| {
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            f64::from(row[*target as usize]) - sum.ln()
        });
        let want: Vec<_> = want.collect();
        check(&vec![0.0; rows], &want, 1e-6, |ops, out| {
            ops.log_probs(&logits, &targets, out)
        });
    }
}

#[test]
fn extreme_logits_keep_their_probabilities() {
    let logits = [1e30, -1e30, f32::NEG_INFINITY, 1e30];
    check(&[0.0], &[-(2f64.ln())], 1e-6, |ops, out| {
        ops.log_probs(&logits, &[3], out)
    });
}

#[test]
fn logits_that_are_no_numbers_give_none() {
    let mut team = Team::new(1, Arc::new(PlainThreads)).expect("threads");
    let mut out = [0.0];
    let done = team.step(&FullSpeed, Isa::detect(), |ops| {
        ops.log_probs(&[f32::NAN; 20], &[3], &mut out)
    });
    assert_eq!(done, Ok(()));
    assert!(out[0].is_nan());
}

#[test]
fn rope_turns_pairs_and_leaves_the_rest() {
    for (pairing, pairs, head_dim) in [
        (RotaryPairs::Adjacent, 8, 16),
        (RotaryPairs::Halves, 8, 16),
        (RotaryPairs::Halves, 4, 24),
        (RotaryPairs::Adjacent, 3, 8),
    ] {
        let (rows, heads) = (90, 5);
        let frequencies: Vec<_> = (0..pairs)
            .map(|i| 10000f32.powf(-(i as f32) / pairs as f32))
            .collect();
        let positions: Vec<_> = (0..rows).map(|row| row * 1201).collect();
        let turned = |&position| TurnedRow {
            position,
            frequencies: &frequencies,
        };
        let turned: Vec<_> = positions.iter().map(turned).collect();
        let rotary = Rotary {
            magnitude: 1.25,
            rows: &turned,
        };
        let x = floats(10, rows * heads * head_dim);
        let mut want = wide(&x);
        for (index, head) in want.chunks_mut(head_dim).enumerate() {
            for (pair, frequency) in frequencies.iter().enumerate() {
                let angle = positions[index / heads] as f64 * f64::from(*frequency);
                let (sin, cos) = (angle.sin() * 1.25, angle.cos() * 1.25);
                let (a, b) = match pairing {
                    RotaryPairs::Adjacent => (2 * pair, 2 * pair + 1),
                    RotaryPairs::Halves => (pair, pair + pairs),
                };
                let (x, y) = (head[a], head[b]);
                (head[a], head[b]) = (x * cos - y * sin, x * sin + y * cos);
            }
        }
        check(&x, &want, 1e-6, |ops, x| {
            let mut rotations =
                Rotations::with_capacity(positions.len(), pairs).expect("there is memory");
            ops.rotations(&rotary, &mut rotations)?;
            ops.rope(
                &rotations,
                RopeRows {
                    x,
                    head_dim,
                    pairs: pairing,
                },
            )
        });
    }
}

fn packed(rows: usize, cols: usize, seed: usize) -> (Packed, Vec<f32>) {
    let values = floats(seed, rows * cols);
    let read = &mut |range: std::ops::Range<usize>, out: &mut [u8]| -> Result<(), Infallible> {
        let bytes = values[range.start * cols..range.end * cols]
            .iter()
            .flat_map(|x| x.to_le_bytes());
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(())
    };
    let packed = Packed::pack(
        Packing {
            stored: WeightType::F32,
            kept: WeightType::F32,
            rows,
            cols,
        },
        read,
    )
    .expect("there is memory");
    (packed, values)
}

#[test]
fn products_with_several_matrices_at_once() {
    for tokens in [1, 5, 100] {
        let cols = 96;
        let shapes = [200, 40, 1000];
        let weights: Vec<_> = shapes
            .iter()
            .map(|rows| packed(*rows, cols, *rows))
            .collect();
        let x = floats(12, tokens * cols);
        let mut want = vec![];
        for (rows, (_, values)) in shapes.iter().zip(&weights) {
            for token in x.chunks(cols) {
                want.extend((0..*rows).map(|row| {
                    let weights = &values[row * cols..][..cols];
                    token
                        .iter()
                        .zip(weights)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum::<f64>()
                }));
            }
        }
        check(&vec![f32::NAN; want.len()], &want, 1e-4, |ops, out| {
            let mut inputs = Activations::new(Forms::of(WeightType::F32), tokens + 2, cols)
                .expect("there is memory");
            ops.quantise(&x, &mut inputs)?;
            let (a, rest) = out.split_at_mut(tokens * shapes[0]);
            let (b, c) = rest.split_at_mut(tokens * shapes[1]);
            ops.matmul(
                &inputs,
                &mut [(&weights[0].0, a), (&weights[1].0, b), (&weights[2].0, c)],
            )
        });
    }
}

#[test]
fn embedding_takes_rows_and_scales_them() {
    let (table, values) = packed(50, 40, 13);
    let ids: Vec<_> = (0..300).map(|i| i * 7 % 50).collect();
    let rows = ids.iter().flat_map(|id| &values[*id as usize * 40..][..40]);
    let want: Vec<_> = rows.map(|x| f64::from(*x) * 1.5).collect();
    check(&vec![0.0; 300 * 40], &want, 1e-7, |ops, out| {
        ops.embed(
            Embed {
                table: &table,
                ids: &ids,
                scale: 1.5,
            },
            out,
        )
    });
}

/// Remembers the most work it was asked for at once, and gives up at an ask.
struct Watching {
    asked: AtomicUsize,
    abandon_at: usize,
}

impl Pace for Watching {
    fn point(&self, work: Work) -> Go {
        // The work of 0.3 ms at 2 GB/s and 10 multiply-adds a nanosecond.
        assert!(
            work.bytes <= 600_000 && work.multiply_adds <= 3_000_000,
            "{work:?}"
        );
        let asked = self.asked.fetch_add(1, SeqCst);
        if asked == self.abandon_at {
            Go::Abandon
        } else {
            Go::Go
        }
    }
    fn rest(&self, _until: Moment) {}
    fn is_over(&self) -> bool {
        false
    }
    fn charge(&self, _busy_nanos: u64) {}
}

impl TeamPace for Watching {
    fn width(&self) -> usize {
        usize::MAX
    }
    fn gave_way(&self, _nanos: u64) {}
}

#[test]
fn a_large_product_has_many_pause_points_and_can_be_run_again() {
    let (tokens, rows, cols) = (64, 2048, 512);
    let (weights, _) = packed(rows, cols, 14);
    let x = floats(15, tokens * cols);
    let mut inputs =
        Activations::new(Forms::of(WeightType::F32), tokens, cols).expect("there is memory");
    let mut team = Team::new(2, Arc::new(PlainThreads)).expect("threads");
    let mut run = |abandon_at| {
        let pace = Watching {
            asked: AtomicUsize::new(0),
            abandon_at,
        };
        let mut out = vec![0.0; tokens * rows];
        let done = team.step(&pace, Isa::detect(), |ops| {
            ops.quantise(&x, &mut inputs)?;
            ops.matmul(&inputs, &mut [(&weights, &mut out)])
        });
        (done, pace.asked.load(SeqCst), out)
    };
    let (done, asked, whole) = run(usize::MAX);
    assert_eq!(done, Ok(()));
    assert!(asked > 20, "{asked} pause points");
    let (done, _, _) = run(asked / 2);
    assert_eq!(done, Err(Abandoned));
    let (done, _, again) = run(usize::MAX);
    assert_eq!((done, again), (Ok(()), whole));
}
