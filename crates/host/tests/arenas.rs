//! Where the allocator puts the blocks of many threads. One test in a process of its own: the allocator is
//! that of all its threads.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use gogrid_host::keep_arenas_few;

/// glibc's arenas but the main one lie in heaps of so many bits of address each.
const HEAP_BITS: usize = 26;
const THREADS: usize = 16;

#[test]
fn many_threads_share_few_arenas() {
    assert!(keep_arenas_few());
    let all_there = Barrier::new(THREADS);
    let heap = || {
        let block = Box::new([1_u8; 100]);
        // Threads that live at the same time.
        all_there.wait();
        (&raw const *block).addr() >> HEAP_BITS
    };
    let heaps: BTreeSet<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(heap)).collect();
        let heaps = threads.into_iter().map(|thread| thread.join().unwrap());
        heaps.collect()
    });
    // The main one may lie across the end of a heap.
    assert!(heaps.len() <= 3, "{heaps:?}");
}
