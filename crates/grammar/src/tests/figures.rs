//! What grammars cost with a real vocabulary.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use corpgrid_scheduler::{Allowed, Grammar};
use gogrid_model::Tokenizer;
use gogrid_testkit::Rng;
use serde_json::json;

use crate::grammars::Grammars;
use crate::spec::Spec;

/// Bytes of memory that the process holds.
fn held() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    1024 * line.trim_end_matches("kB").trim().parse::<usize>().unwrap()
}

#[test]
#[ignore = "a measurement: GOGRID_VOCABULARY=model.gguf cargo test --release -p gogrid-grammar --lib figures -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn figures_of_a_real_vocabulary() {
    let path = PathBuf::from(std::env::var_os("GOGRID_VOCABULARY").expect("the path of a model"));
    let tokenizer = Tokenizer::open(&path).unwrap();
    let before = held();
    let begun = Instant::now();
    let grammars = Grammars::new(&tokenizer).unwrap();
    let made = begun.elapsed();
    let mib = |bytes: usize| bytes as f64 / 1048576.0;
    eprintln!(
        "{} tokens: made in {made:.1?}, {:.1} MiB",
        tokenizer.vocab(),
        mib(held() - before)
    );
    let object = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" }, "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "tags": { "type": "array", "items": { "enum": ["a", "b", "c"] }, "maxItems": 5 },
            "address": { "type": "object", "properties": { "street": { "type": "string", "maxLength": 80 } } },
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false,
    });
    let member = |n: usize| (format!("property {n}"), json!({ "type": "string" }));
    let properties: serde_json::Map<_, _> = (0..1000).map(member).collect();
    let specs = [
        ("any object", Spec::JsonObject),
        ("a schema", Spec::JsonSchema(object)),
        (
            "1,000 properties",
            Spec::JsonSchema(json!({ "properties": properties })),
        ),
        (
            "an expression",
            Spec::Regex("(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9] [a-z ]{1,200}\\.".into()),
        ),
    ];
    for (name, spec) in specs {
        let before = held();
        let begun = Instant::now();
        let compiled = grammars.compiled(&spec).unwrap();
        let compiling = begun.elapsed();
        let mut took = Vec::new();
        for seed in 0..40 {
            follow(&compiled, &mut Rng::new(seed), &mut took);
        }
        took.sort_unstable();
        let mean = took.iter().sum::<Duration>() / took.len() as u32;
        let (median, last) = (took[took.len() / 2], took[took.len() - 1]);
        eprintln!(
            "{name}: compiled in {compiling:.1?}; {} masks: mean {mean:.1?}, median {median:.1?}, \
             longest {last:.1?}; {:.1} MiB",
            took.len(),
            mib(held().saturating_sub(before)),
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn follow(compiled: &impl Grammar, rng: &mut Rng, took: &mut Vec<Duration>) {
    let mut matcher = compiled.begin();
    let mut token = None;
    for _ in 0..100 {
        let begun = Instant::now();
        let allowed = matcher.next(token).unwrap();
        took.push(begun.elapsed());
        let Allowed::Tokens(set) = allowed else {
            return;
        };
        let ids: Vec<u32> = (0..1 << 17).filter(|id| set.contains(*id)).collect();
        token = Some(ids[rng.below(ids.len())]);
    }
}
