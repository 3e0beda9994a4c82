use gogrid_lease::Ledger;
use gogrid_model::Model;
use gogrid_pipeline::{Backend, Costs, Footprint, Opening, Stage, StageError};
use gogrid_units::Span;

use super::{FakeModel, FakeStage, Faults};

/// Opens [`FakeStage`]s of the shape of a real model, and says each piece takes the same time.
#[derive(Clone, Debug)]
pub struct FakeBackend {
    /// Seconds a row that every piece is said to take.
    pub seconds: f64,
    /// What goes wrong in the stages it opens.
    pub faults: Faults,
}

impl Backend for FakeBackend {
    fn predict(&self, model: &Model, span: Span, _rows_max: usize) -> Footprint {
        let model = FakeModel::of(model.decoder());
        FakeStage::new(model, span, Faults::default()).footprint()
    }

    fn measure(&mut self, model: &Model, _memory: &Ledger) -> Result<Costs, StageError> {
        let pieces = Span::whole_model(model.decoder().layers.len()).len();
        Ok(Costs {
            decode: vec![self.seconds; pieces],
            prefill: vec![self.seconds; pieces],
        })
    }

    fn open(&mut self, request: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        let model = FakeModel::of(request.model.decoder());
        let faults = self.faults.clone();
        Ok(Box::new(FakeStage::new(model, request.span, faults)))
    }
}
