//! Giving way: members let whoever else wants their cores go first.
//!
//! A thread that computes for long is taken off its core late, however low its priority: Linux lets
//! it finish a slice of up to 3 ms first. So each member offers its core between chunks, which costs
//! a fraction of a microsecond when nobody wants it. An offer that is taken up takes as long as it
//! is used. When it takes long, the others see it, and the whole team sleeps for a moment: a program
//! that woke up wants more than one core as often as not, and the system moves a thread to another
//! core only when that core has nothing to do.
//!
//! That is for bursts. Whoever goes on wanting a core gets that core: its member stays away, for
//! longer each time it finds it taken, and the others go on without it. A leader has to stay, so
//! it shares the core by turns.

use std::sync::atomic::Ordering;

use crate::sync::{Alone, Hint, Nanos};

/// Between two offers of a core. What somebody who wants it waits for at most, but for the chunk
/// that is being worked at.
const OFFER_AFTER: Nanos = 50_000;
/// An offer that takes longer is taken up by somebody who has more to do than the system's own
/// threads, which come and go.
const TAKEN_UP: Nanos = 150_000;
/// How long the team sleeps when somebody wants a core.
const SLEEP: Nanos = 500_000;
/// How long a burst may keep the team asleep.
const BURST_MAX: Nanos = 4_000_000;
/// A core that was not wanted for so long is wanted by a burst; one that is wanted again sooner, by
/// somebody who goes on.
const QUIET_MIN: Nanos = 5_000_000;
/// The longest that a leader goes on offering, and then the longest that it does not: who shares
/// a core with a program that never rests gets half of it.
const TURN: Nanos = 4_000_000;
/// How long another member stays away at most: it doubles each time its core is still wanted when
/// it comes back.
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
    /// The core that the calling thread is on, where the system tells.
    fn core(&self) -> Option<usize>;
}

/// What all members of a team know of those who want their cores.
pub(crate) struct Ways {
    machine: Box<dyn Machine>,
    /// The team sleeps until then.
    asleep_until: Alone<Hint>,
    posts: Vec<Alone<Post>>,
    /// Nanoseconds that members have slept or waited for others and nobody has asked for yet.
    gave: Alone<Hint>,
}

/// What the others know of a member.
#[derive(Debug, Default)]
struct Post {
    /// Since when it has been offering its core to what may be a burst; 0 when it is not.
    offers_since: Hint,
    /// One more than the core it was last seen on; 0 while it sleeps, and where nobody tells.
    core: Hint,
}

impl Ways {
    pub(crate) fn new(members: usize, machine: Box<dyn Machine>) -> Self {
        Self {
            machine,
            asleep_until: Alone::default(),
            posts: (0..members).map(|_| Alone::default()).collect(),
            gave: Alone::default(),
        }
    }

    /// How long members have given way since this was last asked, added up.
    pub(crate) fn take_given(&self) -> Nanos {
        self.gave.0.swap(0, Ordering::Relaxed)
    }

    /// The member will not be on its core.
    pub(crate) fn sleeps(&self, member: usize) {
        self.posts[member].0.core.store(0, Ordering::Relaxed);
    }

    /// Notes the core that the calling `member` is on, and gives its mark.
    fn note_core(&self, member: usize) -> u64 {
        let mark = self.machine.core().map_or(0, |core| core as u64 + 1);
        self.posts[member].0.core.store(mark, Ordering::Relaxed);
        mark
    }

    /// Members but this one, with whether they share the core of this mark with it.
    fn others(&self, member: usize, mark: u64) -> impl Iterator<Item = (&Post, bool)> {
        let posts = self.posts.iter().map(|post| &post.0).enumerate();
        posts
            .filter(move |&(other, _)| other != member)
            .map(move |(_, post)| {
                let core = post.core.load(Ordering::Relaxed);
                (post, mark > 0 && core == mark)
            })
    }

    /// Whether another's core has been on offer for so long that it must be taken, and by others
    /// than the calling `member`, and not for longer than a burst takes.
    fn a_burst_runs(&self, (member, mark): (usize, u64), now: Nanos) -> bool {
        self.others(member, mark).any(|(post, shared)| {
            let since = post.offers_since.load(Ordering::Relaxed);
            let age = now.saturating_sub(since);
            !shared && since > 0 && (TAKEN_UP..BURST_MAX).contains(&age)
        })
    }

    fn put_to_sleep(&self, now: Nanos) {
        self.asleep_until
            .0
            .fetch_max(now + SLEEP, Ordering::Relaxed);
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
    /// When somebody last wanted the core.
    wanted_at: Nanos,
    /// When the last burst began.
    burst_from: Nanos,
    /// How long it stayed away last.
    away: Nanos,
}

impl Way {
    /// Of the `member` of this number.
    pub(crate) fn new(member: usize) -> Self {
        Self {
            member,
            offer_at: 0,
            wanted_at: 0,
            burst_from: 0,
            away: 0,
        }
    }

    /// For the leader, between chunks. Comes back when it may go on, or `is_over` says that the
    /// step is to be left.
    pub(crate) fn lead(&mut self, ways: &Ways, is_over: &dyn Fn() -> bool) {
        let began = ways.machine.now();
        if began < self.offer_at {
            return;
        }
        let mut now = self.sleep_with_the_team(ways, began, is_over);
        while let Some(back) = self.offer(ways, now) {
            now = back;
            if is_over() {
                return;
            } else if self.is_burst(now) {
                ways.put_to_sleep(now);
                now = self.sleep_with_the_team(ways, now, is_over);
            } else if now - began > TURN {
                self.offer_at = now + TURN;
                return;
            }
        }
    }

    /// For another member, before it claims a chunk: `Err` with how long it is to stay away when
    /// its core is wanted.
    pub(crate) fn follow(&mut self, ways: &Ways) -> Result<(), Nanos> {
        let now = ways.machine.now();
        if now < self.offer_at {
            return Ok(());
        }
        let now = self.sleep_with_the_team(ways, now, &|| false);
        let Some(back) = self.offer(ways, now) else {
            return Ok(());
        };
        self.away = match self.is_burst(back) {
            true => {
                ways.put_to_sleep(back);
                SLEEP
            }
            false => (2 * self.away).clamp(SLEEP, AWAY_MAX),
        };
        Err(self.away)
    }

    /// Sleeps away from the team: it holds no chunk.
    pub(crate) fn stay_away(&mut self, ways: &Ways, away: Nanos) {
        ways.machine.sleep(away);
        ways.count(away);
        self.wanted_at = ways.machine.now();
        self.woke();
    }

    /// The member slept: its core may be another's.
    pub(crate) fn woke(&mut self) {
        self.offer_at = 0;
    }

    /// Offers the core at `now`. If somebody took it up, says when they gave it back.
    fn offer(&mut self, ways: &Ways, now: Nanos) -> Option<Nanos> {
        let mark = ways.note_core(self.member);
        // Who wants the core after quiet is a burst, and nothing goes on being one.
        let quiet = now.saturating_sub(self.wanted_at) >= QUIET_MIN;
        let since = &ways.posts[self.member].0.offers_since;
        if quiet || self.is_burst(now) {
            since.store(now.max(1), Ordering::Relaxed);
        }
        ways.machine.offer_core();
        since.store(0, Ordering::Relaxed);
        let back = ways.machine.now();
        self.offer_at = back + OFFER_AFTER;
        let taken = back.saturating_sub(now);
        if taken <= TAKEN_UP || ways.others(self.member, mark).any(|(_, shared)| shared) {
            // Two members on one core are soon moved apart, as long as neither sleeps.
            return None;
        }
        ways.count(taken);
        if quiet {
            self.burst_from = now;
        }
        self.wanted_at = back;
        Some(back)
    }

    /// Whether a burst is on that began not too long before `now`.
    fn is_burst(&self, now: Nanos) -> bool {
        now.saturating_sub(self.burst_from) < BURST_MAX
    }

    /// Sleeps while the team does and the step goes on. Says when it woke.
    fn sleep_with_the_team(
        &self,
        ways: &Ways,
        mut now: Nanos,
        is_over: &dyn Fn() -> bool,
    ) -> Nanos {
        loop {
            let mark = ways.note_core(self.member);
            if ways.a_burst_runs((self.member, mark), now) {
                ways.put_to_sleep(now);
            }
            let until = ways.asleep_until.0.load(Ordering::Relaxed);
            if until <= now || is_over() {
                return now;
            }
            ways.sleeps(self.member);
            ways.machine.sleep(until - now);
            let woke = ways.machine.now();
            ways.count(woke.saturating_sub(now));
            now = woke;
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
