//! In virtual time: a machine whose cores others want as a test says.

use std::sync::atomic::AtomicU64 as Plain;
use std::sync::{Arc, Mutex};

use super::*;
use crate::neighbours::Found;

const MICROSECOND: Nanos = 1_000;
const MILLISECOND: Nanos = 1_000_000;

/// When another thread unparks the leader, and what it does before.
type Rouse = (Nanos, Box<dyn Fn() + Send>);

/// A machine of two cores with a clock, and one thread of ours on it. A program that wants a
/// core has it from an offer on until it is done.
#[derive(Default)]
struct Cores {
    now: Plain,
    wanted_until: Plain,
    /// How long a program that never rests takes of each offer.
    slice: Plain,
    offers: Plain,
    slept: Plain,
    roused: Plain,
    reads: Plain,
    rouses: Mutex<Option<Rouse>>,
    /// The core that the thread is on.
    core: Plain,
    /// The pairs of cores that the system knows.
    siblings: Mutex<Vec<([usize; 2], bool)>>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Cores>);

impl System for Fake {
    fn now(&self) -> Nanos {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        self.at()
    }

    fn offer_core(&self) {
        self.0.offers.fetch_add(1, Ordering::Relaxed);
        let until = self.0.wanted_until.load(Ordering::Relaxed);
        self.0.now.fetch_max(until, Ordering::Relaxed);
        self.pass(self.0.slice.load(Ordering::Relaxed));
    }

    fn sleep(&self, nanos: Nanos) {
        self.0.slept.fetch_add(nanos, Ordering::Relaxed);
        self.pass(nanos);
    }

    fn park_while(&self, most: Nanos, goes_on: &dyn Fn() -> bool) {
        let until = self.at() + most;
        let roused = self.0.rouses.lock().expect("no test panics here");
        if let Some((moment, happens)) = &*roused
            && (self.at()..until).contains(moment)
        {
            self.sleep(moment - self.at());
            happens();
            if !goes_on() {
                return;
            }
        }
        self.sleep(until - self.at());
    }

    fn unpark_all(&self) {
        self.0.roused.fetch_add(1, Ordering::Relaxed);
    }

    fn core(&self) -> Option<usize> {
        Some(self.on())
    }

    fn keep_off(&self, core: usize) {
        self.0.core.store(1 - core as u64, Ordering::Relaxed);
    }

    fn are_siblings(&self, cores: [usize; 2]) -> Option<bool> {
        let known = self.0.siblings.lock().expect("no test panics here");
        known
            .iter()
            .find(|(of, _)| *of == cores)
            .map(|(_, are)| *are)
    }
}

impl Fake {
    /// The time, without reading the clock.
    fn at(&self) -> Nanos {
        self.0.now.load(Ordering::Relaxed)
    }

    fn pass(&self, nanos: Nanos) {
        self.0.now.fetch_add(nanos, Ordering::Relaxed);
    }

    fn on(&self) -> usize {
        self.0.core.load(Ordering::Relaxed) as usize
    }

    /// From now on for so long, another program wants the core.
    fn want(&self, nanos: Nanos) {
        let until = self.now() + nanos;
        self.0.wanted_until.store(until, Ordering::Relaxed);
    }

    /// From now on, another program always wants it.
    fn never_rest(&self) {
        self.0.slice.store(3 * MILLISECOND, Ordering::Relaxed);
    }

    fn slept(&self) -> Nanos {
        self.0.slept.load(Ordering::Relaxed)
    }

    fn demand(&self) -> CoreDemand {
        // For a second no other program wanted anything.
        self.pass(1000 * MILLISECOND);
        CoreDemand::new(2, Box::new(self.clone()))
    }
}

/// Works in chunks of this length until `until` and says how often the core was offered.
fn offers(
    fake: &Fake,
    (demand, policy): (&CoreDemand, &mut YieldPolicy),
    chunk: Nanos,
    until: Nanos,
) -> u64 {
    let before = fake.0.offers.load(Ordering::Relaxed);
    while fake.at() < until {
        assert_eq!(policy.follow(demand), Ok(()));
        fake.pass(chunk);
    }
    fake.0.offers.load(Ordering::Relaxed) - before
}

#[test]
fn a_core_nobody_wants_is_offered_now_and_then_and_nobody_sleeps() {
    for chunk in [MICROSECOND, 10 * MICROSECOND, 30 * MICROSECOND] {
        let fake = Fake::default();
        let (demand, mut policy) = (fake.demand(), YieldPolicy::new(1));
        let second = 1000 * MILLISECOND;
        let begin = fake.now();
        let idle = offers(&fake, (&demand, &mut policy), chunk, begin + second);
        let at_most = second / OFFER_AFTER_IDLE;
        assert!((at_most * 9 / 10..=at_most).contains(&idle), "{idle}");
        assert_eq!((fake.slept(), demand.take_given()), (0, 0));
    }
}

#[test]
fn a_core_that_somebody_had_lately_is_offered_often() {
    let chunk = 10 * MICROSECOND;
    let fake = Fake::default();
    let (demand, mut policy) = (fake.demand(), YieldPolicy::new(1));
    fake.want(TAKEN_UP + 1);
    assert_eq!(policy.follow(&demand), Ok(()));
    let begin = fake.now();
    let often = offers(&fake, (&demand, &mut policy), chunk, begin + LATELY);
    let at_most = LATELY / OFFER_AFTER;
    assert!((at_most * 8 / 10..=at_most).contains(&often), "{often}");
    let until = begin + LATELY + 40 * OFFER_AFTER_IDLE;
    let seldom = offers(&fake, (&demand, &mut policy), chunk, until);
    assert!((36..=41).contains(&seldom), "{seldom}");
}

#[test]
fn short_chunks_seldom_read_the_clock() {
    let fake = Fake::default();
    let (demand, mut policy) = (fake.demand(), YieldPolicy::new(1));
    let begin = fake.now();
    offers(
        &fake,
        (&demand, &mut policy),
        MICROSECOND,
        begin + 10 * MILLISECOND,
    );
    let reads = fake.0.reads.load(Ordering::Relaxed);
    assert!(reads < 3_000, "{reads} of 10,000 chunks");
}

#[test]
fn chunks_that_grow_longer_are_offered_within_a_few_of_them() {
    let fake = Fake::default();
    let (demand, mut policy) = (fake.demand(), YieldPolicy::new(1));
    fake.want(TAKEN_UP + 1);
    assert_eq!(policy.follow(&demand), Ok(()));
    let begin = fake.now();
    offers(
        &fake,
        (&demand, &mut policy),
        MICROSECOND,
        begin + MILLISECOND,
    );
    let chunk = 160 * MICROSECOND;
    let often = offers(
        &fake,
        (&demand, &mut policy),
        chunk,
        begin + 17 * MILLISECOND,
    );
    assert!(often >= 98, "{often} of 100 chunks");
}

#[test]
fn the_system_s_own_short_work_sends_nobody_away() {
    let fake = Fake::default();
    let demand = fake.demand();
    let (mut leader, mut other) = (YieldPolicy::new(0), YieldPolicy::new(1));
    for _ in 0..100 {
        fake.want(TAKEN_UP);
        assert_eq!(other.follow(&demand), Ok(()));
        demand.sleeps(1);
        fake.want(TAKEN_UP);
        leader.lead(&demand, &|| false);
        assert_eq!(fake.on(), 0);
        demand.sleeps(0);
        fake.pass(MILLISECOND);
    }
    assert_eq!((fake.slept(), demand.take_given()), (0, 0));
}

#[test]
fn a_frame_of_a_picture_has_the_core_and_the_member_goes_on_after_it() {
    let fake = Fake::default();
    let (demand, mut policy) = (fake.demand(), YieldPolicy::new(1));
    let frames = [3, 5, 7].map(|length| length * MILLISECOND);
    for frame in frames.into_iter().cycle().take(99) {
        fake.want(frame);
        let due = fake.now() + frame;
        assert_eq!((policy.follow(&demand), fake.now()), (Ok(()), due));
        fake.pass(9 * MILLISECOND);
    }
    let given = demand.take_given();
    assert_eq!((given, fake.slept()), (99 * 5 * MILLISECOND, 0));
    let roused = fake.0.roused.load(Ordering::Relaxed);
    assert_eq!(roused, 99, "a leader that napped meanwhile goes on too");
}

#[test]
fn who_never_rests_gets_a_member_s_core_for_longer_and_longer() {
    let fake = Fake::default();
    let (demand, mut policy) = (fake.demand(), YieldPolicy::new(1));
    let mut aways = Vec::new();
    fake.never_rest();
    assert_eq!(policy.follow(&demand), Ok(()), "it may have been a burst");
    fake.pass(OFFER_AFTER);
    for _ in 0..12 {
        let away = policy.follow(&demand).expect_err("it is always wanted");
        policy.stay_away(&demand, away);
        aways.push(away / MICROSECOND);
    }
    assert_eq!(aways[..6], [500, 1000, 2000, 4000, 8000, 16_000]);
    assert_eq!(aways[6..], [16_000; 6]);
}

/// The leader's machine after another member's core has been on offer for `age`.
fn beside_an_offer(fake: &Fake, age: Nanos) -> CoreDemand {
    let demand = fake.demand();
    demand.posts[1].0.core.store(2, Ordering::Relaxed);
    let since = fake.now();
    demand.posts[1]
        .0
        .offers_since
        .store(since, Ordering::Relaxed);
    fake.pass(age);
    demand
}

#[test]
fn a_burst_has_the_machine_until_it_ends() {
    let fake = Fake::default();
    let demand = beside_an_offer(&fake, TAKEN_UP);
    YieldPolicy::new(LEADER).lead(&demand, &|| false);
    // It did not end, so the leader slept for as long as a burst may take.
    let slept = fake.slept();
    let most = BURST_MAX - TAKEN_UP;
    assert!((most..most + SLEEP).contains(&slept), "{slept}");
    assert_eq!(demand.take_given(), slept);

    let demand = beside_an_offer(&fake, TAKEN_UP);
    demand.posts[1].0.offers_since.store(0, Ordering::Relaxed);
    YieldPolicy::new(LEADER).lead(&demand, &|| false);
    assert_eq!(fake.slept(), slept, "it was given back");
}

#[test]
fn a_burst_that_nobody_slows_keeps_no_leader() {
    // The burst is on core 1, beside the leader on core 0 and others on `members`.
    let check = |members: &[usize], siblings: &[([usize; 2], bool)], goes_on| {
        let fake = Fake::default();
        let mut demand = beside_an_offer(&fake, TAKEN_UP);
        for &core in members {
            let post = Post::default();
            post.core.store(core as u64 + 1, Ordering::Relaxed);
            demand.posts.push(CachePadded(post));
        }
        *fake.0.siblings.lock().unwrap() = siblings.to_vec();
        YieldPolicy::new(LEADER).lead(&demand, &|| false);
        assert_eq!(fake.slept() == 0, goes_on, "{members:?} {siblings:?}");
    };
    check(&[], &[], false);
    check(&[], &[([0, 1], false)], true);
    check(&[], &[([0, 1], true)], false);
    // Two more members: one of them on the other thread of the burst's core.
    let of_others = [([0, 1], false), ([3, 1], false), ([5, 1], true)];
    check(&[3, 5], &of_others, false);
    check(&[3], &of_others, true);
    check(&[3, 4], &of_others, false);
}

#[test]
fn trials_count_where_the_system_does_not_know() {
    let check = |found: bool, known: Option<bool>, goes_on| {
        let fake = Fake::default();
        let demand = beside_an_offer(&fake, TAKEN_UP);
        let known_pairs = known.map(|siblings| [([0, 1], siblings), ([0, 0], true)]);
        *fake.0.siblings.lock().unwrap() = known_pairs.into_iter().flatten().collect();
        let mut policy = YieldPolicy::new(LEADER);
        let (cores, are_apart) = ([0, 1], found);
        for _ in 0..2 {
            let found = Found { cores, are_apart };
            policy.neighbours.note(Some(found), fake.at());
        }
        policy.lead(&demand, &|| false);
        assert_eq!(fake.slept() == 0, goes_on, "{found} {known:?}");
        assert_eq!(demand.needs_trials(), known.is_none());
    };
    check(true, None, true);
    check(false, None, false);
    check(true, Some(true), false);
    check(false, Some(false), true);
}

#[test]
fn a_leader_that_is_roused_goes_on_at_once() {
    let fake = Fake::default();
    let demand = Arc::new(beside_an_offer(&fake, TAKEN_UP));
    let theirs = demand.clone();
    let given_back = move || {
        let since = &theirs.posts[1].0.offers_since;
        since.store(0, Ordering::Relaxed);
    };
    let after = 5 * SLEEP / 2;
    *fake.0.rouses.lock().unwrap() = Some((fake.at() + after, Box::new(given_back)));
    YieldPolicy::new(LEADER).lead(&demand, &|| false);
    assert_eq!(fake.slept(), after);
}

#[test]
fn a_leader_that_wakes_on_the_burst_s_core_naps_on() {
    let fake = Fake::default();
    let demand = beside_an_offer(&fake, TAKEN_UP);
    let moved = fake.clone();
    let moves = move || moved.keep_off(0);
    *fake.0.rouses.lock().unwrap() = Some((fake.at() + SLEEP / 2, Box::new(moves)));
    YieldPolicy::new(LEADER).lead(&demand, &|| false);
    assert!(fake.slept() >= BURST_MAX - TAKEN_UP, "{}", fake.slept());
}

#[test]
fn a_member_that_woke_knows_its_core_before_it_offers_it() {
    let fake = Fake::default();
    let (demand, mut policy) = (fake.demand(), YieldPolicy::new(1));
    assert_eq!(policy.follow(&demand), Ok(()));
    demand.sleeps(1);
    assert!(!demand.is_on(1, fake.on()));
    policy.woke(&demand);
    assert!(demand.is_on(1, fake.on()));
}

#[test]
fn an_offer_that_nobody_took_up_yet_or_that_is_no_burst_keeps_no_leader() {
    for age in [0, TAKEN_UP - 1, BURST_MAX] {
        let fake = Fake::default();
        let demand = beside_an_offer(&fake, age);
        YieldPolicy::new(LEADER).lead(&demand, &|| false);
        assert_eq!(fake.slept(), 0, "{age}");
    }
    // The leader itself has the core that is on offer.
    let fake = Fake::default();
    let demand = beside_an_offer(&fake, TAKEN_UP);
    fake.keep_off(0);
    YieldPolicy::new(LEADER).lead(&demand, &|| false);
    assert_eq!(fake.slept(), 0);
}

#[test]
fn a_leader_whose_step_is_over_naps_no_longer() {
    let fake = Fake::default();
    let demand = beside_an_offer(&fake, TAKEN_UP);
    YieldPolicy::new(LEADER).lead(&demand, &|| fake.slept() > 0);
    assert_eq!(fake.slept(), SLEEP);
}

#[test]
fn a_leader_leaves_a_core_that_was_taken_up_and_goes_on_when_it_is_given_back() {
    let fake = Fake::default();
    let (demand, mut leader) = (fake.demand(), YieldPolicy::new(0));
    fake.want(MILLISECOND);
    let due = fake.now() + MILLISECOND;
    leader.lead(&demand, &|| false);
    assert_eq!((fake.now(), fake.on()), (due, 1));
    fake.pass(OFFER_AFTER);
    leader.lead(&demand, &|| false);
    assert_eq!((fake.on(), fake.slept()), (1, 0), "nobody wants this one");
}

#[test]
fn a_leader_offers_its_core_to_who_wants_it_after_a_burst_too() {
    let fake = Fake::default();
    let (demand, mut leader) = (fake.demand(), YieldPolicy::new(0));
    for _ in 0..100 {
        fake.want(BURST_MAX - MICROSECOND);
        leader.lead(&demand, &|| false);
        fake.pass(OFFER_AFTER);
        let before = fake.0.offers.load(Ordering::Relaxed);
        leader.lead(&demand, &|| false);
        assert_eq!(fake.0.offers.load(Ordering::Relaxed), before + 1);
        fake.pass(QUIET_MIN);
    }
}

#[test]
fn a_leader_whose_step_is_over_offers_no_longer() {
    let fake = Fake::default();
    let (demand, mut leader) = (fake.demand(), YieldPolicy::new(0));
    fake.never_rest();
    leader.lead(&demand, &|| true);
    assert_eq!(fake.0.offers.load(Ordering::Relaxed), 1);
}

#[test]
fn a_team_that_insists_goes_on_beside_a_program_that_takes_an_offer_for_long() {
    let fake = Fake::default();
    let demand = fake.demand();
    let (mut leader, mut other) = (YieldPolicy::new(LEADER), YieldPolicy::new(1));
    let taken = |policy: &mut dyn FnMut() -> bool| {
        fake.want(500 * MILLISECOND);
        let began = fake.now();
        (policy(), fake.now() - began)
    };
    demand.insist(true);
    // Not each look reads the clock.
    let mut lead = || {
        (0..=SKIPS_MAX).for_each(|_| leader.lead(&demand, &|| false));
        true
    };
    assert_eq!(taken(&mut lead), (true, 500 * MILLISECOND));
    fake.pass(INSISTS * 499 * MILLISECOND);
    assert_eq!(taken(&mut lead), (true, 0), "it is not offered");
    fake.pass(INSISTS * MILLISECOND);
    let mut follow = || (0..=SKIPS_MAX).all(|_| other.follow(&demand).is_ok());
    assert_eq!(taken(&mut follow), (true, 500 * MILLISECOND));
    fake.pass(MILLISECOND);
    assert_eq!(taken(&mut follow), (true, 0));
    demand.insist(false);
    fake.pass(INSISTS * 500 * MILLISECOND);
    assert_eq!(taken(&mut follow), (false, 500 * MILLISECOND));
}

#[test]
fn a_leader_works_for_as_long_as_an_offer_was_taken() {
    let fake = Fake::default();
    let (demand, mut leader) = (fake.demand(), YieldPolicy::new(LEADER));
    fake.want(300 * MILLISECOND);
    leader.lead(&demand, &|| false);
    let offers = fake.0.offers.load(Ordering::Relaxed);
    let back = fake.now();
    while fake.now() - back < 299 * MILLISECOND {
        leader.lead(&demand, &|| false);
        fake.pass(MILLISECOND);
    }
    assert_eq!(fake.0.offers.load(Ordering::Relaxed), offers);
    fake.pass(2 * MILLISECOND);
    (0..=SKIPS_MAX).for_each(|_| leader.lead(&demand, &|| false));
    assert_eq!(fake.0.offers.load(Ordering::Relaxed), offers + 1);
}

#[test]
fn a_leader_shares_cores_that_are_always_wanted_by_turns() {
    let fake = Fake::default();
    let (demand, mut policy) = (fake.demand(), YieldPolicy::new(0));
    let (mut worked, begin) = (0, fake.now());
    fake.never_rest();
    while fake.now() - begin < 1000 * MILLISECOND {
        policy.lead(&demand, &|| false);
        fake.pass(100 * MICROSECOND);
        worked += 100 * MICROSECOND;
    }
    let share = worked as f64 / (fake.now() - begin) as f64;
    assert!((0.3..0.55).contains(&share), "{share}");
}

#[test]
fn a_member_leaves_the_leader_its_core() {
    let fake = Fake::default();
    let (demand, mut policy) = (fake.demand(), YieldPolicy::new(1));
    demand.note_core(LEADER);
    assert_eq!((policy.follow(&demand), fake.on()), (Ok(()), 1));
    fake.pass(OFFER_AFTER);
    assert_eq!((policy.follow(&demand), fake.on()), (Ok(()), 1));
    // A leader that sleeps is on none.
    fake.keep_off(1);
    demand.sleeps(LEADER);
    fake.pass(OFFER_AFTER);
    assert_eq!((policy.follow(&demand), fake.on()), (Ok(()), 0));
}

#[test]
fn members_on_one_core_are_no_reason_to_stay_away() {
    let fake = Fake::default();
    fake.pass(1000 * MILLISECOND);
    // Both are on core 1 all the time.
    let demand = CoreDemand::new(2, Box::new(Stuck(fake.clone())));
    let mut policy = YieldPolicy::new(1);
    demand.note_core(LEADER);
    for _ in 0..100 {
        fake.pass(OFFER_AFTER_IDLE);
        fake.want(MILLISECOND);
        assert_eq!(policy.follow(&demand), Ok(()));
    }
    assert_eq!((fake.slept(), demand.take_given()), (0, 0));
    demand.sleeps(LEADER);
    fake.pass(OFFER_AFTER_IDLE);
    fake.want(MILLISECOND);
    assert_eq!(policy.follow(&demand), Ok(()));
    assert_eq!(demand.take_given(), MILLISECOND, "it was somebody else");
}

/// A machine that moves no thread.
struct Stuck(Fake);

impl System for Stuck {
    fn now(&self) -> Nanos {
        self.0.now()
    }

    fn offer_core(&self) {
        self.0.offer_core();
    }

    fn sleep(&self, nanos: Nanos) {
        self.0.sleep(nanos);
    }

    fn park_while(&self, most: Nanos, goes_on: &dyn Fn() -> bool) {
        self.0.park_while(most, goes_on);
    }

    fn unpark_all(&self) {
        self.0.unpark_all();
    }

    fn core(&self) -> Option<usize> {
        Some(1)
    }

    fn keep_off(&self, _core: usize) {}

    fn are_siblings(&self, cores: [usize; 2]) -> Option<bool> {
        self.0.are_siblings(cores)
    }
}
