use std::sync::Arc;

use corpgrid_scheduler::{HeterogeneousPipeline, Mode};

/// The pipeline that is measured, and how it was opened.
pub struct Subject {
    /// The pipeline.
    pub pipeline: Arc<HeterogeneousPipeline>,
    /// The mode it was opened in.
    pub mode: Mode,
    /// The share of its devices that was asked for.
    pub compute_share: f64,
    /// Token ids the model has.
    pub vocabulary: usize,
}
