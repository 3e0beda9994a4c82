//! A model, spread over devices, that answers requests.

use std::path::Path;

use crate::device::Device;
use crate::error::{GenerateError, OpenError, Refusal};
use crate::generation::Generation;
use crate::options::Options;
use crate::request::{GenerateRequest, Message};
use crate::resource_manager::{ResourceConfig, ResourceStats};
use crate::status::{Prediction, Status};

/// A model whose stages stand on devices, and the engine that sends requests through them.
/// It is shared by reference; many requests may be in flight at once. Dropping it ends them with
/// [`GenerateError::Stopped`] and waits until every thread has ended.
#[derive(Debug)]
pub struct HeterogeneousPipeline {}

impl HeterogeneousPipeline {
    /// Opens the model at `path` on `devices`, under `limits`, or the default ones. Loads the
    /// weights: takes seconds.
    pub fn new(
        devices: &[Device],
        path: impl AsRef<Path>,
        limits: Option<ResourceConfig>,
    ) -> Result<Self, OpenError> {
        let limits = limits.unwrap_or_default();
        Self::open(
            devices,
            path,
            Options {
                limits,
                ..Options::default()
            },
        )
    }

    /// As [`new`](Self::new), with every option.
    pub fn open(
        devices: &[Device],
        path: impl AsRef<Path>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let _ = (devices, path.as_ref(), options);
        unimplemented!()
    }

    /// Where the stages would stand and how fast they would be, without loading the weights.
    pub fn plan_only(
        devices: &[Device],
        path: impl AsRef<Path>,
        options: &Options,
    ) -> Result<Prediction, OpenError> {
        let _ = (devices, path.as_ref(), options);
        unimplemented!()
    }

    /// The whole way of a request: admits it or says why not, waits for its start, runs it, and
    /// streams what it generates. Resolves when it is admitted; waiting and running are the
    /// stream's.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, Refusal> {
        let _ = request;
        unimplemented!()
    }

    /// The natural logarithm of the probability of each of `ids` but the first, given those before
    /// it. The same way through admission, steps, stages and kernels as a prompt of `generate`.
    pub async fn score(&self, ids: Vec<u32>) -> Result<Vec<f32>, GenerateError> {
        let _ = ids;
        unimplemented!()
    }

    /// The token ids of a text: special tokens in it parsed, BOS before it where `bos` and the
    /// model say so.
    pub fn tokenize(&self, text: &str, bos: bool) -> Result<Vec<u32>, Refusal> {
        let _ = (text, bos);
        unimplemented!()
    }

    /// A conversation as the model's chat template writes it, with the opening of the assistant's
    /// turn.
    pub fn render_chat(&self, messages: &[Message]) -> Result<String, Refusal> {
        let _ = messages;
        unimplemented!()
    }

    /// Whether some device has room under its cap for `estimated_vram_bytes` more. Reserves
    /// nothing.
    pub async fn check_resource_limits(&self, estimated_vram_bytes: u64) -> Result<(), Refusal> {
        let _ = estimated_vram_bytes;
        unimplemented!()
    }

    /// Waits until a request may start, and marks the start. It is a credit that the next
    /// `generate` uses within a second.
    pub async fn throttle_if_needed(&self) {
        unimplemented!()
    }

    /// What the starts came to.
    pub async fn get_resource_stats(&self) -> ResourceStats {
        unimplemented!()
    }

    /// Changes the limits while it runs: memory cap, batch, interval and priorities. Nothing in
    /// flight is lost; memory held over a lowered cap goes as requests end.
    pub async fn set_limits(&self, limits: ResourceConfig) -> Result<(), OpenError> {
        let _ = limits;
        unimplemented!()
    }

    /// Ends every request, waiting or running, with [`Finish::Cancelled`](crate::Finish).
    pub async fn cancel_all(&self) {
        unimplemented!()
    }

    /// What it is, holds and does.
    pub async fn status(&self) -> Status {
        unimplemented!()
    }
}
