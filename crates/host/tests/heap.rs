//! What the allocator tells of this process. One test in a process of its own: others allocate as well.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::hint::black_box;

use gogrid_host::{heap_in_use, run_again_without_kept_blocks, threads_keep_blocks};

#[test]
fn blocks_are_in_use_until_they_are_freed() {
    // This test again, in the same process.
    run_again_without_kept_blocks().expect("a program can be run again");
    assert!(!threads_keep_blocks());
    let told = || heap_in_use().expect("this allocator tells").0;
    let before = told();
    let small: Vec<Box<[u8; 1000]>> = (0..1000).map(|_| Box::new([1; 1000])).collect();
    let large = vec![1_u8; 8 << 20];
    black_box((&small, &large));
    let most = told();
    assert!(most - before > (8 << 20) + 1_000_000, "{before} {most}");
    drop((small, large));
    assert_eq!(told(), before);
}
