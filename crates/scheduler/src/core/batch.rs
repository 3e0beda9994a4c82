use std::cmp::Reverse;

use gogrid_units::Whose;

use crate::limits::ROWS_IN_STEP_MAX;

/// A sequence that could be in the next step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its place among the running sequences, which stand in the order they started.
    pub(crate) place: usize,
    /// Rows that are not written yet before it decodes; zero when it does.
    pub(crate) prefill_left: usize,
    /// The step it was in last, or that was the last when it started.
    pub(crate) last_step: u64,
    pub(crate) whose: Whose,
}

/// Which sequences the next step has, and how many rows of each: decodes first, then one chunk of
/// the prompt that started first, of the owner's where there is one. Where not all fit, the owner's go
/// before guests', and of each class those that waited longest, so a candidate is in a step after at most
/// as many as there are candidates of its class, and guests where the owner leaves a place.
pub(crate) fn choose(candidates: &[Candidate], batch_max: usize) -> Vec<(usize, usize)> {
    let prefill = candidates
        .iter()
        .filter(|c| c.prefill_left > 0)
        .min_by_key(|c| (c.whose, c.place));
    let decodes = candidates.iter().filter(|c| c.prefill_left == 0);
    let mut chosen: Vec<&Candidate> = decodes.chain(prefill).collect();
    chosen.sort_unstable_by_key(|c| (c.whose, c.last_step, c.place));
    chosen.truncate(batch_max.min(ROWS_IN_STEP_MAX - 1));
    chosen.sort_unstable_by_key(|c| (Reverse(c.prefill_left == 0), c.place));
    let rows_left = ROWS_IN_STEP_MAX - chosen.iter().filter(|c| c.prefill_left == 0).count();
    let rows = |c: &Candidate| {
        if c.prefill_left == 0 {
            1
        } else {
            c.prefill_left.min(rows_left)
        }
    };
    chosen.into_iter().map(|c| (c.place, rows(c))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(place: usize, prefill_left: usize, last_step: u64) -> Candidate {
        Candidate {
            place,
            prefill_left,
            last_step,
            whose: Whose::Guest,
        }
    }

    #[test]
    fn decodes_come_first_then_one_chunk() {
        let all = [candidate(0, 500, 1), candidate(1, 0, 9), candidate(2, 7, 0)];
        assert_eq!(choose(&all, 4), [(1, 1), (0, ROWS_IN_STEP_MAX - 1)]);
    }

    #[test]
    fn whoever_waited_longest_is_in() {
        let all = [candidate(0, 0, 5), candidate(1, 0, 3), candidate(2, 40, 4)];
        assert_eq!(choose(&all, 1), [(1, 1)]);
        assert_eq!(choose(&all, 2), [(1, 1), (2, 40)]);
    }

    #[test]
    fn the_owners_go_before_guests_that_waited_longer() {
        let owners = |candidate| Candidate {
            whose: Whose::Owner,
            ..candidate
        };
        let all = [
            candidate(0, 0, 1),
            candidate(1, 90, 2),
            owners(candidate(2, 40, 5)),
            owners(candidate(3, 0, 6)),
        ];
        assert_eq!(choose(&all, 1), [(2, 40)]);
        assert_eq!(choose(&all, 2), [(3, 1), (2, 40)]);
        assert_eq!(choose(&all, 4), [(0, 1), (3, 1), (2, 40)]);
    }
}
