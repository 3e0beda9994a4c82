//! One region of a step: chunks of one operation, claimed by any member that is free.
//!
//! The ticket packs the region's number and the chunks not yet claimed into one word. A claim
//! lowers it by compare-and-swap, so it fails when the region has changed since the claimer looked.
//! The operation itself is read only after a claim: the leader replaces it only when every claimed
//! chunk is done, so a claim keeps it alive. A member that is descheduled holds at most the one
//! chunk it claimed.

use std::any::Any;
use std::mem::transmute;
use std::panic::{AssertUnwindSafe, catch_unwind};

use gogrid_units::{Go, TeamPace, Work};

use crate::sync::{AtomicBool, AtomicU64, CachePadded, Mutex, Nanos, Ordering, Thread, UnsafeCell};
use crate::yielding::{CoreDemand, YieldPolicy};

/// The step was abandoned at a pause point. Its outputs count for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step abandoned at a pause point")]
pub struct Abandoned;

/// The work of a chunk, given its index and the pause points to ask between long pieces.
pub(crate) type Chunk<'a> = dyn Fn(usize, &Pauses<'_>) -> Result<(), Abandoned> + Sync + 'a;

/// An operation, cut into chunks.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    /// Called once for each chunk.
    pub(crate) run: &'a Chunk<'a>,
    /// Asked before each chunk.
    pub(crate) pace: &'a dyn TeamPace,
    /// The work of one chunk, told to the pace before it.
    pub(crate) work: Work,
    /// How many; at most [`CHUNKS_MAX`] in a region.
    pub(crate) chunks: usize,
}

/// An operation that the team works at.
#[derive(Clone, Copy)]
pub(crate) struct Region<'a> {
    pub(crate) operation: Operation<'a>,
    /// Unparked when the last chunk is done, if it waits.
    pub(crate) leader: &'a Thread,
    /// The step the region belongs to.
    pub(crate) step: u64,
}

const CHUNK_BITS: u32 = 24;
const CHUNK_MASK: u64 = (1 << CHUNK_BITS) - 1;
/// Chunks a region can have.
pub(crate) const CHUNKS_MAX: usize = CHUNK_MASK as usize;
/// Set in `done` while the leader is parked or about to be.
const WAITING: u64 = 1 << 63;

const IDLE: u64 = 0;
const WORKING: u64 = 1;
const RESTING: u64 = 2;
const STATES: u64 = 4;

/// One member as the others see it.
#[derive(Debug, Default)]
pub(crate) struct Member {
    /// Whether it may claim chunks of the open region.
    pub(crate) active: AtomicBool,
    /// Whether it is parked or about to be.
    pub(crate) parked: AtomicBool,
    /// Whether it stays away because its core is wanted by others.
    pub(crate) away: AtomicBool,
    /// How often it changed state, times [`STATES`], plus the state.
    beat: AtomicU64,
}

impl Member {
    /// Only the member itself calls this.
    fn enter(&self, state: u64) {
        let count = self.beat.load(Ordering::Relaxed) / STATES + 1;
        self.beat.store(count * STATES + state, Ordering::Relaxed);
    }

    /// The chunk it works at, as a number that differs from chunk to chunk; `None` when it rests
    /// or holds none.
    pub(crate) fn works_at(&self) -> Option<u64> {
        let beat = self.beat.load(Ordering::Relaxed);
        (beat % STATES == WORKING).then_some(beat)
    }
}

/// The pause points of a chunk.
pub(crate) struct Pauses<'a> {
    pace: &'a dyn TeamPace,
    member: &'a Member,
}

impl<'a> Pauses<'a> {
    pub(crate) fn new(pace: &'a dyn TeamPace, member: &'a Member) -> Self {
        Self { pace, member }
    }

    /// Asks before `work`, rests as told, and comes back when the work may be done.
    pub(crate) fn point(&self, work: Work) -> Result<(), Abandoned> {
        loop {
            match self.pace.point(work) {
                Go::Go => return Ok(()),
                Go::Abandon => return Err(Abandoned),
                Go::Rest(until) => {
                    self.member.enter(RESTING);
                    self.pace.rest(until);
                    self.member.enter(WORKING);
                }
            }
        }
    }
}

/// A member's memory from chunk to chunk.
pub(crate) struct Memory {
    /// The leader's thread, learnt once a step.
    leader: Option<(u64, Thread)>,
    pub(crate) policy: YieldPolicy,
}

/// Why a member takes no further part for the moment.
pub(crate) enum Leaves {
    /// No chunk is left for it.
    NoChunk,
    /// Another program wants its core: it stays away so long.
    StaysAway(Nanos),
}

/// Where the open region is written and claimed.
pub(crate) struct Board {
    ticket: CachePadded<AtomicU64>,
    done: CachePadded<AtomicU64>,
    failed: CachePadded<AtomicBool>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    region: UnsafeCell<Option<Region<'static>>>,
}

// SAFETY: the region holds references to `Sync` things (the chunk function, the pace, the thread
// handle). The leader alone writes the cell, only while no claim is open; members read it only
// between a claim and its count in `done`.
unsafe impl Sync for Board {}
// SAFETY: as above; the cell is empty whenever no region is open.
unsafe impl Send for Board {}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            ticket: CachePadded(AtomicU64::new(0)),
            done: CachePadded(AtomicU64::new(0)),
            failed: CachePadded(AtomicBool::new(false)),
            panic: Mutex::new(None),
            region: UnsafeCell::new(None),
        }
    }

    /// Whether there are chunks to claim.
    pub(crate) fn open(&self) -> bool {
        self.ticket.0.load(Ordering::Acquire) & CHUNK_MASK != 0
    }

    /// Opens a region. The caller is the leader, has closed the one before, and must neither
    /// return nor unwind before it has closed this one.
    pub(crate) fn publish(&self, region: Region<'_>) {
        let chunks = region.operation.chunks;
        assert!((1..=CHUNKS_MAX).contains(&chunks), "{chunks} chunks");
        self.failed.0.store(false, Ordering::Relaxed);
        self.done.0.store(0, Ordering::Relaxed);
        // SAFETY: only the lifetime changes. Nothing reads the region after `close`, and the leader
        // keeps what it borrows alive until then.
        let lasting = unsafe { transmute::<Region<'_>, Region<'static>>(region) };
        // SAFETY: no claim is open, so no other thread looks at the cell.
        self.region
            .with_mut(|cell| unsafe { *cell = Some(lasting) });
        let number = (self.ticket.0.load(Ordering::Relaxed) >> CHUNK_BITS) + 1;
        let open = number << CHUNK_BITS | chunks as u64;
        self.ticket.0.store(open, Ordering::Release);
    }

    /// Claims and does chunks until none is left. For the leader, which gives way between them and
    /// comes back.
    pub(crate) fn lead(
        &self,
        (member, pace): (&Member, &dyn TeamPace),
        memory: &mut Memory,
        demand: &CoreDemand,
    ) {
        let is_over = || pace.is_over();
        while self.chunks_left() > 0 {
            memory.policy.lead(demand, &is_over);
            self.claim(member, memory);
        }
    }

    /// The same for another member, until it is told to leave or its core is wanted. It gives way
    /// before it claims a chunk, so that no other member waits for it meanwhile.
    pub(crate) fn take_part(
        &self,
        member: &Member,
        memory: &mut Memory,
        demand: &CoreDemand,
    ) -> Leaves {
        // The flag is written before the region is published, so a member that saw the region sees
        // the flag.
        while self.chunks_left() > 0 && member.active.load(Ordering::Relaxed) {
            if let Err(stays_away) = memory.policy.follow(demand) {
                return Leaves::StaysAway(stays_away);
            }
            self.claim(member, memory);
        }
        Leaves::NoChunk
    }

    fn chunks_left(&self) -> u64 {
        self.ticket.0.load(Ordering::Acquire) & CHUNK_MASK
    }

    /// Claims a chunk and does it, if one is left and no other member claims one at this moment.
    fn claim(&self, member: &Member, memory: &mut Memory) {
        let seen = self.ticket.0.load(Ordering::Acquire);
        let left = seen & CHUNK_MASK;
        // A region that opened since may leave the member out.
        if left == 0 || !member.active.load(Ordering::Relaxed) {
            return;
        }
        let claim =
            self.ticket
                .0
                .compare_exchange(seen, seen - 1, Ordering::AcqRel, Ordering::Relaxed);
        if claim.is_ok() {
            self.do_chunk(left, member, memory);
        }
    }

    /// Does the chunk that was claimed when `left` were left, and counts it.
    fn do_chunk(&self, left: u64, member: &Member, memory: &mut Memory) {
        let chunks = self.region.with(|cell| {
            // SAFETY: the claim is open, so the leader leaves the cell alone and keeps alive what
            // the region borrows.
            let region = unsafe { (*cell).as_ref() }.expect("a claimed region is there");
            memory.learn(region);
            member.enter(WORKING);
            let operation = &region.operation;
            let index = operation.chunks - left as usize;
            let pauses = Pauses::new(operation.pace, member);
            if !self.failed.0.load(Ordering::Relaxed) {
                let chunk = || {
                    pauses
                        .point(operation.work)
                        .and_then(|()| (operation.run)(index, &pauses))
                };
                match catch_unwind(AssertUnwindSafe(chunk)) {
                    Ok(Ok(())) => {}
                    Ok(Err(Abandoned)) => self.failed.0.store(true, Ordering::Relaxed),
                    Err(payload) => self.keep_panic(payload),
                }
            }
            member.enter(IDLE);
            operation.chunks as u64
        });
        // From here on the region may be gone.
        let before = self.done.0.fetch_add(1, Ordering::AcqRel);
        if before == WAITING | (chunks - 1) {
            memory.wake_leader();
        }
    }

    fn keep_panic(&self, payload: Box<dyn Any + Send>) {
        self.failed.0.store(true, Ordering::Relaxed);
        let mut kept = self.panic.lock().expect("nothing panics under this lock");
        kept.get_or_insert(payload);
    }

    /// Whether all of `chunks` are done.
    pub(crate) fn all_done(&self, chunks: usize) -> bool {
        self.done.0.load(Ordering::Acquire) & !WAITING == chunks as u64
    }

    /// Says that the leader will park; false when all of `chunks` are done and no member would wake it.
    pub(crate) fn will_park(&self, chunks: usize) -> bool {
        self.done.0.fetch_or(WAITING, Ordering::AcqRel) != chunks as u64
    }

    /// Ends a region whose chunks are all done. A panic of a chunk goes on here.
    pub(crate) fn close(&self) -> Result<(), Abandoned> {
        // SAFETY: all chunks are done, so no claim is open.
        self.region.with_mut(|cell| unsafe { *cell = None });
        if !self.failed.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        let kept = self
            .panic
            .lock()
            .expect("nothing panics under this lock")
            .take();
        match kept {
            Some(payload) => std::panic::resume_unwind(payload),
            None => Err(Abandoned),
        }
    }
}

impl Memory {
    /// Of the member of this number.
    pub(crate) fn of(member: usize) -> Self {
        Self {
            leader: None,
            policy: YieldPolicy::new(member),
        }
    }

    fn learn(&mut self, region: &Region<'_>) {
        if self
            .leader
            .as_ref()
            .is_none_or(|(step, _)| *step != region.step)
        {
            self.leader = Some((region.step, region.leader.clone()));
        }
    }

    fn wake_leader(&self) {
        let (_, leader) = self.leader.as_ref().expect("learnt with the chunk");
        leader.unpark();
    }
}
