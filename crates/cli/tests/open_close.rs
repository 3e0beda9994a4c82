//! Real models opened and closed again and again leave nothing behind: one test, for resident bytes
//! are of a whole process. GOGRID_CYCLES says how often, GOGRID_REQUIRE_MODELS that the models must be
//! in the cache.

use std::path::Path;
use std::sync::Arc;

use corpgrid_scheduler::{
    Bytes, Event, GenerateRequest, HeterogeneousPipeline, Machine, MachineOptions, Options, Policy,
    Prompt, ResourceConfig, devices,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::join_all;
use gogrid_host::{resident, unmap_freed_blocks};
use gogrid_hub::{Cache, Name, find};

const MODELS: [&str; 2] = ["smollm2-135m", "gemma3-270m"];
/// How far resident bytes may be from those before anything was open.
const TOLERANCE: Bytes = Bytes::mib(10);
const CYCLES: usize = 10;
/// Requests at once in the first cycle of a model.
const BURST: usize = 200;

fn machine() -> Arc<Machine> {
    let options = MachineOptions {
        limits: ResourceConfig {
            process_priority: 0,
            ..ResourceConfig::aggressive()
        },
        policy: Policy::server(),
        ..MachineOptions::default()
    };
    Arc::new(Machine::open(&devices(), options).unwrap())
}

/// Opens the model, has it answer, and closes it.
fn cycle(machine: &Arc<Machine>, path: &Path, requests: usize) {
    let pipeline = HeterogeneousPipeline::open_on(machine, path, &Options::default()).unwrap();
    let one = async |number: usize| {
        let prompt = Prompt::Text(format!("The number {number} is"));
        let request = GenerateRequest::new(prompt, 1 + number % 3);
        let events = pipeline.generate(request).await.unwrap();
        let last = events
            .map(Result::unwrap)
            .fold(None, async |_, event| Some(event));
        assert!(matches!(last.await, Some(Event::Finished { .. })));
    };
    block_on(join_all((0..requests).map(one)));
}

#[test]
fn resident_bytes_after_closing_are_those_before_opening() {
    let (Ok(first), Ok(cache)) = (resident(), Cache::of_user()) else {
        eprintln!("skipped: this system tells no resident bytes, or has no cache");
        return;
    };
    // As the program does.
    unmap_freed_blocks();
    let cycles = std::env::var("GOGRID_CYCLES").map_or(CYCLES, |n| n.parse().unwrap());
    let required = std::env::var_os("GOGRID_REQUIRE_MODELS").is_some();
    let machine = machine();
    for name in MODELS {
        let Some(path) = cache.find(&Name::of(find(name).unwrap())) else {
            assert!(!required, "{name} is not in the cache");
            eprintln!("skipped: {name} is not in the cache; `gogrid pull {name}` brings it");
            continue;
        };
        let mut most = Bytes::ZERO;
        for number in 0..cycles {
            cycle(&machine, &path, if number == 0 { BURST } else { 1 });
            let now = resident().unwrap().anonymous;
            most = most.max(now);
            let grown = now.saturating_sub(first.anonymous);
            assert!(
                grown <= TOLERANCE,
                "{name}, cycle {number}: {grown} more resident"
            );
        }
        eprintln!(
            "{name}: {cycles} cycles, {most} resident at most, {} at first",
            first.anonymous
        );
    }
}
