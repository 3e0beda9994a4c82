//! The stage: takes a step in, runs its pieces on the team, gives what the next stage or the
//! caller wants.

use std::sync::Arc;
use std::task::Poll;

use gogrid_kernels::{Abandoned, Isa, Ops, Rotary};
use gogrid_lease::Lease;
use gogrid_model::Rope;
use gogrid_pipeline::{
    BLOCK_TOKENS, BlockId, Footprint, Input, OutputBuf, Stage, StageError, Step, Ticket, Want,
};
use gogrid_units::{Bytes, TeamPace};

use crate::buffers::{Buffers, HEAD_ROWS};
use crate::half_layers::{Run, rms_norm};
use crate::kv::{Pool, Taken};
use crate::team::{Keeping, SharedTeam};
use crate::weights::{HeadPart, Pieces};

/// A run of half-layers on a device's cores.
pub(crate) struct CpuStage {
    pub(crate) shape: Shape,
    pub(crate) pieces: Pieces,
    /// The distinct rotations of its mixers.
    pub(crate) ropes: Vec<Rope>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) buffers: Buffers,
    pub(crate) team: SharedTeam,
    /// Its part in what the team keeps; covered by the scratch lease.
    #[expect(dead_code, reason = "held until the stage is dropped")]
    pub(crate) attention: Keeping,
    pub(crate) isa: Isa,
    pub(crate) pace: Arc<dyn TeamPace>,
    pub(crate) open: Option<Open>,
    pub(crate) tickets: u64,
    pub(crate) footprint: Memory,
}

/// What a step must fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) vocab: usize,
    pub(crate) epsilon: f32,
    pub(crate) rows_max: usize,
}

/// A step taken in.
pub(crate) struct Open {
    ticket: Ticket,
    step: Arc<Step>,
    /// Empty where the stage takes the residual stream.
    ids: Vec<u32>,
}

/// Bytes of the stage, with the lease on its scratch.
pub(crate) struct Memory {
    pub(crate) weights: Bytes,
    pub(crate) scratch: Lease,
}

impl Stage for CpuStage {
    fn footprint(&self) -> Footprint {
        Footprint {
            weights: self.footprint.weights,
            scratch: self.footprint.scratch.bytes(),
            kv_block: self.pools.iter().map(Pool::block_bytes).collect(),
            kv_blocks_held: self.pools.iter().map(Pool::held).collect(),
        }
    }

    fn depth(&self) -> usize {
        1
    }

    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError> {
        assert!(self.open.is_none(), "one step at a time");
        self.check(step, input)?;
        let ids = match input {
            Input::Ids(ids) => ids.to_vec(),
            Input::Hidden(rows) => {
                self.buffers.x[..rows.len()].copy_from_slice(rows);
                Vec::new()
            }
        };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.open = Some(Open {
            ticket,
            step: Arc::clone(step),
            ids,
        });
        Ok(ticket)
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        let open = self.open.take().filter(|open| open.ticket == ticket);
        let open = open.expect("a ticket is polled until it is done, and then no more");
        let sequences = &open.step.sequences;
        let mut taken: Vec<Taken> = (self.pools.iter_mut().enumerate())
            .map(|(group, pool)| pool.take(group, sequences))
            .collect();
        let done = self.run(&open, &mut taken, out);
        for (group, (pool, taken)) in self.pools.iter_mut().zip(taken).enumerate() {
            pool.put_back(group, sequences, taken);
        }
        Poll::Ready(done.map_err(|Abandoned| StageError::Abandoned))
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        self.pools[group].release(blocks);
    }

    fn renew_threads(&mut self, renewal: u64) {
        self.team.renew(renewal);
    }
}

impl CpuStage {
    fn run(
        &mut self,
        open: &Open,
        taken: &mut [Taken],
        out: &mut OutputBuf,
    ) -> Result<(), Abandoned> {
        let Self {
            shape,
            pieces,
            ropes,
            buffers,
            team,
            isa,
            pace,
            ..
        } = self;
        let step = &*open.step;
        team.lock().team.step(pace.as_ref(), *isa, |ops| {
            rotations(ops, ropes, step, buffers)?;
            let Shape { width, epsilon, .. } = *shape;
            let (sequences, rows) = (&step.sequences[..], step.rows());
            let mut run = Run {
                ops,
                buffers,
                sequences,
                taken,
                rows,
                width,
                epsilon,
            };
            if let Some(part) = &pieces.embedding {
                run.embed(part, &open.ids)?;
            }
            for half in &pieces.halves {
                run.half_layer(half)?;
            }
            match &pieces.head {
                Some(part) => HeadRun {
                    ops,
                    buffers,
                    shape,
                    part,
                }
                .give(step, out),
                None => {
                    out.hidden.extend_from_slice(&buffers.x[..rows * width]);
                    Ok(())
                }
            }
        })
    }

    /// Whether the step fits the stage; what it says of positions and blocks is checked here once.
    fn check(&self, step: &Step, input: Input<'_>) -> Result<(), StageError> {
        let rows = step.rows();
        let shape_error = |what, takes: String, has: String| StageError::Shape { what, takes, has };
        if rows == 0 || rows > self.shape.rows_max {
            let takes = format!("1 to {}", self.shape.rows_max);
            return Err(shape_error("rows", takes, rows.to_string()));
        }
        let (takes, has) = match (input, &self.pieces.embedding) {
            (Input::Ids(ids), Some(_)) => {
                if let Some(id) = ids.iter().find(|&&id| id as usize >= self.shape.vocab) {
                    let takes = format!("ids below {}", self.shape.vocab);
                    return Err(shape_error("token id", takes, id.to_string()));
                }
                (format!("{rows} ids"), format!("{} ids", ids.len()))
            }
            (Input::Hidden(x), None) => {
                let takes = format!("{} values", rows * self.shape.width);
                (takes, format!("{} values", x.len()))
            }
            (Input::Ids(_), None) => ("the residual stream".to_owned(), "ids".to_owned()),
            (Input::Hidden(_), Some(_)) => ("ids".to_owned(), "the residual stream".to_owned()),
        };
        if takes != has {
            return Err(shape_error("input", takes, has));
        }
        for rows in &step.sequences {
            let written =
                rows.start / BLOCK_TOKENS..(rows.start + rows.wants.len()).div_ceil(BLOCK_TOKENS);
            for table in &rows.tables[..] {
                let blocks = table.get(written.clone());
                if !blocks.is_some_and(|blocks| blocks.iter().all(Option::is_some)) {
                    let takes = format!("a block for each of {written:?}");
                    let has = format!("{} blocks", table.iter().flatten().count());
                    return Err(shape_error("block table", takes, has));
                }
            }
        }
        Ok(())
    }
}

/// Turns the step's positions into each distinct rotation.
fn rotations(
    ops: &mut Ops<'_>,
    ropes: &[Rope],
    step: &Step,
    buffers: &mut Buffers,
) -> Result<(), Abandoned> {
    let sequences = step.sequences.iter();
    let positions: Vec<usize> = sequences
        .flat_map(|rows| rows.start..rows.start + rows.wants.len())
        .collect();
    for (rope, out) in ropes.iter().zip(&mut buffers.rotations) {
        let Rope {
            frequencies,
            magnitude,
            ..
        } = rope;
        let rotary = Rotary {
            frequencies,
            magnitude: *magnitude,
            positions: &positions,
        };
        ops.rotations(&rotary, out)?;
    }
    Ok(())
}

/// The head, on the rows that want something of it.
struct HeadRun<'a, 'o> {
    ops: &'a mut Ops<'o>,
    buffers: &'a mut Buffers,
    shape: &'a Shape,
    part: &'a HeadPart,
}

impl HeadRun<'_, '_> {
    fn give(&mut self, step: &Step, out: &mut OutputBuf) -> Result<(), Abandoned> {
        let width = self.shape.width;
        let mut logit_rows = Vec::new();
        let mut targets = Vec::new();
        for (row, want) in step.wants().enumerate() {
            match want {
                Want::Nothing => {}
                Want::Hidden => {
                    out.hidden
                        .extend_from_slice(&self.buffers.x[row * width..(row + 1) * width]);
                }
                Want::Logits => logit_rows.push(row),
                Want::LogProb(target) => targets.push((row, target)),
            }
        }
        out.logits.resize(logit_rows.len() * self.shape.vocab, 0.0);
        let parts = out.logits.chunks_mut(HEAD_ROWS * self.shape.vocab);
        for (rows, logits) in logit_rows.chunks(HEAD_ROWS).zip(parts) {
            self.logits(rows, logits)?;
        }
        for targets in targets.chunks(HEAD_ROWS) {
            self.log_probs(targets, out)?;
        }
        Ok(())
    }

    fn log_probs(
        &mut self,
        targets: &[(usize, u32)],
        out: &mut OutputBuf,
    ) -> Result<(), Abandoned> {
        let (rows, targets): (Vec<_>, Vec<_>) = targets.iter().copied().unzip();
        let mut logits = std::mem::take(&mut self.buffers.logits);
        let here = &mut logits[..rows.len() * self.shape.vocab];
        let done = self.logits(&rows, here).and_then(|()| {
            let before = out.log_probs.len();
            out.log_probs.resize(before + rows.len(), 0.0);
            self.ops
                .log_probs(here, &targets, &mut out.log_probs[before..])
        });
        self.buffers.logits = logits;
        done
    }

    /// Logits of at most [`HEAD_ROWS`] rows of the residual stream.
    fn logits(&mut self, rows: &[usize], logits: &mut [f32]) -> Result<(), Abandoned> {
        let HeadPart {
            spec,
            output,
            input,
        } = self.part;
        let width = self.shape.width;
        let Buffers {
            x,
            normed,
            output: gathered,
            inputs,
            ..
        } = &mut *self.buffers;
        for (row, to) in rows.iter().zip(gathered.chunks_exact_mut(width)) {
            to.copy_from_slice(&x[row * width..(row + 1) * width]);
        }
        let len = rows.len() * width;
        let (gathered, normed) = (&gathered[..len], &mut normed[..len]);
        self.ops
            .rms_norm(rms_norm(&spec.norm, self.shape.epsilon), gathered, normed)?;
        let input = &mut inputs[input.0];
        self.ops.quantise(normed, input)?;
        self.ops
            .matmul(input, &mut [(&output.packed, &mut *logits)])?;
        match spec.softcap {
            Some(cap) => self.ops.softcap(cap, logits),
            None => Ok(()),
        }
    }
}
