//! Tokens that are drafted from the text itself, so that one step may choose several (prompt lookup
//! decoding, Saxena 2023; checked as in Leviathan et al., 2023).
//!
//! What models write often repeats what is there: code that is edited, names, quotations. The last few
//! tokens are looked for in the sequence, and those that followed them there go into the step that chooses
//! the next token, a row each. Every token is still chosen by the sequence's sampler from logits: those of a
//! row count only where all tokens before it were chosen as drafted. Nothing is drafted where a row's bits
//! may depend on the rows beside it. So tokens are the same with and without drafts.

use std::time::Duration;

use crate::limits::{DRAFT_LOOK_BACK, DRAFT_TOKENS_MAX, DRAFTED_ROWS_MAX};

/// Tokens at the end of a sequence that are looked for.
const MATCHED: usize = 3;
/// How much one observation counts.
const WEIGHT: f64 = 1.0 / 8.0;
/// The share of drafted tokens that are taken to be right before any was tried, and again some time after
/// drafts did not pay.
const RATE_AT_FIRST: f64 = 0.6;
/// How much of the way back there a chance that was not taken goes.
const FORGETTING: f64 = 1.0 / 64.0;
/// How much longer a step with one more row takes, where no step with as many was seen: little, so that it
/// is tried.
const ROW_AT_LEAST: f64 = 0.02;
/// A step that took longer than so many like it was interrupted.
const OUTLIER: f64 = 4.0;

/// The tokens that followed the last ones where they stood before, at most so many; none if they did not.
/// A draft that comes to the end of the tokens goes on with itself.
pub(super) fn look_up(tokens: &[u32], most: usize) -> Vec<u32> {
    let seen = &tokens[tokens.len().saturating_sub(DRAFT_LOOK_BACK)..];
    let Some((_, before)) = seen.split_last() else {
        return Vec::new();
    };
    let Some(last) = seen.last_chunk::<MATCHED>() else {
        return Vec::new();
    };
    let Some(place) = before.windows(MATCHED).rposition(|window| window == last) else {
        return Vec::new();
    };
    let mut draft = Vec::with_capacity(most);
    for next in place + MATCHED..place + MATCHED + most {
        let token = match next.checked_sub(seen.len()) {
            None => seen[next],
            Some(drafted) => draft[drafted],
        };
        draft.push(token);
    }
    draft
}

/// How often a sequence's drafted tokens are right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Luck {
    rate: f64,
}

impl Default for Luck {
    fn default() -> Self {
        Self {
            rate: RATE_AT_FIRST,
        }
    }
}

impl Luck {
    /// So many tokens were drafted, and the first `right` of them chosen.
    pub(super) fn learn(&mut self, drafted: usize, right: usize) {
        for _ in 0..right {
            self.rate += (1.0 - self.rate) * WEIGHT;
        }
        if right < drafted {
            self.rate -= self.rate * WEIGHT;
        }
    }

    /// There was a draft, and it was not worth its rows.
    fn pass(&mut self) {
        self.rate += (RATE_AT_FIRST - self.rate) * FORGETTING;
    }
}

/// How long steps take that decode, by their rows.
#[derive(Debug, Default)]
pub(super) struct StepTimes {
    /// Of `rows + 1`, in seconds.
    known: [Option<f64>; DRAFTED_ROWS_MAX],
}

impl StepTimes {
    /// A step of so many rows took so long.
    pub(super) fn learn(&mut self, rows: usize, took: Duration) {
        let Some(known) = rows.checked_sub(1).and_then(|at| self.known.get_mut(at)) else {
            return;
        };
        let took = took.as_secs_f64();
        *known = Some(match *known {
            None => took,
            Some(before) => before + (took.min(before * OUTLIER) - before) * WEIGHT,
        });
    }

    /// How long a step of so many rows takes, at least one: as it was seen, or between what was seen of
    /// fewer and of more rows, or little more than what was seen of fewer. `None` where nothing was seen
    /// of as few.
    fn of(&self, rows: usize) -> Option<f64> {
        let seen = |at: usize| Some((at + 1, self.known[at]?));
        let (fewer, least) = (0..rows).rev().find_map(seen)?;
        let more = (rows..DRAFTED_ROWS_MAX).find_map(seen);
        let beyond = (rows - fewer) as f64;
        Some(match more {
            Some((more, most)) => least + (most - least) * beyond / (more - fewer) as f64,
            None => least * (1.0 + ROW_AT_LEAST * beyond),
        })
    }
}

/// A sequence in a step, and what it could draft.
pub(super) struct Chance {
    pub(super) luck: Luck,
    /// Tokens that it has a draft of.
    pub(super) drafted: usize,
}

/// How many of its drafted tokens each sequence brings into a step, so that the most tokens are chosen a
/// second.
pub(super) fn lengths(chances: &mut [Chance], times: &StepTimes) -> Vec<usize> {
    let none = vec![0; chances.len()];
    let rows = chances.len();
    let Some(alone) = (rows < DRAFTED_ROWS_MAX).then(|| times.of(rows)).flatten() else {
        // How long the step takes without drafts is seen first.
        return none;
    };
    let (mut lengths, mut tokens) = (none.clone(), rows as f64);
    let (mut best, mut best_speed) = (none, tokens / alone);
    for rows in rows + 1..=DRAFTED_ROWS_MAX {
        // The next token of a draft counts where all of it so far is right.
        let worth = |(at, chance): (usize, &Chance)| {
            let is_there = lengths[at] < chance.drafted;
            is_there.then(|| (at, chance.luck.rate.powi(lengths[at] as i32 + 1)))
        };
        let likeliest = chances.iter().enumerate().filter_map(worth);
        let Some((at, chance)) = likeliest.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            break;
        };
        lengths[at] += 1;
        tokens += chance;
        let speed = times.of(rows).map_or(0.0, |time| tokens / time);
        if speed > best_speed {
            (best, best_speed) = (lengths.clone(), speed);
        }
    }
    for (chance, &length) in chances.iter_mut().zip(&best) {
        if chance.drafted > 0 && length == 0 {
            chance.luck.pass();
        }
    }
    best
}

const _: () = assert!(DRAFT_TOKENS_MAX < DRAFTED_ROWS_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_last_tokens_where_they_stood_last_is_drafted() {
        let tokens = [1, 2, 3, 9, 9, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3];
        assert_eq!(look_up(&tokens, 3), [4, 5, 6]);
        assert_eq!(look_up(&tokens, 0), [0; 0]);
        // The draft goes on past the end.
        assert_eq!(look_up(&tokens, 9), [4, 5, 6, 7, 1, 2, 3, 4, 5]);
        assert_eq!(look_up(&[7; 4], 5), [7; 5]);
    }

    #[test]
    fn what_was_not_there_before_is_not_drafted() {
        assert_eq!(look_up(&[1, 2, 3, 4, 5, 2, 3], 4), [0; 0]);
        for few in 0..MATCHED {
            assert_eq!(look_up(&vec![1; few], 4), [0; 0]);
        }
        assert_eq!(look_up(&[1; MATCHED], 4), [0; 0]);
    }

    /// Times of steps that take `first` for one row and `each` for every other.
    fn times(first: f64, each: f64) -> StepTimes {
        let mut times = StepTimes::default();
        for rows in 1..=DRAFTED_ROWS_MAX {
            let seconds = first + each * (rows - 1) as f64;
            times.learn(rows, Duration::from_secs_f64(seconds));
        }
        times
    }

    fn drafted(rate: f64, times: &StepTimes) -> usize {
        let chance = Chance {
            luck: Luck { rate },
            drafted: DRAFT_TOKENS_MAX,
        };
        lengths(&mut [chance], times)[0]
    }

    #[test]
    fn as_much_is_drafted_as_pays() {
        // Rows that cost next to nothing, some, and as much as steps of their own.
        assert_eq!(drafted(0.9, &times(1.0, 0.01)), DRAFT_TOKENS_MAX);
        assert!((1..=3).contains(&drafted(0.6, &times(1.0, 0.25))));
        assert_eq!(drafted(0.9, &times(1.0, 1.0)), 0);
        assert_eq!(drafted(0.1, &times(1.0, 0.25)), 0);
        // Nothing before a step without drafts was seen.
        assert_eq!(drafted(0.9, &StepTimes::default()), 0);
    }

    #[test]
    fn the_luckier_of_two_brings_more() {
        let mut chances = [0.9, 0.5].map(|rate| Chance {
            luck: Luck { rate },
            drafted: DRAFT_TOKENS_MAX,
        });
        let lengths = lengths(&mut chances, &times(1.0, 0.1));
        assert!(lengths[0] > lengths[1] && lengths[1] > 0, "{lengths:?}");
        assert!(lengths.iter().sum::<usize>() + 2 <= DRAFTED_ROWS_MAX);
    }

    #[test]
    fn drafts_that_did_not_pay_are_tried_again_some_time() {
        let times = times(1.0, 0.3);
        let mut chances = [Chance {
            luck: Luck::default(),
            drafted: 4,
        }];
        let mut tries = 0;
        for _ in 0..1000 {
            let length = lengths(&mut chances, &times)[0];
            if length > 0 {
                tries += 1;
                chances[0].luck.learn(length, 0);
            }
        }
        assert!((2..200).contains(&tries), "{tries} tries");
    }

    #[test]
    fn an_interruption_is_no_cost() {
        let mut times = times(1.0, 0.01);
        times.learn(2, Duration::from_secs(1000));
        assert!(times.of(2).expect("it was seen") < 2.0);
    }
}
