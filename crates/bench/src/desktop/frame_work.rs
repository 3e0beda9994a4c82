//! A frame's work: half arithmetic that stays in the first cache, half reading through memory that
//! does not fit it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::now;

/// 8 KiB, in every processor's first cache.
const NEAR_FLOATS: usize = 2048;
/// 8 MiB, in blocks of 1 KiB.
const FAR_BLOCKS: usize = 8192;
const BLOCK_WORDS: usize = 128;

/// More than the caches that a core uses hold: 128 MiB, in blocks of 1 KiB.
const SWEEP_BLOCKS: usize = 131_072;
/// Blocks read between two looks at the clock: some tens of microseconds.
const BLOCKS_A_LOOK: usize = 1024;

/// Timed runs of which the median calibrates.
const CALIBRATION_RUNS: usize = 101;

/// How often a frame runs its two loops. Found once, when the machine is quiet, and then kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loops {
    /// Passes over 8 KiB of floats, a multiplication and an addition each.
    pub(crate) arithmetic_rounds: usize,
    /// KiB read of the 8 MiB, on from where the last frame ended.
    pub(crate) stream_kib: usize,
}

/// The memory that the work is done on.
pub(crate) struct FrameWork {
    near: Vec<f32>,
    far: Vec<[u64; BLOCK_WORDS]>,
    at: usize,
}

impl FrameWork {
    pub(crate) fn new() -> Self {
        // Written once, so that the pages are there before anything is timed.
        let far = (0..FAR_BLOCKS as u64).map(|n| [n; BLOCK_WORDS]).collect();
        Self {
            near: vec![1.0; NEAR_FLOATS],
            far,
            at: 0,
        }
    }

    /// The loop counts of a frame that takes `frame` alone.
    pub(crate) fn calibrate(&mut self, frame: Duration) -> Loops {
        Loops {
            arithmetic_rounds: count(frame / 2, |rounds| self.arithmetic(rounds)),
            stream_kib: count(frame / 2, |kib| self.stream(kib)),
        }
    }

    pub(crate) fn frame(&mut self, loops: Loops) {
        self.arithmetic(loops.arithmetic_rounds);
        self.stream(loops.stream_kib);
    }

    fn arithmetic(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for value in &mut self.near {
                *value = *value * 0.999 + 0.001;
            }
            black_box(&mut self.near);
        }
    }

    fn stream(&mut self, kib: usize) {
        for _ in 0..kib {
            read(&self.far[self.at]);
            self.at = (self.at + 1) % FAR_BLOCKS;
        }
    }
}

/// Memory whose reading puts everything else out of the caches.
pub(crate) struct CacheSweep(Vec<[u64; BLOCK_WORDS]>);

impl CacheSweep {
    pub(crate) fn new() -> Self {
        Self((0..SWEEP_BLOCKS as u64).map(|n| [n; BLOCK_WORDS]).collect())
    }

    /// Reads through it, over and over, until a moment.
    pub(crate) fn read_until(&self, moment: Instant) {
        for blocks in self.0.chunks(BLOCKS_A_LOOK).cycle() {
            if now() >= moment {
                return;
            }
            blocks.iter().for_each(read);
        }
    }
}

fn read(block: &[u64; BLOCK_WORDS]) {
    let sum = block.iter().fold(0u64, |sum, &word| sum.wrapping_add(word));
    black_box(sum);
}

/// The count for which `work` takes `target`, by the median of many runs.
fn count(target: Duration, mut work: impl FnMut(usize)) -> usize {
    let mut time = |count| {
        let began = now();
        work(count);
        began.elapsed()
    };
    let mut count = 64;
    while time(count) < target / 2 {
        count *= 2;
    }
    let mut times = [(); CALIBRATION_RUNS].map(|()| time(count));
    times.sort();
    let median = times[CALIBRATION_RUNS / 2].as_secs_f64();
    // A positive number far under 2^53.
    (count as f64 * target.as_secs_f64() / median).round() as usize
}
