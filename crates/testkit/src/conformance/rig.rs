//! Stages in a row, and sequences fed through them as a scheduler would.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Poll;

use gogrid_pipeline::{
    BLOCK_TOKENS, Backend, BlockId, Input, Opening, OutputBuf, Positions, Rows, SequenceRows,
    Stage, StageError, Step, Want,
};
use gogrid_units::{Piece, Span};

use super::cases::{Case, Logits};
use crate::rng::Rng;

/// The most rows any check puts in a step.
pub(crate) const ROWS_MAX: usize = 96;

/// Runs of one step that a pace may abandon before a check gives up.
const ATTEMPTS_MAX: usize = 4;

/// Blocks of each KV group; their numbers are handed out in no order.
const BLOCKS: usize = 40;

/// Stages in a row on one device, with the free block numbers of each KV group.
pub(crate) struct Rig<'a> {
    pub(crate) stages: Vec<Box<dyn Stage>>,
    spans: Vec<Span>,
    case: &'a Case,
    free: Vec<Vec<BlockId>>,
    /// For each block of a group that more than one sequence has, how many more.
    shared: HashMap<(usize, BlockId), usize>,
    /// Steps that were abandoned so far.
    pub(crate) abandoned: usize,
}

/// A sequence on its way.
pub(crate) struct Sequence {
    rows: Rows,
    /// Positions `[rows, axes]` other than the rows' indices.
    positions: Option<(usize, Vec<u32>)>,
    pub(crate) done: usize,
    pub(crate) tables: Vec<Vec<Option<BlockId>>>,
}

impl<'a> Rig<'a> {
    /// One stage with all of the model.
    pub(crate) fn whole(backend: &mut dyn Backend, case: &'a Case) -> Self {
        Self::cut(backend, case, &[])
    }

    /// Stages cut before these pieces.
    pub(crate) fn cut(backend: &mut dyn Backend, case: &'a Case, cuts: &[usize]) -> Self {
        let mut rest = Span::whole_model(case.model.decoder().layers.len());
        let (mut stages, mut spans) = (Vec::new(), Vec::new());
        let mut open = |span: Span| {
            let stage = backend.open(Opening::new(&case.model, span, ROWS_MAX));
            stage.unwrap_or_else(|error| panic!("{}: {span}: {error}", case.name))
        };
        for &cut in cuts {
            let (front, back) = rest.split_at(cut - rest.start);
            stages.push(open(front));
            spans.push(front);
            rest = back;
        }
        stages.push(open(rest));
        spans.push(rest);
        let groups = 0..case.model.decoder().kv_groups.len();
        Self {
            stages,
            spans,
            case,
            free: groups.map(|group| shuffled_blocks(group as u64)).collect(),
            shared: HashMap::new(),
            abandoned: 0,
        }
    }

    pub(crate) fn sequence(&self, ids: Vec<u32>) -> Sequence {
        self.sequence_of(Rows::of_ids(ids), None)
    }

    /// A sequence of rows, which may bring embeddings and stand at positions `[rows, axes]`.
    pub(crate) fn sequence_of(&self, rows: Rows, positions: Option<(usize, Vec<u32>)>) -> Sequence {
        Sequence {
            rows,
            positions,
            done: 0,
            tables: vec![Vec::new(); self.free.len()],
        }
    }

    /// A sequence that has the blocks of another, and goes on with other ids. The other's rows so
    /// far are whole blocks.
    pub(crate) fn fork(&mut self, from: &Sequence, ids: Vec<u32>) -> Sequence {
        assert!(from.done.is_multiple_of(BLOCK_TOKENS), "whole blocks");
        for (group, table) in from.tables.iter().enumerate() {
            for block in table.iter().flatten() {
                *self.shared.entry((group, *block)).or_default() += 1;
            }
        }
        Sequence {
            done: from.done,
            tables: from.tables.clone(),
            ..self.sequence(ids)
        }
    }

    /// The layers of a KV group that each stage has.
    pub(crate) fn layers_of(&self, group: usize) -> Vec<Vec<usize>> {
        let layers = &self.case.model.decoder().layers;
        let its = |span: &Span| {
            let pieces = span.pieces(layers.len());
            let of_group = pieces.filter_map(|piece| match piece {
                Piece::Mixer(layer) if layers[layer].mixer.kv_group == group => Some(layer),
                _ => None,
            });
            of_group.collect()
        };
        self.spans.iter().map(its).collect()
    }

    /// Takes a sequence over whose blocks were imported.
    pub(crate) fn adopt(&mut self, sequence: &Sequence) {
        for (free, table) in self.free.iter_mut().zip(&sequence.tables) {
            free.retain(|block| !table.contains(&Some(*block)));
        }
    }

    /// Runs one sequence in steps of at most `chunk` rows: the logits after each token.
    pub(crate) fn run(&mut self, ids: &[u32], chunk: usize) -> Logits {
        let mut sequence = self.sequence(ids.to_vec());
        let logits = self.finish(&mut sequence, chunk);
        self.end(sequence);
        logits
    }

    /// Runs what is left of a sequence in steps of at most `chunk` rows: the logits after each row.
    pub(crate) fn finish(&mut self, sequence: &mut Sequence, chunk: usize) -> Logits {
        let mut logits = Vec::new();
        while sequence.left() > 0 {
            let rows = sequence.left().min(chunk);
            let given = self.feed(&mut [(&mut *sequence, rows)]);
            logits.extend(given.into_iter().flatten());
        }
        logits
    }

    /// One step with the next rows of each sequence: the logits after each row.
    pub(crate) fn feed(&mut self, batch: &mut [(&mut Sequence, usize)]) -> Vec<Logits> {
        let wants = |rows: usize| vec![Want::Logits; rows];
        let out = self.feed_wanting(batch, &wants);
        let mut rows = out.logits.chunks_exact(self.case.model.decoder().vocab);
        let mut take = |count: usize| rows.by_ref().take(count).map(<[f32]>::to_vec).collect();
        batch.iter().map(|(_, count)| take(*count)).collect()
    }

    /// One step with the next rows of each sequence, which want what `wants` says for their number.
    pub(crate) fn feed_wanting(
        &mut self,
        batch: &mut [(&mut Sequence, usize)],
        wants: &dyn Fn(usize) -> Vec<Want>,
    ) -> OutputBuf {
        let mut input = Rows::default();
        let mut sequences = Vec::new();
        for (sequence, rows) in batch.iter_mut() {
            self.make_room(sequence, *rows);
            let range = sequence.done..sequence.done + *rows;
            input.extend_from(&sequence.rows, range);
            sequences.push(sequence.next_rows(wants(*rows)));
        }
        let step = Arc::new(Step { sequences });
        let out = self.run_step(&step, &input);
        for (sequence, rows) in batch.iter_mut() {
            sequence.done += *rows;
        }
        out
    }

    /// Gives a sequence's blocks back.
    pub(crate) fn end(&mut self, sequence: Sequence) {
        for (group, table) in sequence.tables.into_iter().enumerate() {
            self.release(group, table.into_iter().flatten().collect());
        }
    }

    /// Gives the blocks that the next rows no longer see back, and takes those they write.
    pub(crate) fn make_room(&mut self, sequence: &mut Sequence, rows: usize) {
        for (group, kv) in self.case.model.decoder().kv_groups.iter().enumerate() {
            let first_seen = kv
                .window
                .map_or(0, |w| (sequence.done + 1).saturating_sub(w));
            let table = &mut sequence.tables[group];
            let left = table.iter_mut().take(first_seen / BLOCK_TOKENS);
            let left: Vec<_> = left.filter_map(Option::take).collect();
            let needed = (sequence.done + rows).div_ceil(BLOCK_TOKENS);
            while table.len() < needed {
                table.push(Some(self.free[group].pop().expect("blocks are left")));
            }
            self.release(group, left);
        }
    }

    fn release(&mut self, group: usize, mut blocks: Vec<BlockId>) {
        blocks.retain(|block| match self.shared.get_mut(&(group, *block)) {
            Some(others) if *others > 0 => {
                *others -= 1;
                false
            }
            _ => true,
        });
        for stage in &mut self.stages {
            stage.release(group, &blocks);
        }
        self.free[group].extend(blocks);
    }

    /// Runs a step through every stage, again from the first when it is abandoned.
    fn run_step(&mut self, step: &Arc<Step>, rows: &Rows) -> OutputBuf {
        for _ in 0..ATTEMPTS_MAX {
            match self.try_step(step, rows) {
                Ok(out) => return out,
                Err(StageError::Abandoned) => self.abandoned += 1,
                Err(error) => panic!("{}: {error}", self.case.name),
            }
        }
        panic!("{}: abandoned {ATTEMPTS_MAX} times", self.case.name);
    }

    pub(crate) fn try_step(
        &mut self,
        step: &Arc<Step>,
        rows: &Rows,
    ) -> Result<OutputBuf, StageError> {
        let mut given = OutputBuf::default();
        for (index, stage) in self.stages.iter_mut().enumerate() {
            let input = match index {
                0 => Input::Rows(rows),
                _ => Input::Hidden(&given.hidden),
            };
            let ticket = stage.submit(step, input)?;
            let mut out;
            loop {
                // As with the runner, another buffer each time.
                out = OutputBuf::default();
                match stage.poll(ticket, &mut out) {
                    Poll::Pending => std::thread::yield_now(),
                    Poll::Ready(done) => break done?,
                }
            }
            // As the runner does: what the stages before found comes first.
            out.faults.splice(0..0, given.faults.drain(..));
            given = out;
        }
        Ok(given)
    }
}

impl Sequence {
    /// Tokens not yet fed.
    pub(crate) fn left(&self) -> usize {
        self.rows.len() - self.done
    }

    /// The next rows, as many as there are wants, in their blocks.
    pub(crate) fn next_rows(&self, wants: Vec<Want>) -> SequenceRows {
        let rows = self.done..self.done + wants.len();
        SequenceRows {
            tables: Arc::new(self.tables.clone()),
            start: self.done,
            length: self.rows.len(),
            positions: match &self.positions {
                None => Positions::Sequential,
                Some((axes, values)) => Positions::Given {
                    axes: *axes,
                    values: values[rows.start * axes..rows.end * axes].into(),
                },
            },
            wants,
        }
    }
}

/// Block numbers in an order of chance, so that neighbours in a table are none in memory.
fn shuffled_blocks(seed: u64) -> Vec<BlockId> {
    let mut rng = Rng::new(seed);
    let mut blocks: Vec<_> = (0..BLOCKS as u32).map(BlockId).collect();
    for i in (1..blocks.len()).rev() {
        blocks.swap(i, rng.below(i + 1));
    }
    blocks
}
