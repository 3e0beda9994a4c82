//! Language-model inference on computers that belong to someone else's working day.
//!
//! A [`HeterogeneousPipeline`] holds a model whose
//! layers stand as stages on the machine's devices, and a
//! [`ResourceConfig`] says how much of them it may take.
//!
//! ```
//! use corpgrid_scheduler::resource_manager::ResourceConfig;
//!
//! let limits = ResourceConfig { max_batch_size: 0, ..ResourceConfig::conservative() };
//! let error = limits.validate().unwrap_err();
//! assert_eq!(error.to_string(), "max_batch_size is 0, must be in 1..=64");
//! ```

#![forbid(unsafe_code)]

mod bell;
mod core;
mod device;
mod engine;
mod error;
mod gate;
mod generation;
mod ground;
pub mod heterogeneous_pipeline;
mod intake;
mod limits;
mod listener;
mod metrics;
mod observer;
mod opening;
mod options;
mod pace;
mod places;
mod placing;
mod request;
pub mod resource_manager;
mod sampling;
mod senses;
mod settings;
mod spawner;
pub mod status;
mod threads;

pub use device::{Device, DeviceKind, devices};
pub use error::{GenerateError, OpenError, Refusal};
pub use generation::{Event, Figures, Finish, Generation};
pub use gogrid_governor::{Policy, Profile, Reason, Verdict};
pub use gogrid_model::Message;
pub use gogrid_pipeline::{Objective, PlacedSpan};
pub use heterogeneous_pipeline::HeterogeneousPipeline;
pub use options::Options;
pub use request::{Continuation, GenerateRequest, Prompt, Sampling};
pub use resource_manager::{ConfigError, ResourceConfig, ResourceStats};
pub use settings::{Changes, Mode, Settings, SettingsError};
pub use status::{Prediction, Ruling, Status};
