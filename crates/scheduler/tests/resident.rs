//! The process's resident bytes are what the ledger says. One test, for the figures are of a whole
//! process.

use std::path::Path;
use std::sync::Arc;

use corpgrid_scheduler::{
    Bytes, Event, GenerateRequest, HeterogeneousPipeline, Machine, MachineOptions, Options, Policy,
    Prompt, ResourceConfig, devices,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::join_all;
use gogrid_host::resident;
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;

/// How far resident bytes may be from the figure they are held against.
const TOLERANCE: Bytes = Bytes::mib(10);
/// Requests of the burst: fewer than may wait.
const BURST: usize = 200;
const CYCLES: usize = 10;

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

fn open(machine: &Arc<Machine>, path: &Path) -> HeterogeneousPipeline {
    HeterogeneousPipeline::open_on(machine, path, &Options::default()).unwrap()
}

/// Generates from `count` prompts of different lengths at once.
fn burst(pipeline: &HeterogeneousPipeline, count: usize) {
    let one = async |number: usize| {
        let ids = (0..1 + number % 60).map(|i| 1 + (i * 7 % 50) as u32);
        let request = GenerateRequest::new(Prompt::Ids(ids.collect()), 1 + number % 4);
        let generation = pipeline.generate(request).await.unwrap();
        let last = generation
            .map(Result::unwrap)
            .fold(None, async |_, event| Some(event));
        assert!(matches!(last.await, Some(Event::Finished { .. })));
    };
    block_on(join_all((0..count).map(one)));
}

/// Panics unless anonymous resident bytes are `least` to `most`, give or take the tolerance.
fn check(when: &str, (least, most): (Bytes, Bytes)) {
    let now = resident().unwrap().anonymous;
    let fits = now + TOLERANCE >= least && now <= most + TOLERANCE;
    assert!(fits, "{when}: {now} resident, {least} to {most} expected");
}

#[test]
fn resident_bytes_follow_the_ledger() {
    let Ok(first) = resident() else {
        eprintln!("skipped: this system does not tell resident bytes");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.gguf");
    let spec = Spec {
        family: Family::Llama,
        weights: WeightType::F32,
        seed: 1,
    };
    let model = RandomModel::with_hidden(spec, 32 << 10);
    model.write_gguf(&path).unwrap();
    drop(model);
    let closed = (first.anonymous, first.anonymous);
    check("with the model written", closed);

    let machine = machine();
    let used = || Bytes(block_on(machine.status()).memories[0].used_bytes);
    for cycle in 0..CYCLES {
        let pipeline = open(&machine, &path);
        assert!(used() > Bytes::mib(100), "{}", used());
        let count = if cycle == 0 { BURST } else { 2 };
        burst(&pipeline, count);
        // Weights are all there; of the scratch only what steps had use for.
        let status = block_on(pipeline.status());
        let weights = Bytes(status.devices[0].weights_bytes);
        check(
            "open",
            (first.anonymous + weights, first.anonymous + used()),
        );
        assert_eq!(status.devices[0].kv_bytes, 0);
        drop(pipeline);
        assert_eq!(used(), Bytes::ZERO);
        check("closed", closed);
    }
}
