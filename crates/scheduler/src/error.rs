use std::time::Duration;

use gogrid_governor::Reason;
use gogrid_pipeline::StageError;
use gogrid_units::Bytes;

use crate::machine::ThreadFailure;
use crate::resource_manager::{ConfigError, NoCompute};
use crate::settings::SettingsError;

/// Why a request does not start. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The prompt leaves no room for a token.
    #[error("prompt of {tokens} tokens does not fit a context of {context} with one more")]
    PromptTooLong {
        /// Tokens of the prompt; where counting stopped before its end, the fewest it can have.
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
    /// There is no room under the memory cap at present for the work on its text. What runs gives
    /// room back as it ends.
    #[error(
        "{memory} memory: {needed} needed to tokenise the prompt, {room} left under the cap of \
         {cap}; try again in {:.1} s",
        retry_after.as_secs_f64()
    )]
    NoRoomForText {
        /// The memory's name.
        memory: String,
        /// What the work may take at most.
        needed: Bytes,
        /// What is left for it.
        room: Bytes,
        /// The cap.
        cap: Bytes,
        /// When to come back.
        retry_after: Duration,
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
    /// Its first token had not come when its deadline passed.
    #[error("no token within {:.1} s{}", deadline.as_secs_f64(), because(why.as_ref()))]
    Deadline {
        /// The time it had.
        deadline: Duration,
        /// What stopped all work at that moment, if something did.
        why: Option<Reason>,
        /// When to come back.
        retry_after: Duration,
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
    /// No thread could be started to tokenise its prompt, or to follow its constraint.
    #[error("no thread could be started for the request: {0}")]
    NoThread(String),
    /// The waker of the caller's task panicked, with these words.
    #[error("the caller's waker panicked: {0}")]
    Waker(String),
    /// The pipeline is shutting down.
    #[error("the pipeline has stopped")]
    Stopped,
    /// A thread that is needed has ended by a panic: a bug.
    #[error("nothing runs any more: {0}")]
    ThreadFailed(ThreadFailure),
}

fn because(why: Option<&Reason>) -> String {
    why.map_or_else(String::new, |reason| format!(": {reason}"))
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
    /// The system had no memory for what a stage was about to hold, though the caps have room.
    #[error("{device}: the system refuses {asked} of memory")]
    OutOfMemory {
        /// The device.
        device: String,
        /// What was asked for at once.
        asked: Bytes,
    },
    /// The stages gave what means nothing: a value out of the range of its numbers, with the place
    /// where it was found; or not as much as was asked for, which is a bug.
    #[error("{0}")]
    BadOutput(String),
    /// Its constraint could not say what may follow, with its words.
    #[error("the constraint ended: {0}")]
    Constraint(String),
    /// It was never started, or its device was lost and there is no room for it on what is left.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A request that only reads was cancelled before all of its text was read.
    #[error("the request was cancelled")]
    Cancelled,
    /// The pipeline was dropped.
    #[error("the pipeline has stopped")]
    Stopped,
    /// The waker of the caller's task panicked, with these words. The request was cancelled.
    #[error("the caller's waker panicked: {0}")]
    Waker(String),
    /// A thread that is needed has ended by a panic: a bug.
    #[error("nothing runs any more: {0}")]
    ThreadFailed(ThreadFailure),
    /// A device was lost, and the model has no place on what is left.
    #[error("{lost}; {problem}")]
    NoPlaceLeft {
        /// Which device was lost, and how.
        lost: String,
        /// Why the model does not stand elsewhere.
        problem: String,
    },
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
    Settings(#[from] SettingsError),
    /// A share of compute with which nothing would ever end.
    #[error(transparent)]
    NoCompute(#[from] NoCompute),
    /// A device that is not there, is named twice, or shares cores with another.
    #[error("device: {0}")]
    BadDevice(String),
    /// Layers cannot be moved now.
    #[error("layers stay where they are: {0}")]
    NotMoved(String),
    /// An option that makes no sense.
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
    /// A device cannot do the model's arithmetic, whatever room there is.
    #[error("{device} cannot run the model: {problem}")]
    Unsupported {
        /// The device.
        device: String,
        /// What it cannot do.
        problem: String,
    },
    /// No placement fits under the caps.
    #[error("the model does not fit: {0}")]
    DoesNotFit(String),
    /// The system refused a thread, for want of memory or because there are too many.
    #[error("{thread}: its thread could not be started: {source}")]
    NoThread {
        /// What it would have done.
        thread: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A stage could not be opened.
    #[error("{device}: {problem}")]
    Device {
        /// The device.
        device: String,
        /// What went wrong.
        problem: String,
    },
}

/// Why limits were not changed, or do not hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A limit out of its range. The old ones hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting that makes no sense. The old ones hold.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A share of compute with which nothing would ever end. The old one holds.
    #[error(transparent)]
    NoCompute(#[from] NoCompute),
    /// The waker of the caller's task panicked, so that it could not be told when they hold.
    #[error(
        "in force or soon to be, the status says which: the caller's waker panicked: {problem}"
    )]
    Unheard {
        /// What the panic said.
        problem: String,
    },
    /// Nobody holds limits any more; all work has stopped for good.
    #[error("not in force: {0}; all work is stopped, open the machine again")]
    NotHeld(ThreadFailure),
}

impl OpenError {
    /// What a stage's error on `device` means where a pipeline is opened.
    pub(crate) fn of_stage(device: &str, error: StageError) -> Self {
        match error {
            StageError::Model(error) => Self::Model(error),
            StageError::Memory(refusal) => Self::DoesNotFit(format!("{device}: {refusal}")),
            StageError::OutOfMemory(error) => Self::DoesNotFit(format!("{device}: {error}")),
            StageError::CannotKeep(problem) => Self::BadOption {
                field: "quantise",
                problem,
            },
            StageError::Unsupported(problem) => Self::Unsupported {
                device: device.to_owned(),
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
