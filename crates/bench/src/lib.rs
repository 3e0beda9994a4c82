//! The benchmarks of the `gogrid` program: the speed of a pipeline, the delays that a person at the
//! desk feels beside it, how soon a pause holds, and what is left after hours of disorder. The caller opens
//! what is measured, prints the reports and shows the progress.
//!
//! ```
//! use gogrid_bench::PauseReport;
//!
//! let report = PauseReport::of(vec![0.3, 0.1, 0.2]);
//! assert_eq!((report.pause_ms_p50, report.pause_ms_max), (0.2, 0.3));
//! ```

#![forbid(unsafe_code)]

mod bandwidth;
mod clock;
mod desktop;
mod error;
mod hog;
mod ids;
mod load;
mod pause;
mod pipeline_load;
mod process;
mod soak;
mod speed;
mod stats;
mod subject;

pub use desktop::{
    Cores, DesktopBench, DesktopOptions, DesktopProcesses, DesktopReport, LlamaCppOptions,
    foreground,
};
pub use error::BenchError;
pub use hog::spin;
pub use pause::{PauseBench, PauseReport};
pub use process::OwnCommand;
pub use soak::{SoakOptions, SoakReport, soak};
pub use speed::{SpeedOptions, SpeedReport, speed};
pub use subject::Subject;
