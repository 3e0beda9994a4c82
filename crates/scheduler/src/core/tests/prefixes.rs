//! What is kept for requests that begin alike, step by step.

use gogrid_pipeline::Want;

use super::moves::{ones, step, tick};
use super::*;
use crate::limits::PREFIX_ENTRIES_MAX;

fn core_under(cap: u64) -> Core {
    Core::new(shape(), layout(cap), &limits(0, 4))
}

fn prompt(rows: u32) -> Vec<u32> {
    (0..rows).map(|row| row % 20 + 1).collect()
}

/// A request of so many rows, which adds two tokens.
fn submit(id: u64, ids: &[u32], salt: Option<u64>) -> Input {
    let place = Permits::new(1).take().expect("there is one");
    let wish = fake::greedy(ids.to_vec(), 2);
    let beginning = Beginning {
        cache_salt: salt,
        ..beginning(id, wish, Moment(0))
    };
    Input::Submit(beginning, place)
}

/// Has the only sequence end well.
fn finish(core: &mut Core) {
    while let Some((&step, flight)) = core.steps.iter().next() {
        let wants = flight.step.wants();
        let rows = wants.filter(|want| matches!(want, Want::Logits)).count();
        tick(core, [Input::Done(step, ones(rows))]);
    }
    assert_eq!(core.counts(), (0, 0));
}

fn begin(core: &mut Core, id: u64, ids: &[u32]) -> Vec<String> {
    tick(core, [submit(id, ids, Some(7))])
}

fn leased(core: &Core) -> [u64; 2] {
    let ledger = &core.layout.room.accounts[0].ledger;
    [Kind::Kv, Kind::Prefix].map(|kind| ledger.used_by(kind).0)
}

#[test]
fn a_request_that_begins_alike_runs_what_is_new() {
    let (mut core, ids) = (core_under(10_000), prompt(70));
    begin(&mut core, 0, &ids);
    finish(&mut core);
    // Two whole blocks of each group.
    assert_eq!(leased(&core), [0, 22]);
    let told = begin(&mut core, 1, &ids);
    assert_eq!(told, [format!("run {:?} from [64]", &ids[64..])]);
    // Three blocks of each group, under the leases of the sequence alone.
    assert_eq!(leased(&core), [33, 0]);
    finish(&mut core);
    assert_eq!(leased(&core), [0, 22]);
    // The last row runs in any case.
    let told = begin(&mut core, 2, &ids[..64]);
    assert_eq!(told, [format!("run {:?} from [32]", &ids[32..64])]);
}

#[test]
fn what_differs_before_a_block_differs_in_it() {
    let (mut core, ids) = (core_under(10_000), prompt(70));
    begin(&mut core, 0, &ids);
    finish(&mut core);
    let mut other = ids.clone();
    other[0] = 19;
    assert!(begin(&mut core, 1, &other)[0].ends_with("from [0]"));
    finish(&mut core);
    other[0] = ids[0];
    other[40] = 19;
    assert!(begin(&mut core, 2, &other)[0].ends_with("from [32]"));
}

#[test]
fn requests_without_the_salt_find_nothing() {
    let (mut core, ids) = (core_under(10_000), prompt(70));
    begin(&mut core, 0, &ids);
    finish(&mut core);
    for salt in [None, Some(8), None, Some(8)] {
        let told = tick(&mut core, [submit(1, &ids, salt)]);
        let from = told[0].rsplit(' ').next().expect("a word");
        let is_second = salt.is_some() && leased(&core)[1] == 22 && from == "[64]";
        assert!(from == "[0]" || is_second, "{salt:?}: {told:?}");
        finish(&mut core);
    }
    // Two blocks of each group for each salt.
    assert_eq!(leased(&core), [0, 44]);
}

#[test]
fn blocks_of_a_sequence_that_still_runs_are_shared() {
    let (mut core, ids) = (core_under(10_000), prompt(70));
    begin(&mut core, 0, &ids);
    let inputs = [Input::Done(step(&core), ones(1)), submit(1, &ids, Some(7))];
    let told = tick(&mut core, inputs);
    assert_eq!(told[0], "delta 0 [1]");
    assert_eq!(
        told[1],
        format!("run {:?} from [70, 64]", [&[1], &ids[64..]].concat())
    );
    assert_eq!(leased(&core), [66, 0]);
}

#[test]
fn two_that_write_the_same_at_once_share_it_from_then_on() {
    let (mut core, ids) = (core_under(10_000), prompt(70));
    tick(
        &mut core,
        [submit(0, &ids, Some(7)), submit(1, &ids, Some(7))],
    );
    let done = Input::Done(step(&core), ones(1));
    tick(&mut core, [done]);
    let done = Input::Done(step(&core), ones(2));
    let told = tick(&mut core, [done]);
    // Those of the second, which has its prompt's rows now.
    let released = told.iter().filter(|word| word.starts_with("release"));
    assert!(released.count() >= 2, "{told:?}");
}

#[test]
fn all_of_it_goes_when_a_cap_falls_below_what_is_held() {
    let (mut core, ids) = (core_under(10_000), prompt(70));
    begin(&mut core, 0, &ids);
    finish(&mut core);
    core.layout.room.accounts[0].ledger.set_cap(Bytes(21));
    let blocks = [BlockId(0), BlockId(1)];
    let expected = [0, 1].map(|group| format!("release {group} {blocks:?}"));
    assert_eq!(tick(&mut core, []), expected);
    assert_eq!(leased(&core), [0, 0]);
}

#[test]
fn the_oldest_goes_for_a_request_that_needs_the_room() {
    let (mut core, ids) = (core_under(50), prompt(70));
    begin(&mut core, 0, &ids);
    finish(&mut core);
    assert_eq!(leased(&core), [0, 22]);
    let other: Vec<u32> = ids.iter().rev().copied().collect();
    let told = begin(&mut core, 1, &other);
    assert_eq!(told.last(), Some(&format!("run {other:?} from [0]")));
    // The second block, which nothing comes after.
    assert_eq!(leased(&core), [33, 11]);
    assert!(
        core.layout.room.check(Bytes(17)).is_ok(),
        "what is kept counts as room"
    );
}

#[test]
fn no_more_is_kept_than_its_share() {
    let mut core = core_under(100);
    for id in 0..8 {
        let ids: Vec<u32> = (0..70).map(|row| (row * 7 + id * 3) % 20 + 1).collect();
        begin(&mut core, id.into(), &ids);
        finish(&mut core);
    }
    // Three quarters of the cap have room for six blocks of each group.
    assert_eq!(leased(&core), [0, 66]);
}

#[test]
fn what_a_request_that_failed_began_with_is_forgotten() {
    let (mut core, ids) = (core_under(10_000), prompt(70));
    begin(&mut core, 0, &ids);
    finish(&mut core);
    begin(&mut core, 1, &ids);
    let mut out = OutputBuf::default();
    out.logits.extend([f32::NAN; VOCAB]);
    let done = Input::Done(step(&core), Ended::Output(out));
    let told = tick(&mut core, [done]);
    assert!(
        told.iter().any(|word| word.starts_with("end 1: ")),
        "{told:?}"
    );
    assert_eq!(leased(&core), [0, 0]);
    assert!(begin(&mut core, 2, &ids)[0].ends_with("from [0]"));
}

#[test]
fn rows_of_a_short_sequence_are_not_those_of_a_long_one() {
    let shape = Shape {
        rotations_change_above: Some(80),
        ..shape()
    };
    let mut core = Core::new(shape, layout(10_000), &limits(0, 4));
    let ids = prompt(100);
    begin(&mut core, 0, &ids[..70]);
    finish(&mut core);
    assert!(begin(&mut core, 1, &ids)[0].ends_with("from [0]"));
    finish(&mut core);
    assert!(begin(&mut core, 2, &ids)[0].ends_with("from [96]"));
    finish(&mut core);
    assert!(begin(&mut core, 3, &ids[..70])[0].ends_with("from [64]"));
}

#[test]
fn there_are_so_many_entries_and_no_more() {
    const ROWS: usize = 4096;
    let mut core = core_under(10_000_000);
    let entries = ROWS / gogrid_pipeline::BLOCK_TOKENS;
    for id in 0..=PREFIX_ENTRIES_MAX / entries {
        let mut ids = prompt(ROWS as u32 + 1);
        (ids[0], ids[1], ids[2]) = (id as u32 % 20, id as u32 / 20, 22);
        begin(&mut core, id as u64, &ids);
        finish(&mut core);
        assert!(core.prefixes.len() <= PREFIX_ENTRIES_MAX);
    }
    // The last beginning took the place of the first.
    assert_eq!(core.prefixes.len(), PREFIX_ENTRIES_MAX);
    let mut first = prompt(ROWS as u32 + 1);
    (first[0], first[1], first[2]) = (0, 0, 22);
    assert!(begin(&mut core, 1000, &first)[0].ends_with("from [0]"));
}
