//! Model files whose keys say anything, field by field: opened, held against what the kernels can do,
//! predicted, and where all of that goes well, run. Nothing of it panics.
//!
//! `GOGRID_CASES=1000000 cargo test --release -p gogrid-cpu --test hostile_models -- --nocapture` tries a
//! million and prints the counts.

#[path = "../../model/tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_lease::Ledger;
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::{
    Backend, BlockId, Input, Opening, OutputBuf, Positions, Rows, SequenceRows, Step, Want,
};
use gogrid_testkit::{Rng, cases, in_time};
use gogrid_units::{Bytes, FullSpeed, Span};
use support::{ARCHITECTURES, Gguf, Value, array, f32, text, u32, u64, value};

/// Keys that steer the arithmetic, some that must be off, and one that nobody knows.
const KEYS: [&str; 36] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.head_dim",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.global.freq_base",
    "rope.local.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.beta_fast",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.finetuned",
    "attention.causal",
    "attention.clamp_kqv",
    "expert_count",
    "logit_scale",
    "pooling_type",
    "attention.nobody_knows_this",
];

/// Rows of the step that is run.
const ROWS: usize = 3;

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len())].clone()
}

fn any_value(rng: &mut Rng) -> Value {
    match rng.below(6) {
        0 => u32(pick(
            rng,
            &[0, 1, 2, 3, 4, 6, 8, 16, 20, 64, 512, 514, 65_536, u32::MAX],
        )),
        1 => u64(pick(rng, &[0, 1, 4, 1 << 28, 1 << 32, u64::MAX])),
        2 => {
            let tiny = f32::MIN_POSITIVE / 2.0;
            f32(pick(
                rng,
                &[
                    0.0,
                    -0.0,
                    1.0,
                    4.0,
                    1e-30,
                    1e30,
                    tiny,
                    -1.0,
                    f32::NAN,
                    f32::INFINITY,
                ],
            ))
        }
        3 => value(7, &[rng.below(2) as u8]),
        4 => text(pick(
            rng,
            &["", "none", "linear", "yarn", "longrope", "llama3", "\u{0}"],
        )),
        _ => array(7, 1, &[rng.below(2) as u8]),
    }
}

/// Heads of any number and width, with tensors that fit them.
fn any_heads(rng: &mut Rng, file: &mut Gguf, architecture: &str) {
    let head_dim: u64 = pick(
        rng,
        &[
            1, 2, 3, 4, 6, 8, 12, 20, 36, 100, 255, 320, 510, 512, 514, 600,
        ],
    );
    let kv_heads: u64 = pick(rng, &[1, 2, 3]);
    let heads = kv_heads * pick(rng, &[1, 2, 5]);
    let (q, kv) = (heads * head_dim, kv_heads * head_dim);
    let mut set = |name: &str, number: u64| {
        file.set(&format!("{architecture}.{name}"), u64(number));
    };
    set("attention.head_count", heads);
    set("attention.head_count_kv", kv_heads);
    set("attention.key_length", head_dim);
    set(
        "rope.dimension_count",
        pick(rng, &[head_dim, head_dim & !1, 2]),
    );
    file.find("blk.0.attn_output.weight").dims[0] = q;
    if architecture == "phi3" {
        file.find("blk.0.attn_qkv.weight").dims[1] = q + 2 * kv;
        return;
    }
    for (part, rows) in [("q", q), ("k", kv), ("v", kv)] {
        file.find(&format!("blk.0.attn_{part}.weight")).dims[1] = rows;
        if architecture == "qwen2" {
            file.find(&format!("blk.0.attn_{part}.bias")).dims[0] = rows;
        }
    }
    if matches!(architecture, "qwen3" | "gemma3") {
        file.find("blk.0.attn_q_norm.weight").dims[0] = head_dim;
        file.find("blk.0.attn_k_norm.weight").dims[0] = head_dim;
    }
    if architecture == "olmo2" {
        file.find("blk.0.attn_q_norm.weight").dims[0] = heads * head_dim;
        file.find("blk.0.attn_k_norm.weight").dims[0] = kv_heads * head_dim;
    }
}

fn any_file(rng: &mut Rng) -> Gguf {
    let architecture = pick(rng, &ARCHITECTURES);
    let mut file = Gguf::tiny(architecture);
    if rng.below(2) == 0 {
        any_heads(rng, &mut file, architecture);
    }
    for _ in 0..rng.below(4) {
        let key = format!("{architecture}.{}", pick(rng, &KEYS));
        file.set(&key, any_value(rng));
    }
    file
}

/// Makes the file hold `bytes`. It is never emptied in between, which takes milliseconds on some file
/// systems.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    let mut file = options.open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// How far a file came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Refused,
    BeyondTheKernels,
    /// Over the memory it is given, as where a context of 2^28 is claimed.
    OverTheCap,
    Run,
}

fn try_file(path: &Path, backend: &mut CpuBackend) -> Came {
    let Ok(model) = Model::open(path, &OpenOptions::default()) else {
        return Came::Refused;
    };
    let whole = Span::whole_model(model.decoder().layers.len());
    if backend.check(&model, whole).is_err() {
        return Came::BeyondTheKernels;
    }
    backend.predict(&model, whole, ROWS);
    for piece in whole.start..whole.end {
        backend.predict(&model, Span::new(piece, piece + 1), ROWS);
    }
    let Ok(mut stage) = backend.open(Opening::new(&model, whole, ROWS)) else {
        return Came::OverTheCap;
    };
    let rows = SequenceRows {
        tables: Arc::new(vec![
            vec![Some(BlockId(0))];
            model.decoder().kv_groups.len()
        ]),
        start: 0,
        length: ROWS,
        positions: Positions::Sequential,
        wants: vec![Want::Logits; ROWS],
    };
    let step = Arc::new(Step {
        sequences: vec![rows],
    });
    let ids = Rows::of_ids(vec![1; ROWS]);
    let ticket = stage.submit(&step, Input::Rows(&ids)).expect("it fits");
    let mut out = OutputBuf::default();
    let done = stage.poll(ticket, &mut out);
    assert!(matches!(done, Poll::Ready(Ok(()))), "{done:?}");
    let finite = out.logits.iter().all(|logit| logit.is_finite());
    assert!(
        finite || !out.faults.is_empty(),
        "a fault that was not told"
    );
    Came::Run
}

#[test]
fn no_key_reaches_an_assert() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let options = CpuOptions::new(1, Ledger::new(Bytes::mib(64)), Arc::new(FullSpeed));
    let mut backend = CpuBackend::new(&options).unwrap();
    let mut came = Vec::new();
    for number in 0..cases() {
        overwrite(&path, &any_file(&mut Rng::new(number)).bytes());
        let tried = catch_unwind(AssertUnwindSafe(|| {
            in_time(number, || try_file(&path, &mut backend))
        }));
        came.push(tried.unwrap_or_else(|_| panic!("case {number}")));
    }
    let count = |what: Came| came.iter().filter(|came| **came == what).count();
    let counts = [
        Came::Refused,
        Came::BeyondTheKernels,
        Came::OverTheCap,
        Came::Run,
    ]
    .map(count);
    println!("refused, beyond the kernels, over the cap, run: {counts:?}");
    assert!(counts[1] > 0 && counts[3] > came.len() / 20, "{counts:?}");
}
