//! What can be changed while a pipeline runs. Limits are its machine's; these are the same calls.

use std::time::Duration;

use gogrid_pipeline::PlacedSpan;

use super::HeterogeneousPipeline;
use crate::caller::{self, NoAnswer};
use crate::error::{ChangeError, OpenError};
use crate::resource_manager::ResourceConfig;
use crate::settings::Settings;
use crate::status::Ruling;

impl HeterogeneousPipeline {
    /// As [`Machine::set_limits`](crate::Machine::set_limits), for all that is open on the machine.
    pub async fn set_limits(&self, limits: ResourceConfig) -> Result<(), ChangeError> {
        self.machine.set_limits(limits).await
    }

    /// As [`Machine::set_settings`](crate::Machine::set_settings).
    pub async fn set_settings(&self, settings: Settings) -> Result<(), ChangeError> {
        self.machine.set_settings(settings).await
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.machine.settings()
    }

    /// What the policy says of this moment.
    pub fn ruling(&self) -> Ruling {
        self.machine.ruling()
    }

    /// As [`Machine::pause`](crate::Machine::pause).
    pub async fn pause(&self) -> Result<(), ChangeError> {
        self.machine.pause().await
    }

    /// As [`Machine::snooze`](crate::Machine::snooze).
    pub async fn snooze(&self, time: Duration) -> Result<(), ChangeError> {
        self.machine.snooze(time).await
    }

    /// As [`Machine::finish`](crate::Machine::finish).
    pub async fn finish(&self) -> Result<(), ChangeError> {
        self.machine.finish().await
    }

    /// As [`Machine::resume`](crate::Machine::resume).
    pub async fn resume(&self) -> Result<(), ChangeError> {
        self.machine.resume().await
    }

    /// Where its stages stand now, with indices into the machine's devices.
    pub fn stages(&self) -> Vec<PlacedSpan> {
        self.engine().placement().spans.clone()
    }

    /// Has its stages stand elsewhere, between two steps: stages that follow one another from the
    /// first piece to the last, with indices into the machine's devices. Requests go on with the
    /// keys and values they have; on CPU devices they get the same tokens, bit for bit. Both the old
    /// stages and the new ones have their memory while blocks are copied, so there must be room for
    /// what moves.
    ///
    /// # Errors
    /// [`OpenError::NotMoved`] and others; then the stages stand where they stood.
    pub async fn move_to(&self, stages: Vec<PlacedSpan>) -> Result<(), OpenError> {
        let (answer, moved) = caller::answer();
        self.relocator
            .move_to(stages, move |done| answer.answer(done));
        moved.await.unwrap_or_else(|none| {
            Err(OpenError::NotMoved(match none {
                NoAnswer::Gone => "no thread could be started for it".to_owned(),
                NoAnswer::WakerPanicked(panicked) => format!("or they do, but {panicked}"),
            }))
        })
    }
}
