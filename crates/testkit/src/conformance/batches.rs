use gogrid_pipeline::Want;

use super::cases::{Case, VARIED, allowed, assert_same};
use super::rig::{Rig, Sequence};
use super::{DeviceContext, Subject};
use crate::reference::log_softmax;

/// In whatever chunks a prompt is fed, row by row too, it gives the same.
pub fn check_chunks(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let mut backend = (subject.backend)(DeviceContext::default());
        let mut rig = Rig::whole(&mut *backend, &case);
        let at_once = rig.run(&case.ids, usize::MAX);
        for chunk in [1, 7, 16, 31, 32, 33, 64] {
            let ours = rig.run(&case.ids, chunk);
            let what = format!("chunks of {chunk}");
            assert_same(subject, &case, &what, [&ours, &at_once]);
        }
    }
}

/// A sequence gives the same alone and beside others that are elsewhere on their way, come later
/// and end sooner, with their blocks among each other's.
pub fn check_batches(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let mut backend = (subject.backend)(DeviceContext::default());
        let all_ids = [2, 3, 4].map(|seed| case.other_ids(seed));
        let mut rig = Rig::whole(&mut *backend, &case);
        let alone = all_ids.each_ref().map(|ids| rig.run(ids, usize::MAX));

        let mut sequences = all_ids.map(|ids| rig.sequence(ids));
        let mut together = [const { Vec::new() }; 3];
        for (step, rows) in (0..).zip(SCHEDULE.iter().cycle()) {
            let mut batch = next_batch(&mut sequences, rows, step);
            if batch.is_empty() {
                break;
            }
            let given = rig.feed(
                &mut batch
                    .iter_mut()
                    .map(|(_, s, n)| (&mut **s, *n))
                    .collect::<Vec<_>>(),
            );
            for ((index, ..), logits) in batch.iter().zip(given) {
                together[*index].extend(logits);
            }
        }
        for (alone, together) in alone.iter().zip(&together) {
            assert_same(subject, &case, "in a batch", [together, alone]);
        }
    }
}

/// Rows of each of three sequences in each step, over and over: prompts, decoding, both.
const SCHEDULE: [[usize; 3]; 6] = [
    [20, 0, 0],
    [1, 30, 0],
    [1, 1, 17],
    [13, 1, 1],
    [1, 2, 33],
    [1, 1, 1],
];

/// The sequences that take part in a step, with their place and their rows. Where the schedule
/// gives those that are left nothing to do, they do one row.
fn next_batch<'s>(
    sequences: &'s mut [Sequence; 3],
    rows: &[usize; 3],
    step: usize,
) -> Vec<(usize, &'s mut Sequence, usize)> {
    let begun = step >= SCHEDULE.len();
    let places = sequences.iter_mut().enumerate().zip(rows);
    let parts = places.map(|((index, sequence), &rows)| {
        let rows = if begun { rows.max(1) } else { rows };
        let rows = rows.min(sequence.left());
        (index, sequence, rows)
    });
    parts.filter(|(.., rows)| *rows > 0).collect()
}

/// A row is given what it wants and no other: nothing, its log-probability, its hidden state or
/// its logits; and what it wants changes nothing for others.
pub fn check_wants(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let mut backend = (subject.backend)(DeviceContext::default());
        let mut rig = Rig::whole(&mut *backend, &case);
        let all = rig.run(&case.ids, usize::MAX);
        let mut sequence = rig.sequence(case.ids.clone());
        let wanted = |row: usize| match row % 4 {
            0 => Want::Nothing,
            1 => Want::LogProb(case.ids[row]),
            2 => Want::Hidden,
            _ => Want::Logits,
        };
        let wants = |rows: usize| (0..rows).map(wanted).collect();
        let rows = sequence.left();
        let out = rig.feed_wanting(&mut [(&mut sequence, rows)], &wants);

        let decoder = case.model.decoder();
        let given: Vec<_> = out
            .logits
            .chunks_exact(decoder.vocab)
            .map(<[f32]>::to_vec)
            .collect();
        let expected: Vec<_> = all.iter().skip(3).step_by(4).cloned().collect();
        assert_same(subject, &case, "wanted logits", [&given, &expected]);
        assert_eq!(out.hidden.len(), rows / 4 * decoder.width, "{}", case.name);
        assert!(out.hidden.iter().all(|v| v.is_finite()), "{}", case.name);
        let expected = (1..rows)
            .step_by(4)
            .map(|row| log_softmax(&all[row])[case.ids[row] as usize]);
        assert_eq!(out.log_probs.len(), rows / 4, "{}", case.name);
        for (ours, expected) in out.log_probs.iter().zip(expected) {
            let apart = (f64::from(*ours) - expected).abs();
            let most = if subject.is_exact {
                1e-4
            } else {
                allowed(subject, &case).max
            };
            assert!(
                apart <= most,
                "{}: log-probability {ours}, not {expected}",
                case.name
            );
        }
    }
}
