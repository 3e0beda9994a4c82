//! The tiny models mean what llama.cpp says, in whatever files they are.

use std::fs;
use std::path::Path;

use gogrid_model::{Model, OpenOptions, SpecialTokens};
use gogrid_testkit::conformance::distance;
use gogrid_testkit::{Family, RandomModel, Reference, Rng, Spec, log_softmax};
use gogrid_units::WeightType;
use serde::Deserialize;
use tempfile::TempDir;

const TEXT: &str = "The cat sat on the mat, and then 1234 others came; naïve café.\n\n  fin ";

fn tiny(family: Family, weights: WeightType) -> RandomModel {
    RandomModel::new(Spec {
        family,
        weights,
        seed: 1,
    })
}

fn open(path: &Path, context: Option<usize>) -> Model {
    let options = OpenOptions {
        context,
        ..OpenOptions::default()
    };
    Model::open(path, &options).unwrap_or_else(|error| panic!("{error}"))
}

fn open_gguf(model: &RandomModel, context: Option<usize>) -> (Model, TempDir) {
    let directory = TempDir::new().expect("a folder");
    let path = directory.path().join("tiny.gguf");
    model.write_gguf(&path).expect("a tiny model is written");
    (open(&path, context), directory)
}

fn logits(model: &Model, ids: &[u32]) -> Vec<Vec<f32>> {
    let reference = Reference::load(model);
    reference
        .unwrap_or_else(|error| panic!("{error}"))
        .logits(ids)
}

fn random_ids(vocab: usize, count: usize) -> Vec<u32> {
    let mut rng = Rng::new(9);
    // A tiny vocabulary is far below 2^32.
    (0..count).map(|_| rng.below(vocab) as u32).collect()
}

/// One run of llama.cpp, as peers/compare_llama_cpp.py writes it.
#[derive(Deserialize)]
struct PeerRun {
    family: String,
    weights: String,
    context: usize,
    ids: Vec<u32>,
    next_logprob: Vec<f64>,
}

#[test]
fn the_reference_agrees_with_llama_cpp_on_every_family() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-llama-cpp.json");
    let text = fs::read_to_string(path).expect("the golden file is part of this crate");
    let runs: Vec<PeerRun> = serde_json::from_str(&text).expect("it parses");
    for family in Family::ALL {
        assert!(
            runs.iter().any(|run| run.family == family.name()),
            "{family:?}"
        );
    }
    for run in runs {
        let family = Family::ALL.into_iter().find(|f| f.name() == run.family);
        let family = family.expect("a family of ours");
        let weights = run.weights.parse().expect("a weight type of ours");
        let (model, _directory) = open_gguf(&tiny(family, weights), Some(run.context));
        let reference = Reference::load(&model).expect("it loads");
        let ours = reference.turned_for(run.context).logits(&run.ids);
        // llama.cpp takes Gemma's GELU from a table of f16.
        let allowed = if family.architecture().starts_with("gemma") {
            6e-3
        } else {
            3e-4
        };
        for (i, &theirs) in run.next_logprob.iter().enumerate() {
            let ours = log_softmax(&ours[i])[run.ids[i + 1] as usize];
            let name = family.name();
            assert!(
                (ours - theirs).abs() < allowed,
                "{name} {weights} {i}: {ours} {theirs}"
            );
        }
    }
}

#[test]
fn a_hugging_face_directory_means_what_its_gguf_file_means() {
    for family in Family::ALL {
        for (weights, shards) in [(WeightType::F32, 1), (WeightType::Bf16, 3)] {
            let model = tiny(family, weights);
            let (gguf, _file) = open_gguf(&model, None);
            let directory = TempDir::new().expect("a folder");
            let written = model.write_hugging_face(directory.path(), shards);
            written.expect("a tiny model is written");
            let hugging_face = open(directory.path(), None);
            let ids = random_ids(model.vocab(), 60);
            let apart = distance(&logits(&hugging_face, &ids), &logits(&gguf, &ids));
            assert!(apart.max < 1e-4, "{family:?} {weights}: {apart:?}");

            let encode = |model: &Model| model.tokenizer().encode(TEXT, SpecialTokens::Parse);
            let ids = encode(&gguf).expect("text is encoded");
            assert_eq!(
                encode(&hugging_face).expect("text is encoded"),
                ids,
                "{family:?}"
            );
            assert!(
                ids.len() > 10 && ids.len() < TEXT.len(),
                "{family:?}: {}",
                ids.len()
            );
        }
    }
}

#[test]
fn quantised_weights_mean_their_widened_values() {
    for weights in [WeightType::Q3K, WeightType::Q5_1] {
        let stored = tiny(Family::Qwen3, weights);
        let (narrow, _file) = open_gguf(&stored, None);
        let (wide, _other) = open_gguf(&stored.dequantised(), None);
        let ids = random_ids(stored.vocab(), 20);
        assert_eq!(logits(&narrow, &ids), logits(&wide, &ids), "{weights}");
    }
}

#[test]
fn a_token_is_forgotten_when_it_has_left_every_window() {
    let model = tiny(Family::Mistral, WeightType::F32);
    let (model, _file) = open_gguf(&model, None);
    let decoder = model.decoder();
    let window = decoder.kv_groups[0].window.expect("Mistral has a window");
    // Each layer looks window - 1 tokens further back.
    let reach = decoder.layers.len() * (window - 1);
    let ids = random_ids(decoder.vocab, reach + 5);
    let mut other = ids.clone();
    other[0] = (ids[0] + 1) % 256;
    let (one, two) = (logits(&model, &ids), logits(&model, &other));
    assert_ne!(one[reach - 1], two[reach - 1]);
    assert_eq!(one[reach + 1..], two[reach + 1..]);
}
