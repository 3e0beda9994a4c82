use gogrid_units::{Span, WeightType};

use crate::resource_manager::ResourceConfig;

/// How a pipeline is opened, beyond its devices and its model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// What it may take.
    pub limits: ResourceConfig,
    /// Threads on each CPU device; its cores if `None`.
    pub threads: Option<usize>,
    /// Tokens a sequence may have; the model's context if `None`.
    pub context: Option<usize>,
    /// What float weights of a safetensors model are quantised to while loading.
    pub quantise: Option<WeightType>,
    /// What the planner works for.
    pub objective: Objective,
    /// The placement, instead of the planner's.
    pub plan: Option<Vec<Placement>>,
}

/// What the planner works for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// Tokens a second of many requests together.
    Throughput,
    /// Tokens a second of one request alone.
    #[default]
    OneStream,
}

/// A stage of a placement written by hand. Stages follow one another from piece 0 to the last; a
/// device may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Index into the devices.
    pub device: usize,
    /// The pieces of the model.
    pub span: Span,
}
