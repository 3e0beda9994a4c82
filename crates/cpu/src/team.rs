//! A device's thread team, with the memory that attention has on it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gogrid_kernels::Team;
use gogrid_units::{Bytes, OutOfMemory, Spawn};

/// A device's team, shared by its stages; the device's driver thread is the only one to lock it
/// while steps run.
#[derive(Clone)]
pub(crate) struct SharedTeam {
    inner: Arc<Mutex<Inner>>,
}

pub(crate) struct Inner {
    pub(crate) team: Team,
    /// What each stage has leased for attention; the team keeps the most of them.
    kept: Vec<Bytes>,
    /// What the team keeps.
    held: Bytes,
    /// How often the team's threads were started anew.
    renewals: u64,
}

/// A stage's part in what the team keeps for attention; ends when it is dropped.
pub(crate) struct Keeping {
    team: SharedTeam,
    bytes: Bytes,
}

impl SharedTeam {
    pub(crate) fn new(threads: usize, spawn: Arc<dyn Spawn>) -> io::Result<Self> {
        let inner = Inner {
            team: Team::new(threads, spawn)?,
            kept: Vec::new(),
            held: Bytes::ZERO,
            renewals: 0,
        };
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in a step ends the step; the team itself can go on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the team's threads anew for the `renewal`th time; each of its stages asks for it.
    pub(crate) fn renew(&self, renewal: u64) {
        let Inner { team, renewals, .. } = &mut *self.lock();
        if *renewals < renewal {
            *renewals = renewal;
            team.renew();
        }
    }

    /// Keeps at least `bytes` for attention as long as the answer lives. The caller has leased them.
    pub(crate) fn keep_for_attention(&self, bytes: Bytes) -> Result<Keeping, OutOfMemory> {
        let mut keeping = Keeping {
            team: self.clone(),
            bytes: Bytes::ZERO,
        };
        self.lock().kept.push(Bytes::ZERO);
        keeping.grow(bytes)?;
        Ok(keeping)
    }
}

impl Inner {
    /// Has the team keep the most that a stage has leased.
    fn follow(&mut self) -> Result<(), OutOfMemory> {
        let most = self.kept.iter().copied().max().unwrap_or(Bytes::ZERO);
        if most != self.held {
            self.team.keep_scratch(most)?;
            self.held = most;
        }
        Ok(())
    }

    fn replace(&mut self, was: Bytes, bytes: Bytes) {
        let own = self.kept.iter_mut().find(|other| **other == was);
        *own.expect("kept until now") = bytes;
    }
}

impl Keeping {
    /// Keeps `bytes` in place of what it kept; as before where the system has no memory for them. The
    /// caller has leased them.
    pub(crate) fn grow(&mut self, bytes: Bytes) -> Result<(), OutOfMemory> {
        let mut inner = self.team.lock();
        inner.replace(self.bytes, bytes);
        if let Err(error) = inner.follow() {
            inner.replace(bytes, self.bytes);
            return Err(error);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let mut inner = self.team.lock();
        let own = inner.kept.iter().position(|&other| other == self.bytes);
        inner.kept.swap_remove(own.expect("kept until now"));
        if inner.follow().is_err() {
            // Not even less than before: none is kept then, and attention is slower and no less right.
            inner.team.drop_scratch();
            inner.held = Bytes::ZERO;
        }
    }
}
