//! `gogrid show`: what a model is, and what it needs here.

use std::collections::{BTreeMap, HashSet};

use corpgrid_scheduler::Mode;
use gogrid_hub::{Entry, Name, find};
use gogrid_model::{Model, OpenOptions};
use gogrid_units::Bytes;
use serde::Serialize;

use crate::args::ShowArgs;
use crate::exit::BadInput;
use crate::interrupt::Interrupt;
use crate::list::{TOKENS, mildest_mode, total_memory};
use crate::{model_file, out};

#[derive(Serialize)]
struct Report {
    name: String,
    /// Where it is, if it is here.
    path: Option<String>,
    /// Bytes of its weights; of its file, where it is not here.
    bytes: u64,
    #[serde(flatten)]
    model: Option<Described>,
    /// About what it takes with a conversation of 4,096 tokens.
    memory_bytes: u64,
    /// The mildest mode whose memory limit that is under on this machine.
    mode: Option<&'static str>,
    licence: Option<&'static str>,
    good_for: Option<&'static str>,
}

/// What the file says.
#[derive(Serialize)]
struct Described {
    architecture: &'static str,
    parameters: u64,
    layers: usize,
    width: usize,
    context: usize,
    vocabulary: usize,
    /// Bytes of each type of weight.
    weight_types: BTreeMap<String, u64>,
    kv_bytes_per_token: u64,
    chat_template: bool,
    /// What was odd in the file, and does no harm.
    warnings: Vec<String>,
}

pub(crate) fn run(args: &ShowArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let entry = find(&args.model).ok();
    let local = model_file::local(&args.model, interrupt)?;
    let report = match (local, entry) {
        (Some(local), entry) => {
            let model = Model::open(&local.path, &OpenOptions::default())?;
            let described = described(&model);
            let (bytes, kv) = (model.weight_bytes(), Bytes(described.kv_bytes_per_token));
            Report {
                name: args.model.clone(),
                path: Some(local.path.display().to_string()),
                model: Some(described),
                ..sized(bytes, bytes + kv.times(TOKENS), entry)
            }
        }
        (None, Some(entry)) => Report {
            name: entry.name.to_owned(),
            ..sized(entry.bytes, entry.memory(TOKENS), Some(entry))
        },
        (None, None) => {
            let name = Name::parse(&args.model)?;
            let problem = format!("{name} is not on this machine; `gogrid pull {name}` fetches it");
            return Err(BadInput(problem).into());
        }
    };
    match args.json.json {
        true => out::json(&report),
        false => Ok(out::text(&table(&report))?),
    }
}

fn sized(bytes: Bytes, memory: Bytes, entry: Option<&Entry>) -> Report {
    Report {
        name: String::new(),
        path: None,
        bytes: bytes.0,
        model: None,
        memory_bytes: memory.0,
        mode: mildest_mode(memory, total_memory()).map(Mode::name),
        licence: entry.map(|entry| entry.licence),
        good_for: entry.map(|entry| entry.good_for),
    }
}

fn described(model: &Model) -> Described {
    let decoder = model.decoder();
    let (mut parameters, mut weight_types) = (0, BTreeMap::new());
    let mut counted = HashSet::new();
    for weight in decoder.weights() {
        // A head that is the embedding table's is there once.
        if counted.insert((weight.file, weight.offset)) {
            parameters += weight.rows as u64 * weight.cols as u64;
            *weight_types.entry(weight.kept.to_string()).or_default() += weight.kept_bytes().0;
        }
    }
    // A key and a value of halves for each layer and head.
    let kv = decoder.layers.iter().map(|layer| {
        let mixer = &layer.mixer;
        (mixer.kv_heads * mixer.head_dim * 2 * 2) as u64
    });
    Described {
        architecture: decoder.architecture,
        parameters,
        layers: decoder.layers.len(),
        width: decoder.width,
        context: decoder.context,
        vocabulary: decoder.vocab,
        weight_types,
        kv_bytes_per_token: kv.sum(),
        chat_template: model.chat_template().is_some(),
        warnings: model.warnings().to_vec(),
    }
}

fn table(report: &Report) -> String {
    let mut lines = vec![("model", report.name.clone())];
    match &report.path {
        Some(path) => lines.push(("file", path.clone())),
        None => lines.push((
            "file",
            format!("not here: `gogrid pull {}` fetches it", report.name),
        )),
    }
    if let Some(model) = &report.model {
        lines.extend(described_lines(model, report.bytes));
    } else {
        lines.push(("size", format!("about {}", Bytes(report.bytes))));
    }
    let memory = format!("about {} with {TOKENS} tokens", Bytes(report.memory_bytes));
    lines.push((
        "memory",
        match report.mode {
            Some(mode) => format!("{memory}, within --mode {mode} here"),
            None => format!("{memory}, which is more than any mode takes here"),
        },
    ));
    let known = [("licence", report.licence), ("good for", report.good_for)];
    lines.extend(
        known
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?.to_owned()))),
    );
    let lines = lines
        .into_iter()
        .map(|(name, text)| format!("{name:<16} {text}\n"));
    lines.collect()
}

/// What the file says, line by line.
fn described_lines(model: &Described, bytes: u64) -> Vec<(&'static str, String)> {
    let types = model.weight_types.iter().map(|(kind, part)| {
        let share = *part as f64 / bytes.max(1) as f64;
        format!("{kind} {:.0} %", share * 100.0)
    });
    let types: Vec<_> = types.collect();
    let mut lines = vec![
        ("architecture", model.architecture.to_owned()),
        (
            "parameters",
            format!("{:.1} million", model.parameters as f64 / 1e6),
        ),
        ("layers", format!("{}, width {}", model.layers, model.width)),
        ("context", format!("{} tokens", model.context)),
        ("vocabulary", format!("{} tokens", model.vocabulary)),
        ("weights", format!("{}: {}", Bytes(bytes), types.join(", "))),
        (
            "keys and values",
            format!("{} a token", Bytes(model.kv_bytes_per_token)),
        ),
        (
            "conversation",
            match model.chat_template {
                true => "yes, it has a chat template".to_owned(),
                false => "no chat template: `gogrid generate --raw` continues a text".to_owned(),
            },
        ),
    ];
    lines.extend(
        model
            .warnings
            .iter()
            .map(|warning| ("note", warning.clone())),
    );
    let mut kinds = model.weight_types.keys();
    let is_grown = |kind: &&String| {
        ["iq1", "iq2", "iq3"]
            .iter()
            .any(|start| kind.starts_with(start))
    };
    if let Some(kind) = kinds.find(is_grown) {
        let what =
            format!("{kind} takes up to twice as much in memory: `gogrid plan` says how much");
        lines.push(("note", what));
    }
    lines
}
