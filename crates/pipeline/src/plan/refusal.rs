use gogrid_units::{Bytes, Span};

use super::effort::{Effort, PLAN_EFFORT_MAX, Spent};
use super::table::Table;
use super::{PLAN_DEVICES_MAX, PlanRequest, throughput};

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The request names no device.
    #[error("no device to plan for")]
    NoDevices,
    /// The exact search does not take so many.
    #[error("{given} devices; a plan is made for at most {PLAN_DEVICES_MAX}, choose among them")]
    TooManyDevices {
        /// Devices in the request.
        given: usize,
    },
    /// A figure of the request cannot be used.
    #[error("device {device}: {what}")]
    Figure {
        /// Index of the device.
        device: usize,
        /// What is wrong.
        what: String,
    },
    /// No placement keeps every memory within its room.
    #[error(
        "the model does not fit: {}; the first {pieces_placed} of {pieces} pieces would fit, \
         {placed}",
        list(memories)
    )]
    DoesNotFit {
        /// Every memory that a device of the request has.
        memories: Vec<MemoryNeed>,
        /// Bytes of the longest beginning of the model that was found to fit over all memories.
        placed: Bytes,
        /// Its pieces.
        pieces_placed: usize,
        /// Pieces of the model.
        pieces: usize,
    },
    /// The search had to end before a placement that fits was found, or shown not to be there.
    #[error("no placement that fits was found in a search of {effort} steps, which was cut short")]
    CutShort {
        /// The most steps that it was to make: see [`PLAN_EFFORT_MAX`](super::PLAN_EFFORT_MAX).
        effort: usize,
    },
    /// A plan written by hand names a device that is not there.
    #[error("stage {stage} is on device {device}, and there are {devices}")]
    UnknownDevice {
        /// Index of the stage.
        stage: usize,
        /// The device it names.
        device: usize,
        /// Devices in the request.
        devices: usize,
    },
    /// A plan written by hand leaves out pieces, or has some twice.
    #[error("stage {stage} has {span}; it must have at least one piece and begin at {begins}")]
    NotInOrder {
        /// Index of the stage.
        stage: usize,
        /// Its span.
        span: Span,
        /// The piece after those of the stages before it.
        begins: usize,
    },
    /// A plan written by hand ends before the model or after it.
    #[error("the stages end at piece {end} of {pieces}")]
    NotTheWhole {
        /// Where the last stage ends.
        end: usize,
        /// Pieces of the model.
        pieces: usize,
    },
    /// A plan written by hand puts more in a memory than it has room for.
    #[error("memory {memory} would hold {needed}, and has room for {room}")]
    OverRoom {
        /// Index of the memory.
        memory: usize,
        /// Bytes of the stages of all its devices.
        needed: Bytes,
        /// Its room.
        room: Bytes,
    },
}

/// What the whole model takes of one memory, alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Index of the memory.
    pub memory: usize,
    /// Bytes of the whole model on that device of the memory which packs it smallest.
    pub needed: Bytes,
    /// Its room.
    pub room: Bytes,
}

fn list(memories: &[MemoryNeed]) -> String {
    let memories = memories.iter().map(
        |MemoryNeed {
             memory,
             needed,
             room,
         }| { format!("memory {memory} has room for {room} of {needed}") },
    );
    memories.collect::<Vec<_>>().join(", ")
}

/// The refusal of a model that does not fit, with what would.
pub(super) fn does_not_fit(table: &Table, request: &PlanRequest) -> PlanError {
    let memories = (0..request.memories.len()).filter_map(|memory| {
        let lanes = table.lanes.iter().filter(|lane| lane.memory == memory);
        let whole = Span::new(0, table.pieces);
        Some(MemoryNeed {
            memory,
            needed: Bytes(lanes.map(|lane| lane.bytes(whole)).min()?),
            room: request.memories[memory].room,
        })
    });
    let (pieces_placed, placed) = longest_beginning(table);
    PlanError::DoesNotFit {
        memories: memories.collect(),
        placed,
        pieces_placed,
        pieces: table.pieces,
    }
}

/// The most pieces from the first on that are found to fit, and their bytes.
fn longest_beginning(table: &Table) -> (usize, Bytes) {
    let (mut fits, mut refused) = (0, table.pieces);
    let mut placed = Bytes::ZERO;
    while fits + 1 < refused {
        let middle = fits.midpoint(refused);
        let beginning = table.beginning(middle);
        match throughput::any_that_fits(&beginning, Effort::new(PLAN_EFFORT_MAX)) {
            Ok(None) | Err(Spent) => refused = middle,
            Ok(Some(stages)) => {
                let bytes = |stage: &super::PlacedSpan| {
                    Bytes(beginning.lanes[stage.device].bytes(stage.span))
                };
                (fits, placed) = (middle, stages.iter().map(bytes).sum());
            }
        }
    }
    (fits, placed)
}
