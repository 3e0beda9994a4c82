use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Poll, Waker};

use gogrid_lease::Lease;
use gogrid_pipeline::{
    BLOCK_TOKENS, BlockId, Footprint, Input, LayerKv, OutputBuf, SequenceRows, Stage, StageError,
    Step, Ticket, Want,
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
    /// Polls of each submission that answer [`Poll::Pending`], and wake at once, before the one that
    /// does the work.
    pub pending: usize,
}

/// A stage of a [`FakeModel`]. It keeps one state for each token and layer, in blocks, and finds
/// them only through the step's block tables. Reading what was never written, or was released, is
/// a [`StageError::Block`] that says where.
pub struct FakeStage {
    model: FakeModel,
    span: Span,
    faults: Faults,
    waker: Waker,
    next: u64,
    open: Option<Open>,
    blocks: HashMap<(usize, BlockId), Block>,
    _leases: Vec<Lease>,
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
            waker: Waker::noop().clone(),
            next: 0,
            open: None,
            blocks: HashMap::new(),
            _leases: Vec::new(),
        }
    }

    /// The same stage, which wakes this when it answered [`Poll::Pending`].
    pub(super) fn waking(self, waker: Waker) -> Self {
        Self { waker, ..self }
    }

    /// The same stage with leases on what it holds.
    pub(super) fn holding(self, leases: Vec<Lease>) -> Self {
        Self {
            _leases: leases,
            ..self
        }
    }

    fn layers(&self) -> usize {
        self.model.groups.len()
    }

    fn run(&mut self, step: &Step, mut states: Vec<State>) -> Result<Vec<State>, StageError> {
        for group in 0..self.model.windows.len() {
            if self.layers_of(group).next().is_some() {
                (0..step.sequences.len()).try_for_each(|index| check_apart(step, group, index))?;
            }
        }
        self.check_written(step)?;
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

    /// Whether what the step's rows see before them was written, so that a step that cannot run
    /// writes nothing.
    fn check_written(&self, step: &Step) -> Result<(), StageError> {
        let pieces = self.span.pieces(self.layers());
        let layers = pieces.filter_map(|piece| match piece {
            Piece::Mixer(layer) => Some(layer),
            _ => None,
        });
        for layer in layers {
            for sequence in &step.sequences {
                let first = (self.model).first_seen(self.model.groups[layer], sequence.start);
                let mut seen = first..sequence.start;
                seen.try_for_each(|at| self.read(layer, sequence, at).map(drop))?;
            }
        }
        Ok(())
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
        state.ok_or_else(|| StageError::Block {
            group,
            block: block.0,
            what: format!("position {position} was never written there"),
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
            Input::Rows(rows) => FakeModel::embed_rows(rows),
            Input::Hidden(rows) => rows.chunks_exact(self.model.width).map(state_of).collect(),
        };
        let is_ids = matches!(input, Input::Rows(_));
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
            self.waker.wake_by_ref();
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

    fn export(&mut self, group: usize, block: BlockId) -> Result<Vec<LayerKv>, StageError> {
        let held = self.blocks.get(&(group, block));
        let held = held.ok_or_else(|| StageError::Block {
            group,
            block: block.0,
            what: "it was never written here".to_owned(),
        })?;
        let layers = self.layers_of(group).map(|layer| LayerKv {
            layer,
            keys: held.get(&layer).map_or_else(Vec::new, halves),
            values: Vec::new(),
        });
        Ok(layers.collect())
    }

    fn import(
        &mut self,
        group: usize,
        block: BlockId,
        layers: &[LayerKv],
    ) -> Result<(), StageError> {
        let own: Vec<_> = self.layers_of(group).collect();
        let given: Vec<_> = layers.iter().map(|kv| kv.layer).collect();
        if own != given {
            return Err(StageError::Block {
                group,
                block: block.0,
                what: format!("layers {own:?} are here, {given:?} were given"),
            });
        }
        let states = layers.iter().map(|kv| (kv.layer, states(&kv.keys)));
        self.blocks.insert((group, block), states.collect());
        Ok(())
    }
}

impl FakeStage {
    /// A state in 16-bit parts, each exact in an f32, and zeros.
    fn row_of(&self, state: State) -> impl Iterator<Item = f32> {
        let parts = [0, 16, 32, 48].map(|shift| (state >> shift & 0xFFFF) as f32);
        let zeros = self.model.width.saturating_sub(parts.len());
        parts.into_iter().chain(std::iter::repeat_n(0.0, zeros))
    }

    /// The layers of a group that it has.
    fn layers_of(&self, group: usize) -> impl Iterator<Item = usize> + use<'_> {
        let pieces = self.span.pieces(self.layers());
        pieces.filter_map(move |piece| match piece {
            Piece::Mixer(layer) if self.model.groups[layer] == group => Some(layer),
            _ => None,
        })
    }

    /// Eight bytes a token and layer of the group.
    fn kv_block(&self, group: usize) -> Bytes {
        Bytes::of(8 * BLOCK_TOKENS * self.layers_of(group).count())
    }
}

/// Each slot as five halves: whether it was written, and its state.
fn halves(slots: &[Option<State>; BLOCK_TOKENS]) -> Vec<u16> {
    let halves = slots.iter().flat_map(|slot| {
        let state = slot.unwrap_or_default();
        let parts = [0, 16, 32, 48].map(|shift| (state >> shift & 0xFFFF) as u16);
        std::iter::once(u16::from(slot.is_some())).chain(parts)
    });
    halves.collect()
}

/// The inverse of `halves`; slots that were not given are not written.
fn states(halves: &[u16]) -> [Option<State>; BLOCK_TOKENS] {
    let mut slots = [None; BLOCK_TOKENS];
    for (slot, halves) in slots.iter_mut().zip(halves.chunks_exact(5)) {
        let parts = halves[1..].iter().enumerate();
        let state = parts.fold(0, |state, (i, &part)| state | State::from(part) << (16 * i));
        *slot = (halves[0] == 1).then_some(state);
    }
    slots
}

/// Whether no other sequence of the step has the blocks that sequence `index` writes.
fn check_apart(step: &Step, group: usize, index: usize) -> Result<(), StageError> {
    let used = |rows: &SequenceRows, start: usize| {
        let end = (rows.start + rows.wants.len()).div_ceil(BLOCK_TOKENS);
        let entries = rows.tables.get(group).into_iter().flatten();
        let used = entries.take(end).skip(start).copied().flatten();
        used.collect::<Vec<_>>()
    };
    let rows = &step.sequences[index];
    let written = used(rows, rows.start / BLOCK_TOKENS);
    for (_, other) in step
        .sequences
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != index)
    {
        let theirs = used(other, 0);
        if let Some(block) = written.iter().find(|block| theirs.contains(block)) {
            return Err(StageError::Block {
                group,
                block: block.0,
                what: "another sequence of the step writes it".to_owned(),
            });
        }
    }
    Ok(())
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
    use gogrid_pipeline::{Positions, Rows};

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
                length: start + rows,
                positions: Positions::Sequential,
                wants,
            }],
        })
    }

    fn run(stage: &mut FakeStage, step: &Arc<Step>, ids: &[u32]) -> Result<Vec<f32>, StageError> {
        let ticket = stage.submit(step, Input::Rows(&Rows::of_ids(ids.to_vec())))?;
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
        assert!(matches!(lost, Err(StageError::Block { .. })));
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
        assert!(matches!(after, Err(StageError::Block { .. })));
    }
}
