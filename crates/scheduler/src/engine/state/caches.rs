//! The engine's part in what is kept for requests to come: whoever needs the room gets it.

use std::sync::atomic::Ordering;

use super::State;

impl State {
    /// Gives back what is kept where others ask for the room; says whether it did.
    pub(super) fn give_cache_back_if_wanted(&mut self) -> bool {
        let is_off = self.hardware.engines.caches_are_off();
        self.core.keep_nothing(is_off);
        let wanted = &self.inbox.published.wants_cache;
        let is_wanted = wanted.swap(false, Ordering::AcqRel) || is_off;
        let gives_back = is_wanted && self.core.has_cache();
        if gives_back {
            self.core.evict_all();
        }
        gives_back
    }

    /// Tells the other engines of room that is free, and asks for that which they only keep.
    pub(super) fn tell_of_room(&self, ends_one: bool, gives_back: bool) {
        let engines = &self.hardware.engines;
        if gives_back {
            engines.ring_everywhere(&self.inbox);
        } else if ends_one {
            engines.ring_others(&self.inbox);
        }
        if self.core.wants_caches() {
            engines.want_caches(&self.inbox);
        }
    }
}
