//! Language-model inference on computers that belong to someone else's working day.
//!
//! A [`Machine`] owns devices, memories and limits. A [`HeterogeneousPipeline`] is a model whose layers
//! stand as stages on a machine's devices, and a [`ResourceConfig`] says how much of them may be taken.
//!
//! ```no_run
//! use corpgrid_scheduler::{
//!     Event, GenerateRequest, HeterogeneousPipeline, ResourceConfig, SyntheticShape, WeightType,
//!     devices,
//! };
//! use futures_util::StreamExt;
//!
//! // A model is the path of a GGUF file or of a Hugging Face directory: `"model.gguf"`. This shape has
//! // random weights and nothing to say, but opens and streams as a file does.
//! let model = SyntheticShape {
//!     name: "tiny",
//!     layers: 1,
//!     width: 64,
//!     hidden: 64,
//!     heads: 1,
//!     kv_heads: 1,
//!     head_dim: 64,
//!     vocab: 300,
//!     context: 64,
//!     tied: true,
//!     matrices: WeightType::F16,
//!     head: WeightType::F16,
//! };
//! // `conservative()` beside somebody's work.
//! let limits = ResourceConfig::aggressive();
//! let pipeline = HeterogeneousPipeline::new(&devices(), model, Some(limits))?;
//! let tokens = futures_executor::block_on(async {
//!     let request = GenerateRequest::new("Once upon a time", 8);
//!     let mut generation = pipeline.generate(request).await?;
//!     let mut tokens = 0;
//!     while let Some(event) = generation.next().await {
//!         match event? {
//!             Event::Delta { text, .. } => print!("{text}"),
//!             Event::Finished { figures, .. } => tokens = figures.generated_tokens,
//!             _ => {}
//!         }
//!     }
//!     Ok::<_, Box<dyn std::error::Error>>(tokens)
//! })?;
//! assert!((1..=8).contains(&tokens));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Depending on it
//!
//! It is not on crates.io. By path or by git, with a `Stream`'s `next` and an executor:
//!
//! ```toml
//! [dependencies]
//! corpgrid-scheduler = { path = "../gogrid/crates/scheduler" }
//! futures-util = { version = "0.3", default-features = false, features = ["std"] }
//! futures-executor = "0.3"
//! ```
//!
//! The JSON in conversations (tools, arguments of calls) is that of `serde_json` 1. The library has no features to
//! choose, and builds no C: a Rust toolchain is enough. A driver of a GPU is looked for when
//! the program runs.
//!
//! # Executors and streams
//!
//! [`Generation`] is a [`futures_core::Stream`](https://docs.rs/futures-core/0.3/futures_core/stream/trait.Stream.html),
//! which `futures_util::StreamExt` and `tokio_stream::StreamExt` both read. The work is done by threads of
//! the machine's own, which wake the caller's task: futures and streams run under any executor, tokio's among
//! them, and need none of its reactors. A generation is `Send`, and dropping it cancels it. A caller without an
//! executor blocks, as above, or in a thread of its own:
//!
//! ```no_run
//! # use corpgrid_scheduler::{Event, GenerateRequest, HeterogeneousPipeline, Message, devices};
//! use futures_executor::{block_on, block_on_stream};
//!
//! let pipeline = HeterogeneousPipeline::new(&devices(), "model.gguf", None)?;
//! let chat = vec![Message::system("Be brief."), Message::user("Why is the sky blue?")];
//! let generation = block_on(pipeline.generate(GenerateRequest::new(chat, 200)))?;
//! for event in block_on_stream(generation) {
//!     if let Event::Delta { text, .. } = event? {
//!         print!("{text}");
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`HeterogeneousPipeline::new`] and [`open`](HeterogeneousPipeline::open) read a model's weights before they
//! return, which takes seconds: call them where blocking is allowed (`spawn_blocking` of tokio's).
//!
//! # Requests and options
//!
//! Structures with many fields are written as the fields that matter, and the rest by
//! `..GenerateRequest::new(…)`, `..Sampling::default()`, `..Options::default()`. Limits are checked where they
//! come in:
//!
//! ```
//! use corpgrid_scheduler::{GenerateRequest, ResourceConfig, Sampling, Whose};
//!
//! let request = GenerateRequest {
//!     sampling: Sampling { temperature: 0.7, top_p: 0.9, ..Sampling::default() },
//!     whose: Whose::Owner,
//!     ..GenerateRequest::new("Once upon a time", 100)
//! };
//! assert_eq!(request.max_tokens, 100);
//! let limits = ResourceConfig { max_batch_size: 0, ..ResourceConfig::conservative() };
//! let error = limits.validate().unwrap_err();
//! assert_eq!(error.to_string(), "max_batch_size is 0, must be in 1..=64");
//! ```

#![forbid(unsafe_code)]
#![deny(unnameable_types)]

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
pub mod model;
mod opening;
mod options;
mod pause;
mod places;
mod placing;
pub mod process;
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
    CostBook, CostBookError, CostKey, Costs, EmbeddedRows, Objective, PlacedSpan, Positions, Rows,
};
pub use gogrid_units::{Bytes, Piece, Span, WeightType, Whose};
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
