//! What a pipeline computes, against the reference: sequences that grow long, numbers that leave their
//! range, shapes that no device here can do.

use corpgrid_scheduler::{
    Event, GenerateError, GenerateRequest, HeterogeneousPipeline, OpenError, Options, Policy,
    Prompt, ResourceConfig, Sampling, devices,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_model::{Model, OpenOptions, SyntheticShape};
use gogrid_testkit::{Family, RandomModel, Reference, Rng, Spec};
use gogrid_units::{WeightType, Whose};
use tempfile::TempDir;

fn spec(family: Family) -> Spec {
    Spec {
        family,
        weights: WeightType::F32,
        seed: 3,
    }
}

fn options() -> Options {
    Options {
        limits: ResourceConfig {
            max_compute_usage_percent: 1.0,
            min_request_interval_ms: 0,
            ..ResourceConfig::default()
        },
        threads: Some(1),
        // Other tests run beside it.
        policy: Policy::server(),
        ..Options::default()
    }
}

fn open(tiny: &RandomModel) -> (TempDir, Result<HeterogeneousPipeline, OpenError>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    tiny.write_gguf(&path).expect("it is written");
    let pipeline = HeterogeneousPipeline::open(&devices(), &path, options());
    (folder, pipeline)
}

/// Greedy tokens after a prompt, or the error that ended it.
fn generate(
    pipeline: &HeterogeneousPipeline,
    prompt: &[u32],
    most: usize,
) -> Result<Vec<u32>, GenerateError> {
    let request = GenerateRequest {
        sampling: Sampling {
            temperature: 0.0,
            ignore_eos: true,
            ..Sampling::default()
        },
        ..GenerateRequest::new(Prompt::Ids(prompt.to_vec()), most)
    };
    block_on(async {
        let mut generation = pipeline.generate(request).await.expect("admitted");
        let mut tokens = Vec::new();
        while let Some(event) = generation.next().await {
            if let Event::Delta { ids, .. } = event? {
                tokens.extend(ids);
            }
        }
        Ok(tokens)
    })
}

fn some_ids(count: usize, vocab: usize) -> Vec<u32> {
    let mut rng = Rng::new(8);
    // A tiny vocabulary is far below 2^32.
    (0..count).map(|_| rng.below(vocab) as u32).collect()
}

#[test]
fn a_sequence_that_grows_past_the_original_context_is_turned_anew() {
    let (folder, pipeline) = open(&RandomModel::new(spec(Family::Phi3Long)));
    let pipeline = pipeline.expect("it opens");
    let path = folder.path().join("tiny.gguf");
    let model = Model::open(&path, &OpenOptions::default()).expect("it opens");
    let border = model.decoder().rotations_change_above();
    let border = border.expect("LongRoPE has a border");
    let prompt = some_ids(border - 6, model.decoder().vocab);
    let tokens = generate(&pipeline, &prompt, 16).expect("it goes well");
    let reference = Reference::load(&model).expect("it loads");
    let mut so_far = prompt.clone();
    for (index, &token) in tokens.iter().enumerate() {
        // All rows are turned by the length at this token, as if it were the first after a prompt.
        let logits = reference.logits(&so_far).pop().expect("there are rows");
        let best = logits.iter().copied().fold(f32::MIN, f32::max);
        let behind = best - logits[token as usize];
        assert!(
            behind < 0.05,
            "token {index} is {behind} behind the likeliest"
        );
        so_far.push(token);
    }
    // The tokens are those of a request that begins anywhere on the way.
    for at in [5, 6, 7, 12] {
        let rest = generate(&pipeline, &so_far[..prompt.len() + at], 16 - at);
        assert_eq!(
            rest.expect("it goes well"),
            tokens[at..],
            "from token {at} on"
        );
    }
}

#[test]
fn a_model_of_a_shape_and_no_file_computes_what_the_reference_does_in_each_opening() {
    let shape = SyntheticShape {
        name: "tiny",
        layers: 2,
        width: 512,
        hidden: 1024,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        vocab: 300,
        context: 64,
        tied: true,
        matrices: WeightType::F16,
        head: WeightType::F16,
    };
    let prompt = some_ids(9, shape.vocab);
    let answer = || {
        let pipeline = HeterogeneousPipeline::open(&devices(), shape, options());
        let pipeline = pipeline.expect("it opens");
        assert_eq!(pipeline.model().name(), "synthetic-tiny");
        generate(&pipeline, &prompt, 12).expect("it goes well")
    };
    let tokens = answer();
    assert_eq!(tokens, answer());
    let model = Model::synthetic(&shape, &OpenOptions::default()).expect("it opens");
    let reference = Reference::load(&model).expect("it loads");
    let mut so_far = prompt.clone();
    for &token in &tokens {
        let logits = reference.logits(&so_far).pop().expect("there are rows");
        let best = logits.iter().copied().fold(f32::MIN, f32::max);
        let behind = best - logits[token as usize];
        assert!(behind < 0.05, "{token} is {behind} behind the likeliest");
        so_far.push(token);
    }
}

#[test]
fn a_value_that_the_cache_cannot_hold_is_an_error_with_its_place() {
    let tiny = RandomModel::new(spec(Family::Llama)).scaled("blk.1.attn_v.weight", 1e6);
    let (_folder, pipeline) = open(&tiny);
    let pipeline = pipeline.expect("it opens");
    let ids = some_ids(9, tiny.vocab());
    let scored = block_on(pipeline.score(ids.clone(), Whose::Guest)).expect_err("it means nothing");
    let generated = generate(&pipeline, &ids, 4).expect_err("it means nothing");
    for error in [scored, generated] {
        let text = error.to_string();
        let named = ["past 65504", "attention of layer 1", "at position "];
        assert!(named.iter().all(|part| text.contains(part)), "{text}");
    }
}

#[test]
fn heads_that_no_device_can_do_are_refused_when_a_model_is_opened_or_planned() {
    let tiny = RandomModel::with_heads(spec(Family::Qwen2), (2, 1), 514);
    let (folder, pipeline) = open(&tiny);
    let path = folder.path().join("tiny.gguf");
    let planned = HeterogeneousPipeline::plan_only(&devices(), &path, &options());
    for error in [pipeline.err(), planned.err()] {
        let error = error.expect("it is refused");
        assert!(matches!(error, OpenError::Unsupported { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("a head's width of 514; supported: even ones"),
            "{text}"
        );
    }
    let (_folder, pipeline) = open(&RandomModel::with_heads(spec(Family::Llama), (2, 1), 100));
    generate(&pipeline.expect("it opens"), &[1, 2, 3], 3).expect("it goes well");
}
