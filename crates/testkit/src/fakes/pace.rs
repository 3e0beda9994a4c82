use std::sync::atomic::{AtomicUsize, Ordering};

use gogrid_units::{Go, Moment, Pace, TeamPace, Work};

use super::ManualClock;

/// A pace that answers from a script, one answer a question in whatever order threads ask, and
/// [`Go::Go`] when the script has ended. A rest moves its clock instead of sleeping.
#[derive(Debug)]
pub struct PaceScript {
    answers: Vec<Go>,
    asked: AtomicUsize,
    width: usize,
    clock: ManualClock,
}

impl PaceScript {
    /// A pace that gives `answers` in order.
    pub fn new(answers: Vec<Go>) -> Self {
        Self {
            answers,
            asked: AtomicUsize::new(0),
            width: usize::MAX,
            clock: ManualClock::new(),
        }
    }

    /// A pace that lets `points` pieces of work go, then abandons once.
    pub fn abandon_after(points: usize) -> Self {
        let mut answers = vec![Go::Go; points];
        answers.push(Go::Abandon);
        Self::new(answers)
    }

    /// A pace that asks for a rest before each of the first `points` pieces of work.
    pub fn rest_before(points: usize) -> Self {
        let rest = |i: usize| [Go::Rest(Moment(i as u64 + 1)), Go::Go];
        Self::new((0..points).flat_map(rest).collect())
    }

    /// The same pace for regions `width` threads wide.
    pub fn wide(mut self, width: usize) -> Self {
        self.width = width;
        self
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }

    /// The clock that rests move.
    pub const fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

impl Pace for PaceScript {
    fn point(&self, _work: Work) -> Go {
        let at = self.asked.fetch_add(1, Ordering::AcqRel);
        self.answers.get(at).copied().unwrap_or(Go::Go)
    }

    fn rest(&self, until: Moment) {
        self.clock.advance_to(until);
    }

    fn is_over(&self) -> bool {
        false
    }

    fn charge(&self, _busy_nanos: u64) {}
}

impl TeamPace for PaceScript {
    fn width(&self) -> usize {
        self.width
    }

    fn gave_way(&self, _nanos: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_abandons_once_and_rests_by_moving_its_clock() {
        let pace = PaceScript::abandon_after(1);
        let answers = [0; 3].map(|_| pace.point(Work::default()));
        assert_eq!(answers, [Go::Go, Go::Abandon, Go::Go]);
        let pace = PaceScript::rest_before(1);
        let Go::Rest(until) = pace.point(Work::default()) else {
            panic!("the script begins with a rest");
        };
        pace.rest(until);
        assert_eq!((pace.clock().now(), pace.asked()), (until, 1));
    }
}
