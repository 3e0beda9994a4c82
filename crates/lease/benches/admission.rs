//! What an admission costs: the check, the reservation and giving back, in nanoseconds.
//!
//! `cargo bench -p gogrid-lease`
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use gogrid_lease::{Kind, Ledger, Permits};
use gogrid_units::Bytes;

const ROUNDS: u32 = 2_000_000;
const REPEATS: usize = 9;

fn main() {
    let ledger = Ledger::new(Bytes::gib(8));
    let alone = median(|| nanos_each(&ledger));
    println!("memory: check + reserve + release, alone      {alone:6.1} ns");
    for threads in [2, 4, 8] {
        let contended = median(|| contended_nanos(&ledger, threads));
        println!("memory: the same on {threads} threads at once         {contended:6.1} ns");
    }
    let permits = Permits::new(4);
    let place = median(|| {
        timed(|| {
            black_box(permits.take());
        })
    });
    println!("place: take + give back, alone                {place:6.1} ns");
    // The promise of SPEC.md.
    assert!(
        alone < 200.0,
        "admission took {alone:.1} ns alone, promised under 200"
    );
}

fn nanos_each(ledger: &Ledger) -> f64 {
    timed(|| {
        if black_box(ledger.room()) >= Bytes::mib(1) {
            drop(black_box(ledger.reserve(Kind::Kv, Bytes::mib(1))));
        }
    })
}

/// Time a thread spends on one round while `threads` of them run.
fn contended_nanos(ledger: &Ledger, threads: usize) -> f64 {
    let each: Vec<f64> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| nanos_each(ledger)))
            .collect();
        workers
            .into_iter()
            .map(|w| w.join().expect("a worker panicked"))
            .collect()
    });
    each.iter().sum::<f64>() / threads as f64
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed(mut round: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        round();
    }
    start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..REPEATS).map(|_| measure()).collect();
    all.sort_by(f64::total_cmp);
    all[REPEATS / 2]
}
