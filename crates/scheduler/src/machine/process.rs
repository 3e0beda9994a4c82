use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use gogrid_lease::Ledger;
use gogrid_units::Bytes;

use super::engines::Engines;
use super::gate::Gate;
use super::hardware::Hardware;
use super::peers::PeerUse;
use crate::engine::EngineInbox;

/// The machines that are open in one process, which share the caps as processes do: a pipeline that
/// is opened alone has a machine of its own, and two such must not take twice the cap.
#[derive(Default)]
pub(crate) struct Process {
    /// A lock, held to list a machine or to copy the list.
    open: Mutex<Vec<Weak<Shown>>>,
    /// The account that those of each memory stand beside, by its name: one for each memory of the
    /// computer, as long as the process lives. A lock, held to look one up while a machine is opened.
    memories: Mutex<Vec<(String, Ledger)>>,
    pub(super) caches: Caches,
}

/// Whether the engines of a process may keep things for requests to come.
#[derive(Default)]
pub(super) struct Caches {
    /// Those that need all room there is.
    pub(super) off: AtomicUsize,
    /// A lock, held while engines are told to give back what they keep: each has room for one such message.
    pub(super) clearing: Mutex<()>,
}

/// What a machine shows of itself, as long as it is open. It holds nothing that ends with a thread,
/// since another machine may be the last to look at it.
pub(crate) struct Shown {
    memories: Vec<(String, Ledger)>,
    engines: Arc<Engines>,
    gate: Arc<Gate>,
}

impl Process {
    /// That of this process.
    pub(crate) fn this() -> Arc<Self> {
        static THIS: LazyLock<Arc<Process>> = LazyLock::new(Arc::default);
        Arc::clone(&THIS)
    }

    /// The account of a machine in the memory of this name, which leases nothing yet. What all
    /// machines of the process lease there counts against the cap of each, at every lease.
    pub(crate) fn ledger(&self, memory: &str) -> Ledger {
        let memories = self.memories.lock();
        let mut memories = memories.unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ledger)) = memories.iter().find(|(name, _)| name == memory) {
            return ledger.beside(Bytes::ZERO);
        }
        let first = Ledger::new(Bytes::ZERO);
        let ledger = first.beside(Bytes::ZERO);
        memories.push((memory.to_owned(), first));
        ledger
    }

    /// Lists a machine until what this gives is dropped.
    pub(crate) fn show(&self, hardware: &Hardware) -> Arc<Shown> {
        let memories = hardware.memories.iter();
        let shown = Arc::new(Shown {
            memories: memories
                .map(|memory| (memory.name.clone(), memory.ledger.clone()))
                .collect(),
            engines: Arc::clone(&hardware.engines),
            gate: Arc::clone(&hardware.gate),
        });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| other.strong_count() > 0);
        open.push(Arc::downgrade(&shown));
        shown
    }

    /// What the others take. Their time is this process's own, and no load of others.
    pub(crate) fn others(&self, gate: &Arc<Gate>) -> Vec<PeerUse> {
        let open = self.all();
        let others = open.iter().filter(|other| !Arc::ptr_eq(&other.gate, gate));
        others.map(|other| other.usage()).collect()
    }

    /// The engines of all machines.
    pub(super) fn engines(&self) -> Vec<EngineInbox> {
        let open = self.all();
        open.iter().flat_map(|shown| shown.engines.all()).collect()
    }

    fn all(&self) -> Vec<Arc<Shown>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Shown {
    fn usage(&self) -> PeerUse {
        let memories = self.memories.iter();
        let held = memories.map(|(name, ledger)| (name.clone(), ledger.own().0));
        PeerUse {
            pid: std::process::id(),
            memory_bytes: held.collect(),
            is_busy: self.engines.is_busy() && !self.gate.is_shut_to_all(),
            ..PeerUse::default()
        }
    }
}
