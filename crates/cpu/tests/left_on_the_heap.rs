//! What a device keeps of models that were opened on it and closed.

use std::sync::Arc;

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_lease::Ledger;
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::{Backend, Opening};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{Bytes, FullSpeed, Span, WeightType};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

#[test]
fn models_that_were_closed_leave_nothing_on_a_device_that_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let spec = Spec {
        family: Family::ALL[0],
        weights: WeightType::Q4_0,
        seed: 1,
    };
    RandomModel::new(spec).write_gguf(&path).unwrap();
    let memory = Ledger::new(Bytes::gib(1));
    let options = CpuOptions::new(1, memory, Arc::new(FullSpeed));
    let mut backend = CpuBackend::new(&options).unwrap();
    let mut left = Vec::with_capacity(40);
    for _ in 0..40 {
        // Each opening of a file is another model.
        let model = Model::open(&path, &OpenOptions::default()).unwrap();
        let span = Span::whole_model(model.decoder().layers.len());
        drop(backend.open(Opening::new(&model, span, 4)).unwrap());
        drop(model);
        left.push(HEAP.current_usage());
    }
    // A block of 1.3 kB comes at some moment, once, in every run of forty. An entry for each matrix of thirty
    // models would be ten times the bound.
    assert!(left[39] <= left[9] + 4096, "{left:?}");
}
