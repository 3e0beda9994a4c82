use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::ModelError;

use super::budget::Budget;

/// No symbol, or no token.
pub(super) const NONE: u32 = u32::MAX;

/// A stretch of the text on its way to being a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    /// Its first byte.
    pub(super) at: u32,
    /// Its bytes; 0 once the symbol before has taken it in.
    pub(super) len: u32,
    /// The token it is, or [`NONE`].
    pub(super) id: u32,
    prev: u32,
    next: u32,
}

/// What two neighbours may become: the lower rank goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merge {
    pub(super) rank: u32,
    pub(super) id: u32,
}

/// The merge loop of byte-pair encoding (Sennrich et al. 2016), which SentencePiece shares: the
/// best pair of neighbours becomes one symbol, the leftmost of equals first, until no pair has a
/// merge. O(n log n) in the symbols. Keeps its memory from one run to the next.
#[derive(Debug, Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    /// Bytes of both when this was queued. Symbols only grow, so one that has shows here.
    len: u32,
    id: u32,
}

impl Merger {
    /// Appends a symbol of `len` bytes to those of the next run.
    pub(super) fn push(&mut self, len: usize, id: u32) {
        // Texts are shorter than 2^30 bytes.
        let index = self.symbols.len() as u32;
        let before = self.symbols.last_mut().map(|last| {
            last.next = index;
            last.at + last.len
        });
        self.symbols.push(Symbol {
            at: before.unwrap_or(0),
            len: len as u32,
            id,
            prev: if index == 0 { NONE } else { index - 1 },
            next: NONE,
        });
    }

    /// Merges the symbols pushed since they were last taken by `rule`.
    pub(super) fn run(
        &mut self,
        rule: impl Fn(&Symbol, &Symbol) -> Option<Merge>,
        budget: &mut Budget<'_>,
    ) -> Result<(), ModelError> {
        // The indices of symbols fit: `push` made them.
        for left in 1..self.symbols.len() as u32 {
            self.consider(left - 1, &rule);
        }
        while let Some(Reverse(best)) = self.queue.pop() {
            let left = self.symbols[best.left as usize];
            if left.len == 0 || left.next == NONE {
                continue;
            }
            let right = self.symbols[left.next as usize];
            if left.len + right.len != best.len {
                continue;
            }
            budget.spend(1)?;
            self.symbols[left.next as usize].len = 0;
            let merged = &mut self.symbols[best.left as usize];
            *merged = Symbol {
                len: best.len,
                id: best.id,
                next: right.next,
                ..left
            };
            if right.next != NONE {
                self.symbols[right.next as usize].prev = best.left;
            }
            if left.prev != NONE {
                self.consider(left.prev, &rule);
            }
            self.consider(best.left, &rule);
        }
        Ok(())
    }

    /// The symbols that are left, in order; none are there afterwards.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Symbol> + '_ {
        self.symbols.drain(..).filter(|symbol| symbol.len > 0)
    }

    /// Queues what the symbol at `left` and the next one may become.
    fn consider(&mut self, left: u32, rule: &impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        let l = &self.symbols[left as usize];
        if l.next == NONE {
            return;
        }
        let r = &self.symbols[l.next as usize];
        if let Some(Merge { rank, id }) = rule(l, r) {
            let len = l.len + r.len;
            self.queue.push(Reverse(Candidate {
                rank,
                left,
                len,
                id,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::budget::EncodeLimit;

    /// Merges the letters of `text`, where the token of a stretch is its length.
    fn merged(text: &str, rules: &[(&str, u32)]) -> Vec<String> {
        let mut merger = Merger::default();
        text.chars().for_each(|_| merger.push(1, 1));
        let stretch = |s: &Symbol| &text[s.at as usize..(s.at + s.len) as usize];
        let rule = |left: &Symbol, right: &Symbol| {
            let both = &text[left.at as usize..(right.at + right.len) as usize];
            let (_, rank) = rules.iter().find(|(merge, _)| *merge == both)?;
            Some(Merge {
                rank: *rank,
                id: both.len() as u32,
            })
        };
        let mut out = Vec::new();
        let mut budget = Budget::new(EncodeLimit::NONE, None);
        merger.run(rule, &mut budget).unwrap();
        for symbol in merger.drain() {
            assert_eq!(symbol.id, symbol.len);
            out.push(stretch(&symbol).to_owned());
        }
        out
    }

    #[test]
    fn the_best_rank_goes_first_and_the_leftmost_of_equals() {
        assert_eq!(merged("abc", &[("ab", 1), ("bc", 0)]), ["a", "bc"]);
        assert_eq!(merged("aaa", &[("aa", 0)]), ["aa", "a"]);
        assert_eq!(merged("aaaa", &[("aa", 0), ("aaa", 1)]), ["aa", "aa"]);
        assert_eq!(merged("abab", &[("ab", 0), ("abab", 1)]), ["abab"]);
        assert_eq!(merged("", &[("ab", 0)]), Vec::<String>::new());
    }
}
