//! What this machine has and what can be held back on it.
//!
//! `cargo run --release -p gogrid-host --example machine`

use gogrid_host::{
    BandwidthProbe, HostError, abilities, allowed_cores, processor, resident, stream_bandwidth,
    system_memory,
};

fn main() -> Result<(), HostError> {
    let (cores, memory, own) = (allowed_cores()?, system_memory()?, resident()?);
    println!("{} on cores {cores}", processor()?.name);
    println!("memory {} available of {}", memory.available, memory.total);
    println!(
        "own {}: anonymous {}, file {}, peak {}",
        own.total, own.anonymous, own.file, own.peak
    );
    for threads in 1..=cores.cores().len() {
        let gigabytes = stream_bandwidth(&BandwidthProbe::new(threads)) / 1e9;
        println!("reads {gigabytes:.1} GB/s on {threads} threads");
    }
    for ability in abilities() {
        println!("{}: {:?}", ability.name, ability.state);
    }
    Ok(())
}
