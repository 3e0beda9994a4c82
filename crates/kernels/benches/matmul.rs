//! How fast products read weights (one token) and multiply, on one thread:
//! `cargo bench -p gogrid-kernels --bench matmul -- [--near] [--avx2] [TYPE ...]`. Best of several: bytes a second
//! beside a plain read of as much memory in the same moment, and multiply-adds a nanosecond for some
//! numbers of tokens with weights that a cache holds. With `--near` the second alone, with `--avx2` on that.
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

mod timing;

use std::hint::black_box;
use std::sync::Arc;

use gogrid_kernels::{Activations, Forms, Isa, Packed, Packing, Team};
use gogrid_units::{FullSpeed, PlainThreads, WeightType};

use timing::seconds;

/// Bytes that no cache holds.
const LARGE: usize = 96 << 20;

/// A matrix of unremarkable weights.
fn matrix(ty: WeightType, rows: usize, cols: usize) -> Packed {
    let mut read = |_: std::ops::Range<usize>, out: &mut [u8]| {
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = ((i * 7919) >> 3) as u8 & 0x3f;
        }
        Ok::<_, std::convert::Infallible>(())
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

/// Seconds of one product.
fn product((team, isa): (&mut Team, Isa), weights: &Packed, tokens: usize) -> f64 {
    let forms = Forms::of(weights.weight_type());
    let mut x = Activations::new(forms, tokens, weights.cols()).expect("there is memory");
    let input: Vec<_> = (0..tokens * weights.cols())
        .map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0)
        .collect();
    x.fill(isa, &input);
    let mut out = vec![0.0; tokens * weights.rows()];
    seconds(9, || {
        let done = team.step(&FullSpeed, isa, |ops| {
            ops.matmul(&x, &mut [(weights, &mut out[..])])
        });
        done.expect("full speed");
        black_box(&out);
    })
}

/// Bytes a second of reading memory forward.
fn stream(memory: &[u64]) -> f64 {
    let time = seconds(3, || {
        let mut sums = [0; 32];
        for chunk in memory.as_chunks::<32>().0 {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum ^= value;
            }
        }
        black_box(sums);
    });
    size_of_val(memory) as f64 / time
}

/// Shapes of matrices, rows by columns.
const SHAPES: [(usize, usize); 3] = [(1536, 576), (576, 1536), (2048, 4096)];
/// Tokens that meet the weights at once.
const TOKENS: [usize; 8] = [1, 2, 4, 5, 8, 16, 128, 512];

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let near = args.iter().any(|arg| arg == "--near");
    let isa = match args.iter().any(|arg| arg == "--avx2") {
        true => Isa::Avx2,
        false => Isa::detect(),
    };
    let names: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let chosen = |ty: &WeightType| names.is_empty() || names.contains(&&ty.to_string());
    let memory = vec![1_u64; if near { 0 } else { LARGE / 8 }];
    let mut team = Team::new(1, Arc::new(PlainThreads)).expect("threads");
    println!("{isa}, one thread");
    for ty in WeightType::ALL.into_iter().filter(chosen) {
        if !near {
            let rows = LARGE / ty.row_bytes(4096).expect("whole blocks");
            let weights = matrix(ty, rows, 4096);
            let read = weights.bytes().0 as f64 / product((&mut team, isa), &weights, 1);
            let plain = stream(&memory);
            println!(
                "{ty:7} reads {:5.1} GB/s of {:5.1}",
                read / 1e9,
                plain / 1e9
            );
        }
        for (rows, cols) in SHAPES {
            if ty.row_bytes(cols).is_none() {
                continue;
            }
            let weights = matrix(ty, rows, cols);
            print!("{ty:7} {rows}x{cols}, multiply-adds a nanosecond:");
            for tokens in TOKENS {
                let time = product((&mut team, isa), &weights, tokens);
                let speed = (tokens * rows * cols) as f64 / time / 1e9;
                print!("  {tokens}: {speed:.0}");
            }
            println!();
        }
    }
}
