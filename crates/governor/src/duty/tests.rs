//! In virtual time: threads are clocks that move on as they work and rest.

use proptest::prelude::*;

use super::*;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const SLICE: Duration = Duration::from_millis(2);

/// Threads that always have work, and how they do it.
struct Crew<'a> {
    threads: usize,
    /// Nanoseconds of the next piece of work.
    chunk: &'a mut dyn FnMut() -> u64,
    /// How much longer than told every rest takes.
    oversleeps: u64,
}

/// Runs threads on `duty` from `from` to `to`; gives the moments and lengths of all chunks.
fn work(duty: &Duty, crew: &mut Crew<'_>, (from, to): (u64, u64)) -> Vec<(u64, u64)> {
    let mut clocks = vec![from; crew.threads];
    let mut due_at = vec![from + duty.settle_after(); crew.threads];
    let mut used = vec![0; crew.threads];
    let mut chunks = Vec::new();
    loop {
        let first = clocks.iter().copied().enumerate().min_by_key(|c| c.1);
        let (thread, now) = first.expect("there are threads");
        if now >= to {
            return chunks;
        }
        let mut rest = duty.resting(Moment(now));
        if now >= due_at[thread] {
            rest = duty.settle(Moment(now), std::mem::take(&mut used[thread]));
            due_at[thread] = now + duty.settle_after();
        }
        if let Some(until) = rest {
            assert!(until.0 > now, "a rest ends after it begins");
            clocks[thread] = until.0 + crew.oversleeps;
            continue;
        }
        let length = (crew.chunk)();
        chunks.push((now, length));
        clocks[thread] += length;
        used[thread] += length;
    }
}

/// CPU time within a window of wall time, over the window times `threads`.
fn share_of(chunks: &[(u64, u64)], threads: usize, (from, length): (u64, u64)) -> f64 {
    let to = from + length;
    let overlap =
        |&(start, length): &(u64, u64)| (start + length).min(to).saturating_sub(start.max(from));
    let busy: u64 = chunks.iter().map(overlap).sum();
    busy as f64 / (length * threads as u64) as f64
}

/// How far from `share` a window may be.
#[derive(Clone, Copy)]
struct Bound {
    share: f64,
    under: f64,
    over: f64,
}

impl Bound {
    fn check(self, held: f64) -> Result<(), TestCaseError> {
        let Self { share, under, over } = self;
        prop_assert!(
            held >= share - under && held <= share + over,
            "{held} for {share}"
        );
        Ok(())
    }
}

/// Checks windows of 100 ms and of 1 s, wherever they begin.
fn check_windows(
    threads: usize,
    oversleeps: u64,
    chunks: &[u64],
    [tenth, second]: [Bound; 2],
) -> Result<(), TestCaseError> {
    let duty = Duty::new(tenth.share, threads as u32, SLICE);
    let mut next = chunks.iter().cycle().copied();
    let mut chunk = || next.next().expect("it goes round");
    let mut crew = Crew {
        threads,
        chunk: &mut chunk,
        oversleeps,
    };
    let log = work(&duty, &mut crew, (0, 2 * SECOND));
    for start in (0..1_900).step_by(7) {
        tenth.check(share_of(
            &log,
            threads,
            (start * MILLISECOND, 100 * MILLISECOND),
        ))?;
    }
    for start in (0..1_000).step_by(100) {
        second.check(share_of(&log, threads, (start * MILLISECOND, SECOND)))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_share_holds_over_a_tenth_of_a_second_and_over_one(
        share in 0.1..0.95f64,
        threads in 1..5usize,
        oversleeps in 0..60 * MICROSECOND,
        chunks in proptest::collection::vec(5 * MICROSECOND..200 * MICROSECOND, 64),
    ) {
        let tenth = Bound { share, under: 0.03, over: 0.03 };
        let second = Bound { share, under: 0.01, over: 0.01 };
        check_windows(threads, oversleeps, &chunks, [tenth, second])?;
    }

    /// The longest pieces of work there are settle so late that some credit is lost.
    #[test]
    fn long_pieces_of_work_cost_a_little_and_never_go_over(
        share in 0.1..0.95f64,
        threads in 1..5usize,
        oversleeps in 0..60 * MICROSECOND,
        chunks in proptest::collection::vec(5 * MICROSECOND..500 * MICROSECOND, 64),
    ) {
        let tenth = Bound { share, under: 0.06, over: 0.03 };
        let second = Bound { share, under: 0.04, over: 0.01 };
        check_windows(threads, oversleeps, &chunks, [tenth, second])?;
    }

    #[test]
    fn a_slice_is_as_long_as_it_may_be_and_no_longer(
        share in 0.05..0.8f64,
        threads in 1..5usize,
        idle in 0..10 * SECOND,
    ) {
        let duty = Duty::new(share, threads as u32, SLICE);
        let mut chunk = || 50 * MICROSECOND;
        let mut crew = Crew { threads, chunk: &mut chunk, oversleeps: 60 * MICROSECOND };
        work(&duty, &mut crew, (0, 20 * MILLISECOND));
        let from = 30 * MILLISECOND + idle;
        let log = work(&duty, &mut crew, (from, from + 200 * MILLISECOND));
        // What the first thread did without a gap; threads settle late by what is between two
        // settlements and a chunk.
        let late = 2 * SETTLE_NANOS_MIN + 100 * MICROSECOND;
        let slice_max = SLICE.as_nanos() as u64 + late;
        // The first slice works off the credit of the time before it too, which was not known yet
        // when the first settlement was put off.
        let credit = (CREDIT_NANOS_A_CORE as f64 / (1.0 - share)) as u64 + SETTLE_NANOS_MAX / 2;
        let (mut began, mut end, mut is_first) = (from, from, true);
        for &(start, length) in &log {
            if start > end {
                (began, is_first) = (start, is_first && start == from);
            }
            end = end.max(start + length);
            let most = slice_max + u64::from(is_first) * credit;
            prop_assert!(end - began <= most, "worked {} ns", end - began);
        }
    }

    /// Threads as many as `width` says, as a team has it, and the engine beside them.
    #[test]
    fn whole_threads_hold_a_share_without_a_rest(
        share in 0.3..0.99f64,
        cores in 4..17u32,
        region in 20 * MICROSECOND..2 * MILLISECOND,
    ) {
        let duty = Duty::new(share, cores, SLICE);
        let (mut now, mut used, mut widths) = (0, 0, std::collections::BTreeSet::new());
        while now < SECOND {
            let width = duty.width().min(cores as usize);
            widths.insert(width);
            now += region;
            used += region * width as u64;
            let rest = duty.settle(Moment(now), region * width as u64);
            prop_assert_eq!(rest, None, "at {}", now);
        }
        let held = used as f64 / (now * u64::from(cores)) as f64;
        prop_assert!((held - share).abs() <= 0.01, "{held} for {share}");
        let paid = share * f64::from(cores);
        prop_assert!(widths.iter().all(|&w| (w as f64 - paid).abs() <= 1.0), "{widths:?}");
    }

    #[test]
    fn readings_out_of_order_never_earn_twice(
        share in 0.1..0.9f64,
        moments in proptest::collection::vec(0..100 * MILLISECOND, 1..200),
    ) {
        let duty = Duty::new(share, 1, SLICE);
        let mut used = 0;
        for &moment in &moments {
            if duty.settle(Moment(moment), 100 * MICROSECOND).is_none() {
                used += 100 * MICROSECOND;
            }
        }
        // Those told to rest settled too, so no more than this may have gone on.
        let latest = moments.iter().max().expect("not empty");
        let credit = CREDIT_NANOS_A_CORE as f64;
        let slice = SLICE.as_nanos() as f64 * (1.0 - share);
        let most = *latest as f64 * share + credit + slice + 1e5;
        prop_assert!(used as f64 <= most, "{used} of {most}");
    }

    #[test]
    fn every_share_goes_on_in_the_end(share in 1e-3..1.0f64, used in 0..SECOND) {
        let duty = Duty::new(share, 2, SLICE);
        let mut now = 0;
        let mut rest = duty.settle(Moment(now), used);
        let mut rests = 0;
        while let Some(until) = rest {
            prop_assert!(until.0 > now && until.0 - now <= REST_NANOS_MAX);
            now = until.0;
            rest = duty.settle(Moment(now), 0);
            rests += 1;
        }
        // What was used is earned back by then, and not much later.
        let owed = used as f64 / (2.0 * share);
        prop_assert!(now as f64 <= owed + 1e6, "{now} for {owed} after {rests} rests");
    }
}

#[test]
fn the_whole_share_never_rests() {
    let duty = Duty::new(1.0, 2, SLICE);
    for step in 0..1000 {
        // More than two cores can do, as a clock that jitters shows it.
        assert_eq!(
            duty.settle(Moment(step * MILLISECOND), 3 * MILLISECOND),
            None
        );
    }
    // Nothing of it is owed when the share falls.
    duty.set_share(0.5);
    assert_eq!(duty.settle(Moment(1000 * MILLISECOND), MILLISECOND), None);
}

#[test]
fn a_thread_settles_the_later_the_more_room_there_is() {
    let duty = Duty::new(0.5, 2, SLICE);
    assert_eq!(duty.settle_after(), SLICE.as_nanos() as u64 / 4);
    // Half of the room is gone.
    duty.settle(Moment(0), MILLISECOND);
    assert_eq!(duty.settle_after(), SETTLE_NANOS_MIN);
    duty.settle(Moment(0), 100 * MILLISECOND);
    assert_eq!(duty.settle_after(), SETTLE_NANOS_MIN);
    // Credit.
    duty.settle(Moment(SECOND), 0);
    assert_eq!(duty.settle_after(), SETTLE_NANOS_MAX);
    duty.set_share(1.0);
    assert_eq!(duty.settle_after(), SETTLE_NANOS_MAX);
}

#[test]
fn a_share_that_is_raised_ends_the_rest() {
    let duty = Duty::new(0.001, 1, SLICE);
    let rest = duty.settle(Moment(0), 10 * MILLISECOND);
    assert_eq!(rest, Some(Moment(REST_NANOS_MAX)));
    duty.set_share(0.5);
    assert_eq!(duty.resting(Moment(MILLISECOND)), None);
    // The debt stays: 10 ms used, half of 1 ms earned.
    let rest = duty.settle(Moment(MILLISECOND), 0);
    assert_eq!(rest, Some(Moment(20 * MILLISECOND)));
}

#[test]
fn a_share_that_falls_is_held_from_the_next_pause_on() {
    let duty = Duty::new(1.0, 1, SLICE);
    let mut chunk = || 100 * MICROSECOND;
    let mut crew = Crew {
        threads: 1,
        chunk: &mut chunk,
        oversleeps: 0,
    };
    let at_full = work(&duty, &mut crew, (0, 100 * MILLISECOND));
    assert_eq!(share_of(&at_full, 1, (0, 100 * MILLISECOND)), 1.0);
    duty.set_share(0.3);
    let (from, length) = (100 * MILLISECOND, 100 * MILLISECOND);
    let log = work(&duty, &mut crew, (from, from + length));
    let held = share_of(&log, 1, (from, length));
    assert!((held - 0.3).abs() <= 0.03, "{held}");
}

#[test]
fn at_a_share_of_nothing_rest_follows_rest() {
    let duty = Duty::new(0.0, 1, SLICE);
    let mut now = 0;
    for _ in 0..100 {
        let rest = duty.settle(Moment(now), if now == 0 { 3 * MILLISECOND } else { 0 });
        now = rest.expect("nothing is ever earned").0;
    }
}

#[test]
fn threads_at_once_settle_all_they_used() {
    let duty = Duty::new(0.5, 4, SLICE);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let _ = duty.settle(Moment(0), 1_000);
                }
            });
        }
    });
    // 40 ms used at once by all, none earned: 20 ms at 2 ns a nanosecond.
    assert_eq!(duty.resting(Moment(0)), Some(Moment(20 * MILLISECOND)));
}
