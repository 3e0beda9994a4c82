//! The engine's channels: what callers, drivers and matchers tell it.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use gogrid_pipeline::{Cancel, FLIGHTS_MAX, Finished, Hooks};

use super::bell::Bell;
use super::inbox::{EngineInbox, Message, Published};
use super::matchers::Matched;
use super::placement::Placement;
use crate::limits::{EVENTS_MAX, MATCHERS_MAX, TELLS_MAX};
use crate::places::Places;

/// The engine's end of its channels.
pub(crate) struct Ears {
    pub(super) messages: Receiver<Box<Message>>,
    pub(super) finished: Receiver<Finished>,
    pub(super) matched: Receiver<Matched>,
}

/// The channels of an engine to be: what a runner calls, and what callers hold, are there before it.
pub(crate) fn channel(
    (model, context): (String, usize),
    placement: Placement,
) -> (EngineInbox, Ears) {
    let (sender, messages) = sync_channel(EVENTS_MAX);
    // Room for every job of a line that is being given up, and of the one after it.
    let (tell, finished) = sync_channel(2 * FLIGHTS_MAX);
    // Room for what every matcher says.
    let (tell_matched, matched) = sync_channel(MATCHERS_MAX);
    let bell = Bell::new();
    let (on_end, on_room) = (bell.clone(), bell.clone());
    let hooks = Hooks {
        finished: Arc::new(move |end| {
            // The engine is gone only while its runner is being dropped.
            let _ = tell.try_send(end);
            on_end.ring();
        }),
        has_room: Arc::new(move || on_room.ring()),
    };
    let inbox = EngineInbox {
        sender,
        matched: tell_matched,
        bell,
        published: Arc::new(Published {
            model,
            context,
            placement: ArcSwap::from_pointee(placement),
            cancel: Cancel::default(),
            is_busy: AtomicBool::new(false),
            seeks_place: AtomicBool::new(false),
            has_cache: AtomicBool::new(false),
            wants_cache: AtomicBool::new(false),
            wake_ups: AtomicU64::new(0),
            failure: OnceLock::new(),
            tells: Places::new(TELLS_MAX),
        }),
        hooks,
    };
    let ears = Ears {
        messages,
        finished,
        matched,
    };
    (inbox, ears)
}
