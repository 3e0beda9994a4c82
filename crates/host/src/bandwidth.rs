use std::hint::black_box;
use std::io;
use std::sync::mpsc::sync_channel;
use std::thread::{self, Builder};

use gogrid_units::{Bytes, Moment};

use crate::clock::Clock;
use crate::cores::{CoreSet, pin_thread};
use crate::error::HostError;

/// How memory bandwidth is measured.
#[derive(Clone, Debug)]
pub struct BandwidthProbe {
    /// Threads that work at once, at least one.
    pub threads: usize,
    /// The cores they stay on, or wherever the system puts them.
    pub cores: Option<CoreSet>,
    /// Bytes read, or copied from half to half, over and over, all threads together. Below the last
    /// cache's size the cache is measured.
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
/// its own, at the caller's priority. An error where there is no memory or no thread for it.
pub fn stream_bandwidth(probe: &BandwidthProbe) -> Result<f64, HostError> {
    bandwidth(probe, |part| {
        black_box(sum(part));
    })
}

/// Bytes a second that threads together read and write, added up, when each copies one half of its part
/// of memory to the other. As [`stream_bandwidth`] otherwise.
pub fn copy_bandwidth(probe: &BandwidthProbe) -> Result<f64, HostError> {
    bandwidth(probe, copy_half)
}

/// Bytes a second of `pass`, which moves each word of a thread's part once.
fn bandwidth(probe: &BandwidthProbe, pass: fn(&mut [u64])) -> Result<f64, HostError> {
    let threads = probe.threads.max(1);
    let words = usize::try_from(probe.footprint.0 / 8).unwrap_or(usize::MAX) / threads;
    let (ready, filled) = sync_channel(threads);
    let clock = Clock::start();
    thread::scope(|scope| {
        let mut readers = Vec::new();
        for _ in 0..threads {
            let part = reserved(words.max(LANES))?;
            let (go, gone) = sync_channel(1);
            let ready = ready.clone();
            let run = move || {
                let mut part = fill(part, probe.cores.as_ref());
                let _ = ready.send(());
                // Where a thread is missing nobody begins.
                gone.recv()
                    .map_or(0.0, |()| rate(&mut part, pass, clock, probe.millis))
            };
            let reader = Builder::new().spawn_scoped(scope, run);
            let reader = reader.map_err(|source| HostError::Call {
                call: "thread",
                source,
            })?;
            readers.push((go, reader));
        }
        filled.iter().take(threads).for_each(drop);
        for (go, _) in &readers {
            // A reader waits for it.
            let _ = go.send(());
        }
        let rates = readers.into_iter().map(|(_, reader)| reader.join());
        Ok(rates
            .map(|rate| rate.expect("a pass over memory does not panic"))
            .sum())
    })
}

/// Room for so many words, not touched yet.
fn reserved(words: usize) -> Result<Vec<u64>, HostError> {
    let mut part = Vec::new();
    match part.try_reserve_exact(words) {
        Ok(()) => Ok(part),
        Err(_) => Err(HostError::Call {
            call: "malloc",
            source: io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!("the system refused {} bytes", words.saturating_mul(8)),
            ),
        }),
    }
}

/// Fills it on the thread that reads it, so that it is in memory near that thread's core.
fn fill(mut part: Vec<u64>, cores: Option<&CoreSet>) -> Vec<u64> {
    if let Some(cores) = cores {
        // Where it cannot be pinned it is measured unpinned: a figure all the same.
        pin_thread(cores);
    }
    part.resize(part.capacity(), 1);
    part
}

const LANES: usize = 32;

/// Bytes a second over as many whole passes as `millis` take, at least one.
fn rate(part: &mut [u64], pass: fn(&mut [u64]), clock: Clock, millis: u64) -> f64 {
    let start = clock.now();
    let end = Moment(start.0 + millis * 1_000_000);
    let mut bytes = 0_usize;
    let mut now = start;
    while now < end || bytes == 0 {
        pass(black_box(part));
        bytes += part.len() * 8;
        now = clock.now();
    }
    bytes as f64 * 1e9 / (now.0 - start.0).max(1) as f64
}

/// A word is either read or written.
fn copy_half(part: &mut [u64]) {
    let (to, from) = part.split_at_mut(part.len() / 2);
    to.copy_from_slice(&from[..to.len()]);
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
            for measure in [stream_bandwidth, copy_bandwidth] {
                let rate = measure(&probe).unwrap();
                assert!(rate.is_finite() && rate > 0.0, "{rate}");
            }
        }
    }

    #[test]
    fn a_copy_moves_every_word_of_an_even_number_once() {
        let mut part: Vec<u64> = (0..10).collect();
        copy_half(&mut part);
        assert_eq!(part, [5, 6, 7, 8, 9, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let probe = BandwidthProbe {
            footprint: Bytes(1 << 60),
            ..BandwidthProbe::new(2)
        };
        let error = stream_bandwidth(&probe).unwrap_err().to_string();
        assert!(
            error.contains("refused 576460752303423488 bytes"),
            "{error}"
        );
    }
}
