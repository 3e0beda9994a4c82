//! Writes tiny random models and the reference's logits, for comparing with other implementations:
//! `cargo run --release -p gogrid-testkit --example tiny_models -- DIRECTORY`.
//!
//! For every family and weight type there is `FAMILY-TYPE.gguf`, `FAMILY-TYPE.f32.gguf` with the
//! same values as F32, and `FAMILY-TYPE.json` with what the reference makes of some tokens.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use gogrid_model::{Model, OpenOptions};
use gogrid_testkit::{Family, RandomModel, Reference, Rng, Spec};
use gogrid_units::WeightType;
use serde_json::{Value, json};

/// Four windows and a bit.
const TOKENS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1);
    let directory = PathBuf::from(directory.ok_or("usage: tiny_models DIRECTORY")?);
    fs::create_dir_all(&directory)?;
    for family in Family::ALL {
        for weights in WeightType::ALL {
            write(&directory, family, weights)?;
        }
    }
    Ok(())
}

fn write(directory: &Path, family: Family, weights: WeightType) -> Result<(), Box<dyn Error>> {
    let name = format!("{}-{weights}", family.name());
    let spec = Spec {
        family,
        weights,
        seed: 1,
    };
    let model = RandomModel::new(spec);
    let path = directory.join(format!("{name}.gguf"));
    model.write_gguf(&path)?;
    let wide = directory.join(format!("{name}.f32.gguf"));
    model.dequantised().write_gguf(&wide)?;

    let mut rng = Rng::new(2);
    // A tiny vocabulary is far below 2^32.
    let ids: Vec<u32> = (0..TOKENS)
        .map(|_| rng.below(model.vocab()) as u32)
        .collect();
    // llama.cpp's LongRoPE turns otherwise in a context that is no longer than the original.
    let contexts: &[usize] = match family {
        Family::Phi3Long => &[256, 1024],
        _ => &[256],
    };
    let runs = contexts.iter().map(|&context| run(&path, context, &ids));
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    let json = serde_json::to_vec(&json!({"name": name, "runs": runs}))?;
    fs::write(directory.join(format!("{name}.json")), json)?;
    Ok(())
}

fn run(path: &Path, context: usize, ids: &[u32]) -> Result<Value, Box<dyn Error>> {
    let options = OpenOptions {
        context: Some(context),
        ..OpenOptions::default()
    };
    let model = Model::open(path, &options)?;
    let logits = Reference::load(&model)?.turned_for(context).logits(ids);
    // llama.cpp has no window for the llama architecture: past one, it means something else.
    let decoder = model.decoder();
    let window = decoder.kv_groups.iter().find_map(|group| group.window);
    let peer_tokens = match decoder.architecture {
        "llama" => window.unwrap_or(ids.len()),
        _ => ids.len(),
    };
    Ok(json!({"context": context, "ids": ids, "peer_tokens": peer_tokens, "logits": logits}))
}
