//! A device's thread team, with the memory that attention has on it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gogrid_kernels::Team;
use gogrid_units::{Bytes, Spawn};

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
    pub(crate) fn keep_for_attention(&self, bytes: Bytes) -> Keeping {
        self.lock().change_kept(|kept| kept.push(bytes));
        Keeping {
            team: self.clone(),
            bytes,
        }
    }
}

impl Inner {
    fn change_kept(&mut self, change: impl FnOnce(&mut Vec<Bytes>)) {
        let most = |kept: &[Bytes]| kept.iter().copied().max().unwrap_or(Bytes::ZERO);
        let before = most(&self.kept);
        change(&mut self.kept);
        let after = most(&self.kept);
        if after != before {
            self.team.keep_scratch(after);
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let bytes = self.bytes;
        self.team.lock().change_kept(|kept| {
            let own = kept.iter().position(|&other| other == bytes);
            kept.swap_remove(own.expect("kept until now"));
        });
    }
}
