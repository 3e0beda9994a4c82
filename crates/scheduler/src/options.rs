use gogrid_governor::Policy;
use gogrid_pipeline::{CostBook, Objective, PlacedSpan};
use gogrid_units::WeightType;

use crate::resource_manager::ResourceConfig;

/// How a pipeline is opened, beyond its devices and its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What it may take while somebody is there, or where nobody can tell.
    pub limits: ResourceConfig,
    /// What it may take while nobody is there; the same if `None`.
    pub away: Option<ResourceConfig>,
    /// When it takes less than that, or nothing.
    pub policy: Policy,
    /// Threads on each CPU device; its cores if `None`.
    pub threads: Option<usize>,
    /// Tokens a sequence may have; the model's context if `None`.
    pub context: Option<usize>,
    /// What float weights of a safetensors model are quantised to while loading.
    pub quantise: Option<WeightType>,
    /// A template in Jinja that conversations are written down by, instead of the model's own.
    pub chat_template: Option<String>,
    /// What the planner works for.
    pub objective: Objective,
    /// Whether tokens are drafted from the text before them, where it repeats itself, and several are
    /// chosen in one step. It changes no token.
    pub prompt_lookup: bool,
    /// The placement, instead of the planner's: stages that follow one another from the first piece
    /// to the last, with indices into the devices of the machine, as its status lists them. A device may have
    /// several.
    pub plan: Option<Vec<PlacedSpan>>,
    /// What pieces of models took before, as [`Machine::known_costs`](crate::Machine::known_costs)
    /// gave it: where they are known, nothing is timed.
    pub known_costs: CostBook,
}

impl Default for Options {
    /// The default limits, a desktop's policy, and the rest as the model and the machine have it.
    fn default() -> Self {
        Self {
            limits: ResourceConfig::default(),
            away: None,
            policy: Policy::desktop(),
            threads: None,
            context: None,
            quantise: None,
            chat_template: None,
            objective: Objective::OneStream,
            prompt_lookup: true,
            plan: None,
            known_costs: CostBook::default(),
        }
    }
}
