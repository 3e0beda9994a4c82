//! Model files with random damage: opening one succeeds or is refused, never panics, and never
//! takes much more memory than the file's header has bytes.
//!
//! `GOGRID_CASES=1000000 cargo test --release -p gogrid-model --test mutations -- --nocapture`
//! tries a million and prints the figures.
#![allow(clippy::print_stdout, reason = "the campaign prints its figures")]

#[path = "support/mutate.rs"]
mod mutate;
mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use gogrid_model::{Model, ModelError, OpenOptions};
use gogrid_testkit::{cases, in_time};
use mutate::{Rng, mutate};
use peak_alloc::PeakAlloc;
use support::{ARCHITECTURES, F32, Gguf, array, f32, text, u32, value};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The heap is the process's, so one test at a time counts it.
static ALONE: Mutex<()> = Mutex::new(());

/// What a reader may take beside the header: its buffer, and the words of an error.
const READER_BYTES: usize = 32 << 10;

/// The result, and the most bytes that were held at once meanwhile.
fn open(path: &Path) -> (Result<Model, ModelError>, usize) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let result = Model::open(path, &OpenOptions::default());
    (result, HEAP.peak_usage().saturating_sub(before))
}

/// Makes the file hold `bytes`. It is never emptied in between: some file systems write a file out
/// that is emptied and filled again, which takes milliseconds.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// What became of many damaged files.
#[derive(Debug, Default)]
struct Tally {
    opened: u64,
    refused: BTreeMap<&'static str, u64>,
    heap_bytes_max: usize,
}

impl Tally {
    /// Opens what is at `path` and notes the outcome. `named` must begin an error's message.
    fn open(&mut self, path: &Path, named: &Path) -> usize {
        let (result, heap) = open(path);
        self.heap_bytes_max = self.heap_bytes_max.max(heap);
        match result {
            Ok(model) => {
                self.opened += 1;
                read_everything(&model);
            }
            Err(error) => {
                let message = error.to_string();
                let named = named.display().to_string();
                assert!(message.starts_with(&named), "{message}");
                assert!(message.len() < named.len() + 2000, "{message}");
                *self.refused.entry(kind(&error)).or_default() += 1;
            }
        }
        heap
    }
}

fn kind(error: &ModelError) -> &'static str {
    match error {
        ModelError::Io { .. } => "io",
        ModelError::Malformed { .. } => "malformed",
        ModelError::Unsupported { .. } => "unsupported",
        ModelError::Missing { .. } => "missing",
        ModelError::Changed { .. } => "changed",
        ModelError::Request { .. } => "request",
        ModelError::Template { .. } => "template",
        ModelError::Tokenizer { .. } => "tokenizer",
        ModelError::TooManyTokens { .. } | ModelError::Stopped => "limit",
    }
}

/// A model that was opened can be read to its last row.
fn read_everything(model: &Model) {
    for weight in model.decoder().weights() {
        let mut row = vec![0; weight.row_bytes()];
        for at in [0, weight.rows - 1] {
            model.read_rows(weight, at..at + 1, &mut row).unwrap();
        }
    }
}

/// Files of every architecture and of most kinds of keys and tensors.
fn gguf_seeds() -> Vec<Gguf> {
    let mut seeds: Vec<Gguf> = ARCHITECTURES.iter().map(|a| Gguf::tiny(a)).collect();
    let mut yarn = Gguf::tiny("qwen2");
    yarn.version = 2;
    yarn.set("qwen2.rope.scaling.type", text("yarn"));
    yarn.set("qwen2.rope.scaling.factor", f32(4.0));
    yarn.set("qwen2.rope.scaling.original_context_length", u32(16));
    seeds.push(yarn);
    let mut factors = Gguf::tiny("llama");
    factors.tensor("rope_freqs.weight", &[2], F32);
    factors.set("any.nested", array(9, 1, &array(8, 0, &[]).bytes));
    factors.set("llama.attention.sliding_window", u32(16));
    seeds.push(factors);
    let mut long = Gguf::tiny("phi3");
    long.tensor("rope_factors_long.weight", &[2], F32);
    long.tensor("rope_factors_short.weight", &[2], F32);
    long.set("phi3.rope.scaling.original_context_length", u32(16));
    long.set("phi3.rope.scaling.attn_factor", f32(1.2));
    seeds.push(long);
    let mut pattern = Gguf::tiny("gemma3");
    let key = "gemma3.attention.sliding_window_pattern";
    pattern.set(key, array(7, 1, &[1]));
    seeds.push(pattern);
    let mut ollama = Gguf::tiny("gemma3");
    ollama.unset("gemma3.rope.freq_base");
    ollama.set("gemma3.rope.global.freq_base", f32(1e6));
    ollama.set("gemma3.rope.local.freq_base", f32(1e4));
    ollama.set("gemma3.rope.scaling.beta_fast", f32(64.0));
    ollama.set("gemma3.attention.head_dim", u32(4));
    seeds.push(ollama);
    let mut off = Gguf::tiny("llama");
    off.set("general.type", text("model"));
    off.set("llama.rope.scaling.factor", f32(2.0));
    off.set("llama.attention.causal", value(7, &[1]));
    off.set("llama.expert_count", u32(0));
    off.set("llama.logit_scale", f32(1.0));
    seeds.push(off);
    seeds
}

#[test]
fn damaged_gguf_files_never_panic() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let seeds = gguf_seeds();
    let whole = seeds.iter().map(|seed| {
        std::fs::write(&path, seed.bytes()).unwrap();
        let (model, heap) = open(&path);
        model.unwrap();
        heap
    });
    let whole = whole.max().unwrap();
    let mut tally = Tally::default();
    for number in 0..cases() {
        let mut rng = Rng(number);
        let seed = &seeds[rng.below(seeds.len())];
        let mut bytes = seed.bytes();
        let header = seed.header().len();
        mutate(&mut rng, &mut bytes, header);
        overwrite(&path, &bytes);
        let heap = catch_unwind(AssertUnwindSafe(|| {
            in_time(number, || tally.open(&path, &path))
        }));
        let heap = heap.unwrap_or_else(|_| panic!("mutation {number}"));
        let bound = whole + 2 * bytes.len() + READER_BYTES;
        assert!(heap <= bound, "mutation {number}: {heap} bytes held");
    }
    println!("gguf, {whole} bytes of heap for a whole one: {tally:?}");
    assert!(tally.opened > 0 && tally.refused["malformed"] > 0);
}

/// A directory with a model of one layer in one file.
fn write_directory(folder: &Path) {
    let config = r#"{"model_type": "llama", "vocab_size": 6, "hidden_size": 8,
 "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
 "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
 "hidden_act": "silu", "rope_theta": 10000.0, "tie_word_embeddings": true,
 "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
 "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}"#;
    let tokenizer = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
 "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
 "use_regex": false}, "post_processor": null, "decoder": {"type": "ByteLevel"}, "model":
 {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}"#;
    std::fs::write(folder.join("config.json"), config).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
    let matrices = [
        ("model.embed_tokens", [6, 8]),
        ("model.layers.0.self_attn.q_proj", [8, 8]),
        ("model.layers.0.self_attn.k_proj", [4, 8]),
        ("model.layers.0.self_attn.v_proj", [4, 8]),
        ("model.layers.0.self_attn.o_proj", [8, 8]),
        ("model.layers.0.mlp.gate_proj", [16, 8]),
        ("model.layers.0.mlp.up_proj", [16, 8]),
        ("model.layers.0.mlp.down_proj", [8, 16]),
    ];
    let matrices = matrices.map(|(name, shape)| (name, shape.to_vec()));
    let norms = [
        "model.norm",
        "model.layers.0.input_layernorm",
        "model.layers.0.post_attention_layernorm",
    ];
    let norms = norms.map(|name| (name, vec![8]));
    let data = vec![0; 16 * 8 * 2];
    let tensors = matrices.into_iter().chain(norms).map(|(name, shape)| {
        let len = shape.iter().product::<usize>() * 2;
        let view = safetensors::tensor::TensorView::new(
            safetensors::tensor::Dtype::BF16,
            shape,
            &data[..len],
        );
        (format!("{name}.weight"), view.unwrap())
    });
    let bytes = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

fn damage_one_file_of_a_directory(name: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path());
    let (model, whole) = open(folder.path());
    model.unwrap();
    let path = folder.path().join(name);
    let right = std::fs::read(&path).unwrap();
    // All of config.json; of safetensors the length and the JSON.
    let header = match name {
        "config.json" => right.len(),
        _ => 8 + u64::from_le_bytes(right[..8].try_into().unwrap()) as usize,
    };
    let mut tally = Tally::default();
    for number in 0..cases() / 10 {
        let mut bytes = right.clone();
        mutate(&mut Rng(number), &mut bytes, header);
        overwrite(&path, &bytes);
        let heap = catch_unwind(AssertUnwindSafe(|| {
            in_time(number, || tally.open(folder.path(), folder.path()))
        }));
        let heap = heap.unwrap_or_else(|_| panic!("mutation {number}"));
        // Parsed JSON takes several times its text; see the limit on such headers.
        let bound = whole + 16 * bytes.len() + READER_BYTES;
        assert!(heap <= bound, "mutation {number}: {heap} bytes held");
    }
    println!("{name}, {whole} bytes of heap for a whole directory: {tally:?}");
    assert!(tally.opened > 0 && tally.refused["malformed"] > 0);
}

#[test]
fn damaged_safetensors_never_panic() {
    damage_one_file_of_a_directory("model.safetensors");
}

#[test]
fn damaged_configs_never_panic() {
    damage_one_file_of_a_directory("config.json");
}

/// Opens a file without an architecture, which is refused once its header has been read, and holds
/// the heap against twice the header.
fn check_memory(case: &str, file: &mut Gguf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.gguf");
    file.unset("general.architecture");
    let header = file.header().len();
    std::fs::write(&path, file.bytes()).unwrap();
    let (result, heap) = open(&path);
    let message = result.unwrap_err().to_string();
    assert!(
        message.ends_with("writes it") && message.contains("architecture is missing"),
        "{message}"
    );
    println!("{case}: header {header}, heap {heap}");
    assert!(
        heap <= 2 * header + READER_BYTES,
        "{case}: header {header}, heap {heap}"
    );
}

#[test]
fn memory_stays_within_twice_the_header() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let strings = vec![0; 8 << 20];
    let mut file = Gguf::tiny("llama");
    file.set("tokenizer.ggml.tokens", array(8, 1 << 20, &strings));
    check_memory("a million empty strings", &mut file);

    let mut file = Gguf::tiny("llama");
    file.set("any.bytes", array(0, 8 << 20, &strings));
    check_memory("eight million numbers", &mut file);

    let mut file = Gguf::tiny("llama");
    let arrays = array(0, 0, &[]).bytes.repeat(400_000);
    file.set("any.arrays", array(9, 400_000, &arrays));
    check_memory("four hundred thousand empty arrays", &mut file);

    let mut file = Gguf::tiny("llama");
    file.pairs = (0..65_536_u32)
        .map(|n| (n.to_string().into_bytes(), value(0, &[0])))
        .collect();
    check_memory("as many keys as there may be", &mut file);

    let mut file = Gguf::tiny("llama");
    file.tensors.clear();
    for n in 0..65_536 {
        file.tensor(&n.to_string(), &[1], F32);
    }
    check_memory("as many tensors as there may be", &mut file);
}
