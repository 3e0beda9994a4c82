//! The two seams: running half-layers on rows, and opening half-layers on a device.

use std::sync::Arc;
use std::task::Poll;

use gogrid_lease::Ledger;
use gogrid_model::Model;
use gogrid_units::{Bytes, Span, TeamPace};

use crate::step::{BlockId, Input, OutputBuf, Step};

/// A run of half-layers on one device, and the keys and values of its layers.
///
/// The device's driver thread is the only caller. It submits at most [`depth`](Stage::depth) steps
/// before it polls the oldest, and polls in the order it submitted. `step`, `input` and `out` are
/// the runner's; nothing of them is kept past the call, except by a stage that copies.
/// Dropping a stage frees its memory and its leases, whatever is open.
pub trait Stage: Send {
    /// Bytes it holds, by kind.
    fn footprint(&self) -> Footprint;

    /// Tickets that may be open at once, at least one.
    fn depth(&self) -> usize;

    /// Takes a step in. Never waits for a device.
    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError>;

    /// Goes on with the step until it is done or would wait for a device; a CPU computes here.
    /// After [`StageError::Abandoned`] the same step may be submitted again and gives equal bits.
    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>>;

    /// Forgets what blocks of a KV group hold and frees their memory.
    fn release(&mut self, group: usize, blocks: &[BlockId]);

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

/// Opens stages on one device: the second seam.
pub trait Backend: Send {
    /// What the device would hold for `span` and steps of at most `rows_max` rows, without opening
    /// it. No part of a span holds more of any kind than the span.
    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint;

    /// Seconds that each piece takes, measured on this device with this model's own weights. What it
    /// needs meanwhile is leased from `memory`.
    fn measure(&mut self, model: &Model, memory: &Ledger) -> Result<Costs, StageError>;

    /// Reads, packs and keeps the weights of `span`, every byte of weights and scratch leased from
    /// `memory`. KV bytes are leased by whoever hands out block numbers.
    fn open(&mut self, request: Opening<'_>) -> Result<Box<dyn Stage>, StageError>;
}

/// What [`Backend::open`] is given.
#[derive(Clone)]
pub struct Opening<'a> {
    /// The model the pieces are of.
    pub model: &'a Model,
    /// The pieces.
    pub span: Span,
    /// The device's ledger.
    pub memory: &'a Ledger,
    /// How fast its arithmetic may go.
    pub pace: Arc<dyn TeamPace>,
    /// The most rows a step will have.
    pub rows_max: usize,
}

/// Seconds for each piece of the model on one device, in the order of [`Span`], for rows that
/// follow 256 others of their sequence, or as many as the model's context leaves: attention counts,
/// and longer sequences take more of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// One row alone: decode.
    pub decode: Vec<f64>,
    /// One row among many: prefill.
    pub prefill: Vec<f64>,
}

/// Why a stage could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The pace asked for it; nothing was kept, and the step can be run again.
    #[error("step abandoned at a pause point")]
    Abandoned,
    /// The ledger refused.
    #[error(transparent)]
    Memory(#[from] gogrid_lease::Refusal),
    /// The weights could not be read.
    #[error(transparent)]
    Model(#[from] gogrid_model::ModelError),
    /// The device cannot do it, whatever the step.
    #[error("not supported: {0}")]
    Unsupported(String),
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
    /// The device failed.
    #[error("device failed: {0}")]
    Device(String),
}
