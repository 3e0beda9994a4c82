//! The stage: takes a step in, hands it to the device in submissions of bounded time, and gives what the next
//! stage or the caller wants. It never waits for the device: the submission that is done wakes its driver.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use gogrid_lease::{Lease, Ledger};
use gogrid_pipeline::{
    BLOCK_TOKENS, BlockId, Cancel, Footprint, Input, LayerKv, OutputBuf, Rows, RowFault, Stage, StageError,
    Step, TakenBlocks, Takes, Ticket, Want,
};
use gogrid_units::{Bytes, Go, Moment, Pace, Span};

use crate::cost::Cost;
use crate::device::Device;
use crate::info::{Info, NO_SLOT, Tiles};
use crate::kernel::Kernel;
use crate::kv::{Pool, Slot};
use crate::limits::{HEAD_ROWS, IN_FLIGHT, KV_MAX};
use crate::op::{Batch, Op, next_batch};
use crate::parts::Pieces;
use crate::program::{Program, numbered_piece, tile_kinds};
use crate::recorder::{Command, Failure, Recorder, Submission};
use crate::scratch::{Scratch, Widths};
use crate::weights::bytes_of;

/// A run of half-layers on a GPU.
pub(crate) struct GpuStage<R: Recorder> {
    pub(crate) device: Arc<Device<R>>,
    pub(crate) span: Span,
    pub(crate) shape: Shape,
    pub(crate) pieces: Pieces<R>,
    pub(crate) pools: Vec<Pool<R>>,
    pub(crate) scratch: Scratch<R>,
    /// What the pools hold beyond the blocks in use.
    pub(crate) slack: Vec<Lease>,
    pub(crate) weights: Bytes,
    pub(crate) memory: Ledger,
    pub(crate) pace: Arc<dyn Pace>,
    pub(crate) cancel: Cancel,
    pub(crate) waker: Waker,
    pub(crate) bindings: BindingCache<R>,
    pub(crate) open: Option<Open<R>>,
    pub(crate) tickets: u64,
}

/// What a step must fit, and what kernels are told of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) vocab: usize,
    pub(crate) epsilon: f32,
    pub(crate) rows_max: usize,
    pub(crate) layers: usize,
    pub(crate) widths: Widths,
}

/// Kernels' buffers, by kernel and buffers: made once, not for each step.
pub(crate) type BindingCache<R> = HashMap<(Kernel, Vec<(u64, u64)>), Arc<<R as Recorder>::Bindings>>;

/// Bindings that are kept. Slabs come and go, so that old ones are forgotten.
const BINDINGS_MAX: usize = 8192;

/// A step taken in.
pub(crate) struct Open<R: Recorder> {
    ticket: Ticket,
    step: Arc<Step>,
    rows: Rows,
    /// The residual stream that came in, where the span has no embedding.
    hidden: Vec<f32>,
    taken: Vec<TakenBlocks<Slot<R>>>,
    info: Info,
    tiles: Vec<Tiles>,
    /// Operations that were not handed to the device.
    ops: VecDeque<Op<R>>,
    /// What is read when they are done, and then what is made next.
    reads: Reads,
    /// Parts of the head that were not begun.
    heads: VecDeque<HeadChunk>,
    flight: Arc<Flight>,
    is_abandoned: bool,
    /// Whether rows are looked at after each piece.
    is_watched: bool,
    /// What the first submission begins with, until it is handed over.
    upload: Option<Vec<u8>>,
    begun: bool,
}

/// What the device has of a step, and what its submissions said.
pub(crate) struct Flight {
    state: Mutex<FlightState>,
    waker: Waker,
}

#[derive(Default)]
struct FlightState {
    open: usize,
    failure: Option<Failure>,
    /// Nanoseconds of submissions that are done, with what they did, not yet charged.
    done: Vec<(Option<u64>, Vec<Cost>)>,
}

impl Flight {
    fn new(waker: Waker) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Self { state, waker })
    }

    fn lock(&self) -> MutexGuard<'_, FlightState> {
        // Each change is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_one(&self, result: Result<Option<u64>, Failure>, costs: Vec<Cost>) {
        let mut state = self.lock();
        state.open -= 1;
        match result {
            Ok(nanos) => state.done.push((nanos, costs)),
            Err(failure) => {
                state.failure.get_or_insert(failure);
            }
        }
        drop(state);
        self.waker.wake_by_ref();
    }
}

/// What of the readback buffer means what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Nothing yet: the pieces run.
    Flags,
    /// The residual stream of all rows, after the flags.
    Stream,
    /// Some rows of the head.
    Head(HeadChunk),
}

/// Rows that the head gives something for, at most [`HEAD_ROWS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeadChunk {
    what: HeadWant,
    /// Where the list of rows begins in the step's information, and that of their targets.
    list: usize,
    targets: usize,
    rows: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadWant {
    Hidden,
    Logits,
    LogProbs,
}

impl<R: Recorder> Stage for GpuStage<R> {
    fn footprint(&self) -> Footprint {
        let slack: Bytes = self.slack.iter().map(Lease::bytes).sum();
        Footprint {
            weights: self.weights,
            scratch: self.scratch.bytes() + slack,
            kv_block: self.pools.iter().map(|pool| pool.shape.block_bytes()).collect(),
            kv_blocks_held: self.pools.iter().map(|pool| pool.blocks.held()).collect(),
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
        let (rows, hidden) = match input {
            Input::Rows(rows) => (rows.clone(), Vec::new()),
            Input::Hidden(hidden) => (Rows::default(), hidden.to_vec()),
        };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.open = Some(Open {
            ticket,
            step: Arc::clone(step),
            rows,
            hidden,
            taken: Vec::new(),
            info: Info::default(),
            tiles: Vec::new(),
            ops: VecDeque::new(),
            reads: Reads::Flags,
            heads: VecDeque::new(),
            flight: Flight::new(self.waker.clone()),
            is_abandoned: false,
            is_watched: false,
            upload: None,
            begun: false,
        });
        Ok(ticket)
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        let open = self.open.take().filter(|open| open.ticket == ticket);
        let mut open = open.expect("a ticket is polled until it is done, and then no more");
        let done = match self.go_on(&mut open, out) {
            Poll::Pending => {
                self.open = Some(open);
                return Poll::Pending;
            }
            Poll::Ready(done) => done,
        };
        let sequences = &open.step.sequences;
        for (pool, taken) in self.pools.iter_mut().zip(open.taken) {
            if !pool.shape.layers.is_empty() {
                pool.blocks.put_back(sequences, taken, done.is_ok());
            }
        }
        Poll::Ready(done)
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        self.pools[group].blocks.release(blocks);
    }

    fn export(&mut self, group: usize, block: BlockId) -> Result<Vec<LayerKv>, StageError> {
        self.pools[group].export(block, &self.scratch.readback)
    }

    fn import(
        &mut self,
        group: usize,
        block: BlockId,
        layers: &[LayerKv],
    ) -> Result<(), StageError> {
        self.pools[group].import(block, layers, &self.scratch.upload)
    }
}

impl<R: Recorder> GpuStage<R> {
    fn go_on(&mut self, open: &mut Open<R>, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        let done = (|| {
            if !open.begun {
                open.begun = true;
                self.begin(open)?;
            }
            loop {
                self.take_up(open)?;
                match self.advance(open)? {
                    Advance::Wait => return Ok(Poll::Pending),
                    Advance::More => {}
                    Advance::Done => {
                        if !self.read(open, out)? {
                            continue;
                        }
                        return Ok(Poll::Ready(()));
                    }
                }
            }
        })();
        match done {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            // What the device still has of the step is done before its blocks are another's.
            Err(StageError::Abandoned) if open.flight.lock().open > 0 => {
                open.is_abandoned = true;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Takes the step's blocks, and makes what its kernels are told.
    fn begin(&mut self, open: &mut Open<R>) -> Result<(), StageError> {
        for pool in &mut self.pools {
            pool.compact()?;
        }
        let sequences = &open.step.sequences;
        for pool in &mut self.pools {
            open.taken.push(TakenBlocks::new());
            let taken = open.taken.last_mut().expect("just pushed");
            if !pool.shape.layers.is_empty() {
                let slabs = &pool.slabs;
                pool.blocks.take(sequences, taken, &mut || slabs.take())?;
            }
        }
        self.describe(open);
        let words = open.info.words.len() as u64 * 4;
        let stream = 4 * (open.step.rows() * (self.shape.widths.width + 1)) as u64;
        self.scratch
            .reach(&self.device, &self.memory, (words, words + stream))?;
        self.main_ops(open);
        Ok(())
    }

    fn describe(&self, open: &mut Open<R>) {
        let (step, info) = (&open.step, &mut open.info);
        info.put_ids(&open.rows);
        for (pool, taken) in self.pools.iter().zip(&open.taken) {
            let slots = slots_of(step, pool, taken);
            info.put_group(step, &slots);
        }
        for rope in &self.pieces.ropes {
            info.put_turns(rope, step);
        }
        let mut known: Vec<((usize, usize), Tiles)> = Vec::new();
        for kind in tile_kinds(&self.pieces) {
            let tiles = match known.iter().find(|(its, _)| *its == kind) {
                Some((_, tiles)) => *tiles,
                None => {
                    let window = self.pools[kind.0].shape.window;
                    let tiles = info.put_tiles(step, (kind.0, window), kind.1);
                    known.push((kind, tiles));
                    tiles
                }
            };
            open.tiles.push(tiles);
        }
        open.heads = match self.pieces.head {
            Some(_) => head_chunks(step, info),
            None => VecDeque::new(),
        };
    }

    fn program<'a>(&'a self, open: &'a Open<R>) -> Program<'a, R> {
        Program {
            device: &self.device,
            pieces: &self.pieces,
            scratch: &self.scratch,
            pools: &self.pools,
            widths: self.shape.widths,
            width: self.shape.width,
            epsilon: self.shape.epsilon,
            rows: open.step.rows(),
            info: &open.info,
            tiles: &open.tiles,
            layers: self.shape.layers,
            ops: Vec::new(),
        }
    }

    /// The operations of all pieces but the head, with what is uploaded before and read after them.
    fn main_ops(&self, open: &mut Open<R>) {
        let rows = open.step.rows();
        let scratch = &self.scratch;
        let bytes = self.upload_bytes(open);
        open.upload = Some(bytes.bytes);
        let mut ops: Vec<Op<R>> = Vec::new();
        for (from, to, len) in bytes.copies {
            ops.push(Op::Copy {
                from: (Arc::clone(&scratch.upload), from),
                to: (to.0, to.1),
                bytes: len,
            });
        }
        let mut program = self.program(open);
        program.pieces(open.is_watched);
        ops.append(&mut program.ops);
        ops.push(Op::Copy {
            from: (Arc::clone(&scratch.flags), 0),
            to: (Arc::clone(&scratch.readback), 0),
            bytes: 4 * rows as u64,
        });
        open.reads = Reads::Flags;
        if self.pieces.head.is_none() {
            open.reads = Reads::Stream;
            ops.push(Op::Copy {
                from: (Arc::clone(&scratch.x), 0),
                to: (Arc::clone(&scratch.readback), scratch.flags.bytes),
                bytes: 4 * (rows * self.shape.widths.width) as u64,
            });
        }
        open.ops = ops.into();
    }

    /// What a step begins with: information, flags that note nothing, and rows that bring themselves.
    fn upload_bytes(&self, open: &Open<R>) -> Upload<R> {
        let (width, ld) = (self.shape.width, self.shape.widths.width);
        let scratch = &self.scratch;
        let mut words = open.info.words.clone();
        let mut copies = vec![(0, (Arc::clone(&scratch.info), 0), 4 * words.len() as u64)];
        let rows = open.step.rows();
        copies.push((4 * words.len() as u64, (Arc::clone(&scratch.flags), 0), 4 * rows as u64));
        words.resize(words.len() + rows, u32::MAX);
        let mut put = |first: usize, values: &[f32]| {
            let from = 4 * words.len() as u64;
            for row in values.chunks_exact(width) {
                words.extend(row.iter().map(|value| value.to_bits()));
                words.resize(words.len() + ld - width, 0);
            }
            let to = (Arc::clone(&scratch.x), 4 * (first * ld) as u64);
            copies.push((from, to, 4 * words.len() as u64 - from));
        };
        match self.pieces.embedding {
            Some(_) => {
                for run in &open.rows.embedded {
                    put(run.rows.start, &run.values);
                }
            }
            None => put(0, &open.hidden),
        }
        Upload {
            bytes: bytes_of(&words),
            copies,
        }
    }

    /// Takes up what submissions said: charges their time, and learns from it.
    fn take_up(&self, open: &Open<R>) -> Result<(), StageError> {
        let mut state = open.flight.lock();
        let done = std::mem::take(&mut state.done);
        let failure = state.failure.clone();
        drop(state);
        for (nanos, costs) in done {
            let Some(nanos) = nanos else { continue };
            self.pace.charge(nanos);
            self.device.rates().learn(&costs, nanos as f64);
        }
        match failure {
            Some(failure) => Err(self.device.error(failure)),
            None => Ok(()),
        }
    }

    /// Hands the device what it may have next.
    fn advance(&mut self, open: &mut Open<R>) -> Result<Advance, StageError> {
        let in_flight = open.flight.lock().open;
        if open.is_abandoned || self.cancel.is_cancelled() {
            return Err(StageError::Abandoned);
        }
        if open.ops.is_empty() {
            return Ok(if in_flight == 0 { Advance::Done } else { Advance::Wait });
        }
        if in_flight >= IN_FLIGHT {
            return Ok(Advance::Wait);
        }
        let batch = next_batch(&mut open.ops, &self.device.rates(), self.device.facts().groups_max);
        match self.pace.point(batch.work) {
            Go::Go => {
                self.hand_over(open, batch)?;
                Ok(Advance::More)
            }
            Go::Rest(until) => {
                put_front(&mut open.ops, batch);
                self.rest(in_flight, until)
            }
            Go::Abandon => Err(StageError::Abandoned),
        }
    }

    fn rest(&self, in_flight: usize, until: Moment) -> Result<Advance, StageError> {
        match in_flight {
            0 => {
                self.pace.rest(until);
                Ok(Advance::More)
            }
            // Its end wakes the driver, and time has passed by then.
            _ => Ok(Advance::Wait),
        }
    }

    fn hand_over(&mut self, open: &mut Open<R>, batch: Batch<R>) -> Result<(), StageError> {
        let fail = |failure, device: &Device<R>| device.error(failure);
        let mut kernels = Vec::new();
        for op in &batch.ops {
            if let Op::Dispatch(dispatch) = op {
                let pipeline = self.device.pipeline(dispatch.kernel);
                let pipeline = pipeline.map_err(|failure| fail(failure, &self.device))?;
                let bindings = self.bindings(dispatch.kernel, (&pipeline, &dispatch.parts))?;
                let words = dispatch.immediates.iter().flat_map(|word| word.to_le_bytes());
                kernels.push((pipeline, bindings, words.collect::<Vec<u8>>()));
            }
        }
        let mut made = kernels.iter();
        let commands: Vec<_> = batch
            .ops
            .iter()
            .map(|op| match op {
                Op::Dispatch(dispatch) => {
                    let (pipeline, bindings, immediates) = made.next().expect("one for each");
                    Command::Dispatch {
                        pipeline: &**pipeline,
                        bindings: &**bindings,
                        immediates,
                        groups: dispatch.groups,
                    }
                }
                Op::Copy { from, to, bytes } => Command::Copy {
                    from: (&from.0.raw, from.1),
                    to: (&to.0.raw, to.1),
                    bytes: *bytes,
                },
            })
            .collect();
        let uploads = [&self.scratch.upload.raw];
        let upload = open.upload.take();
        if let Some(bytes) = &upload {
            let filled = self.device.recorder.fill(uploads[0], bytes);
            filled.map_err(|failure| self.device.error(failure))?;
        }
        let flight = Arc::clone(&open.flight);
        flight.lock().open += 1;
        let costs = batch.costs;
        let submitted = self.device.recorder.submit(Submission {
            commands: &commands,
            uploads: &uploads[..usize::from(upload.is_some())],
            readback: open.ops.is_empty().then_some(&self.scratch.readback.raw),
            done: Box::new(move |result| flight.end_one(result, costs)),
        });
        submitted.map_err(|failure| {
            open.flight.lock().open -= 1;
            self.device.error(failure)
        })
    }

    fn bindings(
        &mut self,
        kernel: Kernel,
        (pipeline, parts): (&R::Pipeline, &[crate::device::Part<R>]),
    ) -> Result<Arc<R::Bindings>, StageError> {
        let key: Vec<_> = parts.iter().map(|part| (part.buffer.id, part.offset)).collect();
        if let Some(known) = self.bindings.get(&(kernel, key.clone())) {
            return Ok(Arc::clone(known));
        }
        let made = self.device.bindings(pipeline, parts);
        let made = Arc::new(made.map_err(|failure| self.device.error(failure))?);
        if self.bindings.len() >= BINDINGS_MAX {
            self.bindings.clear();
        }
        self.bindings.insert((kernel, key), Arc::clone(&made));
        Ok(made)
    }

    /// Reads what is done, and makes what comes next. Says whether the step is done.
    fn read(&mut self, open: &mut Open<R>, out: &mut OutputBuf) -> Result<bool, StageError> {
        let rows = open.step.rows();
        match open.reads {
            Reads::Flags | Reads::Stream => {
                let flags_len = self.scratch.flags.bytes as usize;
                let len = match open.reads {
                    Reads::Stream => flags_len + 4 * rows * self.shape.widths.width,
                    _ => 4 * rows,
                };
                let bytes = self.read_back(len)?;
                let flags: Vec<u32> = words_of(&bytes[..4 * rows]).collect();
                let has_faults = flags.iter().any(|flag| *flag != u32::MAX);
                if has_faults && !open.is_watched && self.pieces.embedding.is_some() {
                    // Again, to find the piece: a step can be run twice, and this one's request fails.
                    open.is_watched = true;
                    self.main_ops(open);
                    return Ok(false);
                }
                out.faults.extend(self.faults(&flags));
                if open.reads == Reads::Stream {
                    self.give_rows(&bytes[flags_len..], &mut out.hidden);
                }
            }
            Reads::Head(chunk) => self.give_head(chunk, (open, out))?,
        }
        match open.heads.pop_front() {
            Some(chunk) => {
                self.head_ops(open, chunk);
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn read_back(&self, len: usize) -> Result<Vec<u8>, StageError> {
        let mut bytes = vec![0; len];
        let read = self.device.recorder.read(&self.scratch.readback.raw, &mut bytes);
        read.map_err(|failure| self.device.error(failure))?;
        Ok(bytes)
    }

    fn faults(&self, flags: &[u32]) -> Vec<RowFault> {
        let noted = flags.iter().enumerate().filter(|(_, flag)| **flag != u32::MAX);
        let fault = |(row, flag): (usize, &u32)| {
            let what = match *flag {
                flag if flag == u32::MAX - 1 => {
                    format!("a value that is not finite after the stage of {}", self.span)
                }
                flag => {
                    let piece = numbered_piece(flag / 2, self.shape.layers);
                    match flag % 2 {
                        0 => format!(
                            "a key or value that the KV cache cannot hold, past {KV_MAX} or not finite, in {piece}"
                        ),
                        _ => format!("a value that is not finite after {piece}"),
                    }
                }
            };
            RowFault { row, what }
        };
        noted.map(fault).collect()
    }

    /// Rows of the residual stream, without what they are padded with.
    fn give_rows(&self, bytes: &[u8], to: &mut Vec<f32>) {
        for row in bytes.chunks_exact(4 * self.shape.widths.width) {
            to.extend(words_of(&row[..4 * self.shape.width]).map(f32::from_bits));
        }
    }

    fn head_ops(&self, open: &mut Open<R>, chunk: HeadChunk) {
        let Some(head) = &self.pieces.head else { return };
        let scratch = &self.scratch;
        let mut program = self.program(open);
        program.gather(chunk.list, chunk.rows);
        let (from, len) = match chunk.what {
            HeadWant::Hidden => (&scratch.gathered, chunk.rows * self.shape.widths.width),
            HeadWant::Logits => {
                program.logits(head, chunk.rows);
                (&scratch.logits, chunk.rows * self.shape.vocab)
            }
            HeadWant::LogProbs => {
                program.logits(head, chunk.rows);
                program.log_probs(chunk.targets, chunk.rows);
                (&scratch.log_probs, chunk.rows)
            }
        };
        let mut ops = program.ops;
        ops.push(Op::Copy {
            from: (Arc::clone(from), 0),
            to: (Arc::clone(&scratch.readback), 0),
            bytes: 4 * len as u64,
        });
        open.ops = ops.into();
        open.reads = Reads::Head(chunk);
    }

    fn give_head(
        &self,
        chunk: HeadChunk,
        (open, out): (&Open<R>, &mut OutputBuf),
    ) -> Result<(), StageError> {
        let values = match chunk.what {
            HeadWant::Hidden => self.shape.widths.width,
            HeadWant::Logits => self.shape.vocab,
            HeadWant::LogProbs => 1,
        };
        let bytes = self.read_back(4 * chunk.rows * values)?;
        match chunk.what {
            HeadWant::Hidden => self.give_rows(&bytes, &mut out.hidden),
            HeadWant::Logits => out.logits.extend(words_of(&bytes).map(f32::from_bits)),
            HeadWant::LogProbs => {
                for (index, log_prob) in words_of(&bytes).map(f32::from_bits).enumerate() {
                    if !log_prob.is_finite() {
                        out.faults.push(RowFault {
                            row: open.info.words[chunk.list + index] as usize,
                            what: format!("a log-probability of {log_prob} in the head"),
                        });
                    }
                    out.log_probs.push(log_prob);
                }
            }
        }
        Ok(())
    }
}

/// What a step begins with on the device: bytes, and where parts of them go.
struct Upload<R: Recorder> {
    bytes: Vec<u8>,
    /// The first byte of each part, its place, and its length.
    copies: Vec<(u64, (Arc<crate::device::Buf<R>>, u64), u64)>,
}

/// What a stage does next with a step.
enum Advance {
    /// It waits for the device.
    Wait,
    /// There may be more to hand over.
    More,
    /// All that was handed over is done.
    Done,
}

fn put_front<R: Recorder>(ops: &mut VecDeque<Op<R>>, batch: Batch<R>) {
    for op in batch.ops.into_iter().rev() {
        ops.push_front(op);
    }
}

fn words_of(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let words = bytes.chunks_exact(4);
    words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// For each sequence of a step, the slots of its blocks in the order of its table.
fn slots_of<R: Recorder>(step: &Step, pool: &Pool<R>, taken: &TakenBlocks<Slot<R>>) -> Vec<Vec<u32>> {
    let group = pool.blocks.group();
    let slots = step.sequences.iter().enumerate().map(|(index, rows)| {
        let before = &rows.tables[group][..rows.start / BLOCK_TOKENS];
        let slot = |id: &Option<BlockId>| {
            let slot = id.and_then(|id| pool.blocks.get(id));
            // Slots are far fewer than 2^32.
            slot.map_or(NO_SLOT, |slot| slot.number as u32)
        };
        let written = taken.get(index).into_iter().flatten();
        let written = written.map(|slot| slot.number as u32);
        before.iter().map(slot).chain(written).collect()
    });
    slots.collect()
}

/// The parts of what a step's rows want of the head, in the order in which it is given.
fn head_chunks(step: &Step, info: &mut Info) -> VecDeque<HeadChunk> {
    let mut chunks = VecDeque::new();
    let rows_of = |is_wanted: &dyn Fn(Want) -> bool| -> Vec<usize> {
        let wants = step.wants().enumerate();
        wants.filter(|(_, want)| is_wanted(*want)).map(|(row, _)| row).collect()
    };
    let target = |row: usize| match step.wants().nth(row) {
        Some(Want::LogProb(id)) => id,
        _ => 0,
    };
    let kinds: [(HeadWant, Vec<usize>); 3] = [
        (HeadWant::Hidden, rows_of(&|want| want == Want::Hidden)),
        (HeadWant::Logits, rows_of(&|want| want == Want::Logits)),
        (HeadWant::LogProbs, rows_of(&|want| matches!(want, Want::LogProb(_)))),
    ];
    for (what, rows) in kinds {
        for rows in rows.chunks(HEAD_ROWS) {
            chunks.push_back(HeadChunk {
                what,
                list: info.put_list(rows.iter().map(|&row| row as u32)),
                targets: info.put_list(rows.iter().map(|&row| target(row))),
                rows: rows.len(),
            });
        }
    }
    chunks
}
