//! The two seams: running half-layers on rows, and opening half-layers on a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use gogrid_model::Model;
use gogrid_units::{Bytes, Span};
use serde::{Deserialize, Serialize};

use crate::step::{BlockId, Input, LayerKv, OutputBuf, Step};

/// A run of half-layers on one device, and the keys and values of its layers.
///
/// One thread at a time calls it: the device's driver, or the thread that moves its layers while it is off
/// its driver. It is given at most [`depth`](Stage::depth) steps before the oldest is polled, and
/// polled in the order they were submitted. `step`, `input` and `out` are the runner's; nothing of
/// them is kept past the call, except by a stage that copies. Dropping a stage frees its memory and
/// its leases, whatever is open.
pub trait Stage: Send {
    /// Bytes it holds, by kind.
    fn footprint(&self) -> Footprint;

    /// Tickets that may be open at once, at least one.
    fn depth(&self) -> usize;

    /// Takes a step in. Never waits for a device.
    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError>;

    /// Goes on with the step until it is done or would wait for a device; a CPU computes here.
    /// A stage that answers `Pending` wakes the [`Opening::waker`] it was opened with when it is
    /// worth asking again; nobody asks before. `out` is another buffer each time, so that only the last
    /// call gives anything. After [`StageError::Abandoned`] the same step may be submitted again and
    /// gives equal bits.
    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>>;

    /// Forgets what blocks of a KV group hold and frees their memory. Other tickets may be open, but
    /// none whose step names one of the blocks.
    fn release(&mut self, group: usize, blocks: &[BlockId]);

    /// What a block holds in each of the stage's layers of its group, in the order of the layers.
    /// No ticket is open.
    ///
    /// # Errors
    /// [`StageError::Block`] where no row of it was written.
    fn export(&mut self, group: usize, block: BlockId) -> Result<Vec<LayerKv>, StageError>;

    /// Takes in a block as [`export`](Stage::export) gives it, with each of the stage's layers of
    /// the group once. No ticket is open.
    fn import(
        &mut self,
        group: usize,
        block: BlockId,
        layers: &[LayerKv],
    ) -> Result<(), StageError>;

    /// Starts the threads anew that it computes with, if it has any, between two calls. Stages that
    /// share threads are told one after the other, with one number; numbers count from 1.
    fn renew_threads(&mut self, _renewal: u64) {}
}

/// A step that a stage has taken in; numbers grow by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a stage holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Packed weights.
    pub weights: Bytes,
    /// Buffers for the largest step it takes.
    pub scratch: Bytes,
    /// One block of each KV group, over the stage's layers of that group; zero where it has none.
    pub kv_block: Vec<Bytes>,
    /// Blocks of each KV group that are in memory now.
    pub kv_blocks_held: Vec<usize>,
}

/// Opens stages on one device: the second seam. It is made with what the device's owner lends it:
/// the ledger of the device's memory, and the pace its work keeps.
pub trait Backend: Send {
    /// Whether the device can do the arithmetic of `span`, whatever room there is. It is asked before
    /// anything else about the model.
    ///
    /// # Errors
    /// [`StageError::Unsupported`] names what it cannot do, [`StageError::CannotKeep`] the weight that
    /// it cannot keep as asked.
    fn check(&self, model: &Model, span: Span) -> Result<(), StageError>;

    /// What the device would hold for `span` and steps of at most `rows_max` rows, without opening
    /// it. No part of a span holds more of any kind than the span.
    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint;

    /// Reads, packs and keeps the weights of a span, every byte of weights and scratch leased from
    /// the device's ledger. KV bytes are leased by the scheduler, which hands out block numbers.
    fn open(&mut self, opening: Opening<'_>) -> Result<Box<dyn Stage>, StageError>;

    /// Bytes a second that the device reads and writes, added up, when it copies within its own memory:
    /// measured at each call, with memory leased from the device's ledger. `None` where the device does not
    /// measure it: a CPU's memory is the system's, of which the host knows.
    fn copy_bytes_per_second(&mut self) -> Result<Option<f64>, StageError> {
        Ok(None)
    }
}

/// What [`Backend::open`] is given.
#[derive(Clone)]
pub struct Opening<'a> {
    /// The model the pieces are of.
    pub model: &'a Model,
    /// The pieces.
    pub span: Span,
    /// The most rows a step will have.
    pub rows_max: usize,
    /// Woken by a stage that answered `Pending`, from any thread.
    pub waker: Waker,
    /// Asked at every pause point, beside the device's pace.
    pub cancel: Cancel,
}

impl<'a> Opening<'a> {
    /// The pieces `span` of `model`, for a stage that nobody cancels and that never waits.
    pub fn new(model: &'a Model, span: Span, rows_max: usize) -> Self {
        Self {
            model,
            span,
            rows_max,
            waker: Waker::noop().clone(),
            cancel: Cancel::default(),
        }
    }
}

/// Makes the steps of some stages abandon, for good: their pipeline is being closed. Clones are the
/// same.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// From here on every pause point abandons.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Seconds for each piece of the model on one device, in the order of [`Span`], for rows that
/// follow 256 others of their sequence, or as many as the model's context leaves: attention counts,
/// and longer sequences take more of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// One row alone: decode.
    pub decode: Vec<f64>,
    /// One row among many: prefill.
    pub prefill: Vec<f64>,
    /// Whether the figures were found twice, but for a small part of their sum. Where they were not,
    /// the device was disturbed while it was timed, and plans made of them are guesses.
    pub is_sure: bool,
}

/// Why a stage could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The pace asked for it; nothing was kept, and the step can be run again.
    #[error("step abandoned at a pause point")]
    Abandoned,
    /// The ledger refused.
    #[error(transparent)]
    Memory(#[from] gogrid_lease::Refusal),
    /// The system has no memory, though the ledger has room.
    #[error(transparent)]
    OutOfMemory(#[from] gogrid_units::OutOfMemory),
    /// The weights could not be read.
    #[error(transparent)]
    Model(#[from] gogrid_model::ModelError),
    /// The device cannot do it, whatever the step.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The weights cannot be kept as was asked.
    #[error("{0}")]
    CannotKeep(String),
    /// A step or span this stage cannot take.
    #[error("{what}: the stage takes {takes}, the step has {has}")]
    Shape {
        /// What does not fit.
        what: &'static str,
        /// What the stage takes.
        takes: String,
        /// What it was given.
        has: String,
    },
    /// A block that is read but was never written there, or is not of this shape.
    #[error("block {block} of group {group}: {what}")]
    Block {
        /// Its KV group.
        group: usize,
        /// Its number.
        block: u32,
        /// What is wrong.
        what: String,
    },
    /// The device failed in this step.
    #[error("device failed: {0}")]
    Device(String),
    /// The stage panicked in a step before this one and takes no further; another may be opened.
    #[error("the stage takes no step: {0}")]
    Broken(String),
    /// The device is gone, with all that its stages held.
    #[error("device lost: {0}")]
    Lost(String),
}
