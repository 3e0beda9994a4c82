use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::engine::EngineInbox;

/// The engines of the pipelines that stand on a machine. Read without a lock by the observer, which
/// tells them what holds.
#[derive(Default)]
pub(crate) struct Engines {
    entered: AtomicU64,
    listed: ArcSwap<Vec<(u64, EngineInbox)>>,
    /// Texts that are being tokenised for them.
    texts: AtomicUsize,
}

/// A text that is being tokenised: work, as a step is. When it is done the engines look at the room
/// that it leaves.
pub(crate) struct TextWork(Arc<Engines>);

impl Drop for TextWork {
    fn drop(&mut self) {
        self.0.texts.fetch_sub(1, Ordering::Relaxed);
        self.0.ring();
    }
}

impl Engines {
    /// Lists one; gives the number that takes it off the list.
    pub(crate) fn enter(&self, engine: &EngineInbox) -> u64 {
        let number = self.entered.fetch_add(1, Ordering::Relaxed);
        self.listed.rcu(|listed| {
            let mut listed = Vec::clone(listed);
            listed.push((number, engine.clone()));
            listed
        });
        number
    }

    pub(crate) fn leave(&self, number: u64) {
        self.listed.rcu(|listed| {
            let stays = listed.iter().filter(|(other, _)| *other != number);
            stays.cloned().collect::<Vec<_>>()
        });
    }

    /// Those that are listed, in the order they came.
    pub(crate) fn all(&self) -> Vec<EngineInbox> {
        let listed: Arc<Vec<_>> = self.listed.load_full();
        listed.iter().map(|(_, engine)| engine.clone()).collect()
    }

    /// Has each look at what has changed for all: room in a memory, or the gate.
    pub(crate) fn ring(&self) {
        self.listed
            .load()
            .iter()
            .for_each(|(_, engine)| engine.ring());
    }

    /// The same for all but one, which has changed it.
    pub(crate) fn ring_others(&self, but: &EngineInbox) {
        let listed = self.listed.load();
        let others = listed.iter().filter(|(_, engine)| !engine.is(but));
        others.for_each(|(_, engine)| engine.ring());
    }

    /// How many of them have work.
    pub(crate) fn busy(&self) -> usize {
        let listed = self.listed.load();
        let busy = listed.iter().filter(|(_, engine)| engine.is_busy());
        busy.count()
    }

    /// Counts a text until what this gives is dropped.
    pub(crate) fn begin_text(self: &Arc<Self>) -> TextWork {
        self.texts.fetch_add(1, Ordering::Relaxed);
        TextWork(Arc::clone(self))
    }

    /// Whether one of them has, or a text is being tokenised for one.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy() > 0 || self.texts.load(Ordering::Relaxed) > 0
    }
}
