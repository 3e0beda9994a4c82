//! Whether the cores of a team's two members slow each other.
//!
//! Two cores may be two hardware threads of one physical core. The system knows it of real cores
//! (`System::are_siblings`), but a virtual machine's are what its host makes of them, and the host
//! moves them about. There a team of two measures it as it goes: both members do the same arithmetic
//! at once, and then one of them does it alone.
//!
//! A wrong answer either slows other programs' bursts or costs tokens, so cores that are in doubt do
//! not count as apart. Without trials they are always in doubt: in steps that take longer than trials
//! are believed, and in larger teams, which would have too many pairs to try them all in time.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use crate::sync::{Hint, Nanos, nanos};

/// Between two trials: each takes some tens of microseconds.
const TRY_AFTER: Nanos = 250_000_000;
/// For how long trials are believed: a host may move a core at any time.
const BELIEVED: Nanos = 2_000_000_000;
/// Trials in a row after which two cores count as apart.
const TRIALS_MIN: u32 = 2;
/// How long the arithmetic takes together at most, in percent of alone, where cores are apart. For two
/// threads of one core `cargo bench -p gogrid-host --bench siblings` measured 192.
const APART_PERCENT_MOST: u64 = 125;
/// Both sides of a trial work at once for at least so much of the longer side's time, in percent.
const OVERLAP_PERCENT_MIN: u64 = 80;

/// How long one side waits for the other.
const WAIT: Nanos = 20_000;
/// Timings of which the middle one counts: another thread that wakes up may cut one in two.
const TIMINGS: usize = 5;
/// 2 KiB, in every processor's first cache.
const FLOATS: usize = 512;
/// Passes over them that are timed: some microseconds.
const PASSES: usize = 96;

/// The results of trials of the pair of cores that was tried last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours {
    tried_at: Nanos,
    pair: Option<Pair>,
}

#[derive(Clone, Debug)]
struct Pair {
    /// The lower one first.
    cores: [usize; 2],
    /// The last trials in a row that found them apart.
    apart: u32,
    tried_at: Nanos,
}

impl Neighbours {
    /// Whether it is time for another trial.
    pub(crate) fn is_due(&self, now: Nanos) -> bool {
        now.saturating_sub(self.tried_at) >= TRY_AFTER
    }

    /// Notes what a trial at `now` found, if it found something.
    pub(crate) fn note(&mut self, found: Option<Found>, now: Nanos) {
        self.tried_at = now;
        let Some(Found { cores, are_apart }) = found else {
            return;
        };
        let before = self.believed(cores, now).map_or(0, |pair| pair.apart);
        self.pair = Some(Pair {
            cores: ordered(cores),
            apart: if are_apart { before + 1 } else { 0 },
            tried_at: now,
        });
    }

    /// Whether there was a trial, even if it found nothing.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn has_tried(&self) -> bool {
        self.tried_at > 0
    }

    /// Whether work on one of two cores is known not to slow arithmetic on the other.
    pub(crate) fn are_apart(&self, cores: [usize; 2], now: Nanos) -> bool {
        let pair = self.believed(cores, now);
        pair.is_some_and(|pair| pair.apart >= TRIALS_MIN)
    }

    /// The results for these cores, while they are still believed.
    fn believed(&self, cores: [usize; 2], now: Nanos) -> Option<&Pair> {
        let pair = self.pair.as_ref()?;
        let is_recent = now.saturating_sub(pair.tried_at) < BELIEVED;
        (is_recent && pair.cores == ordered(cores)).then_some(pair)
    }
}

fn ordered([a, b]: [usize; 2]) -> [usize; 2] {
    [a.min(b), a.max(b)]
}

/// A trial's result, with the cores of the two members that met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) cores: [usize; 2],
    pub(crate) are_apart: bool,
}

/// Two members meet and do the same arithmetic at the same time; then the first one does it alone.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// How many came, plus [`GONE`] once the first has waited for too long.
    came: Hint,
    /// How many are done with the arithmetic that both do.
    done: Hint,
    sides: [Side; 2],
    /// The middle timing of the first side alone; 0 where there was none.
    alone: Hint,
}

#[derive(Debug, Default)]
struct Side {
    /// One more than the core it was on all the time; 0 if it moved, and where the system does not
    /// tell.
    core: Hint,
    began: Hint,
    ended: Hint,
    /// The middle one of its timings.
    middle: Hint,
}

const GONE: u64 = 1 << 32;

impl Trial {
    /// Takes part, or leaves if no other member comes. `core` tells the caller's core.
    pub(crate) fn take_part(&self, core: &dyn Fn() -> Option<usize>) {
        let Some(side) = self.meet() else {
            return;
        };
        let before = core();
        let timed = time();
        let stayed = before.filter(|&before| core() == Some(before));
        self.sides[side].put(stayed, timed);
        self.done.fetch_add(1, Ordering::Relaxed);
        if side == 0 && comes(|| self.done.load(Ordering::Relaxed) == 2) {
            self.alone.store(time().middle, Ordering::Relaxed);
        }
    }

    /// The caller's side, once both members are there; `None` if the other does not come in time.
    fn meet(&self) -> Option<usize> {
        match self.came.fetch_add(1, Ordering::Relaxed) {
            0 => {}
            1 => return Some(1),
            _ => return None,
        }
        if comes(|| self.came.load(Ordering::Relaxed) == 2) {
            return Some(0);
        }
        // The other may have come just now.
        let before = self.came.fetch_add(GONE, Ordering::Relaxed);
        (before >= 2).then_some(0)
    }

    /// Its result, once all members that came have left; `None` if the two did not work side by
    /// side on two cores.
    pub(crate) fn found(&self) -> Option<Found> {
        let [a, b] = &self.sides;
        let alone = self.alone.load(Ordering::Relaxed);
        let cores = [a.core()?, b.core()?];
        let is_trial = alone > 0 && cores[0] != cores[1] && overlap(a, b);
        let middle = |side: &Side| side.middle.load(Ordering::Relaxed);
        is_trial.then(|| Found {
            cores,
            are_apart: 100 * middle(a).max(middle(b)) <= APART_PERCENT_MOST * alone,
        })
    }
}

impl Side {
    fn put(&self, core: Option<usize>, timed: Timed) {
        let mark = core.map_or(0, |core| core as u64 + 1);
        self.core.store(mark, Ordering::Relaxed);
        self.began.store(timed.began, Ordering::Relaxed);
        self.ended.store(timed.ended, Ordering::Relaxed);
        self.middle.store(timed.middle, Ordering::Relaxed);
    }

    fn core(&self) -> Option<usize> {
        let mark = self.core.load(Ordering::Relaxed);
        usize::try_from(mark).ok()?.checked_sub(1)
    }

    fn span(&self) -> [Nanos; 2] {
        [&self.began, &self.ended].map(|moment| moment.load(Ordering::Relaxed))
    }
}

/// Whether both worked for nearly all of the time that the longer one took.
fn overlap(a: &Side, b: &Side) -> bool {
    let ([a_began, a_ended], [b_began, b_ended]) = (a.span(), b.span());
    let longer = (a_ended - a_began).max(b_ended - b_began);
    let both = a_ended.min(b_ended).saturating_sub(a_began.max(b_began));
    100 * both >= OVERLAP_PERCENT_MIN * longer
}

/// Whether something comes to be within [`WAIT`].
fn comes(is_there: impl Fn() -> bool) -> bool {
    let until = nanos() + WAIT;
    while !is_there() {
        if nanos() >= until {
            return false;
        }
        std::hint::spin_loop();
    }
    true
}

#[derive(Clone, Copy, Debug)]
struct Timed {
    began: Nanos,
    ended: Nanos,
    middle: Nanos,
}

/// Times the arithmetic a few times.
fn time() -> Timed {
    let mut floats = [1.0; FLOATS];
    let mut moments = [nanos(); TIMINGS + 1];
    for moment in &mut moments[1..] {
        (0..PASSES).for_each(|_| pass(&mut floats));
        *moment = nanos();
    }
    let mut timings = [0; TIMINGS];
    for (timing, ends) in timings.iter_mut().zip(moments.windows(2)) {
        *timing = ends[1] - ends[0];
    }
    timings.sort_unstable();
    Timed {
        began: moments[0],
        ended: moments[TIMINGS],
        middle: timings[TIMINGS / 2].max(1),
    }
}

fn pass(floats: &mut [f32; FLOATS]) {
    for float in floats.iter_mut() {
        *float = *float * 0.999 + 0.001;
    }
    black_box(floats);
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn found(are_apart: bool) -> Option<Found> {
        let cores = [3, 1];
        Some(Found { cores, are_apart })
    }

    #[test]
    fn cores_are_apart_when_trials_in_a_row_say_so_and_for_a_while() {
        let mut known = Neighbours::default();
        assert!(!known.are_apart([1, 3], SECOND));
        known.note(found(true), SECOND);
        assert!(!known.are_apart([1, 3], SECOND), "one trial is none");
        known.note(found(true), SECOND + TRY_AFTER);
        assert!(known.are_apart([1, 3], SECOND + TRY_AFTER));
        assert!(known.are_apart([3, 1], SECOND + TRY_AFTER));
        assert!(!known.are_apart([1, 2], SECOND + TRY_AFTER), "another pair");
        let old = SECOND + TRY_AFTER + BELIEVED;
        assert!(known.are_apart([1, 3], old - 1));
        assert!(!known.are_apart([1, 3], old));
        known.note(found(true), old);
        assert!(!known.are_apart([1, 3], old), "what is old counts no more");
        known.note(found(true), old + TRY_AFTER);
        assert!(known.are_apart([1, 3], old + TRY_AFTER));
        let cores = [1, 2];
        known.note(
            Some(Found {
                cores,
                are_apart: true,
            }),
            old + 2 * TRY_AFTER,
        );
        let now = old + 2 * TRY_AFTER;
        assert!(!known.are_apart([1, 3], now), "the members moved");
        assert!(!known.are_apart([1, 2], now), "one trial is none");
    }

    #[test]
    fn one_trial_that_finds_one_core_is_enough() {
        let mut known = Neighbours::default();
        (1..=3).for_each(|n| known.note(found(true), n * TRY_AFTER));
        known.note(found(false), 4 * TRY_AFTER);
        assert!(!known.are_apart([1, 3], 4 * TRY_AFTER));
    }

    #[test]
    fn a_trial_that_found_nothing_is_not_tried_again_at_once() {
        let mut known = Neighbours::default();
        assert!(known.is_due(SECOND));
        known.note(None, SECOND);
        assert!(!known.is_due(SECOND + TRY_AFTER - 1));
        assert!(known.is_due(SECOND + TRY_AFTER));
    }

    /// A trial whose sides came out so: core, beginning and end, middle timing; and alone.
    fn trial(sides: [(Option<usize>, [Nanos; 2], Nanos); 2], alone: Nanos) -> Trial {
        let trial = Trial::default();
        for (side, (core, [began, ended], middle)) in trial.sides.iter().zip(sides) {
            let timed = Timed {
                began,
                ended,
                middle,
            };
            side.put(core, timed);
        }
        trial.alone.store(alone, Ordering::Relaxed);
        trial
    }

    #[test]
    fn cores_that_slow_each_other_are_not_apart() {
        let check = |middles: [Nanos; 2], are_apart| {
            let sides = [
                (Some(0), [0, 1_000], middles[0]),
                (Some(1), [100, 1_100], middles[1]),
            ];
            let cores = [0, 1];
            let found = Some(Found { cores, are_apart });
            assert_eq!(trial(sides, 200).found(), found, "{middles:?}");
        };
        check([200, 200], true);
        check([220, 250], true);
        check([200, 251], false);
        check([380, 370], false);
    }

    #[test]
    fn what_was_no_trial_finds_nothing() {
        let nothing = |sides, alone| assert_eq!(trial(sides, alone).found(), None, "{sides:?}");
        let side = |core, span| (core, span, 200);
        let span = [0, 1_000];
        assert!(
            trial([side(Some(0), span), side(Some(1), span)], 200)
                .found()
                .is_some()
        );
        // There is no timing of one alone.
        nothing([side(Some(0), span), side(Some(1), span)], 0);
        // One after the other.
        nothing([side(Some(0), span), side(Some(1), [900, 1_900])], 200);
        // One was put aside in the middle.
        nothing([side(Some(0), span), side(Some(1), [0, 1_300])], 200);
        // They shared a core.
        nothing([side(Some(1), span), side(Some(1), span)], 200);
        // One moved, or the system does not tell.
        nothing([side(None, span), side(Some(1), span)], 200);
    }

    #[test]
    fn a_member_that_comes_alone_leaves_and_so_does_one_that_comes_later() {
        let trial = Trial::default();
        trial.take_part(&|| Some(0));
        trial.take_part(&|| Some(1));
        assert_eq!(trial.done.load(Ordering::Relaxed), 0);
        assert_eq!(trial.found(), None);
    }

    #[test]
    fn the_second_to_come_meets_the_first_unless_it_has_gone() {
        let trial = Trial::default();
        trial.came.store(1, Ordering::Relaxed);
        assert_eq!(trial.meet(), Some(1));
        let late = Trial::default();
        late.came.store(1 + GONE, Ordering::Relaxed);
        assert_eq!(late.meet(), None);
    }
}
