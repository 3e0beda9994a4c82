//! Writes tiny random models and what a pipeline makes of them, for `differential/families.py`, which
//! holds both against llama.cpp:
//! `cargo run -p corpgrid-scheduler --example differential_models -- DIRECTORY`.
//!
//! Prints one line of JSON for each model: its file, the ids of a sequence, the log-probability of each
//! id after the first, how many of them the peer means the same by, and the weight type.
#![allow(clippy::print_stdout, reason = "its output is read by a script")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use corpgrid_scheduler::{
    HeterogeneousPipeline, Machine, MachineOptions, Options, Policy, ResourceConfig, WeightType,
    Whose, devices,
};
use futures_executor::block_on;
use gogrid_testkit::{Family, Meta, RandomModel, Rng, Spec};
use serde_json::json;

/// Tokens of a sequence: three blocks and a bit, past all windows.
const TOKENS: usize = 100;
/// Tokens of a sequence that is long for LongRoPE: its original context here is 256.
const LONG_TOKENS: usize = 300;
/// The window of tiny Mistrals. llama.cpp has no window for their architecture.
const WINDOW: usize = 24;

/// A model to compare.
struct Case {
    name: String,
    spec: Spec,
    /// Query heads, heads of keys and values, and their width, if not the family's usual ones.
    heads: Option<((usize, usize), usize)>,
    /// Keys below the architecture's name, set beside the model's own.
    keys: Vec<(&'static str, Meta)>,
    tokens: usize,
}

impl Case {
    fn new(family: Family, weights: WeightType) -> Self {
        Self {
            name: format!("{}-{weights}", family.name()),
            spec: Spec {
                family,
                weights,
                seed: 1,
            },
            heads: None,
            keys: Vec::new(),
            tokens: TOKENS,
        }
    }

    fn called(self, what: &str) -> Self {
        Self {
            name: format!("{}-{what}", self.name),
            ..self
        }
    }
}

/// Every family with every weight type; LongRoPE past its border; rotations that no family has by
/// itself; heads of many widths.
fn cases() -> Vec<Case> {
    let types = |family: Family| WeightType::ALL.map(|weights| Case::new(family, weights));
    let mut cases: Vec<_> = Family::ALL.into_iter().flat_map(types).collect();
    for weights in [WeightType::F32, WeightType::Q8_0] {
        let long = Case::new(Family::Phi3Long, weights).called("long");
        cases.push(Case {
            tokens: LONG_TOKENS,
            ..long
        });
        for family in [Family::Llama, Family::Qwen2, Family::Phi3] {
            let rope = |what, keys| Case {
                keys,
                ..Case::new(family, weights).called(what)
            };
            let factor = || ("rope.scaling.factor", Meta::F32(4.0));
            cases.push(rope("factor-alone", vec![factor()]));
            cases.push(rope(
                "old-factor",
                vec![("rope.scale_linear", Meta::F32(4.0))],
            ));
            let yarn = vec![
                ("rope.scaling.type", Meta::Text("yarn".into())),
                factor(),
                ("rope.scaling.original_context_length", Meta::U32(64)),
            ];
            cases.push(rope("yarn", yarn.clone()));
            // Pairs turn at most ten times in 64 positions.
            let beta = ("rope.scaling.yarn_beta_fast", Meta::F32(2.0));
            cases.push(rope("yarn-beta", [yarn, vec![beta]].concat()));
        }
    }
    for head_dim in [8, 20, 36, 64, 80, 96, 100, 128, 256, 320, 512] {
        for family in [Family::Llama, Family::Qwen3, Family::Gemma3] {
            for (weights, heads) in [(WeightType::F32, (3, 1)), (WeightType::Q8_0, (16, 2))] {
                let plain = Case::new(family, weights).called(&format!("heads-{head_dim}"));
                cases.push(Case {
                    heads: Some((heads, head_dim)),
                    ..plain
                });
            }
        }
    }
    cases
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1);
    let directory = PathBuf::from(directory.ok_or("usage: differential_models DIRECTORY")?);
    std::fs::create_dir_all(&directory)?;
    let machine = Arc::new(Machine::open(
        &devices(),
        MachineOptions {
            limits: ResourceConfig {
                max_compute_usage_percent: 1.0,
                min_request_interval_ms: 0,
                ..ResourceConfig::default()
            },
            policy: Policy::server(),
            ..MachineOptions::default()
        },
    )?);
    for case in cases() {
        let tiny = match case.heads {
            Some((heads, head_dim)) => RandomModel::with_heads(case.spec, heads, head_dim),
            None => RandomModel::new(case.spec),
        };
        let mut file = tiny.gguf();
        for (name, value) in &case.keys {
            let key = format!("{}.{name}", case.spec.family.architecture());
            file.meta(key, value.clone());
        }
        let path = directory.join(format!("{}.gguf", case.name));
        std::fs::write(&path, file.bytes())?;
        let mut rng = Rng::new(2);
        // A tiny vocabulary is far below 2^32.
        let ids = (0..case.tokens).map(|_| rng.below(tiny.vocab()) as u32);
        let ids: Vec<u32> = ids.collect();
        let pipeline = HeterogeneousPipeline::open_on(&machine, &path, &Options::default())?;
        let log_probs = block_on(pipeline.score(ids.clone(), Whose::Guest))?;
        let compared = match case.spec.family {
            Family::Mistral => WINDOW,
            _ => case.tokens,
        };
        let line = json!({
            "name": case.name,
            "file": path,
            "type": case.spec.weights.name(),
            "ids": ids,
            "compared": compared,
            "log_probs": log_probs,
        });
        println!("{line}");
    }
    Ok(())
}
