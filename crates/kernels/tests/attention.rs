//! Attention against the textbook in double precision, and the same bits however it is computed.
#![cfg(not(loom))]

use std::sync::Arc;

use gogrid_kernels::{
    Attention, AttentionRows, Isa, KV_TOKENS, KvBlock, KvLayer, KvLayout, KvRows, Team,
    attention_scratch,
};
use gogrid_units::{Bytes, FullSpeed, PlainThreads};
use half::f16;
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
use proptest::test_runner::Config;

/// A small generator, so that a case is its seed.
struct Random(u64);

impl Random {
    /// Roughly normal, standard deviation 1.
    fn float(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 1.7
    }

    fn unit(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

/// A sequence of `len` tokens in the second of two layers.
#[derive(Debug)]
struct Case {
    shape: KvLayer,
    attention: Attention,
    len: usize,
    seed: u64,
}

/// Everything a case is computed from.
struct Data {
    q: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Case {
    fn q_width(&self) -> usize {
        self.attention.heads * self.shape.head_dim
    }

    fn kv_width(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }

    fn data(&self) -> Data {
        let mut random = Random(self.seed);
        // Values that a half holds exactly, so that the textbook reads the same.
        let mut halves = |len: usize| -> Vec<f32> {
            random
                .floats(len)
                .iter()
                .map(|x| f16::from_f32(*x).to_f32())
                .collect()
        };
        let (keys, values) = (
            halves(self.len * self.kv_width()),
            halves(self.len * self.kv_width()),
        );
        Data {
            q: random.floats(self.len * self.q_width()),
            keys,
            values,
        }
    }

    /// The blocks, with everything after the last token not a number.
    fn blocks(&self, data: &Data, team: &mut Team) -> Vec<KvBlock> {
        let other = KvLayer {
            heads: 1,
            head_dim: 8,
        };
        let layout = KvLayout::new(&[other, self.shape]);
        let width = self.kv_width();
        let mut blocks: Vec<_> = (0..self.len.div_ceil(KV_TOKENS))
            .map(|_| KvBlock::new(&layout).expect("there is memory"))
            .collect();
        let bad = vec![f32::NAN; width];
        for block in &mut blocks {
            (0..KV_TOKENS).for_each(|slot| assert!(!block.write(1, slot, (&bad, &bad))));
        }
        let rows = data
            .keys
            .chunks(KV_TOKENS * width)
            .zip(data.values.chunks(KV_TOKENS * width));
        let mut writes: Vec<_> = rows
            .zip(&mut blocks)
            .map(|((keys, values), block)| KvRows {
                block,
                slot: 0,
                keys,
                values,
                overflow: None,
            })
            .collect();
        team.step(&FullSpeed, Isa::detect(), |ops| {
            ops.write_kv(1, &mut writes)
        })
        .expect("full speed");
        blocks
    }

    /// All rows, in steps of `rows` at a time.
    fn compute(&self, how: How, data: &Data, blocks: &[KvBlock]) -> Vec<f32> {
        let mut team = team(how.threads);
        team.keep_scratch(how.scratch).expect("there is memory");
        let blocks: Vec<_> = blocks.iter().map(Some).collect();
        let mut out = vec![f32::NAN; data.q.len()];
        let step = how.rows * self.q_width();
        for (index, (q, out)) in data.q.chunks(step).zip(out.chunks_mut(step)).enumerate() {
            let start = index * how.rows;
            // Blocks that have left the window are gone.
            let mut blocks = blocks.clone();
            if let Some(window) = self.attention.window {
                let gone = (start + 1).saturating_sub(window) / KV_TOKENS;
                blocks[..gone].fill(None);
            }
            let mut rows = [AttentionRows {
                q,
                out,
                blocks: &blocks,
                start,
            }];
            team.step(&FullSpeed, how.isa, |ops| {
                ops.attention(&self.attention, &mut rows)
            })
            .expect("full speed");
        }
        out
    }

    /// The textbook, in double precision.
    fn textbook(&self, data: &Data) -> Vec<f64> {
        let Attention {
            heads,
            scale,
            softcap,
            window,
            ..
        } = self.attention;
        let (dim, group) = (self.shape.head_dim, heads / self.shape.heads);
        let mut out = vec![];
        for row in 0..self.len {
            let first = window.map_or(0, |window| (row + 1).saturating_sub(window));
            for head in 0..heads {
                let q = &data.q[(row * heads + head) * dim..][..dim];
                let at = |token: usize| (token * self.shape.heads + head / group) * dim;
                let score = |token: usize| {
                    let key = &data.keys[at(token)..][..dim];
                    let dot: f64 = q
                        .iter()
                        .zip(key)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum();
                    let score = dot * f64::from(scale);
                    softcap.map_or(score, |cap| {
                        f64::from(cap) * (score / f64::from(cap)).tanh()
                    })
                };
                let scores: Vec<_> = (first..=row).map(score).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<_> = scores.iter().map(|score| (score - top).exp()).collect();
                let sum: f64 = weights.iter().sum();
                out.extend((0..dim).map(|d| {
                    let values = (first..=row).map(|token| f64::from(data.values[at(token) + d]));
                    values
                        .zip(&weights)
                        .map(|(value, weight)| value * weight)
                        .sum::<f64>()
                        / sum
                }));
            }
        }
        out
    }
}

/// A way to compute that must not matter.
#[derive(Clone, Copy, Debug)]
struct How {
    isa: Isa,
    threads: usize,
    rows: usize,
    scratch: Bytes,
}

fn team(threads: usize) -> Team {
    Team::new(threads, Arc::new(PlainThreads)).expect("threads")
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn check(case: &Case) {
    let data = case.data();
    let blocks = case.blocks(&data, &mut team(2));
    let whole = How {
        isa: Isa::detect(),
        threads: 1,
        rows: case.len,
        scratch: Bytes::ZERO,
    };
    let got = case.compute(whole, &data, &blocks);
    let size: f64 = 4.0;
    for (index, (got, want)) in got.iter().zip(case.textbook(&data)).enumerate() {
        let off = (f64::from(*got) - want).abs();
        assert!(
            off < 4e-6 * size,
            "{case:?}: element {index} is {got}, the textbook has {want}"
        );
    }
    let scratch = attention_scratch(case.attention.heads, case.shape.head_dim, case.len);
    let mut hows = vec![];
    for isa in Isa::available() {
        hows.push(How { isa, ..whole });
        hows.push(How {
            isa,
            threads: 3,
            rows: 1,
            scratch,
        });
    }
    hows.push(How {
        threads: 2,
        rows: 7,
        ..whole
    });
    hows.push(How {
        threads: 4,
        scratch: Bytes(scratch.0 * 40),
        rows: 33,
        ..whole
    });
    for how in hows {
        assert_eq!(
            bits(&case.compute(how, &data, &blocks)),
            bits(&got),
            "{case:?} as {how:?}"
        );
    }
}

fn attention(heads: usize) -> Attention {
    Attention {
        layer: 1,
        heads,
        scale: 0.25,
        softcap: None,
        window: None,
    }
}

#[test]
fn one_token_sees_itself() {
    check(&Case {
        shape: KvLayer {
            heads: 1,
            head_dim: 16,
        },
        attention: attention(1),
        len: 1,
        seed: 3,
    });
}

#[test]
fn every_width_of_head() {
    for head_dim in [
        2, 4, 6, 8, 14, 18, 20, 24, 36, 64, 80, 96, 100, 128, 250, 256, 320, 510, 512,
    ] {
        let shape = KvLayer { heads: 2, head_dim };
        check(&Case {
            shape,
            attention: Attention {
                // As in models: scores then stay as great as they are for narrow heads.
                scale: 1.0 / (head_dim as f32).sqrt(),
                ..attention(4)
            },
            len: 70,
            seed: head_dim as u64,
        });
    }
}

#[test]
fn every_size_of_group() {
    for group in [1, 2, 3, 4, 5, 7, 8, 9, 40] {
        let shape = KvLayer {
            heads: 1,
            head_dim: 16,
        };
        check(&Case {
            shape,
            attention: attention(group),
            len: 40,
            seed: group as u64,
        });
    }
}

#[test]
fn several_spans() {
    let shape = KvLayer {
        heads: 1,
        head_dim: 32,
    };
    check(&Case {
        shape,
        attention: attention(2),
        len: 700,
        seed: 5,
    });
}

#[test]
fn windows_and_caps() {
    for window in [1, 31, 32, 33, 100, 300] {
        let attention = Attention {
            window: Some(window),
            softcap: Some(3.0),
            ..attention(2)
        };
        let shape = KvLayer {
            heads: 1,
            head_dim: 16,
        };
        check(&Case {
            shape,
            attention,
            len: 600,
            seed: window as u64,
        });
    }
}

#[test]
fn what_lies_left_of_a_window_may_be_anything() {
    let window = 40;
    let case = Case {
        shape: KvLayer {
            heads: 1,
            head_dim: 16,
        },
        attention: Attention {
            window: Some(window),
            ..attention(3)
        },
        len: 300,
        seed: 5,
    };
    let data = case.data();
    let mut team = team(2);
    let mut blocks = case.blocks(&data, &mut team);
    let (rows, width) = (3, case.q_width());
    let last_rows = |blocks: &[KvBlock], team: &mut Team, isa| {
        let mut out = vec![f32::NAN; rows * width];
        let blocks: Vec<_> = blocks.iter().map(Some).collect();
        let mut sequences = [AttentionRows {
            q: &data.q[data.q.len() - rows * width..],
            out: &mut out,
            blocks: &blocks,
            start: case.len - rows,
        }];
        let done = team.step(&FullSpeed, isa, |ops| {
            ops.attention(&case.attention, &mut sequences)
        });
        done.expect("full speed");
        bits(&out)
    };
    let want = last_rows(&blocks, &mut team, Isa::detect());
    let first_seen = case.len - rows + 1 - window;
    assert_ne!(first_seen % KV_TOKENS, 0, "a tile that is partly seen");
    let bad = [f32::NAN; 16];
    for position in 0..first_seen {
        blocks[position / KV_TOKENS].write(1, position % KV_TOKENS, (&bad, &bad));
    }
    for isa in Isa::available() {
        assert_eq!(last_rows(&blocks, &mut team, isa), want, "{isa}");
    }
}

#[test]
fn sequences_side_by_side_do_not_touch() {
    let shape = KvLayer {
        heads: 2,
        head_dim: 40,
    };
    let cases: Vec<_> = [3, 600, 40]
        .map(|len| Case {
            shape,
            attention: attention(4),
            len,
            seed: len as u64,
        })
        .into();
    let mut team = team(3);
    let data: Vec<_> = cases.iter().map(Case::data).collect();
    let blocks: Vec<_> = cases
        .iter()
        .zip(&data)
        .map(|(case, data)| case.blocks(data, &mut team))
        .collect();
    let tables: Vec<Vec<_>> = blocks
        .iter()
        .map(|blocks| blocks.iter().map(Some).collect())
        .collect();
    let mut outs: Vec<_> = data.iter().map(|data| vec![0.0; data.q.len()]).collect();
    let mut rows: Vec<_> = (data.iter().zip(&mut outs).zip(&tables))
        .map(|((data, out), blocks)| AttentionRows {
            q: &data.q,
            out,
            blocks,
            start: 0,
        })
        .collect();
    let done = team.step(&FullSpeed, Isa::detect(), |ops| {
        ops.attention(&attention(4), &mut rows)
    });
    assert_eq!(done, Ok(()));
    for (index, case) in cases.iter().enumerate() {
        let how = How {
            isa: Isa::detect(),
            threads: 1,
            rows: 1,
            scratch: Bytes::ZERO,
        };
        let alone = case.compute(how, &data[index], &blocks[index]);
        assert_eq!(bits(&outs[index]), bits(&alone), "{case:?}");
    }
}

#[test]
#[should_panic(expected = "has its block")]
fn a_missing_block_is_a_bug() {
    let case = Case {
        shape: KvLayer {
            heads: 1,
            head_dim: 16,
        },
        attention: attention(1),
        len: 64,
        seed: 1,
    };
    let data = case.data();
    let mut team = team(1);
    let blocks = case.blocks(&data, &mut team);
    let mut out = vec![0.0; data.q.len()];
    let table = [None, Some(&blocks[1])];
    let mut rows = [AttentionRows {
        q: &data.q,
        out: &mut out,
        blocks: &table,
        start: 0,
    }];
    let _ = team.step(&FullSpeed, Isa::Scalar, |ops| {
        ops.attention(&case.attention, &mut rows)
    });
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (1usize..4, 1usize..37, 1usize..=6);
    let numbers = (1usize..400, any::<u64>());
    let switches = (any::<bool>(), proptest::option::of(1usize..200));
    (shape, numbers, switches).prop_map(|((kv, twos, group), (len, seed), (cap, window))| Case {
        shape: KvLayer {
            heads: kv,
            head_dim: 2 * twos,
        },
        attention: Attention {
            softcap: cap.then_some(5.0),
            window,
            ..attention(kv * group)
        },
        len,
        seed,
    })
}

proptest! {
    #![proptest_config(Config { cases: 24, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_way_to_compute_gives_the_same_bits(
        case in cases(),
        (threads, rows, room) in (1usize..5, 1usize..50, 0u64..40),
    ) {
        let data = case.data();
        let blocks = case.blocks(&data, &mut team(1));
        let want = How { isa: Isa::detect(), threads: 1, rows: case.len, scratch: Bytes::ZERO };
        let want = case.compute(want, &data, &blocks);
        let scratch = attention_scratch(case.attention.heads, case.shape.head_dim, case.len).times(room);
        for isa in Isa::available() {
            let got = case.compute(How { isa, threads, rows, scratch }, &data, &blocks);
            prop_assert_eq!(bits(&got), bits(&want));
        }
    }
}
