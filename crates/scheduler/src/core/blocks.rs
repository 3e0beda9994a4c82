use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gogrid_pipeline::{BLOCK_TOKENS, BlockId};

use crate::limits::ROWS_IN_STEP_MAX;

/// The block numbers of one KV group: the lowest free one is given first, so that they stay few.
#[derive(Debug, Default)]
pub(crate) struct BlockNumbers {
    freed: BinaryHeap<Reverse<u32>>,
    next: u32,
}

impl BlockNumbers {
    pub(crate) fn take(&mut self) -> BlockId {
        let Reverse(number) = self.freed.pop().unwrap_or_else(|| {
            self.next += 1;
            Reverse(self.next - 1)
        });
        BlockId(number)
    }

    pub(crate) fn give_back(&mut self, block: BlockId) {
        debug_assert!(block.0 < self.next, "a block that was never given");
        self.freed.push(Reverse(block.0));
    }

    /// Numbers that are out.
    #[cfg(test)]
    pub(crate) fn out(&self) -> usize {
        self.next as usize - self.freed.len()
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

/// Makes a group's table hold every block that rows `start..end` read or write, and no more: takes
/// blocks for new positions, and gives those that left the window.
pub(crate) fn cover(
    table: &mut Vec<Option<BlockId>>,
    window: Option<usize>,
    (start, end): (usize, usize),
    numbers: &mut BlockNumbers,
) -> Vec<BlockId> {
    let oldest_seen = window.map_or(0, |window| (start + 1).saturating_sub(window));
    let live = oldest_seen / BLOCK_TOKENS;
    let gone: Vec<BlockId> = table
        .iter_mut()
        .take(live)
        .filter_map(Option::take)
        .collect();
    gone.iter().for_each(|&block| numbers.give_back(block));
    while table.len() < end.div_ceil(BLOCK_TOKENS) {
        table.push(Some(numbers.take()));
    }
    gone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_free_number_comes_first() {
        let mut numbers = BlockNumbers::default();
        let given: Vec<_> = (0..3).map(|_| numbers.take()).collect();
        assert_eq!(given, [BlockId(0), BlockId(1), BlockId(2)]);
        numbers.give_back(BlockId(1));
        numbers.give_back(BlockId(0));
        assert_eq!(numbers.take(), BlockId(0));
        assert_eq!(numbers.out(), 2);
    }

    proptest! {
        /// Every row finds the blocks it reads, and the most that are held is what was leased.
        #[test]
        fn a_window_is_covered_within_the_lease(
            window in prop::option::of(1_usize..700),
            chunks in prop::collection::vec(1..=ROWS_IN_STEP_MAX, 1..30),
        ) {
            let tokens: usize = chunks.iter().sum();
            let (mut numbers, mut table) = (BlockNumbers::default(), Vec::new());
            let mut start = 0;
            for rows in chunks {
                let end = start + rows;
                cover(&mut table, window, (start, end), &mut numbers);
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
