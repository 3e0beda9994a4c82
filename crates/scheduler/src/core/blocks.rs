use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use gogrid_pipeline::{BLOCK_TOKENS, BlockId};

use crate::limits::ROWS_IN_STEP_MAX;

/// The block numbers of one KV group, and how often each is referred to: the lowest free one is given
/// first, so that they stay few.
#[derive(Debug)]
pub(crate) struct BlockNumbers {
    window: Option<usize>,
    freed: BinaryHeap<Reverse<u32>>,
    /// References to each number below the first that was never given; none to those that are free.
    references: Vec<u32>,
}

/// Blocks that a sequence refers to no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Those that nobody refers to: the stages are to forget them.
    pub(crate) gone: Vec<BlockId>,
    /// Those that have other references.
    pub(crate) shared: Vec<BlockId>,
}

impl BlockNumbers {
    /// The numbers of a group with that window.
    pub(crate) fn new(window: Option<usize>) -> Self {
        Self {
            window,
            freed: BinaryHeap::new(),
            references: Vec::new(),
        }
    }

    /// A block with one reference, in which nothing is written.
    pub(crate) fn take(&mut self) -> BlockId {
        if let Some(Reverse(number)) = self.freed.pop() {
            self.references[number as usize] = 1;
            return BlockId(number);
        }
        self.references.push(1);
        // What the blocks hold fills any memory long before their numbers end.
        BlockId(self.references.len() as u32 - 1)
    }

    /// Another reference to a block. From here on no step writes in it until the others are gone.
    pub(crate) fn share(&mut self, block: BlockId) {
        let references = &mut self.references[block.0 as usize];
        assert!(*references > 0, "{block:?} is free");
        *references += 1;
    }

    /// Gives a reference back; says whether it was the last, so that the stages are to forget the
    /// block.
    pub(crate) fn give_back(&mut self, block: BlockId) -> bool {
        let references = &mut self.references[block.0 as usize];
        assert!(*references > 0, "{block:?} is free");
        *references -= 1;
        let is_last = *references == 0;
        if is_last {
            self.freed.push(Reverse(block.0));
        }
        is_last
    }

    /// Gives back a reference to each of some blocks.
    pub(crate) fn give_back_all(&mut self, blocks: impl IntoIterator<Item = BlockId>) -> Left {
        let is_last = |&block: &BlockId| self.give_back(block);
        let (gone, shared) = blocks.into_iter().partition(is_last);
        Left { gone, shared }
    }

    /// Makes a table of the group hold every block that the rows read or write, and no more: takes
    /// blocks for new positions, and gives back those that left the window.
    ///
    /// # Panics
    /// When a block that the rows write in has another reference.
    pub(crate) fn cover(&mut self, table: &mut Vec<Option<BlockId>>, rows: Range<usize>) -> Left {
        let live = self.first_read(rows.start);
        let out_of_sight = table.iter_mut().take(live).filter_map(Option::take);
        let left = self.give_back_all(out_of_sight);
        while table.len() < rows.end.div_ceil(BLOCK_TOKENS) {
            table.push(Some(self.take()));
        }
        for &block in table[rows.start / BLOCK_TOKENS..].iter().flatten() {
            let references = self.references[block.0 as usize];
            assert!(
                references == 1,
                "{block:?} is written with {references} references"
            );
        }
        left
    }

    /// The first block that a row at this position reads.
    pub(crate) fn first_read(&self, position: usize) -> usize {
        let before = |window| (position + 1).saturating_sub(window);
        self.window.map_or(0, before) / BLOCK_TOKENS
    }

    /// Whether a row reads every block before its own, however far back.
    pub(crate) fn sees_all(&self) -> bool {
        self.window.is_none()
    }

    /// Blocks that are out.
    #[cfg(test)]
    pub(crate) fn out(&self) -> usize {
        self.references.len() - self.freed.len()
    }

    /// References to a block; none if it is free.
    pub(crate) fn references(&self, block: BlockId) -> u32 {
        self.references[block.0 as usize]
    }
}

/// Blocks of a group that a sequence of `tokens` tokens holds at most at one time: all of them, or
/// those that the rows of one step can see through the window.
pub(crate) fn blocks_at_most(window: Option<usize>, tokens: usize) -> usize {
    let all = tokens.div_ceil(BLOCK_TOKENS);
    let Some(window) = window else { return all };
    let positions = window.saturating_sub(1) + ROWS_IN_STEP_MAX.min(tokens);
    // A run of n positions touches at most this many blocks, however it lies on the grid.
    all.min(positions.saturating_sub(1).div_ceil(BLOCK_TOKENS) + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_free_number_comes_first() {
        let mut numbers = BlockNumbers::new(None);
        let given: Vec<_> = (0..3).map(|_| numbers.take()).collect();
        assert_eq!(given, [BlockId(0), BlockId(1), BlockId(2)]);
        assert!(numbers.give_back(BlockId(1)) && numbers.give_back(BlockId(0)));
        assert_eq!(numbers.take(), BlockId(0));
        assert_eq!(numbers.out(), 2);
    }

    #[test]
    #[should_panic(expected = "is written with 2 references")]
    fn a_block_that_is_shared_is_not_written() {
        let (mut numbers, mut table) = (BlockNumbers::new(None), Vec::new());
        numbers.cover(&mut table, 0..3);
        numbers.share(table[0].expect("it was covered"));
        numbers.cover(&mut table, 3..4);
    }

    #[test]
    fn a_block_that_leaves_one_window_stays_for_the_other_reference() {
        let (mut numbers, mut table) = (BlockNumbers::new(Some(10)), Vec::new());
        numbers.cover(&mut table, 0..64);
        let first = table[0].expect("it was covered");
        numbers.share(first);
        let left = Left {
            shared: vec![first],
            ..Left::default()
        };
        assert_eq!(numbers.cover(&mut table, 64..65), left);
        assert_eq!(table[0], None);
        assert!(numbers.give_back(first), "the last reference");
    }

    proptest! {
        /// A block is out while somebody refers to it, and freed once.
        #[test]
        fn references_add_up(steps in prop::collection::vec((0..3_u8, any::<prop::sample::Index>()), 1..300)) {
            let mut numbers = BlockNumbers::new(None);
            let mut held: BTreeMap<BlockId, u32> = BTreeMap::new();
            for (step, which) in steps {
                let block = (!held.is_empty()).then(|| *which.get(&held.keys().copied().collect::<Vec<_>>()));
                match (step, block) {
                    (1, Some(block)) => {
                        numbers.share(block);
                        *held.entry(block).or_default() += 1;
                    }
                    (2, Some(block)) => {
                        let left = held[&block] - 1;
                        prop_assert_eq!(numbers.give_back(block), left == 0);
                        if left == 0 {
                            held.remove(&block);
                        } else {
                            held.insert(block, left);
                        }
                    }
                    _ => {
                        let block = numbers.take();
                        let lowest = (0..).map(BlockId).find(|free| !held.contains_key(free));
                        prop_assert_eq!(Some(block), lowest);
                        held.insert(block, 1);
                    }
                }
                prop_assert_eq!(numbers.out(), held.len());
            }
        }

        /// Every row finds the blocks it reads, and the most that are held is what was leased.
        #[test]
        fn a_window_is_covered_within_the_lease(
            window in prop::option::of(1_usize..700),
            chunks in prop::collection::vec(1..=ROWS_IN_STEP_MAX, 1..30),
        ) {
            let tokens: usize = chunks.iter().sum();
            let (mut numbers, mut table) = (BlockNumbers::new(window), Vec::new());
            let mut start = 0;
            for rows in chunks {
                let end = start + rows;
                numbers.cover(&mut table, start..end);
                for row in start..end {
                    let oldest = window.map_or(0, |w| (row + 1).saturating_sub(w));
                    let read = &table[oldest / BLOCK_TOKENS..=row / BLOCK_TOKENS];
                    prop_assert!(read.iter().all(Option::is_some));
                }
                let held = table.iter().flatten().count();
                prop_assert_eq!(held, numbers.out());
                prop_assert!(held <= blocks_at_most(window, tokens));
                start = end;
            }
        }
    }
}
