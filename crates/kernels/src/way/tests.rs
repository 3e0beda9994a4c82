//! In virtual time: a machine whose cores others want as a test says.

use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Plain;

use super::*;

const MICROSECOND: Nanos = 1_000;
const MILLISECOND: Nanos = 1_000_000;

/// A core with a clock; whoever wants it has it from an offer on until they are done.
#[derive(Default)]
struct Core {
    now: Plain,
    wanted_until: Plain,
    /// What a program that never rests takes of each offer.
    slice: Plain,
    offers: Plain,
    slept: Plain,
}

#[derive(Clone, Default)]
struct Fake(Arc<Core>);

impl Machine for Fake {
    fn now(&self) -> Nanos {
        self.0.now.load(Ordering::Relaxed)
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

    fn core(&self) -> Option<usize> {
        Some(3)
    }
}

impl Fake {
    fn pass(&self, nanos: Nanos) {
        self.0.now.fetch_add(nanos, Ordering::Relaxed);
    }

    /// From now on for so long, somebody wants the core.
    fn want(&self, nanos: Nanos) {
        let until = self.now() + nanos;
        self.0.wanted_until.store(until, Ordering::Relaxed);
    }

    /// From now on, somebody always wants it.
    fn never_rest(&self) {
        self.0.slice.store(3 * MILLISECOND, Ordering::Relaxed);
    }

    fn slept(&self) -> Nanos {
        self.0.slept.load(Ordering::Relaxed)
    }

    fn ways(&self) -> Ways {
        // A second ago nobody wanted anything.
        self.pass(1000 * MILLISECOND);
        Ways::new(2, Box::new(self.clone()))
    }
}

#[test]
fn a_core_nobody_wants_is_offered_now_and_then_and_nobody_sleeps() {
    let fake = Fake::default();
    let (ways, mut way) = (fake.ways(), Way::new(1));
    for _ in 0..1000 {
        assert_eq!(way.follow(&ways), Ok(()));
        fake.pass(10 * MICROSECOND);
    }
    let offers = fake.0.offers.load(Ordering::Relaxed);
    assert_eq!(offers, 1000 * 10 * MICROSECOND / OFFER_AFTER);
    assert_eq!((fake.slept(), ways.take_given()), (0, 0));
}

#[test]
fn the_system_s_own_short_work_puts_nobody_to_sleep() {
    let fake = Fake::default();
    let (ways, mut way) = (fake.ways(), Way::new(1));
    for _ in 0..100 {
        fake.want(TAKEN_UP);
        assert_eq!(way.follow(&ways), Ok(()));
        fake.pass(MILLISECOND);
    }
    assert_eq!(fake.slept(), 0);
}

#[test]
fn a_burst_has_the_machine_until_it_ends() {
    let fake = Fake::default();
    let ways = fake.ways();
    let (mut leader, mut other) = (Way::new(0), Way::new(1));
    // The other's core has been on offer for a while.
    ways.posts[1].0.core.store(9, Ordering::Relaxed);
    let since = fake.now();
    ways.posts[1].0.offers_since.store(since, Ordering::Relaxed);
    fake.pass(TAKEN_UP);
    leader.lead(&ways, &|| false);
    // The leader slept for as long as a burst may take, and went on then.
    assert!(fake.now() - since >= BURST_MAX, "{}", fake.now() - since);
    assert!(fake.slept() <= BURST_MAX + SLEEP, "{}", fake.slept());
    ways.posts[1].0.offers_since.store(0, Ordering::Relaxed);
    ways.sleeps(0);
    // The other comes back from its offer, and stays away no longer than the team slept.
    fake.pass(100 * MILLISECOND);
    fake.want(3 * MILLISECOND);
    assert_eq!(other.follow(&ways), Err(SLEEP));
    assert!(ways.take_given() >= 3 * MILLISECOND);
}

#[test]
fn a_leader_whose_step_is_over_sleeps_no_longer() {
    let fake = Fake::default();
    let (ways, mut leader) = (fake.ways(), Way::new(0));
    ways.posts[1].0.core.store(9, Ordering::Relaxed);
    let since = fake.now();
    ways.posts[1].0.offers_since.store(since, Ordering::Relaxed);
    fake.pass(TAKEN_UP);
    leader.lead(&ways, &|| fake.slept() > 0);
    assert_eq!(fake.slept(), SLEEP);
}

#[test]
fn every_frame_of_a_picture_is_a_burst() {
    let fake = Fake::default();
    let (ways, mut way) = (fake.ways(), Way::new(1));
    for _ in 0..100 {
        fake.want(3 * MILLISECOND);
        assert_eq!(way.follow(&ways), Err(SLEEP));
        way.stay_away(&ways, SLEEP);
        for _ in 0..12 {
            assert_eq!(way.follow(&ways), Ok(()));
            fake.pass(MILLISECOND);
        }
    }
}

#[test]
fn who_never_rests_gets_the_core_for_longer_and_longer_and_the_team_goes_on() {
    let fake = Fake::default();
    let (ways, mut way) = (fake.ways(), Way::new(1));
    let mut aways = Vec::new();
    fake.never_rest();
    for _ in 0..12 {
        let away = way.follow(&ways).expect_err("it is always wanted");
        way.stay_away(&ways, away);
        aways.push(away / MICROSECOND);
    }
    assert_eq!(aways[..6], [500, 1000, 2000, 4000, 8000, 16_000]);
    assert_eq!(aways[6..], [16_000; 6]);
    // Only what was taken for a burst put the team to sleep.
    let asleep = ways.asleep_until.0.load(Ordering::Relaxed);
    assert!(asleep < 1000 * MILLISECOND + BURST_MAX + 3 * SLEEP + 3 * MILLISECOND);
}

#[test]
fn a_leader_shares_a_core_that_is_always_wanted_by_turns() {
    let fake = Fake::default();
    let (ways, mut way) = (fake.ways(), Way::new(0));
    let (mut worked, begin) = (0, fake.now());
    fake.never_rest();
    while fake.now() - begin < 1000 * MILLISECOND {
        way.lead(&ways, &|| false);
        fake.pass(100 * MICROSECOND);
        worked += 100 * MICROSECOND;
    }
    let share = worked as f64 / (fake.now() - begin) as f64;
    assert!((0.3..0.55).contains(&share), "{share}");
}

#[test]
fn members_on_one_core_are_no_reason_to_sleep() {
    let fake = Fake::default();
    let (ways, mut way) = (fake.ways(), Way::new(1));
    let other = ways.note_core(0);
    for _ in 0..100 {
        fake.want(MILLISECOND);
        assert_eq!(way.follow(&ways), Ok(()));
    }
    assert_eq!((fake.slept(), other), (0, 4));
    ways.sleeps(0);
    fake.pass(OFFER_AFTER);
    fake.want(MILLISECOND);
    assert_eq!(way.follow(&ways), Err(SLEEP), "it is somebody else");
}
