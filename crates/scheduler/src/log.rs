//! What an operator is told. The subscriber is the program's own code: a panic of it ends nothing
//! here, so every event of this crate goes through this file, after what it tells of is in effect.

use std::fmt::Display;

use gogrid_units::contain;

pub(crate) fn error(event: &dyn Display) {
    // A subscriber that panics is not told of that.
    let _ = contain(|| tracing::error!("{event}"));
}

pub(crate) fn warn(event: &dyn Display) {
    let _ = contain(|| tracing::warn!("{event}"));
}

pub(crate) fn info(event: &dyn Display) {
    let _ = contain(|| tracing::info!("{event}"));
}
