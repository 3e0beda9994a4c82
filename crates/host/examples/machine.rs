//! What this machine has and what can be held back on it.
//!
//! `cargo run --release -p gogrid-host --example machine`
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

use gogrid_host::{
    BandwidthProbe, Clock, CpuProbe, HostError, MemoryProbe, PresenceProbe, PressureProbe,
    abilities, allowed_cores, processor, resident, stream_bandwidth, system_memory,
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
        let gigabytes = stream_bandwidth(&BandwidthProbe::new(threads))? / 1e9;
        println!("reads {gigabytes:.1} GB/s on {threads} threads");
    }
    print_load()?;
    print_presence();
    for ability in abilities() {
        println!("{}: {:?}", ability.name, ability.state);
    }
    Ok(())
}

/// A second of everybody's use of the cores, and what asking for it costs.
fn print_load() -> Result<(), HostError> {
    let mut cpu = CpuProbe::start()?;
    let work = BandwidthProbe::new(1);
    let clock = Clock::start();
    let mut costs = Vec::new();
    let mut last = None;
    for _ in 0..11 {
        stream_bandwidth(&work)?;
        let before = clock.now();
        last = cpu.sample()?;
        costs.push((clock.now().0 - before.0) / 1000);
    }
    costs.sort_unstable();
    println!("cores: sampled in {} us, median of 11", costs[5]);
    if let Some(sample) = last {
        println!(
            "  total {:.3}, ours {:.3}, others {:.3}",
            sample.total, sample.ours, sample.others
        );
    }
    let mut memory = MemoryProbe::open()?;
    cost("memory", || memory.sample())?;
    match PressureProbe::open() {
        Ok(mut pressure) => println!("  {:?}", cost("pressure", || pressure.sample())?),
        Err(absent) => println!("no pressure: {absent}"),
    }
    Ok(())
}

/// Calls it, and prints how long that took.
fn cost<T>(what: &str, sample: impl FnOnce() -> Result<T, HostError>) -> Result<T, HostError> {
    let clock = Clock::start();
    let got = sample()?;
    println!("{what}: sampled in {} us", clock.now().0 / 1000);
    Ok(got)
}

/// Whether somebody is here, and who says so.
fn print_presence() {
    match PresenceProbe::open(|| {}) {
        Err(absent) => println!("presence: {absent}"),
        Ok(mut probe) => {
            println!("presence: {:?}", probe.sample());
            for source in probe.sources() {
                println!("  {source}");
            }
        }
    }
}
