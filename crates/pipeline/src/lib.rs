//! The narrow waist: stages, where they stand, and what runs them.
//!
//! A model is cut between half-layers. [`Backend`] opens a run of them on a device as a [`Stage`];
//! [`Runner`] sends steps through the stages, one driver thread for each device.
//!
//! ```
//! use gogrid_pipeline::{SequenceRows, Step, Want};
//!
//! // Three prompt rows of one sequence; only the last wants logits.
//! let wants = vec![Want::Nothing, Want::Nothing, Want::Logits];
//! let positions = Default::default();
//! let rows = SequenceRows { tables: Default::default(), start: 0, length: 2, positions, wants };
//! assert_eq!(Step { sequences: vec![rows] }.rows(), 3);
//! ```

#![forbid(unsafe_code)]

mod costs;
mod driver;
mod line;
mod measure;
mod plan;
mod pool;
mod runner;
mod spares;
mod stage;
mod step;
mod takes;

pub use costs::{CostBook, CostBookError, CostKey};
pub use driver::{DeviceDriver, DriverHooks};
pub use line::{FLIGHTS_MAX, LINES_MAX, STAGES_MAX};
pub use measure::{Meter, measure};
pub use plan::{
    BoundBy, DeviceLoad, Limit, LimitCost, MemoryNeed, Objective, PLAN_DEVICES_MAX,
    PLAN_EFFORT_MAX, PieceBytes, PlacedSpan, Plan, PlanDevice, PlanDuty, PlanError, PlanLink,
    PlanMemory, PlanRequest, Workload, check_stages, plan, plan_by_hand, plan_with_effort,
    what_limits_cost,
};
pub use pool::{BlockPool, TakenBlocks};
pub use runner::{
    Finished, Hooks, Job, PlacedStage, RetiringStages, Runner, RunnerError, StageFailure,
};
pub use stage::{Backend, Cancel, Costs, Footprint, Opening, Stage, StageError, Ticket};
pub use step::{
    AXES_MAX, BLOCK_TOKENS, BlockId, EmbeddedRows, Input, LayerKv, OutputBuf, Positions, RowFault,
    Rows, SequenceRows, Step, Want,
};
pub use takes::Takes;
