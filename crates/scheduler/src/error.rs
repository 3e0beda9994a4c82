use std::time::Duration;

use gogrid_pipeline::StageError;
use gogrid_units::Bytes;

use crate::resource_manager::ConfigError;

/// Why a request does not start. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The prompt leaves no room for a token.
    #[error("prompt of {tokens} tokens does not fit a context of {context} with one more")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens a sequence may have.
        context: usize,
    },
    /// The queue is full.
    #[error("{queued} requests wait already; try again in {:.1} s", retry_after.as_secs_f64())]
    TooManyQueued {
        /// Requests that wait.
        queued: usize,
        /// When to come back.
        retry_after: Duration,
    },
    /// It would never fit under the memory cap as it is.
    #[error("{device}: {needed} needed, {room} left under the cap of {cap}")]
    MemoryCap {
        /// The device that has the least room for it.
        device: String,
        /// What the request would hold there.
        needed: Bytes,
        /// What is left there for it.
        room: Bytes,
        /// The cap there.
        cap: Bytes,
    },
    /// It waited when the memory cap was lowered below what is held. It may be tried again once some
    /// of the requests that run have ended.
    #[error("{device}: {used} held, over the cap of {cap} that was lowered meanwhile")]
    OverCap {
        /// The device.
        device: String,
        /// What is held there.
        used: Bytes,
        /// The cap there.
        cap: Bytes,
    },
    /// The owner asked that nothing more be accepted.
    #[error(
        "the pipeline finishes what it has accepted, and accepts nothing more until it is resumed"
    )]
    Finishing,
    /// A field that makes no sense.
    #[error("{field}: {problem}")]
    BadRequest {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The pipeline is shutting down.
    #[error("the pipeline has stopped")]
    Stopped,
}

/// Why a generation that had started ends early.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A stage failed; the sequences it held are lost.
    #[error("stage {stage} ({pieces}) on {device}: {problem}")]
    Stage {
        /// Its place in the pipeline.
        stage: usize,
        /// The device it is on.
        device: String,
        /// The pieces of the model it runs.
        pieces: String,
        /// What went wrong.
        problem: String,
    },
    /// The stages gave what cannot be right; a bug.
    #[error("{0}")]
    BadOutput(String),
    /// It was never started.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The pipeline was dropped.
    #[error("the pipeline has stopped")]
    Stopped,
}

/// Why a pipeline could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A limit out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting that makes no sense.
    #[error(transparent)]
    Settings(#[from] crate::settings::SettingsError),
    /// An option or a device that makes no sense.
    #[error("{field}: {problem}")]
    BadOption {
        /// The option's name.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] gogrid_model::ModelError),
    /// No placement fits under the caps.
    #[error("the model does not fit: {0}")]
    DoesNotFit(String),
    /// A stage could not be opened.
    #[error("{device}: {problem}")]
    Device {
        /// The device.
        device: String,
        /// What went wrong.
        problem: String,
    },
}

impl OpenError {
    /// What a stage's error on `device` means to whoever opens a pipeline.
    pub(crate) fn of_stage(device: &str, error: StageError) -> Self {
        match error {
            StageError::Model(error) => Self::Model(error),
            StageError::Memory(refusal) => Self::DoesNotFit(format!("{device}: {refusal}")),
            StageError::Unsupported(problem) => Self::BadOption {
                field: "quantise",
                problem,
            },
            other => Self::Device {
                device: device.to_owned(),
                problem: other.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use gogrid_lease::{Kind, Ledger};

    use super::*;

    #[test]
    fn a_stage_that_finds_no_room_does_not_fit_and_a_device_that_fails_is_named() {
        let refusal = Ledger::new(Bytes(1)).reserve(Kind::Weights, Bytes(2));
        let error = OpenError::of_stage("cpu:0", refusal.map(drop).unwrap_err().into());
        assert!(
            matches!(&error, OpenError::DoesNotFit(why) if why.starts_with("cpu:0: ")),
            "{error}"
        );
        let failed = OpenError::of_stage("cpu:0", StageError::Device("gone".to_owned()));
        assert_eq!(failed.to_string(), "cpu:0: device failed: gone");
    }
}
