use std::fmt;

use gogrid_units::Bytes;

use crate::sync::{Arc, AtomicU64, Ordering};

/// What leased memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Packed weights.
    Weights,
    /// Keys and values.
    Kv,
    /// Buffers of a step.
    Scratch,
    /// What a text takes while it is tokenised.
    Text,
    /// Keys and values that no sequence has any more, kept for those that begin alike. They go first.
    Prefix,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Weights,
        Self::Kv,
        Self::Scratch,
        Self::Text,
        Self::Prefix,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Weights => "weights",
            Self::Kv => "kv cache",
            Self::Scratch => "scratch",
            Self::Text => "a text",
            Self::Prefix => "prefix cache",
        })
    }
}

/// One device's memory account: what we hold there, and the cap on it. Clones share the account.
///
/// Every allocation takes a [`Lease`] first. What is leased rises only to a sum at or under the
/// cap, whatever happens at the same time; after the cap falls below what is leased, nothing is
/// granted until enough has been given back.
///
/// Accounts of one memory may stand [beside](Self::beside) one another: then each has its own cap,
/// which the sum of all of them is held to when that account leases.
#[derive(Clone, Debug)]
pub struct Ledger {
    sum: Arc<Sum>,
    account: Arc<Account>,
}

/// What is leased by all accounts that stand beside one another.
///
/// `word` is the bytes in use in its low 48 bits, and above them a count of cap changes.
///
/// A reservation reads `word`, then its account's `cap`, and swaps `word`: if a cap change finished in
/// between, the count differs and the swap fails, so no cap is applied after [`Ledger::set_cap`]
/// returned with another. The count wraps after 65,536 changes; a reservation would have to sleep
/// through exactly that many to be fooled.
#[derive(Debug)]
struct Sum {
    word: AtomicU64,
    by_kind: ByKind,
}

#[derive(Debug)]
struct Account {
    cap: AtomicU64,
    by_kind: ByKind,
}

type ByKind = [AtomicU64; Kind::ALL.len()];

const CAP_CHANGE: u64 = 1 << 48;
const BYTES_MAX: u64 = CAP_CHANGE - 1;

const fn bytes_in(word: u64) -> u64 {
    word & BYTES_MAX
}

/// Why a lease was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} more for {kind} would pass the memory cap: {used} of {cap} in use")]
pub struct Refusal {
    /// What it was for.
    pub kind: Kind,
    /// What was asked.
    pub asked: Bytes,
    /// What was leased, of all kinds.
    pub used: Bytes,
    /// The cap.
    pub cap: Bytes,
}

impl Ledger {
    /// An account with nothing leased. Caps above 256 TiB count as that.
    pub fn new(cap: Bytes) -> Self {
        let sum = Sum {
            word: AtomicU64::new(0),
            by_kind: Kind::ALL.map(|_| AtomicU64::new(0)),
        };
        Self::of(Arc::new(sum), cap)
    }

    /// Another account of the same memory, with nothing leased. Leases of both count together against
    /// the cap of the one that leases.
    pub fn beside(&self, cap: Bytes) -> Self {
        Self::of(Arc::clone(&self.sum), cap)
    }

    fn of(sum: Arc<Sum>, cap: Bytes) -> Self {
        Self {
            sum,
            account: Arc::new(Account {
                cap: AtomicU64::new(cap.0.min(BYTES_MAX)),
                by_kind: Kind::ALL.map(|_| AtomicU64::new(0)),
            }),
        }
    }

    /// Leases `asked` bytes, or refuses and changes nothing. Zero bytes are always granted.
    pub fn reserve(&self, kind: Kind, asked: Bytes) -> Result<Lease, Refusal> {
        let (sum, account) = (&*self.sum, &*self.account);
        let mut word = sum.word.load(Ordering::Acquire);
        loop {
            let used = bytes_in(word);
            let cap = account.cap.load(Ordering::Relaxed);
            let fits = used.checked_add(asked.0).is_some_and(|sum| sum <= cap);
            if !fits && asked.0 > 0 {
                let (used, cap) = (Bytes(used), Bytes(cap));
                return Err(Refusal {
                    kind,
                    asked,
                    used,
                    cap,
                });
            }
            // The sum is at most the cap, which is at most 48 bits: the count is untouched.
            let swap = sum.word.compare_exchange_weak(
                word,
                word + asked.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match swap {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        for by_kind in [&sum.by_kind, &account.by_kind] {
            by_kind[kind as usize].fetch_add(asked.0, Ordering::Relaxed);
        }
        Ok(Lease {
            ledger: self.clone(),
            kind,
            bytes: asked,
        })
    }

    /// Bytes leased, of all kinds, by this account and those beside it.
    pub fn used(&self) -> Bytes {
        Bytes(bytes_in(self.sum.word.load(Ordering::Acquire)))
    }

    /// Bytes leased by this account alone, of all kinds; nearly so while other threads reserve and
    /// drop, since one kind is read after the other.
    pub fn own(&self) -> Bytes {
        Kind::ALL.into_iter().map(|kind| self.used_by(kind)).sum()
    }

    /// Bytes leased of one kind by this account. While other threads reserve and drop, the kinds may
    /// add up to less than [`used`](Self::used), never to more.
    pub fn used_by(&self, kind: Kind) -> Bytes {
        Bytes(self.account.by_kind[kind as usize].load(Ordering::Relaxed))
    }

    /// Bytes leased of one kind by this account and those beside it.
    pub fn used_by_all(&self, kind: Kind) -> Bytes {
        Bytes(self.sum.by_kind[kind as usize].load(Ordering::Relaxed))
    }

    /// The most that may be leased.
    pub fn cap(&self) -> Bytes {
        Bytes(self.account.cap.load(Ordering::Acquire))
    }

    /// What could be leased now; zero while more than the cap is leased.
    pub fn room(&self) -> Bytes {
        self.cap().saturating_sub(self.used())
    }

    /// Changes the cap. Leases are never taken back: use above a lower cap stays until it is
    /// dropped, and only then falls.
    pub fn set_cap(&self, cap: Bytes) {
        self.account
            .cap
            .store(cap.0.min(BYTES_MAX), Ordering::Release);
        self.sum.word.fetch_add(CAP_CHANGE, Ordering::AcqRel);
    }

    fn give_back(&self, kind: Kind, bytes: Bytes) {
        // The kind first, so that the kinds never add up to more than is in use.
        for by_kind in [&self.account.by_kind, &self.sum.by_kind] {
            by_kind[kind as usize].fetch_sub(bytes.0, Ordering::Relaxed);
        }
        let before = self.sum.word.fetch_sub(bytes.0, Ordering::AcqRel);
        debug_assert!(
            bytes_in(before) >= bytes.0,
            "gave back more than was leased"
        );
    }
}

/// Bytes held on a device. Dropping it gives them back.
#[derive(Debug)]
#[must_use = "dropping a lease gives its bytes back"]
pub struct Lease {
    ledger: Ledger,
    kind: Kind,
    bytes: Bytes,
}

impl Lease {
    /// How much it holds.
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Makes it a lease for something else. What is leased in all stays the same throughout.
    pub fn turn_into(&mut self, kind: Kind) {
        let Ledger { account, sum } = &self.ledger;
        // The old kind first, so that the kinds never add up to more than is in use.
        for by_kind in [&account.by_kind, &sum.by_kind] {
            by_kind[self.kind as usize].fetch_sub(self.bytes.0, Ordering::Relaxed);
            by_kind[kind as usize].fetch_add(self.bytes.0, Ordering::Relaxed);
        }
        self.kind = kind;
    }

    /// Gives back all but `bytes`; does nothing when it holds no more than that.
    pub fn shrink_to(&mut self, bytes: Bytes) {
        let spare = self.bytes.saturating_sub(bytes);
        if spare > Bytes::ZERO {
            self.bytes = bytes;
            self.ledger.give_back(self.kind, spare);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ledger.give_back(self.kind, self.bytes);
    }
}

/// Leases everything asked for, in order, or nothing: on a refusal, its index and the refusal.
/// A ledger may be named more than once.
pub fn reserve_all(asked: &[(&Ledger, Kind, Bytes)]) -> Result<Vec<Lease>, (usize, Refusal)> {
    let leases = asked
        .iter()
        .enumerate()
        .map(|(index, &(ledger, kind, bytes))| {
            ledger
                .reserve(kind, bytes)
                .map_err(|refusal| (index, refusal))
        });
    leases.collect()
}
