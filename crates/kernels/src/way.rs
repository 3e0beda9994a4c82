//! Giving way: members let whoever else wants their cores go first.
//!
//! Where the system can do it, a member is put aside at once for whoever wakes up. But who then goes
//! on for more than a moment has to share the core with it, by turns of a millisecond or more and
//! however low the member's priority. So each member offers its core between chunks, which costs a
//! fraction of a microsecond when nobody wants it. An offer that is taken up takes as long as it is
//! used.
//!
//! A burst, such as a frame of a picture, has the machine to itself while it lasts: one of us may be on
//! the other thread of its core and slow it. So when a member's core is taken up, the leader naps until
//! it is given back, and all wait for the leader. Where the cores that we work on are known to be apart
//! from the burst's ([`Neighbours`]) the others go on. The burst then shares memory with them; on two
//! cores a frame was no longer for it (SPEC.md, the person at the desk).
//!
//! That is for bursts. Who goes on wanting a core gets that core: its member stays away, for longer
//! each time it finds it taken, and the others go on without it. The leader leaves a core that was
//! taken up for another, since programs that wake up again and again do so where they were before,
//! and the others keep off the core it is on. A leader that finds every core taken up shares by turns.

use std::sync::atomic::Ordering;

use gogrid_units::Sparing;

use crate::neighbours::Neighbours;
use crate::sync::{Alone, Hint, Nanos};

/// The leader's number among the members.
pub(crate) const LEADER: usize = 0;

/// Between two offers of a core, where one of the team's was taken up lately. What somebody who wants
/// it waits for at most, but for the chunks that are being worked at.
const OFFER_AFTER: Nanos = 50_000;
/// The same where none was.
const OFFER_AFTER_IDLE: Nanos = 1_000_000;
/// How long ago is lately: a few frames' periods.
const LATELY: Nanos = 50_000_000;
/// At most so many chunks in a row pass without a look at the clock: an offer is late by so many where
/// chunks get longer all at once.
const SKIPS_MAX: u32 = 5;
/// An offer that takes longer is taken up by somebody who has more to do than the system's own
/// threads, which come and go.
const TAKEN_UP: Nanos = 150_000;
/// How long the leader naps before it looks whether the step is over, and what is lost where a burst
/// ends just as it falls asleep.
const NAP: Nanos = 250_000;
/// How long a burst may keep the team waiting: half a frame's period, at 60 a second.
pub(crate) const BURST_MAX: Nanos = 8_000_000;
/// A core that was not wanted for so long is wanted by a burst; one that is wanted again sooner, by
/// somebody who goes on. Less than what is left of a frame's period at 120 a second, so who works for
/// all of `BURST_MAX` and rests for this has all cores for three fifths of the time.
const QUIET_MIN: Nanos = 5_000_000;
/// The longest that a leader goes on offering, and then the longest that it does not: who shares
/// a core with a program that never rests gets half of it.
const TURN: Nanos = 4_000_000;
/// How long another member stays away at first and at most: it doubles each time its core is still
/// wanted when it comes back.
const AWAY_MIN: Nanos = 500_000;
const AWAY_MAX: Nanos = 16_000_000;

/// The machine, as members see it.
pub(crate) trait Machine: Send + Sync {
    /// Never goes back.
    fn now(&self) -> Nanos;
    /// Lets another thread that wants the calling thread's core have it; comes back at once when
    /// there is none.
    fn offer_core(&self);
    /// Sleeps for so long, or a little longer.
    fn sleep(&self, nanos: Nanos);
    /// Sleeps for so long at most, while `goes_on` as of the last [`rouse`](Self::rouse).
    fn nap(&self, most: Nanos, goes_on: &dyn Fn() -> bool);
    /// Has those who nap see whether they still do.
    fn rouse(&self);
    /// The core that the calling thread is on, where the system tells.
    fn core(&self) -> Option<usize>;
    /// Keeps the calling thread off this core, where it has another, and no longer off the one
    /// before.
    fn keep_off(&self, core: usize);
}

const _: () = assert!(TAKEN_UP < BURST_MAX && OFFER_AFTER < OFFER_AFTER_IDLE);

/// What all members of a team know of those who want their cores.
pub(crate) struct Ways {
    machine: Box<dyn Machine>,
    posts: Vec<Alone<Post>>,
    /// When a core was last given back that somebody had taken up; 0 before the first.
    taken_at: Alone<Hint>,
    /// Nanoseconds that members have slept or waited for others and nobody has asked for yet.
    gave: Alone<Hint>,
}

/// What the others know of a member.
#[derive(Debug, Default)]
struct Post {
    /// One more than the core it was last seen on; 0 while it sleeps, and where nobody tells.
    core: Hint,
    /// Since when it has been offering its core to what may be a burst; 0 when it is not.
    offers_since: Hint,
}

impl Ways {
    pub(crate) fn new(members: usize, machine: Box<dyn Machine>) -> Self {
        Self {
            machine,
            posts: (0..members).map(|_| Alone::default()).collect(),
            taken_at: Alone::default(),
            gave: Alone::default(),
        }
    }

    pub(crate) fn now(&self) -> Nanos {
        self.machine.now()
    }

    /// The core that the calling thread is on, where the system tells.
    pub(crate) fn core(&self) -> Option<usize> {
        self.machine.core()
    }

    /// How long members have given way since this was last asked, added up.
    pub(crate) fn take_given(&self) -> Nanos {
        self.gave.0.swap(0, Ordering::Relaxed)
    }

    /// The member will not be on its core.
    pub(crate) fn sleeps(&self, member: usize) {
        self.posts[member].0.core.store(0, Ordering::Relaxed);
    }

    /// Notes the core that the calling `member` is on.
    fn note_core(&self, member: usize) -> Option<usize> {
        let core = self.machine.core();
        let mark = core.map_or(0, |core| core as u64 + 1);
        self.posts[member].0.core.store(mark, Ordering::Relaxed);
        core
    }

    fn is_on(&self, member: usize, core: usize) -> bool {
        self.core_of(member) == Some(core)
    }

    /// The core that a member was last seen on; `None` while it sleeps, and where nobody tells.
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

    /// For the leader, who is or was on `core`: whether another member's core has been on offer for
    /// so long that it must be taken, and by others than the leader, and not for longer than a burst
    /// takes. A burst that those who work are known not to slow does not count.
    fn a_burst_suffers(&self, (core, known): (Option<usize>, &Neighbours), now: Nanos) -> bool {
        (LEADER + 1..self.posts.len()).any(|other| {
            let since = self.posts[other].0.offers_since.load(Ordering::Relaxed);
            let age = now.saturating_sub(since);
            let is_shared = core.is_some_and(|core| self.is_on(other, core));
            let runs = since > 0 && !is_shared && (TAKEN_UP..BURST_MAX).contains(&age);
            runs && !self.is_apart(other, (core, known), now)
        })
    }

    /// Whether `other`'s core is known to be apart from the leader's, `core`, and from those of all
    /// other members who work.
    fn is_apart(
        &self,
        other: usize,
        (core, known): (Option<usize>, &Neighbours),
        now: Nanos,
    ) -> bool {
        let (Some(theirs), Some(leaders)) = (self.core_of(other), core) else {
            return false;
        };
        let members = (LEADER + 1..self.posts.len()).filter(|&member| member != other);
        let cores = members.filter_map(|member| self.core_of(member));
        cores
            .chain([leaders])
            .all(|ours| known.are_apart([ours, theirs], now))
    }

    fn count(&self, nanos: Nanos) {
        self.gave.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// What one member knows of those who want its core.
#[derive(Debug)]
pub(crate) struct Way {
    member: usize,
    /// When the core is offered next.
    offer_at: Nanos,
    /// Most chunks are begun without a look at the clock.
    clock: Sparing,
    /// When somebody last wanted the core.
    wanted_at: Nanos,
    /// How long it stayed away last.
    away: Nanos,
    /// What is known of cores that slow each other. The leader's only.
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

    /// Whether somebody else took it up. Two members on one core are soon moved apart.
    fn was_taken_up(&self) -> bool {
        self.lasted() > TAKEN_UP && !self.is_shared
    }
}

impl Way {
    /// Of the `member` of this number.
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

    /// For the leader, between chunks. Comes back when it may go on, or `is_over` says that the
    /// step is to be left.
    pub(crate) fn lead(&mut self, ways: &Ways, is_over: &dyn Fn() -> bool) {
        if self.clock.passes() {
            return;
        }
        if ways.some_offer() {
            self.nap_through_bursts(ways, is_over);
        }
        let Some(began) = self.offers_now(ways) else {
            return;
        };
        let mut now = began;
        loop {
            let offer = self.offer(ways, now);
            if !offer.was_taken_up() {
                return;
            }
            let is_burst = self.was_a_burst(&offer);
            self.wanted_at = offer.back;
            if let Some(core) = offer.core {
                ways.machine.keep_off(core);
            }
            if is_burst || is_over() {
                return;
            }
            now = offer.back;
            if now - began > TURN {
                self.offer_at = now + TURN;
                return;
            }
        }
    }

    /// For another member, before it claims a chunk: `Err` with how long it is to stay away when
    /// its core is wanted.
    pub(crate) fn follow(&mut self, ways: &Ways) -> Result<(), Nanos> {
        if self.clock.passes() {
            return Ok(());
        }
        let Some(now) = self.offers_now(ways) else {
            return Ok(());
        };
        if let Some(core) = ways.machine.core()
            && ways.is_on(LEADER, core)
        {
            ways.machine.keep_off(core);
        }
        let since = &ways.posts[self.member].0.offers_since;
        let is_quiet = self.is_quiet(now);
        if is_quiet {
            since.store(now.max(1), Ordering::Relaxed);
        }
        let offer = self.offer(ways, now);
        if is_quiet {
            since.store(0, Ordering::Relaxed);
            if offer.lasted() >= TAKEN_UP {
                ways.machine.rouse();
            }
        }
        if !offer.was_taken_up() {
            return Ok(());
        }
        let is_burst = self.was_a_burst(&offer);
        self.wanted_at = offer.back;
        if is_burst {
            self.away = 0;
            return Ok(());
        }
        self.away = (2 * self.away).clamp(AWAY_MIN, AWAY_MAX);
        Err(self.away)
    }

    /// Sleeps away from the team: it holds no chunk.
    pub(crate) fn stay_away(&mut self, ways: &Ways, away: Nanos) {
        ways.sleeps(self.member);
        ways.machine.sleep(away);
        ways.count(away);
        self.wanted_at = ways.machine.now();
        // Its core may still be wanted.
        self.offer_at = 0;
        self.woke(ways);
    }

    /// The member slept: it may be later than it thinks, and on another core.
    pub(crate) fn woke(&mut self, ways: &Ways) {
        ways.note_core(self.member);
        self.clock.wake();
    }

    /// What time it is, if the core is to be offered now.
    fn offers_now(&mut self, ways: &Ways) -> Option<Nanos> {
        let now = ways.machine.now();
        if now >= self.offer_at {
            return Some(now);
        }
        self.clock.read(now, self.offer_at, SKIPS_MAX);
        None
    }

    /// Whether nobody has wanted the core for a while.
    fn is_quiet(&self, now: Nanos) -> bool {
        now.saturating_sub(self.wanted_at) >= QUIET_MIN
    }

    /// Whether who took this up had something short to do, and has done it.
    fn was_a_burst(&self, offer: &Offer) -> bool {
        self.is_quiet(offer.began) && offer.lasted() < BURST_MAX
    }

    /// Sleeps while a burst runs on another's core that ours may slow, and the step goes on.
    fn nap_through_bursts(&mut self, ways: &Ways, is_over: &dyn Fn() -> bool) {
        // Where it worked, not where it wakes for a moment.
        let core = ways.machine.core();
        let mut now = ways.machine.now();
        while ways.a_burst_suffers((core, &self.neighbours), now) && !is_over() {
            ways.sleeps(self.member);
            let goes_on = || {
                let now = ways.machine.now();
                ways.a_burst_suffers((core, &self.neighbours), now)
            };
            ways.machine.nap(NAP, &goes_on);
            let woke = ways.machine.now();
            ways.count(woke.saturating_sub(now));
            now = woke;
            self.woke(ways);
        }
    }

    /// Offers the core at `now`, and again some time after it was given back.
    fn offer(&mut self, ways: &Ways, now: Nanos) -> Offer {
        let core = ways.note_core(self.member);
        ways.machine.offer_core();
        let back = ways.machine.now();
        let offer = Offer {
            core,
            began: now,
            back,
            is_shared: core.is_some_and(|core| ways.is_shared(core, self.member)),
        };
        if offer.was_taken_up() {
            ways.count(offer.lasted());
            ways.taken_at.0.store(back, Ordering::Relaxed);
        }
        let taken_at = ways.taken_at.0.load(Ordering::Relaxed);
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
