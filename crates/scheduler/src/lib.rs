//! Language-model inference on computers that belong to someone else's working day.
//!
//! A [`Machine`] owns devices, memories and limits. A [`HeterogeneousPipeline`] is a model whose layers
//! stand as stages on a machine's devices, and a [`ResourceConfig`] says how much of them may be taken.
//!
//! ```no_run
//! use corpgrid_scheduler::{
//!     Event, GenerateRequest, HeterogeneousPipeline, Prompt, ResourceConfig, devices,
//! };
//! use futures_util::StreamExt;
//!
//! let limits = ResourceConfig::conservative();
//! let pipeline = HeterogeneousPipeline::new(&devices(), "model.gguf", Some(limits))?;
//! futures_executor::block_on(async {
//!     let prompt = Prompt::Text("Once upon a time".to_owned());
//!     let mut generation = pipeline.generate(GenerateRequest::new(prompt, 100)).await?;
//!     while let Some(event) = generation.next().await {
//!         match event? {
//!             Event::Delta { text, .. } => print!("{text}"),
//!             Event::Finished { figures, .. } => println!("\n{figures:?}"),
//!             _ => {}
//!         }
//!     }
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```
//! use corpgrid_scheduler::resource_manager::ResourceConfig;
//!
//! let limits = ResourceConfig { max_batch_size: 0, ..ResourceConfig::conservative() };
//! let error = limits.validate().unwrap_err();
//! assert_eq!(error.to_string(), "max_batch_size is 0, must be in 1..=64");
//! ```

#![forbid(unsafe_code)]

mod caller;
mod constraint;
mod core;
mod engine;
mod error;
#[cfg(test)]
mod fixture;
mod generation;
pub mod heterogeneous_pipeline;
mod intake;
mod limits;
mod log;
mod machine;
mod metrics;
mod opening;
mod options;
mod pause;
mod places;
mod placing;
mod request;
pub mod resource_manager;
mod sampling;
mod settings;
pub mod status;

pub use constraint::{Allowed, Constraint, Grammar, Matcher, TokenSet};
pub use error::{ChangeError, GenerateError, OpenError, Refusal};
pub use generation::{Event, Figures, Finish, Generation, TokenLogProb};
pub use gogrid_governor::{
    BatteryRule, LoadRule, MemoryRule, Policy, PolicyError, PresenceRule, Profile, Reason,
    TemperatureRule, TimeOfDay, Verdict, Weekday, Window,
};
pub use gogrid_model::{
    Content, Conversation, Ending, Message, ModelError, ModelSource, Part, Pooling,
    SamplingDefaults, SyntheticShape, ToolCall,
};
pub use gogrid_pipeline::{
    CostBook, CostBookError, EmbeddedRows, Objective, PlacedSpan, Positions, Rows,
};
pub use gogrid_units::{Bytes, Span, WeightType, Whose};
pub use heterogeneous_pipeline::HeterogeneousPipeline;
pub use machine::{
    BuiltIn, Device, DeviceKind, GpuKind, Machine, MachineOptions, PeerUse, Peers, SeenPeers,
    ThreadFailure, devices, every_device,
};
pub use options::Options;
pub use request::{
    Continuation, GenerateRequest, LogProbs, Priority, Prompt, PromptRows, Sampling,
};
pub use resource_manager::{ConfigError, NoCompute, ResourceConfig, ResourceStats};
pub use settings::{Changes, Mode, Settings, SettingsError};
pub use status::{
    MachineStatus, MemoryStatus, ModelStatus, OwnerRuling, Prediction, Ruling, Status,
};
