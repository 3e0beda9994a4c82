//! The stage: takes a step in, runs its pieces on the team, gives what the next stage or the
//! caller wants.

use std::sync::Arc;
use std::task::Poll;

use gogrid_kernels::{Abandoned, Isa, Ops, Rotary, TurnedRow};
use gogrid_lease::Lease;
use gogrid_model::Rope;
use gogrid_pipeline::{
    BlockId, Footprint, Input, LayerKv, OutputBuf, Positions, RowFault, Rows, Stage, StageError,
    Step, Takes, Ticket, Want,
};
use gogrid_units::{Bytes, OutOfMemory, Span};

use crate::attention_scratch::AttentionScratch;
use crate::buffers::Buffers;
use crate::half_layers::{Run, rms_norm};
use crate::kv::{Pool, Taken};
use crate::limits::HEAD_ROWS;
use crate::pace::StagePace;
use crate::team::SharedTeam;
use crate::weights::{HeadPart, Pieces};

/// A run of half-layers on a device's cores.
pub(crate) struct CpuStage {
    pub(crate) span: Span,
    pub(crate) shape: Shape,
    pub(crate) pieces: Pieces,
    /// The distinct rotations of its mixers.
    pub(crate) ropes: Vec<Rope>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) buffers: Buffers,
    pub(crate) team: SharedTeam,
    pub(crate) attention: AttentionScratch,
    pub(crate) isa: Isa,
    pub(crate) pace: StagePace,
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
    rows: Rows,
}

/// Bytes of the stage, with the lease on its buffers.
pub(crate) struct Memory {
    pub(crate) weights: Bytes,
    pub(crate) scratch: Lease,
}

impl Stage for CpuStage {
    fn footprint(&self) -> Footprint {
        Footprint {
            weights: self.footprint.weights,
            scratch: self.footprint.scratch.bytes() + self.attention.bytes(),
            kv_block: self.pools.iter().map(Pool::block_bytes).collect(),
            kv_blocks_held: self.pools.iter().map(Pool::held).collect(),
        }
    }

    fn depth(&self) -> usize {
        1
    }

    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError> {
        assert!(self.open.is_none(), "one step at a time");
        let takes = Takes {
            rows_max: self.shape.rows_max,
            width: self.shape.width,
            vocab: self.shape.vocab,
            has_embedding: self.pieces.embedding.is_some(),
            groups: self.pools.len(),
        };
        takes.check(step, input)?;
        let rows = match input {
            Input::Rows(rows) => rows.clone(),
            Input::Hidden(hidden) => {
                self.buffers.x[..hidden.len()].copy_from_slice(hidden);
                Rows::default()
            }
        };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.open = Some(Open {
            ticket,
            step: Arc::clone(step),
            rows,
        });
        Ok(ticket)
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        let open = self.open.take().filter(|open| open.ticket == ticket);
        let open = open.expect("a ticket is polled until it is done, and then no more");
        let sequences = &open.step.sequences;
        let mut taken: Vec<Taken> = self.pools.iter().map(|_| Taken::new()).collect();
        let mut pools = self.pools.iter_mut().zip(&mut taken);
        let ready = pools.try_for_each(|(pool, taken)| pool.take(sequences, taken));
        let ready = ready.and_then(|()| Ok(self.make_room(&open.step, out)?));
        let done = ready.and_then(|()| {
            let run = self.run(&open, &mut taken, out);
            run.map_err(|Abandoned| StageError::Abandoned)
        });
        for (pool, taken) in self.pools.iter_mut().zip(taken) {
            pool.put_back(sequences, taken, done.is_ok());
        }
        Poll::Ready(done)
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        self.pools[group].release(blocks);
    }

    fn export(&mut self, group: usize, block: BlockId) -> Result<Vec<LayerKv>, StageError> {
        self.pools[group].export(block)
    }

    fn import(
        &mut self,
        group: usize,
        block: BlockId,
        layers: &[LayerKv],
    ) -> Result<(), StageError> {
        self.pools[group].import(block, layers)
    }

    fn renew_threads(&mut self, renewal: u64) {
        self.team.renew(renewal);
    }
}

impl CpuStage {
    /// Room for what the step gives, and in attention's scratch for its longest sequence.
    fn make_room(&mut self, step: &Step, out: &mut OutputBuf) -> Result<(), OutOfMemory> {
        let ends = step.sequences.iter().map(|s| s.start + s.wants.len());
        self.attention.reach(ends.max().unwrap_or(0));
        let Shape { width, vocab, .. } = self.shape;
        if self.pieces.head.is_none() {
            return reserve(&mut out.hidden, step.rows() * width);
        }
        let wanting = |want| step.wants().filter(|&its| its == want).count();
        reserve(&mut out.hidden, wanting(Want::Hidden) * width)?;
        reserve(&mut out.logits, wanting(Want::Logits) * vocab)
    }

    fn run(
        &mut self,
        open: &Open,
        taken: &mut [Taken],
        out: &mut OutputBuf,
    ) -> Result<(), Abandoned> {
        let Self {
            span,
            shape,
            pieces,
            ropes,
            pools,
            buffers,
            team,
            isa,
            pace,
            ..
        } = self;
        let step = &*open.step;
        team.lock().team.step(pace, *isa, |ops| {
            rotations(ops, ropes, step, buffers)?;
            let Shape { width, epsilon, .. } = *shape;
            let (sequences, rows) = (&step.sequences[..], step.rows());
            let mut run = Run {
                ops,
                buffers,
                sequences,
                pools,
                taken,
                rows,
                width,
                epsilon,
                faults: Vec::new(),
            };
            run.pieces(pieces, &open.rows, false)?;
            run.note_not_finite(&format_args!("the stage of {span}"))?;
            if !run.faults.is_empty() && pieces.embedding.is_some() {
                // Again, to find the piece: a step can be run twice, and this one's request fails.
                run.pieces(pieces, &open.rows, true)?;
            }
            out.faults = run.faults;
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
}

/// Room for `more` values, or the bytes that the system has not got.
fn reserve(values: &mut Vec<f32>, more: usize) -> Result<(), OutOfMemory> {
    values.try_reserve_exact(more).map_err(|_| OutOfMemory {
        asked: Bytes::of(more * size_of::<f32>()),
    })
}

/// Turns the step's positions into each distinct rotation.
fn rotations(
    ops: &mut Ops<'_>,
    ropes: &[Rope],
    step: &Step,
    buffers: &mut Buffers,
) -> Result<(), Abandoned> {
    for (rope, out) in ropes.iter().zip(&mut buffers.rotations) {
        let mut rows = Vec::with_capacity(step.rows());
        for sequence in &step.sequences {
            let frequencies = rope.frequencies_at(sequence.length);
            let turned = |position| TurnedRow {
                position,
                frequencies,
            };
            let start = sequence.start;
            match &sequence.positions {
                Positions::Sequential => {
                    rows.extend((start..start + sequence.wants.len()).map(turned));
                }
                // A row's axes are equal, as was checked; a u32 fits a usize.
                Positions::Given { axes, values } => {
                    let positions = values.iter().step_by(*axes);
                    rows.extend(positions.map(|&position| turned(position as usize)));
                }
            }
        }
        let rotary = Rotary {
            magnitude: rope.magnitude,
            rows: &rows,
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
        let before = out.log_probs.len();
        let done = self.logits(&rows, here).and_then(|()| {
            out.log_probs.resize(before + rows.len(), 0.0);
            self.ops
                .log_probs(here, &targets, &mut out.log_probs[before..])
        });
        for (row, log_prob) in rows.iter().zip(&out.log_probs[before..]) {
            if !log_prob.is_finite() {
                out.faults.push(RowFault {
                    row: *row,
                    what: format!("a log-probability of {log_prob} in the head"),
                });
            }
        }
        self.buffers.logits = logits;
        done
    }

    /// Logits of at most [`HEAD_ROWS`] rows of the residual stream.
    fn logits(&mut self, rows: &[usize], logits: &mut [f32]) -> Result<(), Abandoned> {
        let HeadPart {
            norm,
            softcap,
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
            .rms_norm(rms_norm(norm, self.shape.epsilon), gathered, normed)?;
        let input = &mut inputs[input.0];
        self.ops.quantise(normed, input)?;
        self.ops
            .matmul(input, &mut [(&output.packed, &mut *logits)])?;
        match *softcap {
            Some(cap) => self.ops.softcap(cap, logits),
            None => Ok(()),
        }
    }
}
