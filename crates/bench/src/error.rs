use std::io;
use std::time::Duration;

use corpgrid_scheduler::{ChangeError, GenerateError, OpenError, Reason, Refusal};
use gogrid_host::HostError;

/// Why a benchmark gives no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The pipeline refused a request.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The pipeline could not be paused, or could not go on.
    #[error("{0}")]
    Change(#[from] ChangeError),
    /// What is measured could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A generation failed.
    #[error("{0}")]
    Generate(#[from] GenerateError),
    /// A generation ended without its last event; a bug.
    #[error("a generation ended without figures")]
    NoFigures,
    /// The operating system does not tell how much CPU time was used, or which cores there are.
    #[error("{0}")]
    Host(#[from] HostError),
    /// A thread of the benchmark could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The soak's file of limits cannot be written or watched.
    #[error("the watched file of limits: {0}")]
    Watched(String),
    /// The file of the running program was not found.
    #[error("cannot find this program's own file")]
    NoProgram(#[source] io::Error),
    /// A process could not be started.
    #[error("cannot start {name}")]
    Start {
        /// The process.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A process does not take orders any more.
    #[error("{name} takes no order")]
    Order {
        /// The process.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Nothing could be read from a process.
    #[error("cannot hear {name}")]
    Answer {
        /// The process.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A process ended before it was told to.
    #[error("{name} ended early")]
    EndedEarly {
        /// The process.
        name: String,
    },
    /// A process gave an answer that was not expected.
    #[error("{name} said {line:?}")]
    BadAnswer {
        /// The process.
        name: String,
        /// The answer.
        line: String,
        /// The fault in it.
        source: serde_json::Error,
    },
    /// The interpreter that was named does not run llama.cpp.
    #[error("{python} cannot run it")]
    NoLlamaCpp {
        /// The interpreter.
        python: String,
        /// How its process failed.
        source: Box<BenchError>,
    },
    /// The foreground was given an order that it does not know.
    #[error("unknown order {line:?}")]
    UnknownOrder {
        /// The order.
        line: String,
    },
    /// The foreground could not answer.
    #[error("cannot answer")]
    Say(#[source] io::Error),
    /// The policy kept the pipeline from generating.
    #[error(
        "for {} s the policy has not let gogrid generate: {why}; --limits FILE can hold another \
         policy",
        waited.as_secs()
    )]
    Shut {
        /// How long it was waited for.
        waited: Duration,
        /// The policy's reason.
        why: Reason,
    },
    /// A load was told to end with other than two marks; a bug.
    #[error("{marks} marks instead of two")]
    Marks {
        /// The marks.
        marks: usize,
    },
    /// Work went on after a pause.
    #[error("still at work {waited:?} after a pause")]
    StillAtWork {
        /// How long it was waited for.
        waited: Duration,
    },
}
