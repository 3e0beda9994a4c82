//! The cost of a region, and how fast attention reads its cache:
//! `cargo bench -p gogrid-kernels --bench team`. Medians.
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use gogrid_kernels::{
    Attention, AttentionRows, Isa, KV_TOKENS, KvBlock, KvLayer, KvLayout, RmsNorm, Team,
    attention_scratch,
};
use gogrid_units::{Bytes, FullSpeed, PlainThreads};

/// Median seconds of `runs` calls.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn seconds(runs: usize, mut call: impl FnMut()) -> f64 {
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

fn team(threads: usize) -> Team {
    Team::new(threads, Arc::new(PlainThreads)).expect("threads")
}

/// A region of short chunks, less the time that the same rows take on one thread: norms of rows
/// that make one chunk (`alone`) and eight.
fn region(threads: usize, rows: usize) -> f64 {
    const REGIONS: usize = 300;
    let weight = [1.0; 1024];
    let norm = RmsNorm {
        weight: &weight,
        epsilon: 1e-5,
    };
    let mut x = vec![1.0; rows * 1024];
    let mut team = team(threads);
    let step = seconds(50, || {
        let done = team.step(&FullSpeed, Isa::detect(), |ops| {
            (0..REGIONS).try_for_each(|_| ops.norm_heads(norm, &mut x))
        });
        done.expect("full speed");
    });
    step / REGIONS as f64
}

/// One row of decode over `context` positions: seconds, and bytes of cache it reads.
fn decode(threads: usize, shape: (KvLayer, usize), context: usize, scratch: bool) -> (f64, f64) {
    let (layer, heads) = shape;
    let layout = KvLayout::new(&[layer]);
    // Several sequences in turn, so that the cache is not what the last call left in L2.
    let sequences: Vec<Vec<_>> = (0..8)
        .map(|_| {
            (0..context / KV_TOKENS)
                .map(|_| KvBlock::new(&layout).expect("there is memory"))
                .collect()
        })
        .collect();
    let tables: Vec<Vec<_>> = sequences
        .iter()
        .map(|blocks| blocks.iter().map(Some).collect())
        .collect();
    let attention = Attention {
        layer: 0,
        heads,
        scale: 0.1,
        softcap: None,
        window: None,
    };
    let q = vec![0.5; heads * layer.head_dim];
    let mut out = vec![0.0; q.len()];
    let mut team = team(threads);
    if scratch {
        team.keep_scratch(attention_scratch(heads, layer.head_dim, context))
            .expect("there is memory");
    }
    const CALLS: usize = 40;
    let step = seconds(30, || {
        let done = team.step(&FullSpeed, Isa::detect(), |ops| {
            (0..CALLS).try_for_each(|call| {
                let rows = AttentionRows {
                    q: &q,
                    out: &mut out,
                    blocks: &tables[call % 8],
                    start: context - 1,
                };
                ops.attention(&attention, &mut [rows])
            })
        });
        done.expect("full speed");
        black_box(&mut out);
    });
    let Bytes(block) = layout.block_bytes();
    (
        step / CALLS as f64,
        (block as usize * context / KV_TOKENS) as f64,
    )
}

/// A prompt of `len` tokens: seconds, and multiply-adds.
fn prefill(threads: usize, (layer, heads): (KvLayer, usize), len: usize) -> (f64, f64) {
    let layout = KvLayout::new(&[layer]);
    let blocks: Vec<_> = (0..len / KV_TOKENS)
        .map(|_| KvBlock::new(&layout).expect("there is memory"))
        .collect();
    let table: Vec<_> = blocks.iter().map(Some).collect();
    let attention = Attention {
        layer: 0,
        heads,
        scale: 0.1,
        softcap: None,
        window: None,
    };
    let q = vec![0.5; len * heads * layer.head_dim];
    let mut out = vec![0.0; q.len()];
    let mut team = team(threads);
    let time = seconds(9, || {
        let rows = AttentionRows {
            q: &q,
            out: &mut out,
            blocks: &table,
            start: 0,
        };
        let done = team.step(&FullSpeed, Isa::detect(), |ops| {
            ops.attention(&attention, &mut [rows])
        });
        done.expect("full speed");
    });
    (time, (len * len * heads * layer.head_dim) as f64)
}

fn main() {
    println!("instructions: {}", Isa::detect());
    for threads in 1..=2 {
        let mut team = team(threads);
        let empty = seconds(500, || {
            team.step(&FullSpeed, Isa::detect(), |_| Ok(()))
                .expect("full speed");
        });
        let (few, many) = (region(threads, 4), region(threads, 64));
        println!(
            "{threads} threads: empty step {:.0} ns; norm of 4 rows {:.0} ns, of 64 rows {:.0} ns",
            empty * 1e9,
            few * 1e9,
            many * 1e9
        );
    }
    let shapes = [
        (
            "smollm2-135m",
            KvLayer {
                heads: 3,
                head_dim: 64,
            },
            9,
        ),
        (
            "gemma-3-270m",
            KvLayer {
                heads: 1,
                head_dim: 256,
            },
            4,
        ),
        (
            "llama-7b",
            KvLayer {
                heads: 32,
                head_dim: 128,
            },
            32,
        ),
    ];
    for (name, layer, heads) in shapes {
        for (context, threads) in [(512, 1), (512, 2), (4096, 1), (4096, 2)] {
            let (time, bytes) = decode(threads, (layer, heads), context, true);
            let (whole, _) = decode(threads, (layer, heads), context, false);
            println!(
                "{name}: decode at {context} with {threads} threads: {:.1} us, {:.1} GB/s ({:.1} us without scratch)",
                time * 1e6,
                bytes / time * 1e-9,
                whole * 1e6
            );
        }
        for threads in 1..=2 {
            let (time, adds) = prefill(threads, (layer, heads), 512);
            println!(
                "{name}: prefill of 512 with {threads} threads: {:.2} ms, {:.1} G multiply-adds/s",
                time * 1e3,
                adds / time * 1e-9
            );
        }
    }
}
