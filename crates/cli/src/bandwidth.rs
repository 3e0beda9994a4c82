//! How fast the processors read memory, measured: what bounds the decoding of one request.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Well over what most caches hold, and little beside a desktop's memory.
const BYTES: usize = 256 << 20;
const RUNS: usize = 3;

/// Bytes a second that `threads` threads read together, the best of a few runs.
pub(crate) fn read_bytes_per_second(threads: usize) -> f64 {
    // Not zeros: the operating system would map one page of them everywhere.
    let memory = vec![1u64; BYTES / size_of::<u64>()];
    let part = memory.len().div_ceil(threads.max(1));
    (0..RUNS)
        .map(|_| BYTES as f64 / read_seconds(&memory, part))
        .fold(0.0, f64::max)
}

#[expect(clippy::disallowed_methods, reason = "it is a measurement of time")]
fn read_seconds(memory: &[u64], part: usize) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for words in memory.chunks(part) {
            scope.spawn(move || black_box(words.iter().fold(0u64, |sum, word| sum ^ word)));
        }
    });
    began.elapsed().as_secs_f64()
}
