//! The threads that compute, woken once a step.
//!
//! The calling thread is member 0 and leads: it opens regions, works in them like the others, and
//! waits for the rest. Waiting is never a long spin: about 50 µs, then sleep. A member that the
//! system takes off its core in the middle of a chunk costs the region that wait once. If that is
//! longer than a burst, it is then left out, first for the rest of the step, and for longer each
//! time it happens again, so a core that someone else is using stops slowing the others down. Mostly it does not come to that, since
//! members give way by themselves, between chunks: see `way`.

use std::io;

use gogrid_units::{Bytes, FullSpeed, TeamPace, Work};

use crate::isa::Isa;
use crate::neighbours::Trial;
use crate::ops::Ops;
use crate::region::{Abandoned, Board, Chunk, Leaves, Member, Memory, Pauses, Region};
use crate::sync::{
    Alone, Arc, AtomicBool, Bed, JoinHandle, Nanos, Ordering, Spawn, Thread, current, fence, nanos,
    offer_core, park, park_for, sleep_nanos,
};
use crate::way::{BURST_MAX, LEADER, Machine, Ways};

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

/// Threads that compute together. The thread that calls [`step`](Team::step) is one of them.
/// Dropping the team ends and joins the others.
pub struct Team {
    crew: Crew,
}

/// The team without its face: what the operations use.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    /// Starts the workers.
    spawn: std::sync::Arc<dyn Spawn>,
    leader: Alone<Member>,
    workers: Vec<Worker>,
    /// Threads that were told to leave and are not joined yet.
    leaving: Vec<JoinHandle<()>>,
    memory: Memory,
    step: u64,
    taking_part: usize,
    /// Partial sums of attention; as long as the team was told to make it.
    scratch: Vec<f32>,
}

struct Shared {
    board: Board,
    ways: Ways,
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

/// What the leader knows of another member.
struct Worker {
    seat: Arc<Alone<Seat>>,
    handle: JoinHandle<()>,
    /// The first step it takes part in again.
    back_at: u64,
    /// Steps in a row in which it was late, of those it took part in.
    late_in_a_row: u32,
    /// What it worked at when the leader last looked.
    seen_at: Option<u64>,
    /// Looks in a row at which it worked at that.
    seen_times: u32,
}

impl Team {
    /// A team of `threads`, the caller's included, so at least one. `spawn` starts the others, under
    /// the names `worker 1`, `worker 2` and so on.
    ///
    /// # Errors
    /// When the system refuses a thread; those already started are ended.
    pub fn new(threads: usize, spawn: std::sync::Arc<dyn Spawn>) -> io::Result<Self> {
        let machine = ThisMachine {
            spawn: spawn.clone(),
            bed: Bed::default(),
        };
        Self::on(Box::new(machine), threads, spawn)
    }

    /// [`new`](Self::new) on a machine whose cores others want as it says.
    fn on(
        machine: Box<dyn Machine>,
        threads: usize,
        spawn: std::sync::Arc<dyn Spawn>,
    ) -> io::Result<Self> {
        assert!(threads > 0, "a team has at least its caller");
        let shared = Arc::new(Shared {
            board: Board::new(),
            ways: Ways::new(threads, machine),
            spins: spins(),
        });
        let mut team = Self {
            crew: Crew {
                shared,
                spawn,
                leader: Alone::default(),
                workers: Vec::with_capacity(threads - 1),
                leaving: vec![],
                memory: Memory::of(LEADER),
                step: 0,
                taking_part: 1,
                scratch: vec![],
            },
        };
        for index in 1..threads {
            let worker = team.crew.employ(index)?;
            team.crew.workers.push(worker);
        }
        Ok(team)
    }

    /// Starts every thread but the caller's anew; the ones before leave and are joined later, so
    /// nobody waits for them. A member whose new thread is refused keeps the one it has.
    pub fn renew(&mut self) {
        self.crew.renew();
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.crew.workers.len() + 1
    }

    /// Keeps `bytes` for attention, in place of what it kept before. Without them, or with too few,
    /// one row's attention over many positions is not shared out as finely; the results are equal.
    pub fn keep_scratch(&mut self, bytes: Bytes) {
        let floats = usize::try_from(bytes.0).expect("fits the address space") / size_of::<f32>();
        self.crew.scratch = vec![0.0; floats];
    }

    /// Wakes the team and runs `body`, whose operations the whole team works at, with the
    /// instructions of `isa` and as fast as `pace` lets it.
    ///
    /// # Errors
    /// [`Abandoned`] when the pace said so and `body` passed it on. The team can be used again.
    ///
    /// # Panics
    /// When this machine has not got `isa`, and when an operation panics on any member.
    pub fn step<T>(
        &mut self,
        pace: &dyn TeamPace,
        isa: Isa,
        body: impl FnOnce(&mut Ops<'_>) -> Result<T, Abandoned>,
    ) -> Result<T, Abandoned> {
        assert!(isa.is_available(), "this machine has no {isa:?}");
        self.crew.begin_step(pace.width());
        let done = body(&mut Ops::new(&mut self.crew, pace, isa));
        if done.is_ok() {
            self.crew.learn_neighbours(pace);
        }
        pace.gave_way(self.crew.end_step());
        done
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let Crew {
            workers, leaving, ..
        } = &mut self.crew;
        leaving.extend(workers.drain(..).map(Worker::dismiss));
        self.crew.join_leaving();
    }
}

impl Crew {
    fn employ(&self, index: usize) -> io::Result<Worker> {
        let seat = Arc::new(Alone(Seat::default()));
        let (shared, its) = (self.shared.clone(), seat.clone());
        let body = Box::new(move || shared.work(&its.0, index));
        let handle = self.spawn.spawn(&format!("worker {index}"), body)?;
        Ok(Worker::new(seat, handle))
    }

    /// Who leaves may not have left yet when the next step begins; its seat is its own.
    fn renew(&mut self) {
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

    fn begin_step(&mut self, width: usize) {
        self.step += 1;
        self.memory.way.woke(&self.shared.ways);
        self.leader.0.active.store(true, Ordering::Relaxed);
        self.narrow_to(width);
        self.wake();
    }

    /// Lets the first `width` members who are not left out take part, and says how many they are.
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

    /// Members who take part, as [`narrow_to`](Self::narrow_to) last said.
    pub(crate) fn taking_part(&self) -> usize {
        self.taking_part
    }

    /// Unparks the active members who are parked.
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

    /// The scratch, until it is put back.
    pub(crate) fn take_scratch(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.scratch)
    }

    pub(crate) fn put_scratch(&mut self, scratch: Vec<f32>) {
        self.scratch = scratch;
    }

    /// Runs the chunks of one operation on the members who take part, and returns when all are done.
    pub(crate) fn run(&mut self, job: &Job<'_>) -> Result<(), Abandoned> {
        let leader = current();
        self.shared.board.publish(Region {
            run: job.run,
            pace: job.pace,
            work: job.work,
            chunks: job.chunks,
            leader: &leader,
            step: self.step,
        });
        self.wake();
        // Neither of the two unwinds: chunks' panics are caught and kept for `close`.
        let Shared { board, ways, .. } = &*self.shared;
        board.lead((&self.leader.0, job.pace), &mut self.memory, ways);
        self.wait(job.chunks);
        self.shared.board.close()
    }

    /// Runs the chunks on the calling thread alone.
    pub(crate) fn run_alone(&mut self, job: &Job<'_>) -> Result<(), Abandoned> {
        let pauses = Pauses::new(job.pace, &self.leader.0);
        for index in 0..job.chunks {
            let is_over = || job.pace.is_over();
            self.memory.way.lead(&self.shared.ways, &is_over);
            pauses.point(job.work)?;
            (job.run)(index, &pauses)?;
        }
        Ok(())
    }

    /// Waits until all of `chunks` are done. Whoever shows no progress meanwhile is left out.
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
        self.shared.ways.sleeps(LEADER);
        loop {
            park_for(CHUNK_NANOS_MAX);
            if shared.board.all_done(chunks) {
                self.memory.way.woke(&shared.ways);
                return;
            }
            self.leave_out_the_late();
        }
    }

    /// Leaves out who has worked at the same chunk at the last few calls. One call proves nothing:
    /// an unpark that was left over from earlier ends a wait at once.
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

    /// Now and then has two members find out whether their cores slow each other, unless somebody
    /// wants a core or the step is to end at once. At a step's end most who take part are there.
    fn learn_neighbours(&mut self, pace: &dyn TeamPace) {
        let shared = self.shared.clone();
        let now = shared.ways.now();
        let is_due = self.taking_part > 1 && self.memory.way.neighbours.is_due(now);
        if !is_due || pace.is_over() || shared.ways.some_offer() || shared.ways.core().is_none() {
            return;
        }
        let trial = Trial::default();
        let met = self.run(&Job {
            run: &|_, _| {
                trial.take_part(&|| shared.ways.core());
                Ok(())
            },
            // The step's work is done: there is nothing left to give up.
            pace: &FullSpeed,
            work: Work::default(),
            chunks: 2,
        });
        let found = met.ok().and_then(|()| trial.found());
        self.memory.way.neighbours.note(found, now);
    }

    /// Forgives one lateness of each member who was there for the whole step. Says how long
    /// members gave way since the step before ended, added up.
    fn end_step(&mut self) -> Nanos {
        for worker in &mut self.workers {
            if worker.back_at <= self.step {
                worker.late_in_a_row = worker.late_in_a_row.saturating_sub(1);
            }
        }
        self.shared.ways.sleeps(LEADER);
        self.shared.ways.take_given()
    }
}

/// The machine that the team runs on.
struct ThisMachine {
    spawn: std::sync::Arc<dyn Spawn>,
    bed: Bed,
}

impl Machine for ThisMachine {
    fn now(&self) -> Nanos {
        nanos()
    }

    fn offer_core(&self) {
        offer_core();
    }

    fn sleep(&self, nanos: Nanos) {
        sleep_nanos(nanos);
    }

    fn nap(&self, most: Nanos, goes_on: &dyn Fn() -> bool) {
        self.bed.nap(most, goes_on);
    }

    fn rouse(&self) {
        self.bed.rouse();
    }

    fn core(&self) -> Option<usize> {
        self.spawn.core()
    }

    fn keep_off(&self, core: usize) {
        self.spawn.keep_off(core);
    }
}

impl Worker {
    fn new(seat: Arc<Alone<Seat>>, handle: JoinHandle<()>) -> Self {
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

    /// Tells the thread to end. It claims no chunk any more: whoever sees the next region sees that
    /// it is not active.
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
    /// What a spawned member does until it is told to leave.
    fn work(&self, seat: &Seat, index: usize) {
        let mut memory = Memory::of(index);
        while !seat.leave.load(Ordering::Acquire) {
            match self.board.take_part(&seat.member, &mut memory, &self.ways) {
                Leaves::Way(away) => {
                    seat.member.away.store(true, Ordering::Relaxed);
                    memory.way.stay_away(&self.ways, away);
                    seat.member.away.store(false, Ordering::Relaxed);
                }
                Leaves::NoChunk if self.spin(&seat.member) => {}
                Leaves::NoChunk => {
                    self.ways.sleeps(index);
                    self.sleep(seat);
                    memory.way.woke(&self.ways);
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

/// An operation, cut into chunks.
pub(crate) struct Job<'a> {
    pub(crate) run: &'a Chunk<'a>,
    pub(crate) pace: &'a dyn TeamPace,
    /// Of one chunk.
    pub(crate) work: Work,
    pub(crate) chunks: usize,
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

#[cfg(test)]
mod tests;
