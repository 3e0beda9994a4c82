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
//! let rows = SequenceRows { tables: Default::default(), start: 0, wants };
//! assert_eq!(Step { sequences: vec![rows] }.rows(), 3);
//! ```

#![forbid(unsafe_code)]

mod driver;
mod plan;
mod runner;
mod stage;
mod step;

pub use plan::{
    BoundBy, DeviceLoad, Limit, LimitCost, Objective, PLAN_DEVICES_MAX, PieceBytes, PlacedSpan,
    Plan, PlanDevice, PlanError, PlanRequest, Workload, plan, plan_by_hand, what_limits_cost,
};
pub use runner::{Finished, Hooks, Job, PlacedStage, Renewal, Runner, StageFailure};
pub use stage::{Backend, Costs, Footprint, Opening, Stage, StageError, Ticket};
pub use step::{BLOCK_TOKENS, BlockId, Input, OutputBuf, SequenceRows, Step, Want};
