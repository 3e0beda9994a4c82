//! The prefix cache: whole blocks of keys and values, found by the tokens that they hold and all tokens
//! before those, for sequences that begin alike.
//!
//! It is a trie whose edges are the tokens of a block themselves, so that no two beginnings are ever taken
//! for one another. Each block in it has a reference. While a sequence refers to the block too, the
//! sequence's leases cover it; from when none does, it has leases of its own.

use std::collections::{BTreeMap, BTreeSet};

use gogrid_lease::Lease;
use gogrid_pipeline::{BLOCK_TOKENS, BlockId};

/// The tokens of a block.
pub(super) type Tokens = [u32; BLOCK_TOKENS];

/// An entry's number; no two entries ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId(u64);

/// What sequences must have in common before they can share a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Root {
    pub(super) salt: u64,
    /// Whether rows are turned as those of a long sequence.
    pub(super) is_long: bool,
}

/// What comes before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Before {
    Nothing(Root),
    Entry(EntryId),
}

/// A block's place in the trie. Those after one entry are neighbours in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) before: Before,
    pub(super) tokens: Tokens,
}

/// A block that is kept.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) block: BlockId,
    /// None while a sequence refers to the block.
    pub(super) leases: Vec<Lease>,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    /// By KV group. Those of groups with a window may be missing.
    slots: Vec<Option<Slot>>,
    used: u64,
}

/// Of each KV group, the slots that were taken out.
pub(super) type Taken = Vec<Vec<Slot>>;

/// See the module.
#[derive(Debug)]
pub(super) struct PrefixCache {
    entries: BTreeMap<EntryId, Entry>,
    found: BTreeMap<Key, EntryId>,
    /// By KV group, the entry that has a block.
    owners: Vec<BTreeMap<BlockId, EntryId>>,
    /// Entries after which there is none, by when they were used last.
    leaves: BTreeSet<(u64, EntryId)>,
    made: u64,
    uses: u64,
}

impl PrefixCache {
    pub(super) fn new(groups: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            found: BTreeMap::new(),
            owners: vec![BTreeMap::new(); groups],
            leaves: BTreeSet::new(),
            made: 0,
            uses: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn holds(&self, id: EntryId) -> bool {
        self.entries.contains_key(&id)
    }

    pub(super) fn find(&self, key: &Key) -> Option<EntryId> {
        self.found.get(key).copied()
    }

    /// The entries of the longest beginning of these blocks that is there.
    pub(super) fn chain(&self, root: Root, blocks: impl Iterator<Item = Tokens>) -> Vec<EntryId> {
        let mut before = Before::Nothing(root);
        let next = |tokens| {
            let entry = self.find(&Key { before, tokens })?;
            before = Before::Entry(entry);
            Some(entry)
        };
        blocks.map_while(next).collect()
    }

    /// The entry that has a block of a group.
    pub(super) fn owner(&self, group: usize, block: BlockId) -> Option<EntryId> {
        self.owners[group].get(&block).copied()
    }

    pub(super) fn slot(&self, id: EntryId, group: usize) -> Option<&Slot> {
        self.entries.get(&id)?.slots[group].as_ref()
    }

    pub(super) fn slot_mut(&mut self, id: EntryId, group: usize) -> Option<&mut Slot> {
        self.entries.get_mut(&id)?.slots[group].as_mut()
    }

    /// Puts an entry in a place where there is none; a reference to each block is its own.
    pub(super) fn insert(&mut self, key: Key, blocks: &[Option<BlockId>]) -> EntryId {
        self.made += 1;
        self.uses += 1;
        let (id, used) = (EntryId(self.made), self.uses);
        if let Before::Entry(before) = key.before {
            let last_used = self.entries[&before].used;
            self.leaves.remove(&(last_used, before));
        }
        let was = self.found.insert(key, id);
        assert_eq!(was, None, "there is one already");
        self.leaves.insert((used, id));
        let slots = blocks.iter().map(|_| None).collect();
        self.entries.insert(id, Entry { key, slots, used });
        for (group, &block) in blocks.iter().enumerate() {
            block
                .into_iter()
                .for_each(|block| self.fill(id, group, block));
        }
        id
    }

    /// Gives an entry a block that it lacks, with a reference of the entry's own.
    pub(super) fn fill(&mut self, id: EntryId, group: usize, block: BlockId) {
        let leases = Vec::new();
        let entry = self.entries.get_mut(&id).expect("it is there");
        entry.slots[group] = Some(Slot { block, leases });
        let was = self.owners[group].insert(block, id);
        assert_eq!(was, None, "{block:?} has an owner");
    }

    /// Marks an entry as used.
    pub(super) fn touch(&mut self, id: EntryId) {
        self.uses += 1;
        let entry = self.entries.get_mut(&id).expect("it is there");
        let used = std::mem::replace(&mut entry.used, self.uses);
        if self.leaves.remove(&(used, id)) {
            self.leaves.insert((self.uses, id));
        }
    }

    /// The entry that was used longest ago of those that nothing comes after and no sequence refers to.
    pub(super) fn oldest_idle(&self) -> Option<EntryId> {
        let is_idle = |slots: &[Option<Slot>]| {
            let mut blocks = slots.iter().flatten();
            blocks.all(|slot| !slot.leases.is_empty())
        };
        let mut leaves = self.leaves.iter();
        let oldest = leaves.find(|(_, id)| is_idle(&self.entries[id].slots));
        oldest.map(|&(_, id)| id)
    }

    /// The blocks that have leases, by entry and group.
    pub(super) fn leased(&self) -> Vec<(EntryId, usize)> {
        let groups = 0..self.owners.len();
        let slots = (self.entries.iter()).flat_map(|(&id, entry)| {
            let slots = groups.clone().zip(&entry.slots);
            slots.map(move |(group, slot)| (id, group, slot))
        });
        let has_leases = |slot: &Slot| !slot.leases.is_empty();
        let leased = slots.filter(|(.., slot)| slot.as_ref().is_some_and(has_leases));
        leased.map(|(id, group, _)| (id, group)).collect()
    }

    /// Takes out an entry, all that come after it, and what it leaves empty before it.
    pub(super) fn take(&mut self, id: EntryId) -> Taken {
        let mut taken: Taken = self.owners.iter().map(|_| Vec::new()).collect();
        let Some(entry) = self.entries.get(&id) else {
            return taken;
        };
        let mut before = entry.key.before;
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            left.extend(self.after(id));
            self.take_one(id, &mut taken);
        }
        while let Before::Entry(id) = before {
            let entry = &self.entries[&id];
            before = entry.key.before;
            if entry.slots.iter().any(Option::is_some) || self.after(id).next().is_some() {
                self.leaves.extend(self.leaf(id));
                break;
            }
            self.take_one(id, &mut taken);
        }
        taken
    }

    /// Takes one block out of an entry, and the entry with it where it has no other and none comes after it.
    pub(super) fn take_slot(&mut self, id: EntryId, group: usize) -> Taken {
        let mut taken: Taken = self.owners.iter().map(|_| Vec::new()).collect();
        let Some(entry) = self.entries.get_mut(&id) else {
            return taken;
        };
        if let Some(slot) = entry.slots[group].take() {
            self.owners[group].remove(&slot.block);
            taken[group].push(slot);
        }
        let is_empty = entry.slots.iter().all(Option::is_none);
        if is_empty && self.after(id).next().is_none() {
            for (all, more) in taken.iter_mut().zip(self.take(id)) {
                all.extend(more);
            }
        }
        taken
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Taken {
        let mut taken: Taken = self.owners.iter().map(|_| Vec::new()).collect();
        let all: Vec<EntryId> = self.entries.keys().copied().collect();
        for id in all {
            self.take_one(id, &mut taken);
        }
        taken
    }

    /// The entries right after one.
    fn after(&self, id: EntryId) -> impl Iterator<Item = EntryId> {
        let key = |token| Key {
            before: Before::Entry(id),
            tokens: [token; BLOCK_TOKENS],
        };
        let found = self.found.range(key(0)..=key(u32::MAX));
        found.map(|(_, &id)| id)
    }

    /// An entry as one of the leaves, if it is one.
    fn leaf(&self, id: EntryId) -> Option<(u64, EntryId)> {
        let is_leaf = self.after(id).next().is_none();
        is_leaf.then(|| (self.entries[&id].used, id))
    }

    fn take_one(&mut self, id: EntryId, taken: &mut Taken) {
        let entry = self.entries.remove(&id).expect("it is there");
        self.found.remove(&entry.key);
        self.leaves.remove(&(entry.used, id));
        for (group, slot) in entry.slots.into_iter().enumerate() {
            if let Some(slot) = slot {
                self.owners[group].remove(&slot.block);
                taken[group].push(slot);
            }
        }
    }
}

#[cfg(test)]
impl PrefixCache {
    /// Every block that is kept, by group, with whether it has leases.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, BlockId, bool)> {
        let slots = self
            .entries
            .values()
            .flat_map(|e| e.slots.iter().enumerate());
        slots.filter_map(|(group, slot)| {
            let slot = slot.as_ref()?;
            Some((group, slot.block, !slot.leases.is_empty()))
        })
    }

    /// Its parts agree with one another.
    pub(super) fn check(&self) {
        assert_eq!(self.found.len(), self.entries.len());
        let leaves = self.entries.keys().filter_map(|&id| self.leaf(id));
        assert_eq!(leaves.collect::<BTreeSet<_>>(), self.leaves);
        for (&id, entry) in &self.entries {
            assert_eq!(self.found[&entry.key], id);
            if let Before::Entry(before) = entry.key.before {
                assert!(self.holds(before), "an entry after nothing");
            }
            for (group, slot) in entry.slots.iter().enumerate() {
                let block = slot.as_ref().map(|slot| slot.block);
                block
                    .into_iter()
                    .for_each(|block| assert_eq!(self.owner(group, block), Some(id)));
            }
        }
        let owned: usize = self.owners.iter().map(BTreeMap::len).sum();
        assert_eq!(owned, self.blocks().count());
    }
}
