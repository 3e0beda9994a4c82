//! Giving way: members of a team let other programs have their cores first.
//!
//! Where the system can do it, it takes the core from a member at once when another thread wakes up.
//! But a thread that then runs for longer than a moment has to share the core with the member, in
//! turns of a millisecond or more, however low the member's priority. So each member offers its core
//! between chunks, with a yield to the scheduler, which costs a fraction of a microsecond when no
//! other thread wants the core. When one does, the offer returns once that thread has stopped.
//!
//! A burst, such as the work for one frame of a picture, has the machine to itself while it lasts: a
//! member on the other hardware thread of its core would slow it. So when a member's core is taken
//! up, the leader sleeps until the core is given back, and the others wait for the leader. Where the
//! cores that members work on are known to be apart from the burst's, by the system or by trials
//! ([`Neighbours`]), the others go on. The burst then shares memory with them; on two cores a frame
//! was no longer for it (SPEC.md, the person at the desk).
//!
//! That is for bursts. A program that goes on wanting a core gets it: the member stays away, for
//! longer each time it finds its core taken, and the others go on without it. The leader leaves a
//! core that was taken up for another one, since programs that wake up again and again do so where
//! they were before, and the others keep off the leader's core. A leader that finds every core taken
//! up shares one by turns.

use std::sync::atomic::Ordering;

use gogrid_units::Sparing;

use crate::neighbours::Neighbours;
use crate::sync::{CachePadded, Hint, Nanos};

/// The leader's number among the members.
pub(crate) const LEADER: usize = 0;

/// The time between two offers of a core, where one of the team's was taken up lately. Another thread
/// waits at most so long for a core, and for the chunk that is being computed.
const OFFER_AFTER: Nanos = 50_000;
/// The same where none was taken up lately.
const OFFER_AFTER_IDLE: Nanos = 1_000_000;
/// How long ago is lately: a few frames' periods.
const LATELY: Nanos = 50_000_000;
/// At most so many chunks in a row are begun without reading the clock: where chunks grow longer all
/// at once, an offer is late by so many.
const SKIPS_MAX: u32 = 5;
/// An offer that takes longer than this was taken up by a thread with more to do than the system's
/// own threads have, which come and go.
const TAKEN_UP: Nanos = 150_000;
/// How long the leader sleeps before it looks whether the step is over; so much is lost where a burst
/// ends just as the leader falls asleep.
const SLEEP: Nanos = 250_000;
/// How long a burst may keep the team waiting: half a frame's period, at 60 a second.
pub(crate) const BURST_MAX: Nanos = 8_000_000;
/// A core that no other thread wanted for so long is wanted by a burst. A core that is wanted again
/// sooner is wanted by a program that goes on. This is less than what is left of a frame's period at
/// 120 a second, so a program that computes for all of `BURST_MAX` and rests for this long has all
/// cores for three fifths of the time.
const QUIET_MIN: Nanos = 5_000_000;
/// The longest that a leader begins to offer, and as long as it did it then does not: a program that
/// never rests and shares a core with the leader gets half of it.
const TURN: Nanos = 4_000_000;
/// A team that insists does not offer a core that a program kept for longer than a burst for so many times as
/// long: a scheduler that knows priorities gives such a program nearly all of the core by itself, and after
/// one offer of a thread of the lowest priority it has it for half a second.
const INSISTS: Nanos = 16;
/// How long another member stays away at first and at most: it doubles each time its core is still
/// wanted when it comes back.
const AWAY_MIN: Nanos = 500_000;
const AWAY_MAX: Nanos = 16_000_000;

/// The operating system, as members see it.
pub(crate) trait System: Send + Sync {
    /// Never goes back.
    fn now(&self) -> Nanos;
    /// Lets another thread that wants the calling thread's core have it; comes back at once when
    /// there is none.
    fn offer_core(&self);
    /// Sleeps for so long, or a little longer.
    fn sleep(&self, nanos: Nanos);
    /// Sleeps for so long at most, while `goes_on`; asks it again after each
    /// [`unpark_all`](Self::unpark_all).
    fn park_while(&self, most: Nanos, goes_on: &dyn Fn() -> bool);
    /// Has every thread in [`park_while`](Self::park_while) ask `goes_on` again.
    fn unpark_all(&self);
    /// The core that the calling thread is on, where the system tells.
    fn core(&self) -> Option<usize>;
    /// Keeps the calling thread off this core, where it has another, and no longer off the one
    /// before.
    fn keep_off(&self, core: usize);
    /// Whether two cores are hardware threads of one physical core, or the same; `None` where the
    /// system does not know it.
    fn are_siblings(&self, cores: [usize; 2]) -> Option<bool>;
}

const _: () = assert!(TAKEN_UP < BURST_MAX && OFFER_AFTER < OFFER_AFTER_IDLE);

/// Other threads' demand for the team's cores, as all members know it.
pub(crate) struct CoreDemand {
    system: Box<dyn System>,
    posts: Vec<CachePadded<Post>>,
    /// When a core that another thread had taken up was last given back; 0 before the first.
    taken_at: CachePadded<Hint>,
    /// Nanoseconds that members have slept or waited for other threads, since the last
    /// [`take_given`](Self::take_given).
    gave: CachePadded<Hint>,
    /// 1 where the step is to go on beside programs that never rest.
    insists: CachePadded<Hint>,
}

/// A member as the others know it.
#[derive(Debug, Default)]
struct Post {
    /// One more than the core it was last seen on; 0 while it sleeps, and where the system does not
    /// tell.
    core: Hint,
    /// Since when it has been offering its core to what may be a burst; 0 when it is not.
    offers_since: Hint,
}

impl CoreDemand {
    pub(crate) fn new(members: usize, system: Box<dyn System>) -> Self {
        Self {
            system,
            posts: (0..members).map(|_| CachePadded::default()).collect(),
            taken_at: CachePadded::default(),
            gave: CachePadded::default(),
            insists: CachePadded::default(),
        }
    }

    pub(crate) fn now(&self) -> Nanos {
        self.system.now()
    }

    /// The core that the calling thread is on, where the system tells.
    pub(crate) fn core(&self) -> Option<usize> {
        self.system.core()
    }

    /// How long members have given way since this was last called, summed over the members.
    pub(crate) fn take_given(&self) -> Nanos {
        self.gave.0.swap(0, Ordering::Relaxed)
    }

    /// Whether the step that begins is to go on beside programs that never rest.
    pub(crate) fn insist(&self, insists: bool) {
        let mark = u64::from(insists);
        self.insists.0.store(mark, Ordering::Relaxed);
    }

    fn insists(&self) -> bool {
        self.insists.0.load(Ordering::Relaxed) > 0
    }

    /// The member will not be on its core.
    pub(crate) fn sleeps(&self, member: usize) {
        self.posts[member].0.core.store(0, Ordering::Relaxed);
    }

    /// Notes the core that the calling `member` is on.
    fn note_core(&self, member: usize) -> Option<usize> {
        let core = self.system.core();
        let mark = core.map_or(0, |core| core as u64 + 1);
        self.posts[member].0.core.store(mark, Ordering::Relaxed);
        core
    }

    fn is_on(&self, member: usize, core: usize) -> bool {
        self.core_of(member) == Some(core)
    }

    /// The core that a member was last seen on; `None` while it sleeps, and where the system does
    /// not tell.
    fn core_of(&self, member: usize) -> Option<usize> {
        let mark = self.posts[member].0.core.load(Ordering::Relaxed);
        usize::try_from(mark).ok()?.checked_sub(1)
    }

    /// Whether a member but this one is on this core.
    fn is_shared(&self, core: usize, by: usize) -> bool {
        (0..self.posts.len()).any(|other| other != by && self.is_on(other, core))
    }

    /// Whether a member's core is on offer to what may be a burst.
    pub(crate) fn some_offer(&self) -> bool {
        let posts = self.posts.iter();
        posts
            .map(|post| &post.0.offers_since)
            .any(|since| since.load(Ordering::Relaxed) > 0)
    }

    /// Whether the system tells which core the caller is on, but not which others are its siblings.
    pub(crate) fn needs_trials(&self) -> bool {
        let core = self.system.core();
        core.is_some_and(|core| self.system.are_siblings([core, core]).is_none())
    }

    /// For the leader: whether another member's core has been on offer for so long that a thread of
    /// another program must have taken it up, and not for longer than a burst takes. A burst that no
    /// member slows does not count.
    fn a_burst_suffers(&self, leader: &LeaderView<'_>, now: Nanos) -> bool {
        (LEADER + 1..self.posts.len()).any(|other| {
            let since = self.posts[other].0.offers_since.load(Ordering::Relaxed);
            let age = now.saturating_sub(since);
            let is_shared = leader.core.is_some_and(|core| self.is_on(other, core));
            let runs = since > 0 && !is_shared && (TAKEN_UP..BURST_MAX).contains(&age);
            runs && !self.is_apart(other, leader, now)
        })
    }

    /// Whether `other`'s core is known to be apart from the leader's and from those of all other
    /// members that work.
    fn is_apart(&self, other: usize, leader: &LeaderView<'_>, now: Nanos) -> bool {
        let (Some(theirs), Some(leaders)) = (self.core_of(other), leader.core) else {
            return false;
        };
        let members = (LEADER + 1..self.posts.len()).filter(|&member| member != other);
        let cores = members.filter_map(|member| self.core_of(member));
        cores.chain([leaders]).all(|ours| {
            let cores = [ours, theirs];
            match self.system.are_siblings(cores) {
                Some(siblings) => !siblings,
                None => leader.known.are_apart(cores, now),
            }
        })
    }

    fn count(&self, nanos: Nanos) {
        self.gave.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Where the leader is or was at work, and its results of trials.
struct LeaderView<'a> {
    core: Option<usize>,
    known: &'a Neighbours,
}

/// When one member offers its core, and its memory of the threads that took it up.
#[derive(Debug)]
pub(crate) struct YieldPolicy {
    member: usize,
    /// When the core is offered next.
    offer_at: Nanos,
    /// Most chunks are begun without a look at the clock.
    clock: Sparing,
    /// When another thread last wanted the core.
    wanted_at: Nanos,
    /// How long it stayed away last.
    away: Nanos,
    /// Results of trials of cores that may slow each other. Only the leader's is used.
    pub(crate) neighbours: Neighbours,
}

/// An offer of a core that was given back.
struct Offer {
    /// Which, where the system tells.
    core: Option<usize>,
    began: Nanos,
    back: Nanos,
    /// Whether another member was on this core.
    is_shared: bool,
}

impl Offer {
    fn lasted(&self) -> Nanos {
        self.back.saturating_sub(self.began)
    }

    /// Whether a thread of another program took it up. Two members on one core are soon moved apart.
    fn was_taken_up(&self) -> bool {
        self.lasted() > TAKEN_UP && !self.is_shared
    }
}

impl YieldPolicy {
    /// For the member of this number.
    pub(crate) fn new(member: usize) -> Self {
        Self {
            member,
            offer_at: 0,
            clock: Sparing::NEW,
            wanted_at: 0,
            away: 0,
            neighbours: Neighbours::default(),
        }
    }

    /// For the leader, between chunks. Comes back when the leader may go on, or when `is_over` says
    /// that the step is to be left.
    pub(crate) fn lead(&mut self, demand: &CoreDemand, is_over: &dyn Fn() -> bool) {
        if self.clock.passes() {
            return;
        }
        if demand.some_offer() {
            self.sleep_through_bursts(demand, is_over);
        }
        let Some(began) = self.offers_now(demand) else {
            return;
        };
        let mut now = began;
        loop {
            let offer = self.offer(demand, now);
            if !offer.was_taken_up() {
                return;
            }
            let is_burst = self.was_a_burst(&offer);
            self.wanted_at = offer.back;
            if let Some(core) = offer.core {
                demand.system.keep_off(core);
            }
            if is_burst || is_over() || self.insists_after(&offer, demand) {
                return;
            }
            now = offer.back;
            if now - began > TURN {
                // One offer may be taken for much longer.
                self.offer_at = now + (now - began);
                return;
            }
        }
    }

    /// For another member, before it claims a chunk: `Err` with how long it is to stay away when
    /// its core is wanted.
    pub(crate) fn follow(&mut self, demand: &CoreDemand) -> Result<(), Nanos> {
        if self.clock.passes() {
            return Ok(());
        }
        let Some(now) = self.offers_now(demand) else {
            return Ok(());
        };
        if let Some(core) = demand.system.core()
            && demand.is_on(LEADER, core)
        {
            demand.system.keep_off(core);
        }
        let since = &demand.posts[self.member].0.offers_since;
        let is_quiet = self.is_quiet(now);
        if is_quiet {
            since.store(now.max(1), Ordering::Relaxed);
        }
        let offer = self.offer(demand, now);
        if is_quiet {
            since.store(0, Ordering::Relaxed);
            if offer.lasted() >= TAKEN_UP {
                demand.system.unpark_all();
            }
        }
        if !offer.was_taken_up() {
            return Ok(());
        }
        let is_burst = self.was_a_burst(&offer);
        self.wanted_at = offer.back;
        if is_burst || self.insists_after(&offer, demand) {
            self.away = 0;
            return Ok(());
        }
        self.away = (2 * self.away).clamp(AWAY_MIN, AWAY_MAX);
        Err(self.away)
    }

    /// Sleeps away from the team: it holds no chunk.
    pub(crate) fn stay_away(&mut self, demand: &CoreDemand, away: Nanos) {
        demand.sleeps(self.member);
        demand.system.sleep(away);
        demand.count(away);
        self.wanted_at = demand.system.now();
        // Its core may still be wanted.
        self.offer_at = 0;
        self.woke(demand);
    }

    /// The member slept, so its core and the time are read anew.
    pub(crate) fn woke(&mut self, demand: &CoreDemand) {
        demand.note_core(self.member);
        self.clock.wake();
    }

    /// The time, if the core is to be offered now.
    fn offers_now(&mut self, demand: &CoreDemand) -> Option<Nanos> {
        let now = demand.system.now();
        if now >= self.offer_at {
            return Some(now);
        }
        self.clock.read(now, self.offer_at, SKIPS_MAX);
        None
    }

    /// Whether the step goes on though its core was taken for longer than a burst: it is not offered again
    /// soon.
    fn insists_after(&mut self, offer: &Offer, demand: &CoreDemand) -> bool {
        let insists = offer.lasted() >= BURST_MAX && demand.insists();
        if insists {
            self.offer_at = offer.back + INSISTS * offer.lasted();
        }
        insists
    }

    /// Whether no other thread has wanted the core for a while.
    fn is_quiet(&self, now: Nanos) -> bool {
        now.saturating_sub(self.wanted_at) >= QUIET_MIN
    }

    /// Whether the thread that took this up had something short to do, and has done it.
    fn was_a_burst(&self, offer: &Offer) -> bool {
        self.is_quiet(offer.began) && offer.lasted() < BURST_MAX
    }

    /// Sleeps while a burst runs on another member's core, work on the leader's core may slow it, and
    /// the step goes on.
    fn sleep_through_bursts(&mut self, demand: &CoreDemand, is_over: &dyn Fn() -> bool) {
        let leader = LeaderView {
            // Where it worked, not where it wakes for a moment.
            core: demand.system.core(),
            known: &self.neighbours.clone(),
        };
        let mut now = demand.system.now();
        while demand.a_burst_suffers(&leader, now) && !is_over() {
            demand.sleeps(self.member);
            let goes_on = || demand.a_burst_suffers(&leader, demand.system.now());
            demand.system.park_while(SLEEP, &goes_on);
            let woke = demand.system.now();
            demand.count(woke.saturating_sub(now));
            now = woke;
            self.woke(demand);
        }
    }

    /// Offers the core at `now`, and says when it is offered next.
    fn offer(&mut self, demand: &CoreDemand, now: Nanos) -> Offer {
        let core = demand.note_core(self.member);
        demand.system.offer_core();
        let back = demand.system.now();
        let offer = Offer {
            core,
            began: now,
            back,
            is_shared: core.is_some_and(|core| demand.is_shared(core, self.member)),
        };
        if offer.was_taken_up() {
            demand.count(offer.lasted());
            demand.taken_at.0.store(back, Ordering::Relaxed);
        }
        let taken_at = demand.taken_at.0.load(Ordering::Relaxed);
        let lately = taken_at > 0 && back.saturating_sub(taken_at) < LATELY;
        let after = if lately {
            OFFER_AFTER
        } else {
            OFFER_AFTER_IDLE
        };
        self.offer_at = back + after;
        self.clock.read(back, self.offer_at, 0);
        offer
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
