//! Which cores slow each other.
//!
//! Two cores may be two threads of one. A system knows it of real cores, but a virtual machine's are
//! what its host makes of them, and the host moves them about. So members measure it as they go: two
//! do the same arithmetic at once, and then one of them does it alone.
//!
//! What is wrong here has somebody's frames slowed, or costs tokens, so in doubt cores are not apart.
//! They are not either where no two members met lately: in steps that take longer than trials are
//! believed, and in teams of more than a few, whose pairs are too many.

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
/// For how much of the longer side's time both sides of a trial worked, at least, in percent.
const OVERLAP_PERCENT_MIN: u64 = 80;

/// How long one of two waits for the other.
const WAIT: Nanos = 20_000;
/// Timings of which the middle one counts: one may be cut in two by somebody who wakes up.
const TIMINGS: usize = 5;
/// 2 KiB, in every processor's first cache.
const FLOATS: usize = 512;
/// Passes over them that are timed: some microseconds.
const PASSES: usize = 96;

/// What trials showed of pairs of cores.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    tried_at: Nanos,
    pairs: Vec<Pair>,
}

#[derive(Debug)]
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
        let cores = ordered(cores);
        self.pairs.retain(|pair| is_believed(pair, now));
        let index = self.pairs.iter().position(|pair| pair.cores == cores);
        let index = index.unwrap_or_else(|| {
            let (apart, tried_at) = (0, now);
            self.pairs.push(Pair {
                cores,
                apart,
                tried_at,
            });
            self.pairs.len() - 1
        });
        let pair = &mut self.pairs[index];
        pair.apart = if are_apart { pair.apart + 1 } else { 0 };
        pair.tried_at = now;
    }

    /// How many pairs are remembered.
    #[cfg(test)]
    pub(crate) fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Whether work on one of two cores is known not to slow arithmetic on the other.
    pub(crate) fn are_apart(&self, cores: [usize; 2], now: Nanos) -> bool {
        let cores = ordered(cores);
        self.pairs
            .iter()
            .any(|pair| pair.cores == cores && pair.apart >= TRIALS_MIN && is_believed(pair, now))
    }
}

fn is_believed(pair: &Pair, now: Nanos) -> bool {
    now.saturating_sub(pair.tried_at) < BELIEVED
}

fn ordered([a, b]: [usize; 2]) -> [usize; 2] {
    [a.min(b), a.max(b)]
}

/// What a trial found of the cores of the two who met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) cores: [usize; 2],
    pub(crate) are_apart: bool,
}

/// Two who meet do the same arithmetic at the same time, and then the first of them alone.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// Who came; [`GONE`] once the first has waited for too long.
    came: Hint,
    /// Who is done with what both do.
    done: Hint,
    sides: [Side; 2],
    /// The middle timing of the first side alone; 0 where there was none.
    alone: Hint,
}

#[derive(Debug, Default)]
struct Side {
    /// One more than the core it was on all the time; 0 if it moved, and where nobody tells.
    core: Hint,
    began: Hint,
    ended: Hint,
    /// The middle one of its timings.
    middle: Hint,
}

const GONE: u64 = 1 << 32;

impl Trial {
    /// Takes part, or leaves if nobody else comes. `core` tells where the caller is.
    pub(crate) fn take_part(&self, core: &dyn Fn() -> Option<usize>) {
        let Some(place) = self.meet() else {
            return;
        };
        let before = core();
        let timed = time();
        let stayed = before.filter(|&before| core() == Some(before));
        self.sides[place].put(stayed, timed);
        self.done.fetch_add(1, Ordering::Relaxed);
        if place == 0 && comes(|| self.done.load(Ordering::Relaxed) == 2) {
            self.alone.store(time().middle, Ordering::Relaxed);
        }
    }

    /// Its place, once both are there.
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

    /// What it found, once all who came have left; `None` if it was no trial.
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
        // Nobody timed it alone.
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
    fn who_comes_alone_leaves_and_who_comes_later_too() {
        let trial = Trial::default();
        trial.take_part(&|| Some(0));
        trial.take_part(&|| Some(1));
        assert_eq!(trial.done.load(Ordering::Relaxed), 0);
        assert_eq!(trial.found(), None);
    }

    #[test]
    fn who_comes_second_meets_the_first_unless_it_has_gone() {
        let trial = Trial::default();
        trial.came.store(1, Ordering::Relaxed);
        assert_eq!(trial.meet(), Some(1));
        let late = Trial::default();
        late.came.store(1 + GONE, Ordering::Relaxed);
        assert_eq!(late.meet(), None);
    }
}
