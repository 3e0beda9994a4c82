//! The members of a team: the leader's view of its workers, and a worker's loop.
//!
//! The leader opens a region, works in it like the others, and waits for the rest. It spins for
//! about 50 µs at most, then sleeps. A member that the system takes off its core in the middle of a
//! chunk makes the leader wait for that chunk. If the wait is longer than a burst, the leader leaves
//! the member out: first for the rest of the step, and for longer each time it happens again. So a
//! core that another program uses soon stops slowing the team down. Members mostly give their cores
//! away before it comes to that, between chunks: see `yielding`.

use std::io;

use gogrid_units::{FullSpeed, OutOfMemory, TeamPace, Work};

use crate::buffer::Buffer;
use crate::neighbours::Trial;
use crate::region::{Abandoned, Board, Leaves, Member, Memory, Operation, Pauses, Region};
use crate::sync::{
    Arc, AtomicBool, CachePadded, JoinHandle, Nanos, Ordering, Spawn, Thread, current, fence, park,
    park_for,
};
use crate::yielding::{BURST_MAX, CoreDemand, LEADER, System};

/// The longest spin at a region's end and between regions. About what it costs to sleep and be
/// woken, and more than a program takes that wakes up for a moment on another member's core.
#[cfg(not(loom))]
const SPIN_NANOS_MAX: u64 = 50_000;

/// About how long a chunk of work may take on a slow core.
const CHUNK_NANOS_MAX: Nanos = 1_000_000;

/// Looks in a row, so long apart, at which a member works at the same chunk before it is late:
/// a burst on its core is waited for.
const LATE_LOOKS: u32 = 9;
const _: () = assert!(LATE_LOOKS as Nanos * CHUNK_NANOS_MAX > BURST_MAX);

/// Steps a member that is late every time it takes part stays away at most.
const STEPS_AWAY_MAX: u64 = 64;

/// The threads of a team and the leader's state. Dropping it ends and joins the others.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    /// Starts the workers.
    spawn: std::sync::Arc<dyn Spawn>,
    leader: CachePadded<Member>,
    workers: Vec<Worker>,
    /// Threads that were told to end and are not joined yet.
    leaving: Vec<JoinHandle<()>>,
    memory: Memory,
    step: u64,
    taking_part: usize,
    /// Partial sums of attention; as long as the team was told to make it.
    scratch: Buffer<f32>,
}

struct Shared {
    board: Board,
    demand: CoreDemand,
    /// Rounds of a spin of [`SPIN_NANOS_MAX`].
    spins: u32,
}

/// A spawned thread's own place, which it shares with the leader.
#[derive(Default)]
struct Seat {
    member: Member,
    /// Whether the thread is to end.
    leave: AtomicBool,
}

/// Another member as the leader knows it.
struct Worker {
    seat: Arc<CachePadded<Seat>>,
    handle: JoinHandle<()>,
    /// The first step it takes part in again.
    back_at: u64,
    /// Steps in a row in which it was late, of those it took part in.
    late_in_a_row: u32,
    /// The chunk it worked at when the leader last looked, as a number.
    seen_at: Option<u64>,
    /// Looks in a row at which it worked at that.
    seen_times: u32,
}

impl Crew {
    /// The calling thread as the leader, and `threads - 1` workers that `spawn` starts.
    pub(crate) fn new(
        system: Box<dyn System>,
        threads: usize,
        spawn: std::sync::Arc<dyn Spawn>,
    ) -> io::Result<Self> {
        assert!(threads > 0, "a team has at least its caller");
        let mut crew = Self {
            shared: Arc::new(Shared {
                board: Board::new(),
                demand: CoreDemand::new(threads, system),
                spins: spins(),
            }),
            spawn,
            leader: CachePadded::default(),
            workers: Vec::with_capacity(threads - 1),
            leaving: vec![],
            memory: Memory::of(LEADER),
            step: 0,
            taking_part: 1,
            scratch: Buffer::default(),
        };
        for index in 1..threads {
            let worker = crew.employ(index)?;
            crew.workers.push(worker);
        }
        Ok(crew)
    }

    /// The leader's knowledge of neighbours.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn neighbours(&self) -> &crate::neighbours::Neighbours {
        &self.memory.policy.neighbours
    }

    /// Threads, the leader's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    fn employ(&self, index: usize) -> io::Result<Worker> {
        let seat = Arc::new(CachePadded(Seat::default()));
        let (shared, its) = (self.shared.clone(), seat.clone());
        let body = Box::new(move || shared.work(&its.0, index));
        let handle = self.spawn.spawn(&format!("worker {index}"), body)?;
        Ok(Worker::new(seat, handle))
    }

    /// Starts every worker's thread anew. The threads before may not have ended yet when the next
    /// step begins: each has a seat of its own.
    pub(crate) fn renew(&mut self) {
        self.join_leaving();
        for index in 0..self.workers.len() {
            if let Ok(fresh) = self.employ(index + 1) {
                let before = std::mem::replace(&mut self.workers[index], fresh);
                self.leaving.push(before.dismiss());
            }
        }
    }

    fn join_leaving(&mut self) {
        for handle in self.leaving.drain(..) {
            // A worker catches the panics of chunks; another was printed by its thread.
            drop(handle.join());
        }
    }

    pub(crate) fn begin_step(&mut self, width: usize, insists: bool) {
        self.step += 1;
        self.shared.demand.insist(insists);
        self.memory.policy.woke(&self.shared.demand);
        self.leader.0.active.store(true, Ordering::Relaxed);
        self.narrow_to(width);
        self.wake();
    }

    /// Lets the first `width` members that are not left out take part, and says how many they are.
    pub(crate) fn narrow_to(&mut self, width: usize) -> usize {
        let mut taking_part = 1;
        for worker in &self.workers {
            let member = worker.member();
            let there = worker.back_at <= self.step && !member.away.load(Ordering::Relaxed);
            let active = taking_part < width && there;
            taking_part += usize::from(active);
            if member.active.load(Ordering::Relaxed) != active {
                member.active.store(active, Ordering::Relaxed);
            }
        }
        self.taking_part = taking_part;
        taking_part
    }

    /// Members that take part, as [`narrow_to`](Self::narrow_to) last said.
    pub(crate) fn taking_part(&self) -> usize {
        self.taking_part
    }

    /// Unparks the active members that are parked.
    fn wake(&self) {
        // Pairs with the fence in `Shared::sleep`: either the member sees what was written before,
        // or its flag is seen here.
        fence(Ordering::SeqCst);
        for worker in &self.workers {
            let member = worker.member();
            let asleep = member.active.load(Ordering::Relaxed)
                && member.parked.load(Ordering::Relaxed)
                && member.parked.swap(false, Ordering::Relaxed);
            if asleep {
                worker.thread().unpark();
            }
        }
    }

    /// Replaces the scratch by one of `floats` zeros; it stays where the system has not got them. No
    /// page of a mapped one is touched before the other has gone.
    pub(crate) fn resize_scratch(&mut self, floats: usize) -> Result<(), OutOfMemory> {
        self.scratch = Buffer::zeroed(floats)?;
        Ok(())
    }

    /// The scratch, until it is put back.
    pub(crate) fn take_scratch(&mut self) -> Buffer<f32> {
        std::mem::take(&mut self.scratch)
    }

    pub(crate) fn put_scratch(&mut self, scratch: Buffer<f32>) {
        self.scratch = scratch;
    }

    /// Runs the chunks of one operation on the members that take part, and returns when all are done.
    pub(crate) fn run(&mut self, operation: &Operation<'_>) -> Result<(), Abandoned> {
        let leader = current();
        self.shared.board.publish(Region {
            operation: *operation,
            leader: &leader,
            step: self.step,
        });
        self.wake();
        // Neither of the two unwinds: chunks' panics are caught and kept for `close`.
        let Shared { board, demand, .. } = &*self.shared;
        board.lead((&self.leader.0, operation.pace), &mut self.memory, demand);
        self.wait(operation.chunks);
        self.shared.board.close()
    }

    /// Runs the chunks on the calling thread alone.
    pub(crate) fn run_alone(&mut self, operation: &Operation<'_>) -> Result<(), Abandoned> {
        let pauses = Pauses::new(operation.pace, &self.leader.0);
        for index in 0..operation.chunks {
            let is_over = || operation.pace.is_over();
            self.memory.policy.lead(&self.shared.demand, &is_over);
            pauses.point(operation.work)?;
            (operation.run)(index, &pauses)?;
        }
        Ok(())
    }

    /// Waits until all of `chunks` are done. A member that shows no progress meanwhile is left out.
    fn wait(&mut self, chunks: usize) {
        let shared = self.shared.clone();
        for _ in 0..shared.spins {
            if shared.board.all_done(chunks) {
                return;
            }
            std::hint::spin_loop();
        }
        if !shared.board.will_park(chunks) {
            return;
        }
        self.workers
            .iter_mut()
            .for_each(|worker| worker.seen_at = None);
        self.shared.demand.sleeps(LEADER);
        loop {
            park_for(CHUNK_NANOS_MAX);
            if shared.board.all_done(chunks) {
                self.memory.policy.woke(&shared.demand);
                return;
            }
            self.leave_out_the_late();
        }
    }

    /// Leaves out each member that worked at the same chunk at each of the last few calls. One call
    /// proves nothing: an unpark that was left over from earlier ends a wait at once.
    fn leave_out_the_late(&mut self) {
        for worker in &mut self.workers {
            let works_at = worker.member().works_at();
            let is_stuck = works_at.is_some() && works_at == worker.seen_at;
            worker.seen_times = if is_stuck { worker.seen_times + 1 } else { 1 };
            worker.seen_at = works_at;
            if is_stuck && worker.seen_times >= LATE_LOOKS && worker.back_at <= self.step {
                worker.was_late(self.step);
            }
        }
    }

    /// Now and then has the leader and the only other member find out whether their cores slow each
    /// other, where the system does not know it: unless another program wants a core, or the step is
    /// to end at once. At a step's end both are there.
    pub(crate) fn learn_neighbours(&mut self, pace: &dyn TeamPace) {
        let shared = self.shared.clone();
        let now = shared.demand.now();
        let is_pair = self.threads() == 2 && self.taking_part == 2;
        let is_due = is_pair && self.memory.policy.neighbours.is_due(now);
        if !is_due || pace.is_over() || shared.demand.some_offer() || !shared.demand.needs_trials()
        {
            return;
        }
        let trial = Trial::default();
        let met = self.run(&Operation {
            run: &|_, _| {
                trial.take_part(&|| shared.demand.core());
                Ok(())
            },
            // The step's work is done: there is nothing left to abandon.
            pace: &FullSpeed,
            work: Work::default(),
            chunks: 2,
        });
        let found = met.ok().and_then(|()| trial.found());
        self.memory.policy.neighbours.note(found, now);
    }

    /// Forgives one lateness of each member that was there for the whole step. Says how long members
    /// gave way since the step before ended, added up.
    pub(crate) fn end_step(&mut self) -> Nanos {
        for worker in &mut self.workers {
            if worker.back_at <= self.step {
                worker.late_in_a_row = worker.late_in_a_row.saturating_sub(1);
            }
        }
        self.shared.demand.sleeps(LEADER);
        self.shared.demand.take_given()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let Self {
            workers, leaving, ..
        } = self;
        leaving.extend(workers.drain(..).map(Worker::dismiss));
        self.join_leaving();
    }
}

impl Worker {
    fn new(seat: Arc<CachePadded<Seat>>, handle: JoinHandle<()>) -> Self {
        Self {
            seat,
            handle,
            back_at: 0,
            late_in_a_row: 0,
            seen_at: None,
            seen_times: 0,
        }
    }

    fn member(&self) -> &Member {
        &self.seat.0.member
    }

    fn thread(&self) -> &Thread {
        self.handle.thread()
    }

    /// Tells the thread to end. It claims no chunk any more: a thread that sees the next region sees
    /// that it is not active.
    fn dismiss(self) -> JoinHandle<()> {
        self.member().active.store(false, Ordering::Relaxed);
        self.seat.0.leave.store(true, Ordering::Release);
        self.thread().unpark();
        self.handle
    }

    /// Back at the next step after the first time, then two, four steps later, and so on.
    fn was_late(&mut self, step: u64) {
        let away = (1 << self.late_in_a_row.min(32)).min(STEPS_AWAY_MAX);
        self.back_at = step + away;
        self.late_in_a_row += 1;
    }
}

impl Shared {
    /// A spawned member's loop, until it is told to leave.
    fn work(&self, seat: &Seat, index: usize) {
        let mut memory = Memory::of(index);
        while !seat.leave.load(Ordering::Acquire) {
            match self
                .board
                .take_part(&seat.member, &mut memory, &self.demand)
            {
                Leaves::StaysAway(away) => {
                    seat.member.away.store(true, Ordering::Relaxed);
                    memory.policy.stay_away(&self.demand, away);
                    seat.member.away.store(false, Ordering::Relaxed);
                }
                Leaves::NoChunk if self.spin(&seat.member) => {}
                Leaves::NoChunk => {
                    self.demand.sleeps(index);
                    self.sleep(seat);
                    memory.policy.woke(&self.demand);
                }
            }
        }
    }

    /// Whether a region that `member` may take part in opened within the spin.
    fn spin(&self, member: &Member) -> bool {
        for _ in 0..self.spins {
            if !member.active.load(Ordering::Relaxed) {
                return false;
            }
            if self.board.open() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Parks, unless there is work or the member is to leave.
    fn sleep(&self, seat: &Seat) {
        let member = &seat.member;
        member.parked.store(true, Ordering::Relaxed);
        // Pairs with the fence in `Crew::wake`.
        fence(Ordering::SeqCst);
        let work = self.board.open() && member.active.load(Ordering::Relaxed);
        if !work && !seat.leave.load(Ordering::Acquire) {
            park();
        }
        member.parked.store(false, Ordering::Relaxed);
    }
}

/// Rounds of a spin of [`SPIN_NANOS_MAX`]: a processor's pause takes 10 to 140 cycles, so it is
/// measured once. The fastest of a few tries, since being descheduled looks like a slow pause.
#[cfg(not(loom))]
#[expect(
    clippy::disallowed_methods,
    reason = "how long a pause lasts is asked once, at the start"
)]
fn spins() -> u32 {
    const ROUNDS: u32 = 500;
    let time = || {
        let start = std::time::Instant::now();
        (0..ROUNDS).for_each(|_| std::hint::spin_loop());
        start.elapsed().as_nanos().max(1)
    };
    let nanos = (0..5).map(|_| time()).min().expect("five tries");
    let spins = u128::from(SPIN_NANOS_MAX) * u128::from(ROUNDS) / nanos;
    u32::try_from(spins).unwrap_or(u32::MAX)
}

/// Loom explores every order without spinning.
#[cfg(loom)]
fn spins() -> u32 {
    0
}
