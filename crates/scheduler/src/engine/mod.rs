//! The engine: one thread for each pipeline, which owns the core and the runner. Callers, drivers and
//! the thread that moves layers talk to it by messages, and it answers each on its own channel.

mod bell;
mod ears;
mod inbox;
mod learning;
mod listener;
mod matchers;
mod placement;
mod relocation;
mod state;
mod states;

use std::io;
use std::sync::mpsc::sync_channel;

use gogrid_units::start_loop;

pub(crate) use bell::{Bell, RingOnDrop};
pub(crate) use ears::channel;
pub(crate) use inbox::{Ask, EngineInbox, Message, Order, Stopped};
pub(crate) use listener::{Listener, OTHER_EVENTS_MAX};
pub(crate) use matchers::{Matchers, Seat};
pub(crate) use placement::{ModelShape, Placement, Standing, statuses as stage_statuses};
pub(crate) use relocation::Relocator;
pub(crate) use state::EngineParts;
use state::State;
pub(crate) use states::StatePlace;

/// The owner's end of an engine. Dropping it ends every request and waits for the thread.
pub(crate) struct Engine {
    inbox: EngineInbox,
}

impl Engine {
    /// Starts the engine's thread.
    pub(crate) fn start(parts: EngineParts) -> io::Result<Self> {
        let inbox = parts.inbox.clone();
        start_loop(State::new(parts))?;
        Ok(Self { inbox })
    }

    pub(crate) fn inbox(&self) -> &EngineInbox {
        &self.inbox
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let (answer, ended) = sync_channel(1);
        self.inbox.cancel();
        // A thread that panicked has told of it, and is joined by nobody.
        if self.inbox.send(Message::Stop(answer)).is_ok()
            && let Ok(thread) = ended.recv()
        {
            let _ = thread.join();
        }
    }
}
