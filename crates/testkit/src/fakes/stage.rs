use std::collections::HashMap;
use std::sync::Arc;
use std::task::Poll;

use gogrid_pipeline::{
    BLOCK_TOKENS, BlockId, Footprint, Input, OutputBuf, SequenceRows, Stage, StageError, Step,
    Ticket, Want,
};
use gogrid_units::{Bytes, Piece, Span};

use super::FakeModel;
use super::model::State;
use crate::reference::log_softmax;

/// What goes wrong in a fake stage, by the number of the submission, from 0.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// These fail with [`StageError::Device`].
    pub fail: Vec<u64>,
    /// These end with [`StageError::Abandoned`] and leave no trace.
    pub abandon: Vec<u64>,
    /// Polls of each submission that answer [`Poll::Pending`] before the one that does the work.
    pub pending: usize,
}

/// A stage of a [`FakeModel`]. It keeps one state for each token and layer, in blocks, and finds
/// them only through the step's block tables. Reading what was never written, or was released, is
/// a [`StageError::Device`] that says where.
pub struct FakeStage {
    model: FakeModel,
    span: Span,
    faults: Faults,
    next: u64,
    open: Option<Open>,
    blocks: HashMap<(usize, BlockId), Block>,
}

/// For each layer of the group, the states of 32 positions.
type Block = HashMap<usize, [Option<State>; BLOCK_TOKENS]>;

struct Open {
    ticket: Ticket,
    step: Arc<Step>,
    states: Vec<State>,
    pending: usize,
}

impl FakeStage {
    /// The pieces `span` of `model`.
    pub fn new(model: FakeModel, span: Span, faults: Faults) -> Self {
        Self {
            model,
            span,
            faults,
            next: 0,
            open: None,
            blocks: HashMap::new(),
        }
    }

    fn layers(&self) -> usize {
        self.model.groups.len()
    }

    fn run(&mut self, step: &Step, mut states: Vec<State>) -> Result<Vec<State>, StageError> {
        for piece in self.span.pieces(self.layers()) {
            match piece {
                Piece::Embedding | Piece::Head => {}
                Piece::Mixer(layer) => {
                    let mut rows = states.as_mut_slice();
                    for sequence in &step.sequences {
                        let (own, rest) = rows.split_at_mut(sequence.wants.len());
                        self.mix(layer, sequence, own)?;
                        rows = rest;
                    }
                }
                Piece::FeedForward(_) => {
                    let next = states.iter().map(|&s| FakeModel::feed_forward(s));
                    states = next.collect();
                }
            }
        }
        Ok(states)
    }

    /// Writes the rows' own states into their blocks, then mixes each with those it sees.
    fn mix(
        &mut self,
        layer: usize,
        sequence: &SequenceRows,
        rows: &mut [State],
    ) -> Result<(), StageError> {
        let group = self.model.groups[layer];
        for (i, &state) in rows.iter().enumerate() {
            let position = sequence.start + i;
            let block = block_at(sequence, group, position)?;
            let states = self.blocks.entry((group, block)).or_default();
            let slots = states.entry(layer).or_default();
            slots[position % BLOCK_TOKENS] = Some(state);
        }
        for (i, row) in rows.iter_mut().enumerate() {
            let position = sequence.start + i;
            let first = self.model.first_seen(group, position);
            let seen = (first..=position).map(|at| self.read(layer, sequence, at));
            let seen = seen.collect::<Result<Vec<_>, _>>()?;
            *row = FakeModel::mixer(layer, first, seen.into_iter());
        }
        Ok(())
    }

    fn read(
        &self,
        layer: usize,
        sequence: &SequenceRows,
        position: usize,
    ) -> Result<State, StageError> {
        let group = self.model.groups[layer];
        let block = block_at(sequence, group, position)?;
        let states = self.blocks.get(&(group, block)).and_then(|b| b.get(&layer));
        let state = states.and_then(|slots| slots[position % BLOCK_TOKENS]);
        state.ok_or_else(|| {
            let block = block.0;
            StageError::Device(format!(
                "position {position}: block {block} of group {group} was never written there"
            ))
        })
    }

    fn give(&self, open: &Open, states: &[State], out: &mut OutputBuf) {
        out.clear();
        if !self.span.has_head(self.layers()) {
            out.hidden
                .extend(states.iter().flat_map(|&s| self.row_of(s)));
            return;
        }
        for (want, &state) in open.step.wants().zip(states) {
            match want {
                Want::Nothing => {}
                Want::Hidden => out.hidden.extend(self.row_of(state)),
                Want::Logits => out.logits.extend(self.model.head(state)),
                Want::LogProb(id) => {
                    let all = log_softmax(&self.model.head(state));
                    // The rounding is the seam's: log-probabilities are f32.
                    out.log_probs.push(all[id as usize] as f32);
                }
            }
        }
    }
}

impl Stage for FakeStage {
    fn footprint(&self) -> Footprint {
        let held = |group| self.blocks.keys().filter(|(g, _)| *g == group).count();
        let groups = 0..self.model.windows.len();
        Footprint {
            weights: Bytes::of(self.span.len()),
            scratch: Bytes::ZERO,
            kv_block: groups.clone().map(|group| self.kv_block(group)).collect(),
            kv_blocks_held: groups.map(held).collect(),
        }
    }

    fn depth(&self) -> usize {
        1
    }

    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError> {
        assert!(self.open.is_none(), "a step is open, and the depth is one");
        let states: Vec<State> = match input {
            Input::Ids(ids) => ids.iter().map(|&id| FakeModel::embed(id)).collect(),
            Input::Hidden(rows) => rows.chunks_exact(self.model.width).map(state_of).collect(),
        };
        let is_ids = matches!(input, Input::Ids(_));
        if is_ids != self.span.has_embedding() || states.len() != step.rows() {
            return Err(StageError::Shape {
                what: "input",
                takes: format!("{} rows, ids {}", step.rows(), self.span.has_embedding()),
                has: format!("{} rows, ids {is_ids}", states.len()),
            });
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.open = Some(Open {
            ticket,
            step: Arc::clone(step),
            states,
            pending: self.faults.pending,
        });
        Ok(ticket)
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        let mut open = self.open.take().expect("a step is open");
        assert_eq!(open.ticket, ticket, "the open step is polled");
        if open.pending > 0 {
            open.pending -= 1;
            self.open = Some(open);
            return Poll::Pending;
        }
        if self.faults.abandon.contains(&ticket.0) {
            return Poll::Ready(Err(StageError::Abandoned));
        }
        if self.faults.fail.contains(&ticket.0) {
            let text = format!("submission {} was to fail", ticket.0);
            return Poll::Ready(Err(StageError::Device(text)));
        }
        let states = std::mem::take(&mut open.states);
        let done = self.run(&open.step, states);
        Poll::Ready(done.map(|states| self.give(&open, &states, out)))
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        for &block in blocks {
            self.blocks.remove(&(group, block));
        }
    }
}

impl FakeStage {
    /// A state in 16-bit parts, each exact in an f32, and zeros.
    fn row_of(&self, state: State) -> impl Iterator<Item = f32> {
        let parts = [0, 16, 32, 48].map(|shift| (state >> shift & 0xFFFF) as f32);
        let zeros = self.model.width.saturating_sub(parts.len());
        parts.into_iter().chain(std::iter::repeat_n(0.0, zeros))
    }

    /// Eight bytes a token and layer of the group.
    fn kv_block(&self, group: usize) -> Bytes {
        let pieces = self.span.pieces(self.layers());
        let own = pieces
            .filter(|p| matches!(p, Piece::Mixer(layer) if self.model.groups[*layer] == group));
        Bytes::of(8 * BLOCK_TOKENS * own.count())
    }
}

fn block_at(sequence: &SequenceRows, group: usize, position: usize) -> Result<BlockId, StageError> {
    let table = sequence.tables.get(group);
    let entry = table.and_then(|t| t.get(position / BLOCK_TOKENS));
    entry.copied().flatten().ok_or_else(|| {
        StageError::Device(format!(
            "position {position}: group {group} has no block there"
        ))
    })
}

/// The inverse of `row_of`. A mangled row is another state, or the same where it was zero.
fn state_of(row: &[f32]) -> State {
    let parts = row.iter().take(4).enumerate();
    // A part that is no 16-bit number saturates and is cut.
    parts.fold(0, |state, (i, &part)| {
        state | (part as State & 0xFFFF) << (16 * i)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> FakeModel {
        FakeModel {
            vocab: 50,
            width: 6,
            windows: vec![None, Some(3)],
            groups: vec![0, 1, 0],
        }
    }

    fn step(tables: Vec<Vec<Option<BlockId>>>, start: usize, rows: usize) -> Arc<Step> {
        let mut wants = vec![Want::Nothing; rows];
        wants[rows - 1] = Want::Logits;
        Arc::new(Step {
            sequences: vec![SequenceRows {
                tables: Arc::new(tables),
                start,
                wants,
            }],
        })
    }

    fn run(stage: &mut FakeStage, step: &Arc<Step>, ids: &[u32]) -> Result<Vec<f32>, StageError> {
        let ticket = stage.submit(step, Input::Ids(ids))?;
        let mut out = OutputBuf::default();
        match stage.poll(ticket, &mut out) {
            Poll::Ready(done) => done.map(|()| out.logits),
            Poll::Pending => panic!("it has no pending polls"),
        }
    }

    #[test]
    fn chunks_give_what_the_model_means_and_a_wrong_table_does_not() {
        let ids: Vec<u32> = (0..40).map(|i| i * 7 % 50).collect();
        let expected = model().logits(&ids);
        let good = vec![vec![Some(BlockId(5)), Some(BlockId(2))]; 2];
        let span = Span::whole_model(3);
        let mut stage = FakeStage::new(model(), span, Faults::default());
        run(&mut stage, &step(good.clone(), 0, 33), &ids[..33]).expect("the first chunk runs");
        let last = step(good.clone(), 33, 7);
        assert_eq!(
            run(&mut stage, &last, &ids[33..]).ok(),
            Some(expected.clone())
        );

        // Group 0 sees all; another's block in its table is either empty or other tokens.
        let mut bad = good.clone();
        bad[0][0] = Some(BlockId(9));
        let lost = run(&mut stage, &step(bad, 33, 7), &ids[33..]);
        assert!(matches!(lost, Err(StageError::Device(_))));
        let mut bad = good;
        bad[0].swap(0, 1);
        let swapped = run(&mut stage, &step(bad, 33, 7), &ids[33..]);
        assert_ne!(swapped.ok(), Some(expected));
    }

    #[test]
    fn what_is_released_is_gone() {
        let tables = vec![vec![Some(BlockId(0))]; 2];
        let span = Span::whole_model(3);
        let mut stage = FakeStage::new(model(), span, Faults::default());
        run(&mut stage, &step(tables.clone(), 0, 2), &[1, 2]).expect("two rows run");
        assert_eq!(stage.footprint().kv_blocks_held, [1, 1]);
        stage.release(0, &[BlockId(0)]);
        assert_eq!(stage.footprint().kv_blocks_held, [0, 1]);
        let after = run(&mut stage, &step(tables, 2, 1), &[3]);
        assert!(matches!(after, Err(StageError::Device(_))));
    }
}
