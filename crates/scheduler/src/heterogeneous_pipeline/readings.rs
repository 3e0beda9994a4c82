//! Requests that read a text and add nothing to it.

use super::HeterogeneousPipeline;
use crate::caller::{self, NoAnswer};
use crate::engine::{Listener, RingOnDrop};
use crate::error::GenerateError;
use crate::intake::Prepared;
use gogrid_model::Pooling;
use gogrid_units::Whose;

impl HeterogeneousPipeline {
    /// The natural logarithm of the probability of each of `ids` but the first, given those before
    /// it. The same way through admission, steps, stages and kernels as a prompt of `generate`.
    pub async fn score(&self, ids: Vec<u32>, whose: Whose) -> Result<Vec<f32>, GenerateError> {
        self.values(self.intake.score(ids, whose)?).await
    }

    /// The vector of a text of these ids, `[width]`: the mean over its tokens or that of the last, after
    /// the model's final norm. It has no particular length. The same way as a prompt of `generate`.
    pub async fn embed(
        &self,
        ids: Vec<u32>,
        pooling: Pooling,
        whose: Whose,
    ) -> Result<Vec<f32>, GenerateError> {
        self.values(self.intake.embed(ids, pooling, whose)?).await
    }

    /// What a request gives that only reads.
    async fn values(&self, prepared: Prepared) -> Result<Vec<f32>, GenerateError> {
        self.check_accepts()?;
        let place = self.place(prepared.urgency.whose)?;
        // Dropped after the answer's receiver, so that the engine wakes to a closed channel.
        let _ring = RingOnDrop(self.engine().bell());
        let (values, answer) = caller::answer();
        self.submit(prepared, place, Listener::Values(values))?;
        answer.await.unwrap_or_else(|none| {
            Err(match none {
                NoAnswer::Gone => self.ended().into(),
                NoAnswer::WakerPanicked(panicked) => GenerateError::Waker(panicked.0),
            })
        })
    }
}
