//! Stages in a row, and sequences fed through them as a scheduler would.

use std::sync::Arc;
use std::task::Poll;

use gogrid_lease::Ledger;
use gogrid_pipeline::{
    BLOCK_TOKENS, Backend, BlockId, Input, Opening, OutputBuf, SequenceRows, Stage, StageError,
    Step, Want,
};
use gogrid_units::{Bytes, FullSpeed, Span, TeamPace};

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
    case: &'a Case,
    free: Vec<Vec<BlockId>>,
    /// Steps that were abandoned so far.
    pub(crate) abandoned: usize,
}

/// A sequence on its way.
pub(crate) struct Sequence {
    ids: Vec<u32>,
    done: usize,
    tables: Vec<Vec<Option<BlockId>>>,
}

impl<'a> Rig<'a> {
    /// One stage with all of the model, at full speed.
    pub(crate) fn whole(backend: &mut dyn Backend, case: &'a Case) -> Self {
        Self::cut(backend, case, &[])
    }

    /// Stages cut before these pieces, at full speed.
    pub(crate) fn cut(backend: &mut dyn Backend, case: &'a Case, cuts: &[usize]) -> Self {
        Self::paced(backend, case, cuts, &(Arc::new(FullSpeed) as _))
    }

    pub(crate) fn paced(
        backend: &mut dyn Backend,
        case: &'a Case,
        cuts: &[usize],
        pace: &Arc<dyn TeamPace>,
    ) -> Self {
        let memory = Ledger::new(Bytes::gib(4));
        let mut rest = Span::whole_model(case.model.decoder().layers.len());
        let mut stages = Vec::new();
        let mut open = |span: Span| {
            let request = Opening {
                model: &case.model,
                span,
                memory: &memory,
                pace: Arc::clone(pace),
                rows_max: ROWS_MAX,
            };
            let stage = backend.open(request);
            stage.unwrap_or_else(|error| panic!("{}: {span}: {error}", case.name))
        };
        for &cut in cuts {
            let (front, back) = rest.split_at(cut - rest.start);
            stages.push(open(front));
            rest = back;
        }
        stages.push(open(rest));
        let groups = 0..case.model.decoder().kv_groups.len();
        Self {
            stages,
            case,
            free: groups.map(|group| shuffled_blocks(group as u64)).collect(),
            abandoned: 0,
        }
    }

    pub(crate) fn sequence(&self, ids: Vec<u32>) -> Sequence {
        Sequence {
            ids,
            done: 0,
            tables: vec![Vec::new(); self.free.len()],
        }
    }

    /// Runs one sequence in steps of at most `chunk` rows: the logits after each token.
    pub(crate) fn run(&mut self, ids: &[u32], chunk: usize) -> Logits {
        let mut sequence = self.sequence(ids.to_vec());
        let mut logits = Vec::new();
        while sequence.left() > 0 {
            let rows = sequence.left().min(chunk);
            let given = self.feed(&mut [(&mut sequence, rows)]);
            logits.extend(given.into_iter().flatten());
        }
        self.end(sequence);
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
        let mut ids = Vec::new();
        let mut sequences = Vec::new();
        for (sequence, rows) in batch.iter_mut() {
            self.make_room(sequence, *rows);
            ids.extend_from_slice(&sequence.ids[sequence.done..][..*rows]);
            sequences.push(SequenceRows {
                tables: Arc::new(sequence.tables.clone()),
                start: sequence.done,
                wants: wants(*rows),
            });
        }
        let step = Arc::new(Step { sequences });
        let out = self.run_step(&step, &ids);
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
    fn make_room(&mut self, sequence: &mut Sequence, rows: usize) {
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

    fn release(&mut self, group: usize, blocks: Vec<BlockId>) {
        for stage in &mut self.stages {
            stage.release(group, &blocks);
        }
        self.free[group].extend(blocks);
    }

    /// Runs a step through every stage, again from the first when it is abandoned.
    fn run_step(&mut self, step: &Arc<Step>, ids: &[u32]) -> OutputBuf {
        for _ in 0..ATTEMPTS_MAX {
            match self.try_step(step, ids) {
                Ok(out) => return out,
                Err(StageError::Abandoned) => self.abandoned += 1,
                Err(error) => panic!("{}: {error}", self.case.name),
            }
        }
        panic!("{}: abandoned {ATTEMPTS_MAX} times", self.case.name);
    }

    fn try_step(&mut self, step: &Arc<Step>, ids: &[u32]) -> Result<OutputBuf, StageError> {
        let mut given = OutputBuf::default();
        for (index, stage) in self.stages.iter_mut().enumerate() {
            let input = match index {
                0 => Input::Ids(ids),
                _ => Input::Hidden(&given.hidden),
            };
            let ticket = stage.submit(step, input)?;
            let mut out = OutputBuf::default();
            loop {
                match stage.poll(ticket, &mut out) {
                    Poll::Pending => std::thread::yield_now(),
                    Poll::Ready(done) => break done?,
                }
            }
            given = out;
        }
        Ok(given)
    }
}

impl Sequence {
    /// Tokens not yet fed.
    pub(crate) const fn left(&self) -> usize {
        self.ids.len() - self.done
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
