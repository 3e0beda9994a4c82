use gogrid_lease::{Kind, Lease, Ledger, reserve_all};
use gogrid_units::Bytes;

use super::blocks::blocks_at_most;
use crate::error::Refusal;

/// Where sequences' keys and values live, and how much room they have there.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// One for each ledger.
    pub(crate) accounts: Vec<Account>,
    /// The window of each KV group of the model.
    pub(crate) windows: Vec<Option<usize>>,
}

/// A ledger and what a block of each KV group takes from it, over all stages that lease there.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// The devices' name, for messages.
    pub(crate) device: String,
    pub(crate) ledger: Ledger,
    pub(crate) kv_block: Vec<Bytes>,
}

impl Room {
    /// What a sequence of `tokens` tokens holds at most, in the order of the accounts.
    pub(crate) fn needed(&self, tokens: usize) -> Vec<Bytes> {
        let needed = |account: &Account| {
            let groups = self.windows.iter().zip(&account.kv_block);
            groups
                .map(|(&window, block)| block.times(blocks_at_most(window, tokens) as u64))
                .sum()
        };
        self.accounts.iter().map(needed).collect()
    }

    /// Refuses a sequence that would not fit if it were the only one.
    pub(crate) fn refuse_what_never_fits(&self, tokens: usize) -> Result<(), Refusal> {
        for (account, needed) in self.accounts.iter().zip(self.needed(tokens)) {
            let Account { device, ledger, .. } = account;
            let fixed = ledger.used_by_all(Kind::Weights) + ledger.used_by_all(Kind::Scratch);
            let room = ledger.cap().saturating_sub(fixed);
            if needed > room {
                let (device, cap) = (device.clone(), ledger.cap());
                return Err(Refusal::MemoryCap {
                    device,
                    needed,
                    room,
                    cap,
                });
            }
        }
        Ok(())
    }

    /// Refuses while more is held somewhere than a lowered cap allows.
    pub(crate) fn refuse_while_over(&self) -> Result<(), Refusal> {
        let over = |account: &&Account| account.ledger.used() > account.ledger.cap();
        match self.accounts.iter().find(over) {
            None => Ok(()),
            Some(Account { device, ledger, .. }) => Err(Refusal::OverCap {
                device: device.clone(),
                used: ledger.used(),
                cap: ledger.cap(),
            }),
        }
    }

    /// Leases the whole of a sequence on every device, or nothing; the refusal is of the first device
    /// that has no room for it now.
    pub(crate) fn lease(&self, tokens: usize) -> Result<Vec<Lease>, Refusal> {
        let needed = self.needed(tokens);
        let asked: Vec<_> = self
            .accounts
            .iter()
            .zip(needed)
            .map(|(a, bytes)| (&a.ledger, Kind::Kv, bytes))
            .collect();
        reserve_all(&asked).map_err(|(index, refusal)| {
            let device = self.accounts[index].device.clone();
            let gogrid_lease::Refusal { used, cap, .. } = refusal;
            match used > cap {
                true => Refusal::OverCap { device, used, cap },
                false => Refusal::MemoryCap {
                    device,
                    needed: refusal.asked,
                    room: cap.saturating_sub(used),
                    cap,
                },
            }
        })
    }

    /// Leases for a sequence that runs already and cannot wait for room.
    pub(crate) fn lease_or_refuse(&self, tokens: usize) -> Result<Vec<Lease>, Refusal> {
        self.refuse_what_never_fits(tokens)?;
        self.lease(tokens)
    }

    /// Whether some device has room for `bytes` more now.
    pub(crate) fn check(&self, needed: Bytes) -> Result<(), Refusal> {
        let roomiest = self
            .accounts
            .iter()
            .max_by_key(|account| account.ledger.room());
        let Account { device, ledger, .. } = roomiest.expect("a pipeline has a device");
        let (room, cap) = (ledger.room(), ledger.cap());
        match needed <= room {
            true => Ok(()),
            false => Err(Refusal::MemoryCap {
                device: device.clone(),
                needed,
                room,
                cap,
            }),
        }
    }
}
