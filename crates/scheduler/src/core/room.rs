use gogrid_lease::{Kind, Lease, Ledger, reserve_all};
use gogrid_units::Bytes;

use super::blocks::blocks_at_most;
use crate::error::Refusal;
use crate::limits::PREFIX_LEAVES_PART;

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

impl Account {
    /// What is leased, but for what is kept for requests to come: that is given back first.
    fn held(&self) -> Bytes {
        let kept = self.ledger.used_by_all(Kind::Prefix);
        self.ledger.used().saturating_sub(kept)
    }

    fn room(&self) -> Bytes {
        self.ledger.cap().saturating_sub(self.held())
    }
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

    /// Whether more is leased somewhere than a lowered cap allows.
    pub(crate) fn is_over(&self) -> bool {
        let mut accounts = self.accounts.iter();
        accounts.any(|account| account.ledger.used() > account.ledger.cap())
    }

    /// Whether somebody keeps something for requests to come.
    pub(crate) fn has_caches(&self) -> bool {
        let mut accounts = self.accounts.iter();
        accounts.any(|account| account.ledger.used_by_all(Kind::Prefix) > Bytes::ZERO)
    }

    /// Whether a sequence of `tokens` fits once others of so many tokens have given their leases back.
    pub(crate) fn fits_without(&self, tokens: usize, others: impl Iterator<Item = usize>) -> bool {
        let mut freed = vec![Bytes::ZERO; self.accounts.len()];
        for other in others {
            for (sum, bytes) in freed.iter_mut().zip(self.needed(other)) {
                *sum += bytes;
            }
        }
        let accounts = self.accounts.iter().zip(self.needed(tokens)).zip(freed);
        accounts
            .into_iter()
            .all(|((account, needed), freed)| needed <= account.room() + freed)
    }

    /// Refuses while more is held somewhere than a lowered cap allows.
    pub(crate) fn refuse_while_over(&self) -> Result<(), Refusal> {
        // What is kept for requests to come is given back.
        let over = |account: &&Account| account.held() > account.ledger.cap();
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
        self.lease_beyond(tokens, &vec![Bytes::ZERO; self.accounts.len()])
    }

    /// Leases what a sequence needs more than it has already, in the order of the accounts.
    pub(crate) fn lease_beyond(
        &self,
        tokens: usize,
        covered: &[Bytes],
    ) -> Result<Vec<Lease>, Refusal> {
        let needed = self.needed(tokens).into_iter().zip(covered);
        let more = needed.map(|(needed, &covered)| needed.saturating_sub(covered));
        let accounts = self.accounts.iter().zip(more);
        let asked: Vec<_> = accounts
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

    /// Leases a block of a group for the prefix cache, unless the cache has its share.
    pub(crate) fn lease_prefix(&self, group: usize) -> Option<Vec<Lease>> {
        let asked = self.accounts.iter();
        let asked: Vec<_> = asked
            .map(|account| (&account.ledger, Kind::Prefix, account.kv_block[group]))
            .collect();
        let has_share = |&(ledger, kind, bytes): &(&Ledger, Kind, Bytes)| {
            let fixed = ledger.used_by_all(Kind::Weights) + ledger.used_by_all(Kind::Scratch);
            let room = ledger.cap().saturating_sub(fixed);
            let most = room.saturating_sub(Bytes(room.0 / PREFIX_LEAVES_PART));
            ledger.used_by_all(kind) + bytes > most
        };
        match asked.iter().any(has_share) {
            true => None,
            false => reserve_all(&asked).ok(),
        }
    }

    /// Whether some device has room for `bytes` more now.
    pub(crate) fn check(&self, needed: Bytes) -> Result<(), Refusal> {
        let roomiest = self.accounts.iter().max_by_key(|account| account.room());
        let account = roomiest.expect("a pipeline has a device");
        let (device, room, cap) = (&account.device, account.room(), account.ledger.cap());
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
