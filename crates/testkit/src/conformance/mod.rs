//! The conformance suite: what any [`Stage`](gogrid_pipeline::Stage) must do, on tiny models.
//!
//! A backend's own tests call it, one test for each check so that they run side by side:
//!
//! ```no_run
//! use gogrid_testkit::conformance::{Subject, Tolerance, check_cuts, check_meaning};
//! # use gogrid_testkit::conformance::DeviceContext;
//! # fn open_my_device(_: DeviceContext) -> Box<dyn gogrid_pipeline::Backend> { unimplemented!() }
//!
//! const SUBJECT: Subject = Subject {
//!     backend: &|context| open_my_device(context),
//!     tolerance: &|_weights| Tolerance { mean: 0.02, max: 0.2 },
//!     is_exact: true,
//! };
//!
//! // #[test]
//! fn stages_mean_what_the_reference_means() {
//!     check_meaning(&SUBJECT);
//! }
//!
//! // #[test]
//! fn a_cut_changes_nothing() {
//!     check_cuts(&SUBJECT);
//! }
//! ```

mod batches;
mod blocks;
mod cases;
mod cuts;
mod faults;
mod inputs;
mod meaning;
mod memory;
mod paces;
mod rig;

use std::sync::Arc;

use gogrid_lease::Ledger;
use gogrid_pipeline::Backend;
use gogrid_units::{Bytes, FullSpeed, TeamPace, WeightType};

pub use self::batches::{check_batches, check_chunks, check_wants};
pub use self::blocks::{check_moved_blocks, check_shared_blocks, check_unwritten_blocks};
pub use self::cases::distance;
pub use self::cuts::check_cuts;
pub use self::faults::check_faults;
pub use self::inputs::{check_embeddings, check_positions};
pub use self::meaning::{
    check_head_widths, check_long_sequences, check_meaning, check_quantised_while_opening,
};
pub use self::memory::check_memory;
pub use self::paces::{check_abandoned_steps, check_rests_and_widths};

/// A backend under test.
pub struct Subject<'a> {
    /// Makes it, on what its device's owner lends it.
    pub backend: &'a (dyn Fn(DeviceContext) -> Box<dyn Backend> + Sync),
    /// How far from the reference it may be, with weights kept as this.
    pub tolerance: &'a (dyn Fn(WeightType) -> Tolerance + Sync),
    /// Whether cuts, chunks, batches, widths and paces change no bit. Where they may, they keep to
    /// the tolerance.
    pub is_exact: bool,
}

/// What a device's owner lends a backend.
#[derive(Clone)]
pub struct DeviceContext {
    /// The ledger of its memory.
    pub memory: Ledger,
    /// The pace its work keeps.
    pub pace: Arc<dyn TeamPace>,
}

impl Default for DeviceContext {
    /// Four GiB, at full speed.
    fn default() -> Self {
        Self {
            memory: Ledger::new(Bytes::gib(4)),
            pace: Arc::new(FullSpeed),
        }
    }
}

/// How far log-probabilities may be from others, over all rows and the whole vocabulary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Mean of the differences' absolute values.
    pub mean: f64,
    /// The greatest of them.
    pub max: f64,
}

/// Every check, one after the other.
pub fn check(subject: &Subject<'_>) {
    check_meaning(subject);
    check_quantised_while_opening(subject);
    check_head_widths(subject);
    check_long_sequences(subject);
    check_faults(subject);
    check_cuts(subject);
    check_chunks(subject);
    check_batches(subject);
    check_wants(subject);
    check_abandoned_steps(subject);
    check_rests_and_widths(subject);
    check_memory(subject);
    check_moved_blocks(subject);
    check_unwritten_blocks(subject);
    check_shared_blocks(subject);
    check_positions(subject);
    check_embeddings(subject);
}
