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
/// How much of what is known of steps with drafts is forgotten with each draft that was not used.
const FORGOTTEN: f64 = 1.0 / 64.0;
/// A step that took longer than so many like it was interrupted.
const OUTLIER: f64 = 4.0;
/// After so many steps with drafts comes one without, to compare with.
const DRAFTED_IN_A_ROW_MAX: u32 = 32;
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

/// How long steps take that choose tokens. Errors make steps with drafts look cheaper than they are, so that
/// these are tried and the error is corrected.
#[derive(Debug, Default)]
pub(super) struct StepTimes {
    /// Steps without drafts of `sequences + 1`, in seconds.
    plain: [Option<f64>; DRAFTED_ROWS_MAX],
    /// How many times as long steps with `drafted + 1` drafted tokens take.
    ratios: [Option<f64>; DRAFTED_ROWS_MAX],
    /// Steps with drafts since the last without.
    drafted_in_a_row: u32,
}

impl StepTimes {
    /// A step of so many sequences with so many drafted tokens took so long.
    pub(super) fn learn(&mut self, (sequences, drafted): (usize, usize), took: Duration) {
        let took = took.as_secs_f64();
        let is_counted = (1..=DRAFTED_ROWS_MAX).contains(&sequences);
        // Where it took no time, the clock went back meanwhile.
        if !is_counted || took == 0.0 {
            return;
        }
        let plain = &mut self.plain[sequences - 1];
        if drafted == 0 {
            self.drafted_in_a_row = 0;
            let Some(before) = *plain else {
                *plain = Some(took);
                return;
            };
            let now = before + (took.min(before * OUTLIER) - before) * WEIGHT;
            *plain = Some(now);
            if now > before {
                // The ratios may have been seen after the machine became slower.
                for (drafted, ratio) in (1..).zip(&mut self.ratios) {
                    *ratio = ratio.map(|ratio| (ratio * before / now).max(least_ratio(drafted)));
                }
            }
            return;
        }
        self.drafted_in_a_row += 1;
        if let (Some(plain), Some(known)) = (*plain, self.ratios.get_mut(drafted - 1)) {
            // A draft that takes longer than its tokens one by one is of no use, however long.
            let ratio = (took / plain).min(1.0 + drafted as f64);
            *known = Some(known.map_or(ratio, |before| before + (ratio - before) * WEIGHT));
        }
    }

    /// Whether a step of so many sequences may have drafts: how long it takes without is known.
    pub(super) fn may_draft(&self, sequences: usize) -> bool {
        let plain = sequences.checked_sub(1).and_then(|at| self.plain.get(at));
        plain.is_some_and(Option::is_some) && self.drafted_in_a_row < DRAFTED_IN_A_ROW_MAX
    }

    /// How many times as long a step with so many drafted tokens takes: as it was seen, or between what was
    /// seen of fewer and of more, or little more than what was seen of fewer.
    fn ratio(&self, drafted: usize) -> f64 {
        let seen = |at: usize| Some((at + 1, self.ratios[at]?));
        let fewer = (0..drafted).rev().find_map(seen);
        let (fewer, least) = fewer.unwrap_or((0, 1.0));
        let more = (drafted..DRAFTED_ROWS_MAX).find_map(seen);
        let beyond = (drafted - fewer) as f64;
        match more {
            Some((more, most)) => least + (most - least) * beyond / (more - fewer) as f64,
            None => least * (1.0 + ROW_AT_LEAST * beyond),
        }
    }

    /// A draft was not used. What is known of steps with drafts loses weight, so that they are tried again
    /// some time: it may have been seen on a busy machine.
    fn pass(&mut self) {
        for (drafted, ratio) in (1..).zip(&mut self.ratios) {
            if let Some(ratio) = ratio {
                *ratio -= (*ratio - least_ratio(drafted)) * FORGOTTEN;
            }
        }
    }
}

/// What is taken for the ratio of a step with so many drafted tokens at least.
fn least_ratio(drafted: usize) -> f64 {
    1.0 + ROW_AT_LEAST * drafted as f64
}

/// A sequence in a step, and what it could draft.
pub(super) struct Candidate {
    pub(super) acceptance: Acceptance,
    /// Tokens that it has a draft of.
    pub(super) drafted: usize,
    /// Whether others' drafts may make it wait only little longer where it has none.
    pub(super) comes_first: bool,
}

/// How many of its drafted tokens each sequence brings into a step, so that the most tokens are chosen a
/// second.
pub(super) fn draft_lengths(candidates: &mut [Candidate], times: &mut StepTimes) -> Vec<usize> {
    let sequences = candidates.len();
    let mut lengths = vec![0; sequences];
    if !times.may_draft(sequences) {
        return lengths;
    }
    let mut best = lengths.clone();
    let (mut tokens, mut best_speed) = (sequences as f64, sequences as f64);
    for drafted in 1..=DRAFTED_ROWS_MAX - sequences {
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
        let ratio = times.ratio(drafted);
        let mut waiting = candidates.iter().zip(&lengths);
        let none_waits = waiting.all(|(candidate, &length)| length > 0 || !candidate.comes_first);
        if (none_waits || ratio <= SLOWER_MAX) && tokens / ratio > best_speed {
            (best, best_speed) = (lengths.clone(), tokens / ratio);
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
        times.pass();
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

    /// Times of steps of one and of two sequences where each drafted token takes `each` of a step without.
    fn times(each: f64) -> StepTimes {
        let mut times = StepTimes::default();
        (1..=2).for_each(|sequences| times.learn((sequences, 0), SECOND));
        for drafted in 1..DRAFTED_ROWS_MAX {
            times.learn((1, drafted), drafted_step(each, drafted));
        }
        times.learn((1, 0), SECOND);
        times
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn drafted_step(each: f64, drafted: usize) -> Duration {
        SECOND.mul_f64(1.0 + each * drafted as f64)
    }

    fn candidate(rate: f64) -> Candidate {
        Candidate {
            acceptance: Acceptance {
                rate,
                ..Acceptance::default()
            },
            drafted: DRAFT_TOKENS_MAX,
            comes_first: true,
        }
    }

    fn drafted(rate: f64, times: &mut StepTimes) -> usize {
        draft_lengths(&mut [candidate(rate)], times)[0]
    }

    #[test]
    fn as_much_is_drafted_as_pays() {
        // Rows that cost next to nothing, some, and as much as steps of their own.
        assert_eq!(drafted(0.9, &mut times(0.01)), DRAFT_TOKENS_MAX);
        assert!((1..=3).contains(&drafted(0.6, &mut times(0.25))));
        assert_eq!(drafted(0.9, &mut times(1.0)), 0);
        assert_eq!(drafted(0.1, &mut times(0.25)), 0);
        // Nothing before a step without drafts was seen.
        assert_eq!(drafted(0.9, &mut StepTimes::default()), 0);
    }

    #[test]
    fn of_two_the_one_whose_drafts_are_right_more_often_brings_more() {
        let lengths = draft_lengths(&mut [0.9, 0.5].map(candidate), &mut times(0.1));
        assert!(lengths[0] > lengths[1] && lengths[1] > 0, "{lengths:?}");
        assert!(lengths.iter().sum::<usize>() + 2 <= DRAFTED_ROWS_MAX);
    }

    #[test]
    fn a_sequence_without_a_draft_waits_little_longer_unless_it_comes_last() {
        let beside = |comes_first| {
            let without = Candidate {
                drafted: 0,
                comes_first,
                ..candidate(0.9)
            };
            draft_lengths(&mut [candidate(0.99), without], &mut times(0.1))[0]
        };
        // Two tokens more make the step 1.2 times as long.
        assert_eq!((beside(true), beside(false)), (2, DRAFT_TOKENS_MAX));
    }

    #[test]
    fn drafts_that_are_always_wrong_become_rare() {
        for each in [0.05, 0.3] {
            let mut times = times(each);
            let mut candidates = [candidate(RATE_AT_FIRST)];
            let (mut tries, mut rows) = (0, 0);
            for _ in 0..2000 {
                let length = draft_lengths(&mut candidates, &mut times)[0];
                times.learn((1, length), drafted_step(each, length));
                if length > 0 {
                    (tries, rows) = (tries + 1, rows + length);
                    candidates[0].acceptance.learn(length, 0);
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

    /// Steps until drafts are used that are nearly always right, where each drafted token takes `each` of a
    /// step, after what `times` know.
    fn steps_until_drafted(times: &mut StepTimes, step: Duration) -> usize {
        let mut steps = 0;
        while drafted(0.9, times) == 0 {
            times.learn((1, 0), step);
            steps += 1;
            assert!(steps < 2000, "they do not come back");
        }
        steps
    }

    #[test]
    fn drafts_come_back_when_the_machine_is_quiet_again() {
        // Seen beside a compiler, or once, interrupted.
        assert!(steps_until_drafted(&mut times(1.0), SECOND / 10) < 100);
        let mut times = StepTimes::default();
        times.learn((1, 0), SECOND);
        times.learn((1, DRAFT_TOKENS_MAX), SECOND * 1000);
        assert!(steps_until_drafted(&mut times, SECOND) < 100);
    }

    #[test]
    fn drafts_go_on_where_the_machine_becomes_slower_under_them() {
        let mut times = times(0.05);
        let mut without = 0;
        for _ in 0..500 {
            let length = drafted(0.9, &mut times);
            times.learn((1, length), drafted_step(0.05, length) * 3);
            without += usize::from(length == 0);
        }
        assert!(without < 60, "{without} of 500 without");
    }

    #[test]
    fn a_step_without_drafts_comes_now_and_then_to_compare_with() {
        let mut times = times(0.01);
        let lengths: Vec<_> = (0..100)
            .map(|_| {
                let length = drafted(0.9, &mut times);
                times.learn((1, length), drafted_step(0.01, length));
                length
            })
            .collect();
        assert_eq!(lengths.iter().filter(|&&length| length == 0).count(), 3);
    }

    #[test]
    fn a_clock_that_goes_back_tells_nothing() {
        let mut times = StepTimes::default();
        times.learn((1, 0), Duration::ZERO);
        assert!(!times.may_draft(1));
    }
}
