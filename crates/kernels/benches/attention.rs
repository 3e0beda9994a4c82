//! How fast attention multiplies and reads, on one thread: `cargo bench -p gogrid-kernels --bench attention --
//! [--avx2] [--scalar] [NAME ...]`. Best of several: multiply-adds a nanosecond for rows of a prompt, bytes of
//! keys and values a second for one row of several layers, which no near cache holds.
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

mod timing;

use std::hint::black_box;
use std::sync::Arc;

use gogrid_kernels::{Attention, AttentionRows, Isa, KV_TOKENS, KvBlock, KvLayer, KvLayout, Team};
use gogrid_units::{FullSpeed, PlainThreads};

use timing::seconds;

/// A model's layers.
struct Shape {
    name: &'static str,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "smollm2-135m",
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
    },
    Shape {
        name: "qwen-0.5b",
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
    },
    Shape {
        name: "gemma3-270m",
        heads: 4,
        kv_heads: 1,
        head_dim: 256,
    },
    Shape {
        name: "llama-8b",
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
    },
];
/// Positions before the rows, and those of the rows.
const CONTEXTS: [usize; 3] = [512, 2048, 8192];
/// Rows of a chunk of a prompt.
const CHUNK: usize = 128;
/// Layers whose keys and values one row reads in turn.
const LAYERS: usize = 8;

/// Blocks of unremarkable keys and values for `tokens` of all layers.
fn blocks(shape: &Shape, tokens: usize) -> Vec<KvBlock> {
    let layer = KvLayer {
        heads: shape.kv_heads,
        head_dim: shape.head_dim,
    };
    let layout = KvLayout::new(&[layer; LAYERS]);
    let width = shape.kv_heads * shape.head_dim;
    let block = |index: usize| {
        let mut block = KvBlock::new(&layout).expect("there is memory");
        for slot in 0..KV_TOKENS {
            let row: Vec<_> = (0..width)
                .map(|i| ((i * 7919 + slot * 131 + index * 17) % 1000) as f32 / 500.0 - 1.0)
                .collect();
            for layer in 0..LAYERS {
                block.write(layer, slot, (&row, &row));
            }
        }
        block
    };
    (0..tokens.div_ceil(KV_TOKENS)).map(block).collect()
}

/// Seconds of attention of `rows` that end at `context`, in each of the first `layers`.
fn attention(
    (team, isa): (&mut Team, Isa),
    shape: &Shape,
    blocks: &[KvBlock],
    (context, rows, layers): (usize, usize, usize),
) -> f64 {
    let width = shape.heads * shape.head_dim;
    let q: Vec<_> = (0..rows * width)
        .map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let mut out = vec![0.0; q.len()];
    let blocks: Vec<_> = blocks.iter().map(Some).collect();
    seconds(if context > 4000 { 5 } else { 15 }, || {
        let done = team.step(&FullSpeed, isa, |ops| {
            for layer in 0..layers {
                let attention = Attention {
                    layer,
                    heads: shape.heads,
                    scale: 0.125,
                    softcap: None,
                    window: None,
                };
                let rows = AttentionRows {
                    q: &q,
                    out: &mut out,
                    blocks: &blocks,
                    start: context - rows,
                };
                ops.attention(&attention, &mut [rows])?;
            }
            Ok(())
        });
        done.expect("full speed");
        black_box(&out);
    })
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let isa = match (has("--avx2"), has("--scalar")) {
        (true, _) => Isa::Avx2,
        (_, true) => Isa::Scalar,
        _ => Isa::detect(),
    };
    let names: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let mut team = Team::new(1, Arc::new(PlainThreads)).expect("threads");
    println!("{isa}, one thread");
    for shape in SHAPES {
        if !names.is_empty() && !names.iter().any(|name| *name == shape.name) {
            continue;
        }
        for context in CONTEXTS {
            let blocks = blocks(&shape, context);
            let chunk = attention((&mut team, isa), &shape, &blocks, (context, CHUNK, 1));
            // Row r of the chunk sees context - CHUNK + r + 1 positions.
            let pairs = CHUNK * (context - CHUNK) + CHUNK * (CHUNK + 1) / 2;
            let multiply_adds = 2 * pairs * shape.heads * shape.head_dim;
            let one = attention((&mut team, isa), &shape, &blocks, (context, 1, LAYERS));
            let bytes = 4 * context * shape.kv_heads * shape.head_dim * LAYERS;
            println!(
                "{:12} {context:5} positions: {CHUNK} rows {:5.1} multiply-adds a nanosecond, one row {:5.1} GB/s",
                shape.name,
                multiply_adds as f64 / chunk / 1e9,
                bytes as f64 / one / 1e9,
            );
        }
    }
}
