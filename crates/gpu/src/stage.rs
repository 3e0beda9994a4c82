//! The stage: takes a step in, hands it to the device in submissions of bounded time, and gives what the next
//! stage or the caller wants. It never waits for the device: the submission that is done wakes its driver.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};

use gogrid_lease::{Lease, Ledger};
use gogrid_pipeline::{
    BLOCK_TOKENS, BlockId, Cancel, Footprint, Input, LayerKv, OutputBuf, Rows, Stage, StageError,
    Step, TakenBlocks, Takes, Ticket,
};
use gogrid_units::{Bytes, Go, Moment, Pace, Span};

use crate::device::Device;
use crate::flight::Flight;
use crate::info::{Info, NO_SLOT, Tiles};
use crate::kernel::Kernel;
use crate::kv::{Pool, Slot};
use crate::limits::{IN_FLIGHT, SLABS_BOUND};
use crate::op::{Batch, Op, next_batch};
use crate::parts::{HalfLayer, Pieces};
use crate::program::{Program, tile_kinds};
use crate::recorder::Recorder;
use crate::results::{HeadChunk, Reads, head_chunks};
use crate::scratch::{Scratch, Widths};

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

/// A part of a buffer that a kernel has: the buffer's number, the first byte and how many.
type BoundPart = (u64, u64, u64);

/// Kernels' buffers, by kernel and buffers: made once, not for each step.
pub(crate) type BindingCache<R> = HashMap<(Kernel, Vec<BoundPart>), Arc<<R as Recorder>::Bindings>>;

/// Bindings that are kept. Slabs come and go, so that old ones are forgotten.
pub(crate) const BINDINGS_MAX: usize = 8192;

/// A step taken in.
pub(crate) struct Open<R: Recorder> {
    pub(crate) ticket: Ticket,
    pub(crate) step: Arc<Step>,
    pub(crate) rows: Rows,
    /// The residual stream that came in, where the span has no embedding.
    pub(crate) hidden: Vec<f32>,
    pub(crate) taken: Vec<TakenBlocks<Slot<R>>>,
    pub(crate) info: Info,
    pub(crate) tiles: Vec<Tiles>,
    /// Operations that were not handed to the device.
    pub(crate) ops: VecDeque<Op<R>>,
    /// What is read when they are done, and then what is made next.
    pub(crate) reads: Reads,
    /// Parts of the head that were not begun.
    pub(crate) heads: VecDeque<HeadChunk>,
    /// What was read so far: the runner's buffer is another at each poll.
    pub(crate) given: OutputBuf,
    pub(crate) flight: Arc<Flight>,
    /// Why the step ends, once the device has done what it has of it.
    pub(crate) ending: Option<StageError>,
    /// Whether rows are looked at after each piece.
    pub(crate) is_watched: bool,
    /// What the first submission begins with, until it is handed over.
    pub(crate) upload: Option<Vec<u8>>,
    /// Whether the upload buffer was filled, and a submission that copies from it is still to come.
    pub(crate) is_uploading: bool,
    /// Whether the readback buffer is the host's, or will be.
    pub(crate) is_reading: bool,
    pub(crate) begun: bool,
}

impl<R: Recorder> Stage for GpuStage<R> {
    fn footprint(&self) -> Footprint {
        let slack: Bytes = self.slack.iter().map(Lease::bytes).sum();
        Footprint {
            weights: self.weights,
            scratch: self.scratch.bytes() + slack,
            kv_block: self
                .pools
                .iter()
                .map(|pool| pool.shape.block_bytes())
                .collect(),
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
            reads: Reads::default(),
            heads: VecDeque::new(),
            given: OutputBuf::default(),
            flight: Flight::new(self.waker.clone()),
            ending: None,
            is_watched: false,
            upload: None,
            is_uploading: false,
            is_reading: false,
            begun: false,
        });
        Ok(ticket)
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        let open = self.open.take().filter(|open| open.ticket == ticket);
        let mut open = open.expect("a ticket is polled until it is done, and then no more");
        let done = match self.go_on(&mut open) {
            Poll::Pending => {
                self.open = Some(open);
                return Poll::Pending;
            }
            Poll::Ready(done) => done,
        };
        if done.is_err() {
            self.settle(&open);
        }
        std::mem::swap(out, &mut open.given);
        let sequences = &open.step.sequences;
        for (pool, taken) in self.pools.iter_mut().zip(open.taken) {
            if !pool.shape.layers.is_empty() {
                pool.blocks.put_back(sequences, taken, done.is_ok());
            }
        }
        Poll::Ready(done)
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        let pool = &mut self.pools[group];
        pool.blocks.release(blocks);
        if self.open.is_none() {
            // Where it fails blocks stay where they are, and the next step tells why.
            let _ = pool.compact();
        }
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

#[cfg(test)]
impl<R: Recorder> GpuStage<R> {
    /// The operations of a step's pieces, which is then left.
    pub(crate) fn ops_of(&mut self, step: &Arc<Step>, rows: &Rows) -> Vec<Op<R>> {
        self.submit(step, Input::Rows(rows)).expect("it fits");
        let mut open = self.open.take().expect("just taken in");
        self.begin(&mut open).expect("its blocks are there");
        for (pool, taken) in self.pools.iter_mut().zip(open.taken) {
            pool.blocks.put_back(&step.sequences, taken, false);
        }
        open.ops.into()
    }
}

impl<R: Recorder> GpuStage<R> {
    fn go_on(&mut self, open: &mut Open<R>) -> Poll<Result<(), StageError>> {
        let done = (|| {
            if !open.begun {
                open.begun = true;
                self.begin(open)?;
            }
            loop {
                let in_flight = self.take_up(open)?;
                match self.advance(open, in_flight)? {
                    Advance::Wait => return Ok(Poll::Pending),
                    Advance::More => {}
                    Advance::Done => {
                        if !self.read(open)? {
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
            Err(error @ StageError::Lost(_)) => Poll::Ready(Err(error)),
            // What the device still has of the step is done before its blocks and buffers are another's.
            Err(error) if open.flight.lock().open > 0 => {
                open.ending = Some(error);
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
        let parts = self.parts_bytes(open);
        self.scratch
            .reach(&self.device, &self.memory, [words, words + stream, parts])?;
        self.main_ops(open);
        Ok(())
    }

    /// Bytes of attention's parts for at least one tile of each mixer.
    fn parts_bytes(&self, open: &Open<R>) -> u64 {
        let mixers = self.pieces.halves.iter().filter_map(|half| match half {
            HalfLayer::Mixer(part) => Some(part.spec),
            HalfLayer::FeedForward(_) => None,
        });
        let bytes = mixers.zip(&open.tiles).map(|(spec, tiles)| {
            let slabs = self.pools[spec.kv_group].slabs.buffers().len();
            let groups = slabs.div_ceil(SLABS_BOUND);
            tiles.rows * groups * spec.heads * (spec.head_dim + 2) * 4
        });
        bytes.max().unwrap_or(0) as u64
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

    pub(crate) fn program<'a>(&'a self, open: &'a Open<R>) -> Program<'a, R> {
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
    pub(crate) fn main_ops(&self, open: &mut Open<R>) {
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
        if self.pieces.head.is_none() {
            ops.push(Op::Copy {
                from: (Arc::clone(&scratch.x), 0),
                to: (Arc::clone(&scratch.readback), scratch.flags.bytes),
                bytes: 4 * (rows * self.shape.widths.width) as u64,
            });
        }
        // The first of the head goes along, so that a token waits for the device once.
        let head = open.heads.pop_front();
        ops.extend(
            head.into_iter()
                .flat_map(|chunk| self.head_ops(open, chunk)),
        );
        open.reads = Reads {
            has_flags: true,
            head,
        };
        open.ops = ops.into();
    }

    /// Hands the device what it may have next.
    fn advance(&mut self, open: &mut Open<R>, in_flight: usize) -> Result<Advance, StageError> {
        if let Some(error) = open.ending.take() {
            return Err(error);
        }
        if self.cancel.is_cancelled() {
            return Err(StageError::Abandoned);
        }
        if open.ops.is_empty() {
            return Ok(if in_flight == 0 {
                Advance::Done
            } else {
                Advance::Wait
            });
        }
        if in_flight >= IN_FLIGHT {
            return Ok(Advance::Wait);
        }
        let batch = next_batch(
            &mut open.ops,
            &self.device.rates(),
            self.device.facts().groups_max,
        );
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

/// For each sequence of a step, the slots of its blocks in the order of its table.
fn slots_of<R: Recorder>(
    step: &Step,
    pool: &Pool<R>,
    taken: &TakenBlocks<Slot<R>>,
) -> Vec<Vec<u32>> {
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
