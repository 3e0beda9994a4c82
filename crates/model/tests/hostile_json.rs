//! JSON files full of values that nothing asks for: each is refused, or read, in memory that is a small
//! multiple of the file, for every JSON file of a model.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use gogrid_model::{Model, OpenOptions, Tokenizer};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The heap is the process's, so one test at a time counts it.
static ALONE: Mutex<()> = Mutex::new(());

/// What opening a directory may take for a file of `bytes`, where the limits let so much be read.
fn heap_bytes_max(bytes: usize) -> usize {
    (4 * bytes).min(300 << 20) + (64 << 20)
}

/// Values that take far more memory than text.
const VALUES: [&str; 3] = ["0,", "[0],", "{\"a\":0},"];

/// A list of about `bytes`.
fn list(value: &str, bytes: usize) -> String {
    let values = value.repeat(bytes / value.len());
    format!("[{}]", values.trim_end_matches(','))
}

/// The JSON of a file without white space; an empty object where there is none.
fn compact(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|_| "{}".to_owned());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json.to_string()
}

/// The result of opening a small directory after `spoil`, and the heap it took.
fn open(spoil: impl FnOnce(&Path)) -> (Result<(), String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec {
        family: Family::Qwen2,
        weights: WeightType::F32,
        seed: 1,
    };
    let model = RandomModel::new(spec);
    model.write_hugging_face(folder.path(), 2).unwrap();
    spoil(folder.path());
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let opened = Model::open(folder.path(), &OpenOptions::default());
    let opened = opened.map_err(|error| error.to_string()).map(drop);
    let tokenizer = Tokenizer::open(folder.path()).map_err(|error| error.to_string());
    let heap = HEAP.peak_usage().saturating_sub(before);
    (opened.and(tokenizer.map(drop)), heap)
}

/// Opens a directory whose file `name` has a key more with `bytes` of values, in one of its objects.
fn check(name: &str, within: &str, bytes: usize) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for value in VALUES {
        let mut len = 0;
        let (opened, heap) = open(|folder| {
            let file = folder.join(name);
            let text = compact(&file);
            let (before, after) = text.split_once(within).expect("a place to put it");
            let comma = if after.trim_start().starts_with('}') {
                ""
            } else {
                ","
            };
            let list = list(value, bytes);
            let text = format!("{before}{within}\"unheard_of\":{list}{comma}{after}");
            len = text.len();
            fs::write(file, text).unwrap();
        });
        assert!(opened.is_err(), "{name}, {value}: {opened:?}");
        let message = opened.unwrap_err();
        assert!(message.len() < 2000 && message.contains(name), "{message}");
        assert!(
            heap < heap_bytes_max(len),
            "{name}, {value}: {heap} bytes for a file of {len}"
        );
    }
}

const LARGE: usize = 40 << 20;

#[test]
fn a_tokenizer_json_is_no_memory_bomb() {
    check("tokenizer.json", "{", LARGE);
    check("tokenizer.json", "\"normalizer\":{", LARGE);
    check("tokenizer.json", "\"decoder\":{", LARGE);
    check("tokenizer.json", "\"model\":{", LARGE);
    // So few that they are read.
    check("tokenizer.json", "\"normalizer\":{", 900_000);
}

#[test]
fn the_files_beside_it_are_no_memory_bombs() {
    // The largest that are read at all, and larger ones.
    for (name, bytes) in [
        ("tokenizer_config.json", (8 << 20) - 4096),
        ("generation_config.json", (1 << 20) - 4096),
        ("special_tokens_map.json", (1 << 20) - 4096),
        ("config.json", (1 << 20) - 4096),
    ] {
        check(name, "{", bytes);
    }
    check("tokenizer_config.json", "{", LARGE);
    check("config.json", "{", LARGE);
}

#[test]
fn a_shard_index_is_no_memory_bomb() {
    check("model.safetensors.index.json", "{", (16 << 20) - 65_536);
    check("model.safetensors.index.json", "{", LARGE);
}

#[test]
fn a_safetensors_header_is_no_memory_bomb() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (value, bytes) in VALUES
        .iter()
        .flat_map(|value| [(value, 15 << 20), (value, LARGE)])
    {
        let (opened, heap) = open(|folder| {
            let header = format!("{{\"unheard_of\":{}}}", list(value, bytes));
            let mut file = (header.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(header.as_bytes());
            fs::write(folder.join("model.safetensors"), file).unwrap();
        });
        let message = opened.unwrap_err();
        assert!(message.contains("model.safetensors: header"), "{message}");
        assert!(heap < heap_bytes_max(bytes), "{value}: {heap} of {bytes}");
    }
}

#[test]
fn lists_of_added_tokens_and_of_ids_are_bounded() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (opened, heap) = open(|folder| {
        let file = folder.join("tokenizer.json");
        let text = compact(&file);
        let tokens = list("{\"id\":1,\"content\":\"\"},", LARGE);
        let text = text.replacen(
            "\"added_tokens\":[",
            &format!("\"added_tokens\":{},\"x\":[", tokens),
            1,
        );
        fs::write(file, text).unwrap();
    });
    let message = opened.unwrap_err();
    assert!(
        message.ends_with("JSON: more than 524288 values"),
        "{message}"
    );
    assert!(heap < heap_bytes_max(LARGE), "{heap}");
}
