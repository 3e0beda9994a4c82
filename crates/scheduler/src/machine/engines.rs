use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;

use super::process::Process;
use crate::engine::{EngineInbox, Message};

/// The engines of the pipelines that stand on a machine. Read without a lock by the observer, which
/// tells them what holds.
#[derive(Default)]
pub(crate) struct Engines {
    entered: AtomicU64,
    listed: ArcSwap<Vec<(u64, EngineInbox)>>,
    /// Texts that are being tokenised for them.
    texts: AtomicUsize,
    /// Where the machines beside are listed, whose engines keep things in the same memories.
    process: Arc<Process>,
}

/// While this is there, no engine of the process keeps anything for requests to come.
pub(crate) struct CachesOff(Arc<Process>);

impl Drop for CachesOff {
    fn drop(&mut self) {
        self.0.caches.off.fetch_sub(1, Ordering::AcqRel);
    }
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
    /// None yet, of a machine in this process.
    pub(crate) fn of(process: &Arc<Process>) -> Self {
        Self {
            process: Arc::clone(process),
            ..Self::default()
        }
    }

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

    /// The same on every machine of the process, for those that waited for what one kept.
    pub(crate) fn ring_everywhere(&self, but: &EngineInbox) {
        let all = self.process.engines();
        let others = all.iter().filter(|engine| !engine.is(but));
        others.for_each(EngineInbox::ring);
    }

    /// Has every engine of the process but one, which wants its room, give back soon what it keeps for requests to come.
    pub(crate) fn want_caches(&self, but: &EngineInbox) {
        let all = self.process.engines();
        let others = all
            .iter()
            .filter(|engine| !engine.is(but) && engine.has_cache());
        others.for_each(EngineInbox::want_cache);
    }

    /// Has every engine of the process give back what it keeps, and keep nothing for as long as what this gives is
    /// there; waits until they have. Not on an engine's thread.
    pub(crate) fn clear_caches(&self) -> CachesOff {
        let caches = &self.process.caches;
        caches.off.fetch_add(1, Ordering::AcqRel);
        let off = CachesOff(Arc::clone(&self.process));
        // It guards nothing but the room for messages.
        let turn = caches.clearing.lock();
        let turn = turn.unwrap_or_else(PoisonError::into_inner);
        let tell = |engine: EngineInbox| {
            let (done, is_done) = sync_channel::<()>(0);
            let told = engine.send(Message::GiveCacheBack(Arc::new(done)));
            told.is_ok().then_some(is_done)
        };
        let told: Vec<_> = self
            .process
            .engines()
            .into_iter()
            .filter_map(tell)
            .collect();
        for is_done in told {
            // The sender is dropped when it is done, or the engine has ended.
            let _ = is_done.recv();
        }
        drop(turn);
        off
    }

    /// The same, once, for a caller that must not be held up.
    pub(crate) async fn give_caches_back(&self) {
        let all = self.process.engines().into_iter();
        for engine in all.filter(EngineInbox::has_cache) {
            engine.give_cache_back().await;
        }
    }

    pub(crate) fn caches_are_off(&self) -> bool {
        self.process.caches.off.load(Ordering::Acquire) > 0
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
