//! What goes into the prefix cache, what comes out of it, and when it is given back.

use std::collections::BTreeSet;
use std::sync::Arc;

use gogrid_lease::{Kind, Lease};
use gogrid_pipeline::{BLOCK_TOKENS, BlockId};
use gogrid_units::{Bytes, Whose};

use super::Core;
use super::blocks::Left;
use super::layout::Stages;
use super::prefix::{Before, EntryId, Key, Slot, Taken};
use super::queue::Waiting;
use super::sequence::{Beginning, Held, Hit, Kept};
use super::steps::release;
use crate::limits::PREFIX_ENTRIES_MAX;

/// The leases of a block in the cache, until a sequence that begins with it has leases.
struct Lent {
    entry: EntryId,
    group: usize,
    leases: Vec<Lease>,
}

impl Core {
    /// Leases a sequence of at most `rows` rows, which begins with as much of a chain as it can use. What is kept
    /// of others goes for it; with it, or with `None`, the cache is as it should be.
    pub(super) fn admit(&mut self, rows: usize, chain: &[EntryId]) -> Option<Held> {
        let (hit, lent) = self.lend(chain);
        let covered = self.covered(&lent);
        loop {
            match self.layout.room.lease_beyond(rows, &covered) {
                Ok(mut leases) => {
                    for mut lease in lent.into_iter().flat_map(|lent| lent.leases) {
                        lease.turn_into(Kind::Kv);
                        leases.push(lease);
                    }
                    return Some(Held { leases, hit });
                }
                Err(_) if self.evict_oldest() || self.evict_leased() => {}
                Err(_) => {
                    for Lent {
                        entry,
                        group,
                        leases,
                    } in lent
                    {
                        let slot = self.prefixes.slot_mut(entry, group);
                        slot.expect("a sequence refers to it").leases = leases;
                    }
                    self.let_go(hit.into_blocks());
                    return None;
                }
            }
        }
    }

    /// The entries that hold the beginning of a request's prompt, up to its last row but one: the last runs in
    /// any case.
    pub(super) fn chain_of(&self, beginning: &Beginning) -> Vec<EntryId> {
        let border = self.shape.rotations_change_above;
        let Some(root) = beginning.root_to_read(border).filter(|_| self.keeps()) else {
            return Vec::new();
        };
        let ids = &beginning.prompt.rows.ids;
        let (blocks, _) = ids[..ids.len().saturating_sub(1)].as_chunks();
        self.prefixes.chain(root, blocks.iter().copied())
    }

    /// Whether blocks may be kept now.
    fn keeps(&self) -> bool {
        let stands = matches!(self.stages, Stages::Standing) && !self.held_still;
        stands && !self.keeps_nothing && !self.layout.room.is_over()
    }

    /// Keeps nothing more while that is so, for as long as nobody says the same again.
    pub(crate) fn keep_nothing(&mut self, is_so: bool) {
        self.keeps_nothing = is_so;
    }

    /// Refers to the blocks of a chain that a sequence can begin with.
    fn lend(&mut self, chain: &[EntryId]) -> (Hit, Vec<Lent>) {
        let blocks = self.usable(chain);
        let (mut tables, mut lent) = (Vec::new(), Vec::new());
        for (group, numbers) in self.numbers.iter_mut().enumerate() {
            let first = numbers.first_read(blocks * BLOCK_TOKENS).min(blocks);
            let mut table = vec![None; first];
            for &entry in &chain[first..blocks] {
                let slot = self.prefixes.slot_mut(entry, group);
                let Slot { block, leases } = slot.expect("it was looked at");
                numbers.share(*block);
                table.push(Some(*block));
                if !leases.is_empty() {
                    let leases = std::mem::take(leases);
                    lent.push(Lent {
                        entry,
                        group,
                        leases,
                    });
                }
            }
            tables.push(table);
        }
        chain[..blocks]
            .iter()
            .for_each(|&entry| self.prefixes.touch(entry));
        let tip = chain[..blocks].last().copied();
        (
            Hit {
                tables,
                kept: Kept { blocks, tip },
            },
            lent,
        )
    }

    /// How many blocks of a chain a sequence can begin with: so many that all are there which the row after
    /// them reads.
    fn usable(&self, chain: &[EntryId]) -> usize {
        let is_usable = |&blocks: &usize| {
            let mut groups = self.numbers.iter().enumerate();
            groups.all(|(group, numbers)| {
                let first = numbers.first_read(blocks * BLOCK_TOKENS).min(blocks);
                // Groups without a window have all.
                let read = if numbers.sees_all() { blocks } else { first }..blocks;
                chain[read]
                    .iter()
                    .all(|&entry| self.prefixes.slot(entry, group).is_some())
            })
        };
        (0..=chain.len()).rev().find(is_usable).unwrap_or(0)
    }

    /// What is leased already of blocks that were lent, by account.
    fn covered(&self, lent: &[Lent]) -> Vec<Bytes> {
        let mut covered = vec![Bytes::ZERO; self.layout.room.accounts.len()];
        for lent in lent {
            for (sum, lease) in covered.iter_mut().zip(&lent.leases) {
                *sum += lease.bytes();
            }
        }
        covered
    }

    /// Keeps the whole blocks that a sequence has written, and has it share those that are kept already.
    pub(super) fn keep_blocks(&mut self, id: u64) {
        let border = self.shape.rotations_change_above;
        let place = self.running.iter().position(|s| s.id == id);
        let place = place.expect("it is running");
        let sequence = &self.running[place];
        let root = sequence.root(border).filter(|_| self.keeps());
        let Some(root) = root else { return };
        let whole = sequence.written / BLOCK_TOKENS;
        let goes_on = |kept: Kept| {
            Some((
                kept.blocks,
                kept.tip.filter(|&tip| self.prefixes.holds(tip))?,
            ))
        };
        let (mut blocks, mut before) = match goes_on(sequence.kept) {
            Some((blocks, tip)) => (blocks, Before::Entry(tip)),
            None => (0, Before::Nothing(root)),
        };
        while blocks < whole {
            let tokens = self.running[place].content.block(blocks);
            let Some(entry) = self.keep_block((place, blocks), Key { before, tokens }) else {
                break;
            };
            (blocks, before) = (blocks + 1, Before::Entry(entry));
        }
        let tip = match before {
            Before::Entry(tip) => Some(tip),
            Before::Nothing(_) => None,
        };
        self.running[place].kept = Kept { blocks, tip };
    }

    /// Keeps one block of the sequence at a place, or shares the one that is kept already.
    fn keep_block(&mut self, (place, index): (usize, usize), key: Key) -> Option<EntryId> {
        if let Some(entry) = self.prefixes.find(&key) {
            self.share_entry((place, index), entry);
            return Some(entry);
        }
        if self.prefixes.len() >= PREFIX_ENTRIES_MAX {
            let has_place = self.evict_oldest();
            let is_after_nothing =
                matches!(key.before, Before::Entry(b) if !self.prefixes.holds(b));
            if !has_place || is_after_nothing {
                return None;
            }
        }
        let tables = &self.running[place].tables;
        let blocks: Vec<Option<BlockId>> = tables.iter().map(|table| table[index]).collect();
        for (numbers, &block) in self.numbers.iter_mut().zip(&blocks) {
            block.into_iter().for_each(|block| numbers.share(block));
        }
        Some(self.prefixes.insert(key, &blocks))
    }

    /// Has a sequence refer to an entry's blocks instead of equal ones of its own, and gives the entry those that
    /// it lacks.
    fn share_entry(&mut self, (place, index): (usize, usize), entry: EntryId) {
        let tables = Arc::make_mut(&mut self.running[place].tables);
        let mut left = Vec::new();
        for (group, numbers) in self.numbers.iter_mut().enumerate() {
            let own = tables[group][index];
            let kept = self.prefixes.slot_mut(entry, group);
            left.push(match (own, kept) {
                (Some(own), None) => {
                    numbers.share(own);
                    self.prefixes.fill(entry, group, own);
                    Left::default()
                }
                (Some(own), Some(kept)) if kept.block != own => {
                    numbers.share(kept.block);
                    tables[group][index] = Some(kept.block);
                    // The sequence's leases are for as many blocks as before.
                    kept.leases.clear();
                    numbers.give_back_all([own])
                }
                _ => Left::default(),
            });
        }
        self.prefixes.touch(entry);
        self.leave(left);
    }

    /// Forgets what is kept of a sequence's beginning, which may be why it failed.
    pub(super) fn forget_blocks(&mut self, id: u64) {
        let border = self.shape.rotations_change_above;
        let sequence = self.sequence(id);
        if sequence.written < BLOCK_TOKENS {
            return;
        }
        let Some(root) = sequence.root(border) else {
            return;
        };
        let (before, tokens) = (Before::Nothing(root), sequence.content.block(0));
        if let Some(entry) = self.prefixes.find(&Key { before, tokens }) {
            self.remove(entry);
        }
    }

    /// A sequence without leases, or one that needs fewer, refers to these blocks of each group no more.
    pub(super) fn let_go(&mut self, blocks: Vec<Vec<BlockId>>) {
        let groups = self.numbers.iter_mut().zip(blocks);
        let left = groups.map(|(numbers, blocks)| numbers.give_back_all(blocks));
        let left = left.collect();
        self.leave(left);
    }

    /// The stages forget the blocks of each group that nobody refers to. Those that only the cache refers to stay
    /// there as far as they get leases of their own.
    pub(super) fn leave(&mut self, left: Vec<Left>) {
        let (mut gone, mut idle) = (Vec::new(), BTreeSet::new());
        for (group, left) in left.into_iter().enumerate() {
            gone.push(left.gone);
            let is_idle = |&block: &BlockId| self.numbers[group].references(block) == 1;
            let shared = left.shared.into_iter().filter(is_idle);
            idle.extend(shared.filter_map(|block| self.prefixes.owner(group, block)));
        }
        release(&mut self.actions, gone);
        // An entry is made before those that come after it.
        idle.iter().for_each(|&entry| self.prefixes.touch(entry));
        idle.into_iter().for_each(|entry| self.lease_entry(entry));
    }

    /// Leases the blocks of an entry that no sequence refers to, or forgets them.
    fn lease_entry(&mut self, entry: EntryId) {
        for group in 0..self.numbers.len() {
            let Some(Slot { block, leases }) = self.prefixes.slot(entry, group) else {
                continue;
            };
            if !leases.is_empty() || self.numbers[group].references(*block) > 1 {
                continue;
            }
            match self.lease_block(group) {
                Some(leases) => {
                    let slot = self.prefixes.slot_mut(entry, group);
                    slot.expect("it was looked at").leases = leases;
                }
                None if self.numbers[group].sees_all() => return self.remove(entry),
                None => {
                    let taken = self.prefixes.take_slot(entry, group);
                    self.give_back(taken);
                }
            }
        }
    }

    /// Leases a block that is to be kept. Those that were used longer ago go for it.
    fn lease_block(&mut self, group: usize) -> Option<Vec<Lease>> {
        while self.keeps() {
            let leases = self.layout.room.lease_prefix(group);
            if leases.is_some() || !self.evict_oldest() {
                return leases;
            }
        }
        None
    }

    /// Forgets the entry that was used longest ago of those that no sequence refers to and nothing comes after;
    /// says whether there was one.
    fn evict_oldest(&mut self) -> bool {
        let oldest = self.prefixes.oldest_idle();
        oldest.is_some_and(|entry| {
            self.remove(entry);
            true
        })
    }

    /// Forgets every block that no sequence refers to, and what comes after it; says whether there was one.
    pub(super) fn evict_leased(&mut self) -> bool {
        let leased = self.prefixes.leased();
        for &(entry, group) in &leased {
            let taken = match self.numbers[group].sees_all() {
                true => self.prefixes.take(entry),
                false => self.prefixes.take_slot(entry, group),
            };
            self.give_back(taken);
        }
        !leased.is_empty()
    }

    /// Gives the whole cache back.
    pub(crate) fn evict_all(&mut self) {
        let taken = self.prefixes.take_all();
        self.give_back(taken);
    }

    fn remove(&mut self, entry: EntryId) {
        let taken = self.prefixes.take(entry);
        self.give_back(taken);
    }

    /// Gives back the references and the leases of slots that were taken out.
    fn give_back(&mut self, taken: Taken) {
        let groups = self.numbers.iter_mut().zip(taken);
        let gone = groups.map(|(numbers, slots)| {
            let blocks = slots.into_iter().map(|slot| slot.block);
            // What others refer to is a sequence's.
            numbers.give_back_all(blocks).gone
        });
        let gone = gone.collect();
        release(&mut self.actions, gone);
    }

    /// The leases of the cache, which is empty then.
    pub(super) fn take_cache_leases(&mut self) -> Vec<Lease> {
        let mut taken = self.prefixes.take_all();
        let slots = taken.iter_mut().flatten();
        let leases = slots
            .flat_map(|slot| std::mem::take(&mut slot.leases))
            .collect();
        self.give_back(taken);
        leases
    }

    /// Whether something is kept.
    pub(crate) fn has_cache(&self) -> bool {
        self.prefixes.len() > 0
    }

    /// Whether a request waits for room that somebody's cache could give back.
    pub(crate) fn wants_caches(&self) -> bool {
        let lacks_room = |first: &Waiting| self.has_place(first) && !first.is_ready();
        let mut parked = self.running.iter().filter(|s| s.is_parked);
        let is_parked = parked.next().is_some() && !self.is_stopped(Whose::Guest);
        let lacks_room = is_parked || self.queue.front().is_some_and(lacks_room);
        self.may_begin() && lacks_room && self.layout.room.has_caches()
    }
}
