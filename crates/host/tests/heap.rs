//! What the allocator tells of this process. One test in a process of its own: others allocate as well.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::hint::black_box;

use gogrid_host::heap_in_use;

#[test]
fn blocks_are_in_use_until_they_are_freed() {
    let told = || heap_in_use().expect("this allocator tells").0;
    let before = told();
    let small: Vec<Box<[u8; 1000]>> = (0..1000).map(|_| Box::new([1; 1000])).collect();
    let large = vec![1_u8; 8 << 20];
    black_box((&small, &large));
    let most = told();
    assert!(most - before > (8 << 20) + 1_000_000, "{before} {most}");
    drop((small, large));
    // Beside a few blocks that the thread keeps for itself.
    assert!(told() < before + 64_000, "{before} {}", told());
}
