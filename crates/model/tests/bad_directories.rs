//! Wrong Hugging Face directories, one by one: each is refused with a message that names the file,
//! the field and what is wrong with it.

use std::path::Path;

use gogrid_model::{Model, OpenOptions};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;
use serde_json::{Value, json};

fn random(family: Family) -> RandomModel {
    RandomModel::new(Spec {
        family,
        weights: WeightType::F32,
        seed: 1,
    })
}

/// Writes a directory of `family`, spoils it, and holds the refusal against `words`.
fn check(family: Family, spoil: impl Fn(&Path), words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    random(family).write_hugging_face(folder.path(), 2).unwrap();
    spoil(folder.path());
    let error = Model::open(folder.path(), &OpenOptions::default()).expect_err("it is wrong");
    let message = error.to_string();
    assert!(
        message.starts_with(&folder.path().display().to_string()),
        "{message}"
    );
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
}

/// Changes a JSON file; `null` takes a key away.
fn edit(folder: &Path, file: &str, changes: &Value) {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        json[key] = value.clone();
    }
    std::fs::write(path, json.to_string()).unwrap();
}

type ConfigCase = (Family, Value, [&'static str; 3]);

fn check_configs(cases: impl IntoIterator<Item = ConfigCase>) {
    for (family, changes, words) in cases {
        check(
            family,
            |folder| edit(folder, "config.json", &changes),
            &words,
        );
    }
}

#[test]
fn wrong_sizes_and_switches_of_a_config_are_refused() {
    check_configs([
        (
            Family::Llama,
            json!({"model_type": "mamba"}),
            [
                "model_type",
                "\"mamba\", a model with recurrent layers, is not supported",
                "llama, mistral, qwen2",
            ],
        ),
        (
            Family::Llama,
            json!({"model_type": null}),
            ["config.json", "model_type", "is missing"],
        ),
        (
            Family::Llama,
            json!({"hidden_size": null}),
            ["config.json", "hidden_size", "is missing"],
        ),
        (
            Family::Llama,
            json!({"hidden_size": "x"}),
            ["config.json", "at byte", "invalid type: string"],
        ),
        (
            Family::Llama,
            json!({"hidden_size": 1_u64 << 40}),
            ["config.json", "hidden_size", "is not between"],
        ),
        (
            Family::Llama,
            json!({"rms_norm_eps": -1.0}),
            ["config.json", "rms_norm_eps", "not above zero"],
        ),
        (
            Family::Llama,
            json!({"rms_norm_eps": 1e-60}),
            ["config.json", "rms_norm_eps", "not above zero"],
        ),
    ]);
}

const INDEX: &str = "model.safetensors.index.json";
const NORM: &str = "model.norm.weight";

/// The name of a shard, by the tensor that is in it.
fn shard(folder: &Path, tensor: &str) -> String {
    let text = std::fs::read_to_string(folder.join(INDEX)).unwrap();
    let index: Value = serde_json::from_str(&text).unwrap();
    index["weight_map"][tensor].as_str().unwrap().to_owned()
}

fn place(folder: &Path, tensor: &str, shard: &str) {
    let text = std::fs::read_to_string(folder.join(INDEX)).unwrap();
    let mut index: Value = serde_json::from_str(&text).unwrap();
    index["weight_map"][tensor] = json!(shard);
    std::fs::write(folder.join(INDEX), index.to_string()).unwrap();
}

#[test]
fn wrong_shards_are_refused() {
    let outside = [
        "../x.safetensors",
        "/etc/passwd",
        "a/b",
        "..",
        "",
        "a\\b",
        "C:x",
        "./a",
    ];
    for name in outside {
        let words = ["weight_map", "is not the name of a file here"];
        check(Family::Llama, |folder| place(folder, NORM, name), &words);
    }
    check(
        Family::Llama,
        |folder| place(folder, NORM, "none.safetensors"),
        &["none.safetensors", "cannot open"],
    );
    check(
        Family::Llama,
        |folder| place(folder, NORM, &shard(folder, "model.embed_tokens.weight")),
        &[NORM, "tensor is not in"],
    );
    check(
        Family::Llama,
        |folder| place(folder, "model.extra.weight", &shard(folder, NORM)),
        &["model.extra.weight", "tensor is not in"],
    );
    check(
        Family::Llama,
        |folder| {
            std::fs::copy(folder.join(shard(folder, NORM)), folder.join("again")).unwrap();
            place(folder, "more", "again");
        },
        &["tensor is in two shards"],
    );
    check(
        Family::Llama,
        |folder| std::fs::remove_file(folder.join(INDEX)).unwrap(),
        &["model.safetensors or model.safetensors.index.json is missing"],
    );
}

#[test]
fn wrong_safetensors_are_refused() {
    let rewrite = |change: fn(&mut Vec<u8>)| {
        move |folder: &Path| {
            let path = folder.join(shard(folder, NORM));
            let mut bytes = std::fs::read(&path).unwrap();
            change(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
        }
    };
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, [&str; 2]); 7] = [
        (Vec::clear, ["header length at byte 0", "too short"]),
        (
            |b| b.truncate(20),
            ["header length at byte 0", "the file has 12 left"],
        ),
        (
            |b| b[..8].fill(0xff),
            ["header length", "18446744073709551615 bytes"],
        ),
        (|b| b[8] = b'[', ["header at byte", "line 1 column"]),
        (
            |b| b.truncate(b.len() - 1),
            ["data at byte", "bytes expected"],
        ),
        (|b| b.push(0), ["data at byte", "bytes expected"]),
        (
            |b| replace(b, "\"F32\"", "\"I32\""),
            ["type I32", "F32, F16, BF16"],
        ),
    ];
    for (change, words) in cases {
        check(Family::Llama, rewrite(change), &words);
    }
}

/// Puts `new` wherever `old`, which is as long, stands.
fn replace(bytes: &mut [u8], old: &str, new: &str) {
    for at in 0..bytes.len().saturating_sub(old.len()) {
        if bytes[at..].starts_with(old.as_bytes()) {
            bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
    }
}
