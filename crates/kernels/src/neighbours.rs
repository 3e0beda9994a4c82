//! Which cores slow each other.
//!
//! Two cores may be two threads of one. A system knows it of real cores, but a virtual machine's are
//! what its host makes of them, and the host moves them about. So members measure it as they go: one
//! and the same arithmetic, by one member alone and by two at once.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use crate::sync::{Hint, Nanos, nanos};

/// Between two trials: each takes some tens of microseconds.
const TRY_AFTER: Nanos = 250_000_000;
/// For how long trials are believed: a host may move a core at any time.
const BELIEVED: Nanos = 2_000_000_000;
/// Trials in a row after which two cores count as apart. One may have met a member that was put aside.
const TRIALS_MIN: u32 = 2;
/// How much slower the arithmetic is together at most, in percent of alone, where cores are apart.
/// Threads of one core measure 150 to 200.
const APART_MOST: Nanos = 125;

/// How long the first of two waits for the other.
const WAIT: Nanos = 20_000;
/// Timings of which the shortest counts.
const TIMINGS: usize = 3;
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
        self.pairs
            .retain(|pair| pair.cores != cores || is_believed(pair, now));
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

/// What a trial found of the cores of the two who took part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) cores: [usize; 2],
    pub(crate) are_apart: bool,
}

/// Two who come do the same arithmetic at the same time.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// Who came; [`GONE`] once the first has waited for too long.
    came: Hint,
    sides: [Side; 2],
}

#[derive(Debug, Default)]
struct Side {
    /// One more than the core it is on; 0 where nobody tells.
    core: Hint,
    /// The shortest of its timings, and all of them; 0 where there were none.
    shortest: Hint,
    whole: Hint,
}

const GONE: u64 = 1 << 32;

impl Trial {
    /// Takes part on `core`, or leaves if nobody else comes.
    pub(crate) fn take_part(&self, core: Option<usize>) {
        let Some(place) = self.meet() else {
            return;
        };
        let (shortest, whole) = time();
        let side = &self.sides[place];
        let mark = core.map_or(0, |core| core as u64 + 1);
        side.core.store(mark, Ordering::Relaxed);
        side.shortest.store(shortest, Ordering::Relaxed);
        side.whole.store(whole, Ordering::Relaxed);
    }

    /// Its place, once both are there.
    fn meet(&self) -> Option<usize> {
        match self.came.fetch_add(1, Ordering::Relaxed) {
            0 => {}
            1 => return Some(1),
            _ => return None,
        }
        let until = nanos() + WAIT;
        while self.came.load(Ordering::Relaxed) < 2 {
            if nanos() >= until {
                let left = self.came.fetch_add(GONE, Ordering::Relaxed);
                return (left >= 2).then_some(0);
            }
            std::hint::spin_loop();
        }
        Some(0)
    }

    /// Once both are done: how it compares with the same on the calling thread alone. `None` if it
    /// was no trial.
    pub(crate) fn found(&self) -> Option<Found> {
        self.compared_with(|| time().0)
    }

    fn compared_with(&self, alone: impl FnOnce() -> Nanos) -> Option<Found> {
        let read = |of: fn(&Side) -> &Hint| {
            let [a, b] = &self.sides;
            [a, b].map(|side| of(side).load(Ordering::Relaxed))
        };
        let [shortest, whole] = [read(|side| &side.shortest), read(|side| &side.whole)];
        let cores = read(|side| &side.core);
        // One that was put aside in the middle left the other alone.
        let at_once = whole[0].max(whole[1]) <= 2 * whole[0].min(whole[1]);
        let is_trial = shortest[0] > 0 && at_once && cores[0] != cores[1];
        let cores = cores.map(|mark| usize::try_from(mark).ok()?.checked_sub(1));
        let [Some(a), Some(b)] = cores else {
            return None;
        };
        is_trial.then(|| Found {
            cores: [a, b],
            are_apart: 100 * shortest[0].max(shortest[1]) <= APART_MOST * alone(),
        })
    }
}

/// The shortest of a few timings of the arithmetic, and all of them.
fn time() -> (Nanos, Nanos) {
    let mut floats = [1.0; FLOATS];
    let mut shortest = Nanos::MAX;
    let began = nanos();
    let mut before = began;
    for _ in 0..TIMINGS {
        (0..PASSES).for_each(|_| pass(&mut floats));
        let now = nanos();
        shortest = shortest.min(now - before);
        before = now;
    }
    (shortest.max(1), before - began)
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

    /// A trial whose sides came out so: core, shortest timing, all timings.
    fn trial(sides: [(Option<u64>, Nanos, Nanos); 2]) -> Trial {
        let trial = Trial::default();
        for (side, (core, shortest, whole)) in trial.sides.iter().zip(sides) {
            let mark = core.map_or(0, |core| core + 1);
            side.core.store(mark, Ordering::Relaxed);
            side.shortest.store(shortest, Ordering::Relaxed);
            side.whole.store(whole, Ordering::Relaxed);
        }
        trial
    }

    #[test]
    fn cores_that_slow_each_other_are_not_apart() {
        let check = |together: [Nanos; 2], are_apart| {
            let sides = [(Some(0), together[0], 330), (Some(1), together[1], 340)];
            let found = trial(sides).compared_with(|| 100);
            let cores = [0, 1];
            assert_eq!(found, Some(Found { cores, are_apart }), "{together:?}");
        };
        check([100, 100], true);
        check([110, APART_MOST], true);
        check([100, APART_MOST + 1], false);
        check([190, 185], false);
    }

    #[test]
    fn what_was_no_trial_finds_nothing() {
        let nothing = |sides| assert_eq!(trial(sides).compared_with(|| 100), None, "{sides:?}");
        // Nobody met.
        nothing([(None, 0, 0), (None, 0, 0)]);
        // One was put aside in the middle.
        nothing([(Some(0), 100, 300), (Some(1), 100, 3_000)]);
        // They shared a core.
        nothing([(Some(1), 100, 300), (Some(1), 100, 300)]);
        // The system does not tell where they are.
        nothing([(None, 100, 300), (None, 100, 300)]);
    }

    #[test]
    fn who_comes_alone_leaves_and_who_comes_later_too() {
        let trial = Trial::default();
        trial.take_part(Some(0));
        trial.take_part(Some(1));
        assert_eq!(trial.found(), None);
    }

    #[test]
    fn two_who_come_are_both_timed() {
        // Either can be put aside for longer than the other waits; not every time.
        let met = (0..1000).any(|_| {
            let (trial, here) = (Trial::default(), Hint::new(0));
            let comes = |core| {
                here.fetch_add(1, Ordering::Relaxed);
                while here.load(Ordering::Relaxed) < 2 {
                    std::thread::yield_now();
                }
                trial.take_part(Some(core));
            };
            std::thread::scope(|scope| {
                scope.spawn(|| comes(0));
                comes(1);
            });
            let timed = trial.sides.iter().map(|side| &side.shortest);
            let timed: Vec<_> = timed.map(|t| t.load(Ordering::Relaxed) > 0).collect();
            assert_eq!(timed[0], timed[1]);
            timed[0]
        });
        assert!(met);
    }
}
