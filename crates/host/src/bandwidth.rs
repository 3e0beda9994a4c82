use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use gogrid_units::{Bytes, Moment};

use crate::clock::Clock;
use crate::cores::{CoreSet, pin_thread};

/// How memory bandwidth is measured.
#[derive(Clone, Debug)]
pub struct BandwidthProbe {
    /// Threads that read at once, at least one.
    pub threads: usize,
    /// The cores they stay on, or wherever the system puts them.
    pub cores: Option<CoreSet>,
    /// Bytes read over and over, all threads together. Below the last cache's size the cache is
    /// measured.
    pub footprint: Bytes,
    /// For how long, in milliseconds.
    pub millis: u64,
}

impl BandwidthProbe {
    /// A probe of main memory that takes about a tenth of a second: 50 ms of reading 128 MiB, and
    /// the time to fill them.
    pub fn new(threads: usize) -> Self {
        Self {
            threads,
            cores: None,
            footprint: Bytes::mib(128),
            millis: 50,
        }
    }
}

/// Bytes a second that threads together read from memory, one after the other. Runs on threads of
/// its own, at the caller's priority.
pub fn stream_bandwidth(probe: &BandwidthProbe) -> f64 {
    let threads = probe.threads.max(1);
    let words = usize::try_from(probe.footprint.0 / 8).unwrap_or(usize::MAX) / threads;
    let filled = Barrier::new(threads);
    let clock = Clock::start();
    let rates: Vec<f64> = thread::scope(|scope| {
        let run = || {
            if let Some(cores) = &probe.cores {
                // Where it cannot be pinned it is measured unpinned: a figure all the same.
                pin_thread(cores);
            }
            let part = vec![1_u64; words.max(LANES)];
            filled.wait();
            read_for(&part, clock, probe.millis)
        };
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader only adds"))
            .collect()
    });
    rates.iter().sum()
}

const LANES: usize = 32;

/// Bytes a second over as many whole passes as `millis` take, at least one.
fn read_for(part: &[u64], clock: Clock, millis: u64) -> f64 {
    let start = clock.now();
    let end = Moment(start.0 + millis * 1_000_000);
    let mut bytes = 0_usize;
    let mut now = start;
    while now < end || bytes == 0 {
        black_box(sum(black_box(part)));
        bytes += part.len() * 8;
        now = clock.now();
    }
    bytes as f64 * 1e9 / (now.0 - start.0).max(1) as f64
}

/// Many sums side by side, so that reading takes the time and not adding.
fn sum(part: &[u64]) -> u64 {
    let mut sums = [0_u64; LANES];
    for chunk in part.chunks_exact(LANES) {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_measured_even_of_nothing() {
        for footprint in [Bytes::ZERO, Bytes::mib(1)] {
            let probe = BandwidthProbe {
                footprint,
                millis: 1,
                ..BandwidthProbe::new(2)
            };
            let rate = stream_bandwidth(&probe);
            assert!(rate.is_finite() && rate > 0.0, "{rate}");
        }
    }
}
