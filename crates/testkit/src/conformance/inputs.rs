use gogrid_model::Decoder;
use gogrid_pipeline::{EmbeddedRows, Rows, StageError, Want};

use super::cases::{Case, Logits, VARIED, assert_near, assert_same};
use super::rig::Rig;
use super::{DeviceContext, Subject};
use crate::reference::Reference;
use crate::rng::Rng;

/// Positions that are given turn queries and keys as the reference turns them; those that say what
/// rows' indices say change no bit, on one axis or on several that agree; and a row whose axes
/// differ is refused by a model that has one axis.
pub fn check_positions(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let mut backend = (subject.backend)(DeviceContext::default());
        let mut rig = Rig::whole(&mut *backend, &case);
        let count = case.ids.len() as u32;
        let mut run = |axes: usize, values: Vec<u32>| {
            let rows = Rows::of_ids(case.ids.clone());
            let mut sequence = rig.sequence_of(rows, Some((axes, values)));
            let logits = rig.finish(&mut sequence, 33);
            rig.end(sequence);
            logits
        };
        // As after an image: a gap, then rows that stand still, then text again.
        let given: Vec<u32> = (0..count)
            .map(|row| if row < 20 { row } else { 31 + row / 2 })
            .collect();
        let ours = run(1, given.clone());
        let at: Vec<usize> = given.iter().map(|&position| position as usize).collect();
        let reference = reference(&case).logits_at(&Rows::of_ids(case.ids.clone()), &at);
        assert_near(subject, &case, "given positions", [&ours, &reference]);
        let thrice = |values: &[u32]| values.iter().flat_map(|&v| [v; 3]).collect();
        assert_same(
            subject,
            &case,
            "three axes",
            [&run(3, thrice(&given)), &ours],
        );
        let plain: Vec<u32> = (0..count).collect();
        let as_indices = run(1, plain.clone());

        let sequential = rig.run(&case.ids, 33);
        assert_same(subject, &case, "indices", [&as_indices, &sequential]);
        let mut values: Vec<u32> = thrice(&plain);
        values[4] += 1;
        check_refused(&mut rig, &case, values);
    }
}

/// A row that stands at different positions on its three axes.
fn check_refused(rig: &mut Rig<'_>, case: &Case, values: Vec<u32>) {
    let rows = Rows::of_ids(case.ids.clone());
    let mut sequence = rig.sequence_of(rows, Some((3, values)));
    rig.make_room(&mut sequence, 4);
    let sequences = vec![sequence.next_rows(vec![Want::Logits; 4])];
    let step = std::sync::Arc::new(gogrid_pipeline::Step { sequences });
    let refused = rig.try_step(&step, &Rows::of_ids(case.ids[..4].to_vec()));
    let is_named = |text: &str| text.contains("position") || text.contains("axes");
    assert!(
        matches!(&refused, Err(StageError::Unsupported(what)) if is_named(what))
            || matches!(&refused, Err(StageError::Shape { what, .. }) if is_named(what)),
        "{}: {refused:?}",
        case.name
    );
}

/// Rows that bring embeddings are taken as they are, in whatever chunks, beside rows of ids; their
/// own ids are not looked at.
pub fn check_embeddings(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let decoder = case.model.decoder();
        let rows = with_embeddings(decoder, &case.ids);
        let mut backend = (subject.backend)(DeviceContext::default());
        let mut rig = Rig::whole(&mut *backend, &case);
        let mut run = |chunk: usize| -> Logits {
            let mut sequence = rig.sequence_of(rows.clone(), None);
            let logits = rig.finish(&mut sequence, chunk);
            rig.end(sequence);
            logits
        };
        let ours = run(usize::MAX);
        let positions: Vec<_> = (0..rows.len()).collect();
        let reference = reference(&case).logits_at(&rows, &positions);
        assert_near(subject, &case, "embeddings", [&ours, &reference]);
        // Chunks cut the runs of embeddings.
        assert_same(subject, &case, "embeddings in chunks", [&run(7), &ours]);
    }
}

/// Two runs of rows with embeddings of chance, the first of them from the first row on.
fn with_embeddings(decoder: &Decoder, ids: &[u32]) -> Rows {
    let mut rng = Rng::new(77);
    let mut rows = Rows::of_ids(ids.to_vec());
    for range in [0..5, 30..48] {
        for row in range.clone() {
            rows.ids[row] = u32::MAX;
        }
        let len = range.len() * decoder.width;
        let values = (0..len).map(|_| rng.between(-1.0, 1.0));
        rows.embedded.push(EmbeddedRows {
            rows: range,
            values: values.collect(),
        });
    }
    rows
}

fn reference(case: &Case) -> Reference {
    let reference = Reference::load(&case.model);
    reference.unwrap_or_else(|error| panic!("{}: {error}", case.name))
}
