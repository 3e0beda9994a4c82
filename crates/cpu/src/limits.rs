//! Every limit of this crate, in one place.

/// Positions for which attention has scratch from the start, where the context has as many. Longer
/// sequences add to it when they come to it; what a file claims adds nothing.
pub(crate) const FIRST_POSITIONS: usize = 4096;

/// Rows whose logits are held at once for log-probabilities.
pub(crate) const HEAD_ROWS: usize = 16;
