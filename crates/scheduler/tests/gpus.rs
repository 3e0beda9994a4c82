//! Pipelines with a GPU in them, on the first adapter there is. Without one the tests say so and pass, unless
//! `GOGRID_NEEDS_GPU` is set, as it is in CI.

use std::path::Path;
use std::sync::Arc;

use corpgrid_scheduler::{
    Device, Event, GenerateRequest, HeterogeneousPipeline, Machine, MachineOptions, Options,
    Policy, Prompt, ResourceConfig, Sampling,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::PlacedSpan;
use gogrid_testkit::{Family, RandomModel, Rng, Spec};
use gogrid_units::{Span, WeightType, Whose};
use tempfile::TempDir;

const CPU: usize = 0;
const GPU: usize = 1;

/// The CPU and the first GPU.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn devices() -> Option<[Device; 2]> {
    match Device::named("gpu:0") {
        Ok(gpu) => Some([Device::named("cpu").expect("a CPU"), gpu]),
        Err(error) => {
            let needed = std::env::var_os("GOGRID_NEEDS_GPU").is_some();
            assert!(!needed, "{error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn machine(devices: &[Device], share_of_memory: f64) -> Arc<Machine> {
    let options = MachineOptions {
        limits: ResourceConfig {
            max_compute_usage_percent: 1.0,
            max_vram_usage_percent: share_of_memory,
            min_request_interval_ms: 0,
            ..ResourceConfig::default()
        },
        // Other tests run beside it.
        policy: Policy::server(),
        ..MachineOptions::default()
    };
    Arc::new(Machine::open(devices, options).expect("the devices open"))
}

fn tiny(family: Family) -> (TempDir, std::path::PathBuf) {
    let spec = Spec {
        family,
        weights: WeightType::Q8_0,
        seed: 5,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    RandomModel::new(spec)
        .write_gguf(&path)
        .expect("it is written");
    (folder, path)
}

/// A model in spans cut before these pieces, on these devices.
fn cut(path: &Path, cuts: &[usize], on: &[usize]) -> Vec<PlacedSpan> {
    let model = Model::open(path, &OpenOptions::default()).expect("it opens");
    let mut rest = Span::whole_model(model.decoder().layers.len());
    let mut spans = Vec::new();
    for (cut, device) in cuts.iter().zip(on) {
        let (span, after) = rest.split_at(cut - rest.start);
        spans.push(PlacedSpan {
            device: *device,
            span,
        });
        rest = after;
    }
    spans.push(PlacedSpan {
        device: on[cuts.len()],
        span: rest,
    });
    spans
}

fn open(machine: &Arc<Machine>, path: &Path, plan: Vec<PlacedSpan>) -> HeterogeneousPipeline {
    let options = Options {
        plan: Some(plan),
        ..Options::default()
    };
    HeterogeneousPipeline::open_on(machine, path, &options).expect("it opens")
}

fn some_ids(count: usize) -> Vec<u32> {
    let mut rng = Rng::new(4);
    (0..count).map(|_| 3 + rng.below(40) as u32).collect()
}

fn generated(pipeline: &HeterogeneousPipeline, ids: Vec<u32>, most: usize) -> Vec<u32> {
    let request = GenerateRequest {
        sampling: Sampling {
            temperature: 0.0,
            ignore_eos: true,
            ..Sampling::default()
        },
        ..GenerateRequest::new(Prompt::Ids(ids), most)
    };
    block_on(async {
        let mut generation = pipeline.generate(request).await.expect("admitted");
        let mut tokens = Vec::new();
        while let Some(event) = generation.next().await {
            if let Event::Delta { ids, .. } = event.expect("no error") {
                tokens.extend(ids);
            }
        }
        tokens
    })
}

#[test]
fn a_model_means_the_same_on_cpu_and_gpu_in_any_order() {
    let Some(devices) = devices() else { return };
    let machine = machine(&devices, 0.8);
    for family in [Family::Llama, Family::Gemma3] {
        let (_folder, path) = tiny(family);
        let alone = open(&machine, &path, cut(&path, &[], &[CPU]));
        let ids = some_ids(70);
        let expected = block_on(alone.score(ids.clone(), Whose::Guest)).expect("scored");
        for (cuts, on) in [
            (&[][..], &[GPU][..]),
            (&[3], &[CPU, GPU]),
            (&[3], &[GPU, CPU]),
            (&[2, 4], &[GPU, CPU, GPU]),
            (&[3], &[GPU, GPU]),
        ] {
            let pipeline = open(&machine, &path, cut(&path, cuts, on));
            let ours = block_on(pipeline.score(ids.clone(), Whose::Guest)).expect("scored");
            let off = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            let off = off.fold(0.0f32, f32::max);
            // What rounding inputs to eight bits makes on the CPU's side.
            assert!(off <= 0.3, "{}: {cuts:?} on {on:?}: {off}", family.name());
            let tokens = generated(&pipeline, ids[..20].to_vec(), 8);
            assert_eq!(tokens.len(), 8, "{}: {cuts:?} on {on:?}", family.name());
        }
    }
}

#[test]
fn a_model_that_moves_to_the_gpu_and_back_goes_on() {
    let Some(devices) = devices() else { return };
    let machine = machine(&devices, 0.8);
    let (_folder, path) = tiny(Family::Qwen3);
    let pipeline = open(&machine, &path, cut(&path, &[], &[CPU]));
    let before = generated(&pipeline, some_ids(40), 12);
    block_on(pipeline.move_to(cut(&path, &[4], &[GPU, CPU]))).expect("it moves");
    assert_eq!(generated(&pipeline, some_ids(40), 12).len(), 12);
    block_on(pipeline.move_to(cut(&path, &[], &[CPU]))).expect("it moves back");
    assert_eq!(generated(&pipeline, some_ids(40), 12), before);
}

#[test]
fn a_cap_is_held_on_the_gpu_and_its_memory_goes_back() {
    let Some(devices) = devices() else { return };
    let gpu_alone = &devices[1..];
    let (_folder, path) = tiny(Family::Llama);
    let roomy = machine(gpu_alone, 0.5);
    let held = |machine: &Arc<Machine>| {
        let status = block_on(machine.status());
        let memory = status
            .memories
            .last()
            .map(|memory| (memory.used_bytes, memory.cap_bytes));
        memory.expect("the GPU's, or the system's where it shares that")
    };
    let pipeline = open(&roomy, &path, cut(&path, &[], &[0]));
    generated(&pipeline, some_ids(30), 4);
    let (while_open, cap) = held(&roomy);
    assert!(while_open > 0 && while_open <= cap, "{while_open} of {cap}");
    drop(pipeline);
    assert_eq!(held(&roomy).0, 0, "all is given back");
    let total = devices[1].memory_total_bytes as f64;
    let tight = machine(gpu_alone, while_open as f64 / 2.0 / total);
    let refused = HeterogeneousPipeline::open_on(&tight, &path, &Options::default());
    let Err(refused) = refused else {
        panic!("half of what it takes is enough");
    };
    let text = refused.to_string();
    assert!(text.contains("fit") || text.contains("cap"), "{text}");
    assert_eq!(held(&tight).0, 0, "a refusal holds nothing");
}
