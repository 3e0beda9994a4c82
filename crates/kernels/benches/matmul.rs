//! How fast products read weights (one token) and multiply (128 tokens), on one thread:
//! `cargo bench -p gogrid-kernels --bench matmul`. Best of several, beside a plain read of as much
//! memory in the same moment.
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use gogrid_kernels::{Activations, Forms, Isa, Packed, Packing, Team};
use gogrid_units::{FullSpeed, PlainThreads, WeightType};

/// Bytes that no cache holds.
const LARGE: usize = 96 << 20;

/// Least seconds of `runs` calls.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn seconds(runs: usize, mut call: impl FnMut()) -> f64 {
    let times = (0..runs).map(|_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

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
fn product(team: &mut Team, weights: &Packed, tokens: usize) -> f64 {
    let forms = Forms::of(weights.weight_type());
    let mut x = Activations::new(forms, tokens, weights.cols()).expect("there is memory");
    let input: Vec<_> = (0..tokens * weights.cols())
        .map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0)
        .collect();
    x.fill(Isa::detect(), &input);
    let mut out = vec![0.0; tokens * weights.rows()];
    seconds(9, || {
        let done = team.step(&FullSpeed, Isa::detect(), |ops| {
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

fn main() {
    let memory = vec![1_u64; LARGE / 8];
    let mut team = Team::new(1, Arc::new(PlainThreads)).expect("threads");
    println!("{}, one thread", Isa::detect());
    for ty in WeightType::ALL {
        let rows = LARGE / ty.row_bytes(4096).expect("whole blocks");
        let weights = matrix(ty, rows, 4096);
        let read = weights.bytes().0 as f64 / product(&mut team, &weights, 1);
        let plain = stream(&memory);
        print!(
            "{ty:5} reads {:5.1} GB/s of {:5.1}; GMAC/s",
            read / 1e9,
            plain / 1e9
        );
        for (rows, cols) in [(1536, 576), (576, 1536), (4096, 4096)] {
            if ty.row_bytes(cols).is_some() {
                let time = product(&mut team, &matrix(ty, rows, cols), 128);
                let speed = (128 * rows * cols) as f64 / time / 1e9;
                print!("  {rows}x{cols} {speed:.0}");
            }
        }
        println!();
    }
}
