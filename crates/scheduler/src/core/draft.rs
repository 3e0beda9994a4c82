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
/// How much of the way back there a draft that was not used goes, at first and at least: half as much
/// after each draft that was wrong from its first token on.
const RECOVERY_AT_FIRST: f64 = 1.0 / 64.0;
const RECOVERY_MIN: f64 = 1.0 / 2048.0;
/// How much longer a step with one more row takes, where no step with as many was seen: little, so that it
/// is tried.
const ROW_AT_LEAST: f64 = 0.02;
/// How much of what is known of longer steps is forgotten with each draft that was not used.
const FORGOTTEN: f64 = 1.0 / 256.0;
/// A step that took longer than so many like it was interrupted.
const OUTLIER: f64 = 4.0;
/// How many times as long as without drafts a step may take where one of its sequences has none.
const SLOWER_MAX: f64 = 1.25;

/// The tokens that followed the last ones where they stood before, at most so many; none if they did not.
/// A draft that comes to the end of the tokens goes on with itself.
pub(super) fn look_up(tokens: &[u32], most: usize) -> Vec<u32> {
    let seen = &tokens[tokens.len().saturating_sub(DRAFT_LOOK_BACK)..];
    let Some(next) = end_of_match(seen) else {
        return Vec::new();
    };
    let mut draft = Vec::with_capacity(most);
    for next in next..next + most {
        let token = match next.checked_sub(seen.len()) {
            None => seen[next],
            Some(drafted) => draft[drafted],
        };
        draft.push(token);
    }
    draft
}

/// Where the last tokens, as they stood before, ended last.
fn end_of_match(tokens: &[u32]) -> Option<usize> {
    let [a, b, last] = *tokens.last_chunk::<MATCHED>()?;
    let mut end = tokens.len() - 1;
    while end >= MATCHED {
        let found = tokens[MATCHED - 1..end]
            .iter()
            .rposition(|&token| token == last)?;
        let place = found + MATCHED - 1;
        if tokens[place - 2..place] == [a, b] {
            return Some(place + 1);
        }
        end = place;
    }
    None
}

/// How often a sequence's drafted tokens are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acceptance {
    rate: f64,
    recovery: f64,
}

impl Default for Acceptance {
    fn default() -> Self {
        Self {
            rate: RATE_AT_FIRST,
            recovery: RECOVERY_AT_FIRST,
        }
    }
}

impl Acceptance {
    /// So many tokens were drafted, and the first `right` of them chosen.
    pub(super) fn learn(&mut self, drafted: usize, right: usize) {
        for _ in 0..right {
            self.rate += (1.0 - self.rate) * WEIGHT;
        }
        if right < drafted {
            self.rate -= self.rate * WEIGHT;
        }
        self.recovery = match right {
            0 => (self.recovery / 2.0).max(RECOVERY_MIN),
            _ => RECOVERY_AT_FIRST,
        };
    }

    /// There was a draft, and it was not worth its rows.
    fn pass(&mut self) {
        self.rate += (RATE_AT_FIRST - self.rate) * self.recovery;
    }
}

/// How long steps take that choose a token for each sequence, by their rows.
#[derive(Debug, Default)]
pub(super) struct StepTimes {
    /// Of `rows + 1`, in seconds.
    known: [Option<f64>; DRAFTED_ROWS_MAX],
}

impl StepTimes {
    /// A step of so many rows, `drafted` of them for drafts, took so long. Where steps without drafts become
    /// faster or slower, with the context or with the share of the machine, so do the others.
    pub(super) fn learn(&mut self, (rows, drafted): (usize, usize), took: Duration) {
        let took = took.as_secs_f64();
        let Some(at) = rows.checked_sub(1).filter(|&at| at < DRAFTED_ROWS_MAX) else {
            return;
        };
        if took == 0.0 {
            // The clock went back meanwhile.
            return;
        }
        let Some(before) = self.known[at] else {
            self.known[at] = Some(took);
            return;
        };
        let now = before + (took.min(before * OUTLIER) - before) * WEIGHT;
        if drafted == 0 {
            for known in self.known.iter_mut().flatten() {
                *known *= now / before;
            }
        }
        self.known[at] = Some(now);
    }

    /// Whether it is known how long steps of so many rows take, and there may be more.
    pub(super) fn knows(&self, rows: usize) -> bool {
        rows < DRAFTED_ROWS_MAX && self.of(rows).is_some()
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

    /// A draft was not used. What is known of steps with more rows than these loses weight, so that they are
    /// tried again some time: it may have been seen on a busy machine.
    fn pass(&mut self, rows: usize) {
        let Some(alone) = self.of(rows) else { return };
        for (at, known) in self.known.iter_mut().enumerate().skip(rows) {
            let least = alone * (1.0 + ROW_AT_LEAST * (at + 1 - rows) as f64);
            if let Some(known) = known {
                *known -= (*known - least) * FORGOTTEN;
            }
        }
    }
}

/// A sequence in a step, and what it could draft.
pub(super) struct Candidate {
    pub(super) acceptance: Acceptance,
    /// Tokens that it has a draft of.
    pub(super) drafted: usize,
}

/// How many of its drafted tokens each sequence brings into a step, so that the most tokens are chosen a
/// second, and those without a draft wait little longer for theirs.
pub(super) fn draft_lengths(candidates: &mut [Candidate], times: &mut StepTimes) -> Vec<usize> {
    let none = vec![0; candidates.len()];
    let alone = candidates.len();
    let Some(time_alone) = times.of(alone).filter(|_| times.knows(alone)) else {
        // How long the step takes without drafts is seen first.
        return none;
    };
    let (mut lengths, mut tokens) = (none.clone(), alone as f64);
    let (mut best, mut best_speed) = (none, tokens / time_alone);
    for rows in alone + 1..=DRAFTED_ROWS_MAX {
        // The next token of a draft counts where all of it so far is right.
        let worth = |(at, candidate): (usize, &Candidate)| {
            let is_there = lengths[at] < candidate.drafted;
            let chance = candidate.acceptance.rate.powi(lengths[at] as i32 + 1);
            is_there.then_some((at, chance))
        };
        let likeliest = candidates.iter().enumerate().filter_map(worth);
        let Some((at, chance)) = likeliest.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            break;
        };
        lengths[at] += 1;
        tokens += chance;
        let time = times.of(rows).unwrap_or(f64::INFINITY);
        let all_draft = lengths.iter().all(|&length| length > 0);
        let is_bearable = all_draft || time <= time_alone * SLOWER_MAX;
        if is_bearable && tokens / time > best_speed {
            (best, best_speed) = (lengths.clone(), tokens / time);
        }
    }
    let mut passed = false;
    for (candidate, &length) in candidates.iter_mut().zip(&best) {
        if candidate.drafted > 0 && length == 0 {
            candidate.acceptance.pass();
            passed = true;
        }
    }
    if passed {
        times.pass(alone);
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
        // The last token alone stands elsewhere too.
        assert_eq!(look_up(&[1, 2, 3, 8, 5, 3, 3, 1, 2, 3], 2), [8, 5]);
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
            times.learn((rows, rows - 1), Duration::from_secs_f64(seconds));
        }
        times
    }

    fn candidate(rate: f64) -> Candidate {
        Candidate {
            acceptance: Acceptance {
                rate,
                ..Acceptance::default()
            },
            drafted: DRAFT_TOKENS_MAX,
        }
    }

    fn drafted(rate: f64, times: &mut StepTimes) -> usize {
        draft_lengths(&mut [candidate(rate)], times)[0]
    }

    #[test]
    fn as_much_is_drafted_as_pays() {
        // Rows that cost next to nothing, some, and as much as steps of their own.
        assert_eq!(drafted(0.9, &mut times(1.0, 0.01)), DRAFT_TOKENS_MAX);
        assert!((1..=3).contains(&drafted(0.6, &mut times(1.0, 0.25))));
        assert_eq!(drafted(0.9, &mut times(1.0, 1.0)), 0);
        assert_eq!(drafted(0.1, &mut times(1.0, 0.25)), 0);
        // Nothing before a step without drafts was seen.
        assert_eq!(drafted(0.9, &mut StepTimes::default()), 0);
    }

    #[test]
    fn of_two_the_one_whose_drafts_are_right_more_often_brings_more() {
        let lengths = draft_lengths(&mut [0.9, 0.5].map(candidate), &mut times(1.0, 0.1));
        assert!(lengths[0] > lengths[1] && lengths[1] > 0, "{lengths:?}");
        assert!(lengths.iter().sum::<usize>() + 2 <= DRAFTED_ROWS_MAX);
    }

    #[test]
    fn who_has_no_draft_waits_little_longer() {
        let without = Candidate {
            drafted: 0,
            ..candidate(0.9)
        };
        let each = 0.1;
        let mut times = times(1.0, each);
        let lengths = draft_lengths(&mut [candidate(0.99), without], &mut times);
        let (alone, longer) = (1.0 + each, 1.0 + each * (1 + lengths[0]) as f64);
        assert!(
            lengths[0] > 0 && longer <= alone * SLOWER_MAX,
            "{lengths:?}"
        );
    }

    #[test]
    fn drafts_that_are_always_wrong_become_rare() {
        for each in [0.05, 0.3] {
            let mut times = times(1.0, each);
            let mut candidates = [candidate(RATE_AT_FIRST)];
            let (mut tries, mut rows) = (0, 0);
            for _ in 0..2000 {
                let length = draft_lengths(&mut candidates, &mut times)[0];
                if length > 0 {
                    (tries, rows) = (tries + 1, rows + length);
                    candidates[0].acceptance.learn(length, 0);
                    let took = Duration::from_secs_f64(1.0 + each * length as f64);
                    times.learn((1 + length, length), took);
                }
            }
            // Some, and for less than 2 % of the time.
            let wasted = each * rows as f64 / 2000.0;
            assert!(
                tries > 1 && wasted < 0.02,
                "{each}: {tries} tries, {wasted}"
            );
        }
    }

    #[test]
    fn drafts_come_back_when_the_machine_is_quiet_again() {
        // Seen beside a compiler, each row took as long as a step.
        let mut times = times(1.0, 1.0);
        let mut steps = 0;
        while drafted(0.9, &mut times) == 0 {
            times.learn((1, 0), Duration::from_millis(100));
            steps += 1;
            assert!(steps < 2000, "they do not come back");
        }
    }

    #[test]
    fn what_changes_steps_without_drafts_changes_the_others() {
        let mut times = times(0.01, 0.001);
        for _ in 0..100 {
            times.learn((1, 0), Duration::from_millis(40));
        }
        let ratio = times.of(9).expect("it was seen") / times.of(1).expect("so was that");
        assert!((ratio - 1.8).abs() < 1e-6, "{ratio}");
    }

    #[test]
    fn interruptions_and_a_clock_that_goes_back_are_no_costs() {
        let mut times = times(1.0, 0.01);
        times.learn((2, 1), Duration::from_secs(1000));
        assert!(times.of(2).expect("it was seen") < 2.0);
        let mut times = StepTimes::default();
        times.learn((1, 0), Duration::ZERO);
        assert_eq!(times.of(1), None);
    }
}
