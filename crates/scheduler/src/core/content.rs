use std::iter::repeat_n;
use std::ops::Range;

use gogrid_pipeline::{Positions, Rows};

use super::prefix::Tokens;
use crate::request::PromptRows;

/// The rows of a sequence: its prompt's, then one for each token that was added.
pub(crate) struct Content {
    rows: Rows,
    /// Rows of the prompt.
    prompt: usize,
    /// Where the prompt's rows stand.
    positions: Positions,
    /// Where the first row after the prompt stands, on every axis.
    next: u32,
    /// The ids that the model was given as tokens: those of rows without embeddings.
    tokens: Vec<u32>,
}

impl Content {
    pub(crate) fn new(prompt: PromptRows) -> Self {
        let tokens = prompt.tokens();
        let PromptRows { rows, positions } = prompt;
        let next = match &positions {
            Positions::Sequential => 0,
            Positions::Given { values, .. } => values.iter().max().map_or(0, |most| most + 1),
        };
        Self {
            prompt: rows.len(),
            rows,
            positions,
            next,
            tokens,
        }
    }

    /// Rows in all.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn prompt(&self) -> usize {
        self.prompt
    }

    /// Tokens that were added to the prompt.
    pub(crate) fn added(&self) -> usize {
        self.rows.len() - self.prompt
    }

    pub(crate) fn id(&self, row: usize) -> Option<u32> {
        self.rows.ids.get(row).copied()
    }

    /// Whether the model is given an embedding in this row, and no token.
    pub(crate) fn is_embedded(&self, row: usize) -> bool {
        self.rows.embedded.iter().any(|run| run.rows.contains(&row))
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether every row is a token in its place, so that tokens alone say what the rows are.
    pub(crate) fn is_plain(&self) -> bool {
        self.rows.embedded.is_empty() && matches!(self.positions, Positions::Sequential)
    }

    /// The ids of a whole block's rows.
    pub(super) fn block(&self, index: usize) -> Tokens {
        let (blocks, _) = self.rows.ids.as_chunks();
        blocks[index]
    }

    pub(crate) fn push(&mut self, id: u32) {
        self.rows.ids.push(id);
        self.tokens.push(id);
    }

    /// Appends the rows `range`, and of those that a draft adds at the end, to `into`, and says where they
    /// stand.
    pub(crate) fn feed(&self, range: Range<usize>, draft: &[u32], into: &mut Rows) -> Positions {
        let is_whole = draft.is_empty() || range.end == self.len() + draft.len();
        assert!(is_whole, "a draft follows the last row");
        let own = range.start..range.end - draft.len();
        into.extend_from(&self.rows, own);
        into.ids.extend_from_slice(draft);
        let Positions::Given { axes, values } = &self.positions else {
            return Positions::Sequential;
        };
        let of_prompt = axes * range.start.min(self.prompt)..axes * range.end.min(self.prompt);
        let mut fed = values[of_prompt].to_vec();
        for row in range.start.max(self.prompt)..range.end {
            // Positions and rows of a context fit 32 bits: the intake has seen to it.
            fed.extend(repeat_n(self.next + (row - self.prompt) as u32, *axes));
        }
        Positions::Given {
            axes: *axes,
            values: fed.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use gogrid_pipeline::EmbeddedRows;
    use proptest::prelude::*;

    use super::*;

    const WIDTH: usize = 3;

    fn embedded(rows: Range<usize>) -> EmbeddedRows {
        let values = (rows.start * WIDTH..rows.end * WIDTH).map(|value| value as f32);
        EmbeddedRows {
            values: values.collect(),
            rows,
        }
    }

    /// Rows of which some have embeddings, with tokens added to them.
    fn content(lengths: &[(usize, usize)], axes: usize, added: usize) -> Content {
        let mut rows = Rows::default();
        for &(plain, run) in lengths {
            rows.ids.extend((0..plain + run).map(|id| id as u32));
            if run > 0 {
                rows.embedded.push(embedded(rows.len() - run..rows.len()));
            }
        }
        let positions = match axes {
            0 => Positions::Sequential,
            axes => Positions::Given {
                axes,
                values: (0..rows.len() * axes)
                    .map(|at| (at * 7 % 50) as u32)
                    .collect(),
            },
        };
        let mut content = Content::new(PromptRows { rows, positions });
        (0..added).for_each(|id| content.push(id as u32));
        content
    }

    /// The embedding of each row that has one.
    fn by_row(rows: &Rows) -> Vec<Option<&[f32]>> {
        let mut found = vec![None; rows.len()];
        for run in &rows.embedded {
            for (values, row) in run.values.chunks_exact(WIDTH).zip(run.rows.clone()) {
                assert_eq!(found[row].replace(values), None, "row {row} has two");
            }
        }
        found
    }

    #[test]
    fn added_rows_go_on_past_the_largest_position_on_every_axis() {
        let rows = Rows::of_ids(vec![4, 5, 6]);
        let positions = Positions::Given {
            axes: 2,
            values: [0, 0, 9, 1, 2, 2].into(),
        };
        let mut content = Content::new(PromptRows { rows, positions });
        [7, 8].into_iter().for_each(|id| content.push(id));
        let mut fed = Rows::default();
        let Positions::Given { axes, values } = content.feed(2..5, &[], &mut fed) else {
            panic!("positions were given")
        };
        assert_eq!(fed.ids, [6, 7, 8]);
        assert_eq!((axes, &values[..]), (2, &[2, 2, 10, 10, 11, 11][..]));
    }

    #[test]
    fn a_draft_stands_where_its_tokens_will() {
        for axes in 0..=3 {
            let (mut content, draft) = (content(&[(4, 2)], axes, 3), [0, 1, 2]);
            let (mut drafted, mut added) = (Rows::default(), Rows::default());
            let end = content.len() + draft.len();
            let of_draft = content.feed(content.len() - 1..end, &draft, &mut drafted);
            draft.into_iter().for_each(|id| content.push(id));
            let of_added = content.feed(end - 4..end, &[], &mut added);
            assert_eq!((drafted, of_draft), (added, of_added));
        }
    }

    #[test]
    fn ids_of_rows_with_embeddings_are_no_tokens() {
        let mut rows = Rows::of_ids(vec![1, 2, 3, 4]);
        rows.embedded.push(embedded(1..3));
        let mut content = Content::new(PromptRows {
            rows,
            positions: Positions::Sequential,
        });
        content.push(5);
        assert_eq!(content.tokens(), [1, 4, 5]);
    }

    proptest! {
        #[test]
        fn any_chunks_feed_the_same_rows(
            lengths in prop::collection::vec((0..6_usize, 0..9_usize), 1..6),
            axes in 0..=3_usize,
            added in 0..5_usize,
            chunks in prop::collection::vec(1..12_usize, 1..20),
        ) {
            let content = content(&lengths, axes, added);
            let mut whole = Rows::default();
            let whole_positions = content.feed(0..content.len(), &[], &mut whole);
            let (mut fed, mut fed_positions, mut start) = (Rows::default(), Vec::new(), 0);
            for chunk in chunks.into_iter().cycle() {
                if start == content.len() {
                    break;
                }
                let end = content.len().min(start + chunk);
                match content.feed(start..end, &[], &mut fed) {
                    Positions::Sequential => prop_assert_eq!(axes, 0),
                    Positions::Given { values, .. } => {
                        prop_assert_eq!(values.len(), (end - start) * axes);
                        fed_positions.extend_from_slice(&values);
                    }
                }
                start = end;
            }
            prop_assert_eq!(&fed.ids, &whole.ids);
            prop_assert_eq!(by_row(&fed), by_row(&whole));
            match whole_positions {
                Positions::Sequential => prop_assert_eq!(axes, 0),
                Positions::Given { values, .. } => prop_assert_eq!(&fed_positions[..], &values[..]),
            }
        }
    }
}
