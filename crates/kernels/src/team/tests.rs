//! The protocol under loom, which explores every order of two threads within a bound:
//! `RUSTFLAGS="--cfg loom" cargo test -p gogrid-kernels --release loom`. Everything else without.

#[cfg(not(loom))]
use gogrid_units::PlainThreads;
use gogrid_units::Work;

use super::Team;
use crate::ops::Ops;
use crate::region::{Abandoned, Pauses};
use crate::simd::Isa;
#[cfg(loom)]
use crate::sync::PlainThreads;

/// Long enough that each unit is a chunk of its own.
const LONG: Work = Work {
    bytes: 1 << 20,
    multiply_adds: 0,
};

/// A region of `count` chunks.
fn region(
    ops: &mut Ops<'_>,
    count: usize,
    each: impl Fn(usize, &Pauses<'_>) + Sync,
) -> Result<(), Abandoned> {
    ops.ranges((count, LONG), &|range, pauses| {
        range.for_each(|index| each(index, pauses));
        Ok(())
    })
}

fn team(threads: usize) -> Team {
    Team::new(threads, std::sync::Arc::new(PlainThreads)).expect("threads")
}

#[cfg(loom)]
mod loom_model {
    use gogrid_units::{FullSpeed, Go, Moment, Pace, TeamPace};
    use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::sync::Nanos;
    use crate::yielding::System;

    fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(model);
    }

    #[test]
    fn loom_each_chunk_runs_once_and_is_seen_when_the_region_ends() {
        explore(3, || {
            let mut team = team(2);
            let done = team.step(&FullSpeed, Isa::Scalar, |ops| {
                for chunks in [2, 3] {
                    // Loom's cells complain about accesses that are not ordered.
                    let cells: Vec<_> = (0..chunks)
                        .map(|_| loom::cell::UnsafeCell::new(0))
                        .collect();
                    let cells = Share(cells);
                    // SAFETY: each chunk has its own cell.
                    region(ops, chunks, |i, _| {
                        cells.at(i).with_mut(|cell| unsafe { *cell += 1 })
                    })?;
                    for i in 0..chunks {
                        // SAFETY: the region has ended.
                        assert_eq!(cells.at(i).with(|cell| unsafe { *cell }), 1);
                    }
                }
                Ok(())
            });
            assert_eq!(done, Ok(()));
        });
    }

    struct Share(Vec<loom::cell::UnsafeCell<u32>>);
    // SAFETY: loom checks every access.
    unsafe impl Sync for Share {}

    impl Share {
        fn at(&self, index: usize) -> &loom::cell::UnsafeCell<u32> {
            &self.0[index]
        }
    }

    struct AbandonAt(AtomicUsize);

    impl Pace for AbandonAt {
        fn point(&self, _work: Work) -> Go {
            if self.0.fetch_add(1, Relaxed) == 1 {
                Go::Abandon
            } else {
                Go::Go
            }
        }
        fn rest(&self, _until: Moment) {}
        fn is_over(&self) -> bool {
            false
        }
        fn charge(&self, _busy_nanos: u64) {}
    }

    impl TeamPace for AbandonAt {
        fn width(&self) -> usize {
            2
        }
        fn gave_way(&self, _nanos: u64) {}
    }

    #[test]
    fn loom_an_abandoned_step_ends_and_the_next_is_whole() {
        explore(2, || {
            let mut team = team(2);
            let pace = AbandonAt(AtomicUsize::new(0));
            let first = team.step(&pace, Isa::Scalar, |ops| region(ops, 2, |_, _| ()));
            assert_eq!(first, Err(Abandoned));
            let count = AtomicUsize::new(0);
            let second = team.step(&FullSpeed, Isa::Scalar, |ops| {
                region(ops, 2, |_, _| {
                    count.fetch_add(1, Relaxed);
                })
            });
            assert_eq!((second, count.load(Relaxed)), (Ok(()), 2));
        });
    }

    /// Another program takes up every offer, and time passes whenever it is asked for. Loom need not know
    /// of either count.
    #[derive(Default)]
    struct Wanted {
        now: std::sync::atomic::AtomicU64,
        slept: std::sync::Arc<std::sync::atomic::AtomicU64>,
    }

    impl System for Wanted {
        fn now(&self) -> Nanos {
            const PASSES: Nanos = 1_000_000;
            self.now.fetch_add(PASSES, Relaxed)
        }
        fn offer_core(&self) {}
        fn sleep(&self, _nanos: Nanos) {
            self.slept.fetch_add(1, Relaxed);
            loom::thread::yield_now();
        }
        fn park_while(&self, _most: Nanos, _goes_on: &dyn Fn() -> bool) {
            loom::thread::yield_now();
        }
        fn unpark_all(&self) {}
        fn core(&self) -> Option<usize> {
            None
        }
        fn keep_off(&self, _core: usize) {}
        fn are_siblings(&self, _cores: [usize; 2]) -> Option<bool> {
            None
        }
    }

    #[test]
    fn loom_steps_are_whole_while_members_stay_away_and_come_back() {
        let slept = std::sync::Arc::<std::sync::atomic::AtomicU64>::default();
        let all_slept = slept.clone();
        explore(1, move || {
            let system = Box::new(Wanted {
                slept: slept.clone(),
                ..Wanted::default()
            });
            let spawn = std::sync::Arc::new(PlainThreads);
            let mut team = Team::on(system, 2, spawn).expect("threads");
            let count = AtomicUsize::new(0);
            let done = team.step(&FullSpeed, Isa::Scalar, |ops| {
                (0..2).try_for_each(|_| {
                    region(ops, 2, |_, _| {
                        count.fetch_add(1, Relaxed);
                    })
                })
            });
            assert_eq!((done, count.load(Relaxed)), (Ok(()), 4));
        });
        assert!(all_slept.load(Relaxed) > 0, "nobody stayed away");
    }

    #[test]
    fn loom_a_step_after_new_threads_is_whole_and_the_old_ones_end() {
        explore(2, || {
            let mut team = team(2);
            team.renew();
            let count = AtomicUsize::new(0);
            let done = team.step(&FullSpeed, Isa::Scalar, |ops| {
                region(ops, 2, |_, _| {
                    count.fetch_add(1, Relaxed);
                })
            });
            assert_eq!((done, count.load(Relaxed)), (Ok(()), 2));
            drop(team);
        });
    }
}

#[cfg(not(loom))]
mod threads {
    use std::cell::Cell;
    use std::collections::HashSet;
    use std::io;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, Mutex};
    use std::thread::{self, JoinHandle, ThreadId};

    use gogrid_units::{FullSpeed, Go, Moment, Pace, Spawn, TeamPace, ThreadBody};

    use super::*;
    use crate::sync::Nanos;
    use crate::yielding::System;

    fn step(
        team: &mut Team,
        pace: &dyn TeamPace,
        count: usize,
        each: impl Fn(usize) + Sync,
    ) -> Result<(), Abandoned> {
        team.step(pace, Isa::detect(), |ops| {
            region(ops, count, |index, _| each(index))
        })
    }

    #[test]
    fn every_chunk_runs_once_in_any_team() {
        for threads in 1..=4 {
            let mut team = team(threads);
            for count in [0, 1, 2, 7, 100, 1000] {
                let runs: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                let done = team.step(&FullSpeed, Isa::detect(), |ops| {
                    for _ in 0..20 {
                        region(ops, count, |index, _| {
                            runs[index].fetch_add(1, SeqCst);
                        })?;
                    }
                    Ok(())
                });
                assert_eq!(done, Ok(()));
                assert!(runs.iter().all(|runs| runs.load(SeqCst) == 20));
            }
        }
    }

    struct Width(usize);

    impl Pace for Width {
        fn point(&self, _work: Work) -> Go {
            Go::Go
        }
        fn rest(&self, _until: Moment) {}
        fn is_over(&self) -> bool {
            false
        }
        fn charge(&self, _busy_nanos: u64) {}
    }

    impl TeamPace for Width {
        fn width(&self) -> usize {
            self.0
        }
        fn gave_way(&self, _nanos: u64) {}
    }

    /// The threads of a step of `width` chunks, each of which ends when as many as may come have
    /// come, so it shows which threads do.
    fn members(team: &mut Team, width: usize) -> HashSet<ThreadId> {
        let members: Mutex<HashSet<ThreadId>> = Mutex::default();
        let done = step(team, &Width(width), width, |_| {
            members.lock().unwrap().insert(thread::current().id());
            while members.lock().unwrap().len() < width {
                thread::yield_now();
            }
        });
        assert_eq!(done, Ok(()));
        members.into_inner().unwrap()
    }

    #[test]
    fn all_members_work_and_only_as_many_as_the_width() {
        let mut team = team(3);
        for width in 1..=3 {
            assert_eq!(members(&mut team, width).len(), width);
        }
    }

    /// Notes the names of the threads it starts, and counts those that live; refuses as told.
    #[derive(Default)]
    struct Noting {
        names: Mutex<Vec<String>>,
        alive: Arc<AtomicUsize>,
        refuses: AtomicBool,
    }

    impl Spawn for Noting {
        fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<JoinHandle<()>> {
            if self.refuses.load(SeqCst) {
                return Err(io::Error::other("no more threads"));
            }
            self.names.lock().unwrap().push(name.to_owned());
            let alive = self.alive.clone();
            alive.fetch_add(1, SeqCst);
            let body = Box::new(move || {
                body();
                alive.fetch_sub(1, SeqCst);
            });
            PlainThreads.spawn(name, body)
        }
    }

    #[test]
    fn threads_are_started_by_name_and_dropping_joins() {
        let spawn = Arc::new(Noting::default());
        let team = Team::new(3, spawn.clone()).expect("threads");
        assert_eq!(*spawn.names.lock().unwrap(), ["worker 1", "worker 2"]);
        drop(team);
        assert_eq!(spawn.alive.load(SeqCst), 0);
        spawn.refuses.store(true, SeqCst);
        assert!(Team::new(2, spawn.clone()).is_err());
        assert!(Team::new(1, spawn).is_ok());
    }

    #[test]
    fn new_threads_take_over_between_steps() {
        let spawn = Arc::new(Noting::default());
        let mut team = Team::new(3, spawn.clone()).expect("threads");
        let leader = HashSet::from([thread::current().id()]);
        let mut before = members(&mut team, 3);
        for _ in 0..20 {
            team.renew();
            let after = members(&mut team, 3);
            assert_eq!(&before & &after, leader);
            before = after;
        }
        // However often it is done: the last, and those before them at most.
        assert!(spawn.alive.load(SeqCst) <= 4);
        // Dropped while the last ones may still be leaving.
        team.renew();
        drop(team);
        assert_eq!(spawn.alive.load(SeqCst), 0);
    }

    #[test]
    fn a_member_whose_new_thread_is_refused_keeps_the_one_it_has() {
        let spawn = Arc::new(Noting::default());
        let mut team = Team::new(2, spawn.clone()).expect("threads");
        let before = members(&mut team, 2);
        spawn.refuses.store(true, SeqCst);
        team.renew();
        assert_eq!(members(&mut team, 2), before);
        spawn.refuses.store(false, SeqCst);
        team.renew();
        assert_ne!(members(&mut team, 2), before);
    }

    /// Rests before each chunk, and abandons at one.
    struct Restless {
        asked: AtomicUsize,
        rested: AtomicUsize,
        owes: AtomicBool,
        abandon_at: usize,
    }

    impl Restless {
        fn new(abandon_at: usize) -> Self {
            let (asked, rested) = (AtomicUsize::new(0), AtomicUsize::new(0));
            Self {
                asked,
                rested,
                owes: AtomicBool::new(true),
                abandon_at,
            }
        }
    }

    impl Pace for Restless {
        fn point(&self, _work: Work) -> Go {
            if self.owes.swap(false, SeqCst) {
                return Go::Rest(Moment(7));
            }
            if self.asked.fetch_add(1, SeqCst) == self.abandon_at {
                return Go::Abandon;
            }
            self.owes.store(true, SeqCst);
            Go::Go
        }
        fn rest(&self, until: Moment) {
            assert_eq!(until, Moment(7));
            self.rested.fetch_add(1, SeqCst);
        }
        fn is_over(&self) -> bool {
            false
        }
        fn charge(&self, _busy_nanos: u64) {}
    }

    impl TeamPace for Restless {
        fn width(&self) -> usize {
            usize::MAX
        }
        fn gave_way(&self, _nanos: u64) {}
    }

    #[test]
    fn a_member_rests_when_told_and_then_does_the_chunk() {
        for threads in 1..=3 {
            let pace = Restless::new(usize::MAX);
            let runs = AtomicUsize::new(0);
            let done = step(&mut team(threads), &pace, 50, |_| {
                runs.fetch_add(1, SeqCst);
            });
            assert_eq!((done, runs.load(SeqCst)), (Ok(()), 50));
            assert!(pace.rested.load(SeqCst) > 10);
        }
    }

    #[test]
    fn an_abandoned_step_ends_early_and_leaves_the_team_usable() {
        for threads in 1..=3 {
            let mut team = team(threads);
            let runs = AtomicUsize::new(0);
            let count = |_| {
                runs.fetch_add(1, SeqCst);
            };
            assert_eq!(
                step(&mut team, &Restless::new(20), 50, count),
                Err(Abandoned)
            );
            assert!(runs.load(SeqCst) < 50);
            runs.store(0, SeqCst);
            assert_eq!(step(&mut team, &FullSpeed, 50, count), Ok(()));
            assert_eq!(runs.load(SeqCst), 50);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_whoever_had_the_chunk() {
        for threads in 1..=3 {
            let mut team = team(threads);
            for bad in 0..12 {
                let panics = catch_unwind(AssertUnwindSafe(|| {
                    step(&mut team, &FullSpeed, 12, |index| {
                        assert_ne!(index, bad, "a bad chunk")
                    })
                }));
                let payload = panics.expect_err("it panics");
                let message = payload.downcast_ref::<String>().expect("a message");
                assert!(message.contains("a bad chunk"), "{message}");
                assert_eq!(step(&mut team, &FullSpeed, 12, |_| ()), Ok(()));
            }
        }
    }

    /// No other program wants its cores, and each thread has a core of its own. Time passes as told.
    #[derive(Default)]
    struct Quiet {
        now: AtomicU64,
        cores: AtomicUsize,
    }

    thread_local! {
        static CORE: Cell<Option<usize>> = const { Cell::new(None) };
    }

    impl System for Arc<Quiet> {
        fn now(&self) -> Nanos {
            self.now.load(SeqCst)
        }
        fn offer_core(&self) {}
        fn sleep(&self, _nanos: Nanos) {}
        fn park_while(&self, _most: Nanos, _goes_on: &dyn Fn() -> bool) {}
        fn unpark_all(&self) {}
        fn core(&self) -> Option<usize> {
            let its = CORE
                .get()
                .unwrap_or_else(|| self.cores.fetch_add(1, SeqCst));
            CORE.set(Some(its));
            Some(its)
        }
        fn keep_off(&self, _core: usize) {}
        fn are_siblings(&self, _cores: [usize; 2]) -> Option<bool> {
            None
        }
    }

    /// Whether a team tries its cores in a few steps, with so long between them. The result is up
    /// to the machine.
    fn tries(threads: usize, every: Nanos, pace: &dyn TeamPace) -> bool {
        let system = Arc::new(Quiet::default());
        let spawn = Arc::new(PlainThreads);
        let mut team = Team::on(Box::new(system.clone()), threads, spawn).expect("threads");
        for _ in 0..3 {
            system.now.fetch_add(every, SeqCst);
            // A step that was abandoned is a step too.
            let _ = step(&mut team, pace, 50, |_| ());
        }
        team.crew.neighbours().has_tried()
    }

    #[test]
    fn two_members_try_now_and_then_whether_their_cores_slow_each_other() {
        const SECOND: Nanos = 1_000_000_000;
        assert!(tries(2, SECOND, &FullSpeed));
        // Time does not pass, there are more than two, one works alone, or the step was abandoned.
        assert!(!tries(2, 0, &FullSpeed));
        assert!(!tries(3, SECOND, &FullSpeed));
        assert!(!tries(2, SECOND, &Width(1)));
        assert!(!tries(2, SECOND, &Never));
    }

    struct Never;

    impl Pace for Never {
        fn point(&self, _work: Work) -> Go {
            Go::Abandon
        }
        fn rest(&self, _until: Moment) {}
        fn is_over(&self) -> bool {
            false
        }
        fn charge(&self, _busy_nanos: u64) {}
    }

    impl TeamPace for Never {
        fn width(&self) -> usize {
            2
        }
        fn gave_way(&self, _nanos: u64) {}
    }

    /// A chunk of a spawned thread ends only once the leader calls it late.
    #[test]
    fn a_late_member_is_left_out_for_longer_each_time() {
        let mut team = team(2);
        let leader = thread::current().id();
        let mut steps_with_two = vec![];
        for number in 1..=12 {
            let (late, both) = (AtomicBool::new(false), AtomicBool::new(false));
            let done = team.step(&FullSpeed, Isa::detect(), |ops| {
                let width = ops.width();
                if width == 2 {
                    region(ops, 2, |_, _| {
                        if thread::current().id() != leader {
                            late.store(true, SeqCst);
                            // Ten times as long as the looks take after which the leader calls it late.
                            thread::park_timeout(std::time::Duration::from_millis(100));
                        }
                        // The leader's chunk leaves the other one to the other member.
                        while !late.load(SeqCst) {
                            thread::yield_now();
                        }
                    })?;
                    both.store(true, SeqCst);
                    assert_eq!(ops.width(), 1, "left out for the rest of the step");
                }
                Ok(())
            });
            assert_eq!(done, Ok(()));
            if both.load(SeqCst) {
                steps_with_two.push(number);
            }
        }
        assert_eq!(steps_with_two, [1, 2, 4, 8]);
    }
}
