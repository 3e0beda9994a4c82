//! How much slower arithmetic in the first cache gets on one core while another is busy. Near 1 for
//! cores of their own; up to 2 for two threads of one core, which virtual machines often do not tell.
//!
//! `cargo bench -p gogrid-host --bench siblings`
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use gogrid_host::{CoreSet, allowed_cores, pin_thread};

const FLOATS: usize = 2048;
const PASSES: usize = 1_000;
const REPEATS: usize = 201;

fn main() {
    let cores = allowed_cores().expect("the system tells").cores().to_vec();
    let [first, others @ ..] = &cores[..] else {
        return;
    };
    if others.is_empty() || !pin(*first) {
        println!("there is one core, or threads cannot be kept to one: nothing to compare");
        return;
    }
    for &other in others {
        // Alone before and after, so that a machine that changes shows.
        let before = median_micros();
        let beside = beside_work_on(other, median_micros);
        let after = median_micros();
        println!(
            "core {first}: {before:.0} us alone, {beside:.0} with core {other} busy, {after:.0} \
             alone; ratio {:.2}",
            2.0 * beside / (before + after)
        );
    }
}

/// Runs `task` while another thread works on `core`.
fn beside_work_on<T>(core: usize, task: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(pin(core), "one core could be chosen, so can another");
            let mut floats = [1.0; FLOATS];
            while !stop.load(Ordering::Relaxed) {
                pass(&mut floats);
            }
        });
        let done = task();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn median_micros() -> f64 {
    let mut floats = [1.0; FLOATS];
    let mut micros: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            (0..PASSES).for_each(|_| pass(&mut floats));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    micros[REPEATS / 2]
}

fn pass(floats: &mut [f32; FLOATS]) {
    for float in floats.iter_mut() {
        *float = *float * 0.999 + 0.001;
    }
    black_box(floats);
}

fn pin(core: usize) -> bool {
    let only = CoreSet::new([core]).expect("it has a core");
    pin_thread(&only).holds()
}
