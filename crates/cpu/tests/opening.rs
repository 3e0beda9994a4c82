//! What a CPU device refuses to open.

use std::sync::Arc;

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_lease::Ledger;
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::{Backend, Opening, StageError};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{Bytes, FullSpeed, Span, WeightType};

/// The error of opening a tiny llama, its table of F32 quantised as asked, under a cap.
fn refusal(quantise: Option<WeightType>, cap: Bytes) -> StageError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let spec = Spec {
        family: Family::ALL[0],
        weights: WeightType::Q4K,
        seed: 1,
    };
    RandomModel::mixed(spec, WeightType::F32)
        .write_gguf(&path)
        .unwrap();
    let options = OpenOptions {
        quantise,
        ..OpenOptions::default()
    };
    let model = Model::open(&path, &options).unwrap();
    let memory = Ledger::new(cap);
    let options = CpuOptions::new(1, memory.clone(), Arc::new(FullSpeed));
    let mut backend = CpuBackend::new(&options).unwrap();
    let span = Span::whole_model(model.decoder().layers.len());
    let error = backend
        .open(Opening::new(&model, span, 4))
        .err()
        .expect("refused");
    assert_eq!(
        memory.used(),
        Bytes::ZERO,
        "a refused opening keeps nothing"
    );
    error
}

#[test]
fn a_type_weights_cannot_be_quantised_to_is_refused_by_name() {
    let error = refusal(Some(WeightType::Q3K), Bytes::gib(1)).to_string();
    assert!(
        error.contains("q3_k") && error.contains("token_embd.weight"),
        "{error}"
    );
}

#[test]
fn a_model_over_the_cap_is_refused_with_the_figures() {
    let error = refusal(None, Bytes(10_000));
    assert!(
        matches!(&error, StageError::Memory(refusal) if refusal.cap == Bytes(10_000)),
        "{error}"
    );
}

/// What a device says of a tiny model with heads this wide, before and when it is opened.
fn of_head_width(head_dim: usize) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let spec = Spec {
        family: Family::Qwen2,
        weights: WeightType::F32,
        seed: 1,
    };
    let tiny = RandomModel::with_heads(spec, (2, 1), head_dim);
    tiny.write_gguf(&path).unwrap();
    let model = Model::open(&path, &OpenOptions::default()).map_err(|e| e.to_string())?;
    let options = CpuOptions::new(1, Ledger::new(Bytes::gib(1)), Arc::new(FullSpeed));
    let mut backend = CpuBackend::new(&options).unwrap();
    let span = Span::whole_model(model.decoder().layers.len());
    let checked = backend.check(&model, span).map_err(|e| e.to_string());
    let opened = backend.open(Opening::new(&model, span, 4));
    assert_eq!(checked.is_ok(), opened.is_ok(), "{checked:?}");
    checked
}

#[test]
fn heads_that_the_kernels_cannot_do_are_refused_before_anything_is_opened() {
    for width in [2, 100, 320, 512] {
        of_head_width(width).unwrap();
    }
    let error = of_head_width(514).unwrap_err();
    assert!(
        error.contains("attention of layer 0: a head's width of 514") && error.contains("2 to 512"),
        "{error}"
    );
}
