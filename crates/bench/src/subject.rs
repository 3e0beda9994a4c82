use std::sync::Arc;

use corpgrid_scheduler::{Device, HeterogeneousPipeline, Mode};

/// The pipeline that is measured, and how it was opened.
pub struct Subject {
    /// The pipeline.
    pub pipeline: Arc<HeterogeneousPipeline>,
    /// Its devices, as they were given.
    pub devices: Vec<Device>,
    /// The mode it was opened in.
    pub mode: Mode,
    /// The share of its devices that was asked for.
    pub compute_share: f64,
}

impl Subject {
    /// Token ids the model has.
    pub(crate) fn vocabulary(&self) -> usize {
        self.pipeline.model().tokenizer().vocab()
    }
}
