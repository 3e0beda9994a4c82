use gogrid_units::Bytes;

use crate::error::Attempt;

/// Follows a fetch, and decides whether it goes on. All calls come from the thread
/// that fetches, at most some tens of times a second while nothing fails.
pub trait Progress {
    /// A new phase began, with the bytes it will move, if it moves any.
    fn phase(&mut self, label: &str, total: Option<Bytes>);

    /// Bytes of the phase that are done.
    fn advance(&mut self, done: Bytes);

    /// A source failed, and the next is tried.
    fn failed(&mut self, attempt: &Attempt);

    /// Another process is fetching the same model, and this one waits for it.
    fn waiting(&mut self);

    /// Whether to go on; after `false` the fetch ends soon; what came is kept for the next.
    fn keep_going(&self) -> bool;
}

/// The progress nobody watches and nobody cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&mut self, _label: &str, _total: Option<Bytes>) {}
    fn advance(&mut self, _done: Bytes) {}
    fn failed(&mut self, _attempt: &Attempt) {}
    fn waiting(&mut self) {}
    fn keep_going(&self) -> bool {
        true
    }
}
