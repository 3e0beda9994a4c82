//! Memory that small matrices share: leased as it is held, and what outlives the rest keeps little of it.

use std::sync::Arc;

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_kernels::Region;
use gogrid_lease::{Kind, Ledger};
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::{Backend, Opening, Stage, StageError};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{Bytes, FullSpeed, Span, WeightType};

/// A device with a model whose matrices of queries and outputs fill several regions.
struct Device {
    model: Model,
    memory: Ledger,
    backend: CpuBackend,
}

impl Device {
    fn with_cap(cap: Bytes) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.gguf");
        let spec = Spec {
            family: Family::ALL[0],
            weights: WeightType::F32,
            seed: 1,
        };
        RandomModel::with_heads(spec, (32, 32), 512)
            .write_gguf(&path)
            .unwrap();
        let model = Model::open(&path, &OpenOptions::default()).unwrap();
        let memory = Ledger::new(cap);
        let options = CpuOptions::new(1, memory.clone(), Arc::new(FullSpeed));
        let backend = CpuBackend::new(&options).unwrap();
        Self {
            model,
            memory,
            backend,
        }
    }

    fn whole(&self) -> Span {
        Span::whole_model(self.model.decoder().layers.len())
    }

    fn open(&mut self, span: Span) -> Result<Box<dyn Stage>, StageError> {
        self.backend.open(Opening::new(&self.model, span, 1))
    }

    fn leased(&self) -> Bytes {
        self.memory.used_by(Kind::Weights)
    }
}

#[test]
fn what_is_left_of_a_span_keeps_one_region_of_the_rest_at_most() {
    let mut device = Device::with_cap(Bytes::gib(1));
    let whole = device.open(device.whole()).unwrap();
    let all = whole.footprint().weights;
    assert_eq!(device.leased(), all, "every byte is leased once");
    let first = device.open(Span::new(0, 2)).unwrap();
    assert_eq!(device.leased(), all, "what is there is shared");
    let own = first.footprint().weights;
    drop(whole);
    assert!(own + Region::BYTES_MAX < all, "{own} of {all}");
    assert!(device.leased() <= own + Region::BYTES_MAX);
    // There and back again: nothing adds up.
    for _ in 0..3 {
        let whole = device.open(device.whole()).unwrap();
        assert!(device.leased() <= all + Region::BYTES_MAX);
        drop(whole);
        assert!(device.leased() <= own + Region::BYTES_MAX);
    }
    drop(first);
    assert_eq!(device.memory.used(), Bytes::ZERO);
}

#[test]
fn a_region_that_does_not_fit_is_a_refusal_that_holds_nothing() {
    let whole = {
        let mut device = Device::with_cap(Bytes::gib(1));
        let stage = device.open(device.whole()).unwrap();
        stage.footprint().weights
    };
    for share in [0.1, 0.5, 0.9] {
        let mut device = Device::with_cap(whole.share(share));
        let refused = matches!(device.open(device.whole()), Err(StageError::Memory(_)));
        assert!(refused, "{share} of the weights");
        assert_eq!(device.memory.used(), Bytes::ZERO, "{share} of the weights");
    }
}
