use gogrid_lease::{Kind, Lease, Ledger};
use gogrid_model::Model;
use gogrid_pipeline::{Backend, Footprint, Opening, Stage, StageError};
use gogrid_units::{Bytes, Span};

use super::{FakeModel, FakeStage, Faults};

/// Opens [`FakeStage`]s of the shape of a real model: a device that computes when it is polled, as
/// CPU cores do.
#[derive(Clone, Debug)]
pub struct FakeBackend {
    /// What goes wrong in the stages it opens.
    pub faults: Faults,
    /// The ledger of its memory.
    pub memory: Ledger,
}

impl FakeBackend {
    /// A device of this memory where nothing goes wrong.
    pub fn new(memory: Ledger) -> Self {
        Self {
            faults: Faults::default(),
            memory,
        }
    }

    /// The same device with these faults.
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }
}

impl Backend for FakeBackend {
    /// It takes every model: its arithmetic is made up.
    fn check(&self, _model: &Model, _span: Span) -> Result<(), StageError> {
        Ok(())
    }

    fn predict(&self, model: &Model, span: Span, _rows_max: usize) -> Footprint {
        let model = FakeModel::of(model.decoder());
        FakeStage::new(model, span, Faults::default()).footprint()
    }

    fn open(&mut self, request: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        let model = FakeModel::of(request.model.decoder());
        let stage = FakeStage::new(model, request.span, self.faults.clone());
        let leases = lease(&self.memory, &stage.footprint())?;
        Ok(Box::new(stage.waking(request.waker).holding(leases)))
    }
}

/// Leases what a stage holds, KV aside.
pub(super) fn lease(memory: &Ledger, footprint: &Footprint) -> Result<Vec<Lease>, StageError> {
    let reserve = |(kind, bytes): (Kind, Bytes)| Ok(memory.reserve(kind, bytes)?);
    let parts = [
        (Kind::Weights, footprint.weights),
        (Kind::Scratch, footprint.scratch),
    ];
    parts.into_iter().map(reserve).collect()
}
