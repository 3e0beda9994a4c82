use std::ops::Range;
use std::sync::Arc;

use gogrid_pipeline::{BLOCK_TOKENS, LayerKv, Rows, SequenceRows, StageError, Step, Want};

use super::cases::{Case, Logits, VARIED, assert_same};
use super::paces::at_pace;
use super::rig::{Rig, Sequence};
use super::{DeviceContext, Subject};
use crate::fakes::PaceScript;

/// Rows before a sequence moves: the last block is not full, and windows are left behind.
const ROWS_BEFORE: usize = 50;

/// Blocks that were exported from stages cut one way, and imported into stages cut another way on
/// another device, serve the sequence as if it had never moved.
pub fn check_moved_blocks(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let mut home = (subject.backend)(DeviceContext::default());
        let stayed = Rig::whole(&mut *home, &case).run(&case.ids, 25);
        let layers = case.model.decoder().layers.len();
        for cuts in [vec![], vec![layers], vec![2, layers + 2]] {
            let mut from = Rig::cut(&mut *home, &case, &cuts);
            let mut sequence = from.sequence(case.ids.clone());
            let mut ours: Logits = Vec::new();
            while sequence.done < ROWS_BEFORE {
                let given = from.feed(&mut [(&mut sequence, ROWS_BEFORE / 2)]);
                ours.extend(given.into_iter().flatten());
            }
            let mut away = (subject.backend)(DeviceContext::default());
            let mut to = Rig::cut(&mut *away, &case, &[layers / 2 + 1]);
            move_blocks(&case, (&mut from, &mut to), &sequence);
            drop(from);
            to.adopt(&sequence);
            ours.extend(to.finish(&mut sequence, 25));
            let what = format!("moved from stages cut at {cuts:?}");
            assert_same(subject, &case, &what, [&ours, &stayed]);
        }
    }
}

/// Every block of a sequence, from all stages of one rig to those of another.
fn move_blocks(case: &Case, (from, to): (&mut Rig<'_>, &mut Rig<'_>), sequence: &Sequence) {
    let fail = |error: StageError| -> ! { panic!("{}: {error}", case.name) };
    for (group, table) in sequence.tables.iter().enumerate() {
        for &block in table.iter().flatten() {
            let mut all: Vec<LayerKv> = Vec::new();
            for (layers, stage) in from.layers_of(group).iter().zip(&mut from.stages) {
                if layers.is_empty() {
                    continue;
                }
                let given = stage.export(group, block).unwrap_or_else(|e| fail(e));
                let given_layers: Vec<_> = given.iter().map(|kv| kv.layer).collect();
                assert_eq!(given_layers, *layers, "{}: exported layers", case.name);
                all.extend(given);
            }
            for (layers, stage) in to.layers_of(group).iter().zip(&mut to.stages) {
                if layers.is_empty() {
                    continue;
                }
                let own = all.iter().filter(|kv| layers.contains(&kv.layer));
                let own: Vec<_> = own.cloned().collect();
                let done = stage.import(group, block, &own);
                done.unwrap_or_else(|e| fail(e));
                let back = stage.export(group, block).unwrap_or_else(|e| fail(e));
                assert_eq!(back, own, "{}: block {block:?} of group {group}", case.name);
                let refused = stage.import(group, block, &own[1..]);
                assert!(is_block_error(&refused), "{}: a layer less", case.name);
            }
        }
    }
}

fn is_block_error<T>(result: &Result<T, StageError>) -> bool {
    matches!(result, Err(StageError::Block { .. }))
}

/// A block that is read, or exported, but was never written is an error: where the one step that
/// names it was abandoned at any point, where too few of its rows were written, and after it was
/// released.
pub fn check_unwritten_blocks(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let through = Arc::new(PaceScript::new(Vec::new()));
        let mut backend = (subject.backend)(at_pace(Arc::clone(&through) as _));
        let mut rig = Rig::whole(&mut *backend, &case);
        let mut sequence = rig.sequence(case.ids.clone());
        rig.feed(&mut [(&mut sequence, 10)]);
        let points = through.asked();
        assert!(points > 0, "{}: the pace was never asked", case.name);
        for part in 0..4 {
            check_unwritten_after(subject, &case, points * part / 8);
        }
    }
}

/// As above, with the first step abandoned after so many points.
fn check_unwritten_after(subject: &Subject<'_>, case: &Case, points: usize) {
    let pace = Arc::new(PaceScript::abandon_after(points));
    let mut backend = (subject.backend)(at_pace(Arc::clone(&pace) as _));
    let mut rig = Rig::whole(&mut *backend, case);
    let mut sequence = rig.sequence(case.ids.clone());
    rig.make_room(&mut sequence, 40);
    let tables = sequence.tables.clone();
    let first = tables[0][0].expect("a block was made room for");
    let mut run = |rig: &mut Rig<'_>, rows: Range<usize>| {
        sequence.done = rows.start;
        let sequences = vec![sequence.next_rows(vec![Want::Logits; rows.len()])];
        let rows = Rows::of_ids(case.ids[rows].to_vec());
        rig.try_step(&Arc::new(Step { sequences }), &rows).map(drop)
    };
    let name = format!("{}: abandoned after {points} points", case.name);
    let abandoned = run(&mut rig, 0..10);
    if abandoned.is_ok() && pace.asked() <= points {
        // A device that learns how fast it is comes to fewer points. The first it always comes to.
        assert!(points > 0, "{name}: the pace was not asked");
        return;
    }
    assert!(
        matches!(abandoned, Err(StageError::Abandoned)),
        "{name}: {abandoned:?}"
    );
    for rows in [10..12, 33..34] {
        let read = run(&mut rig, rows.clone());
        assert!(is_block_error(&read), "{name}: rows {rows:?}: {read:?}");
    }
    let exported = rig.stages[0].export(0, first);
    assert!(is_block_error(&exported), "{name}: {exported:?}");
    assert!(run(&mut rig, 0..10).is_ok(), "{name}: the step again");
    let read = run(&mut rig, 12..13);
    assert!(is_block_error(&read), "{name}: two rows left out: {read:?}");
    assert!(run(&mut rig, 10..13).is_ok(), "{name}: the rows after it");
    for (group, table) in tables.into_iter().enumerate() {
        let blocks: Vec<_> = table.into_iter().flatten().collect();
        rig.stages[0].release(group, &blocks);
    }
    let read = run(&mut rig, 13..14);
    assert!(is_block_error(&read), "{name}: released: {read:?}");
}

/// Two sequences of one step read the same blocks, as those with one prompt do, and get what they
/// get alone. A block that one writes is not the other's to read or to write.
pub fn check_shared_blocks(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let mut backend = (subject.backend)(DeviceContext::default());
        let mut rig = Rig::whole(&mut *backend, &case);
        let prompt = &case.ids[..2 * BLOCK_TOKENS];
        let other = case.other_ids(9);
        let continued = |ids: &[u32]| [prompt, &ids[2 * BLOCK_TOKENS..]].concat();
        let all = [continued(&case.ids), continued(&other)];
        let alone = all.each_ref().map(|ids| rig.run(ids, usize::MAX));

        let mut one = rig.sequence(all[0].clone());
        rig.feed(&mut [(&mut one, prompt.len())]);
        let mut two = rig.fork(&one, all[1].clone());
        let mut together = [Logits::new(), Logits::new()];
        while one.left() > 0 {
            let rows = one.left().min(5);
            let given = rig.feed(&mut [(&mut one, rows), (&mut two, rows)]);
            for (all, given) in together.iter_mut().zip(given) {
                all.extend(given);
            }
        }
        for (together, alone) in together.iter().zip(&alone) {
            let alone = alone[prompt.len()..].to_vec();
            assert_same(subject, &case, "sharing blocks", [together, &alone]);
        }
        check_written_by_one(&mut rig, &case, &one);
    }
}

/// The last block of `sequence` in two tables of a step that writes it.
fn check_written_by_one(rig: &mut Rig<'_>, case: &Case, sequence: &Sequence) {
    let row = |start: usize| SequenceRows {
        start,
        ..sequence.next_rows(vec![Want::Logits])
    };
    let end = sequence.done - 1;
    let step = Arc::new(Step {
        sequences: vec![row(end), row(end)],
    });
    let rows = Rows::of_ids(case.ids[..2].to_vec());
    let both = rig.try_step(&step, &rows).map(drop);
    assert!(
        is_block_error(&both),
        "{}: written by two: {both:?}",
        case.name
    );
}
