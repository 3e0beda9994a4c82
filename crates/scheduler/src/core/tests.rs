//! The core in simulated time, against a fake pipeline that remembers tokens in its blocks.

mod fake;
mod hurry;
mod moves;
mod owners;
mod prefixes;
mod rig;
mod world;

use std::sync::Arc;

use gogrid_lease::{Kind, Ledger, Permits};
use gogrid_pipeline::RowFault;
use gogrid_units::Bytes;

use super::*;
use crate::error::Refusal;
use crate::request::{PromptRows, Sampling};
use fake::{Dice, VOCAB, WINDOWS, alone};
use world::{Spice, Tally, World, beginning};

#[test]
fn nothing_is_lost_stuck_or_leaked_whatever_happens() {
    let mut tally = Tally::default();
    for seed in 0..2000 {
        let mut world = World::new(seed, Spice::everything());
        world.run(60);
        world.drain();
        world.check_all_ended();
        tally += world.tally;
    }
    // Each of it is tried often.
    let Tally {
        moves,
        moves_refused,
        replaced,
        failed,
        hits,
        kept,
        late,
        parked,
        due,
        accepted,
    } = tally;
    assert!(moves > 2000 && moves_refused > 100, "{tally:?}");
    assert!(replaced > 1000 && failed > 30, "{tally:?}");
    assert!(hits > 600 && kept > 20_000, "{tally:?}");
    assert!(late > 1000 && due > 1000 && parked > 1000, "{tally:?}");
    assert!(accepted > 1000, "{tally:?}");
}

#[test]
fn moves_and_losses_change_no_token() {
    let spice = Spice {
        abandons: true,
        moves: true,
        losses: true,
        ..Spice::default()
    };
    for seed in 0..1500 {
        let mut world = World::new(seed, spice);
        world.run(60);
        world.drain();
        world.check_all_ended();
        world.check_none_failed(seed);
    }
}

#[test]
fn what_is_kept_changes_no_token() {
    let spice = Spice {
        cancels: true,
        abandons: true,
        ..Spice::default()
    };
    let mut tally = Tally::default();
    for seed in 0..1000 {
        let mut world = World::new(seed, spice);
        world.run(80);
        world.drain();
        world.check_all_ended();
        tally += world.tally;
    }
    assert!(tally.hits > 800, "{tally:?}");
}

#[test]
fn starts_are_apart_and_all_finish_when_nothing_goes_wrong() {
    let spice = Spice {
        tight: true,
        ..Spice::default()
    };
    for seed in 0..1000 {
        let mut world = World::new(seed, spice);
        world.run(40);
        world.drain();
        world.check_all_ended();
        world.check_starts_apart();
    }
}

fn shape() -> Shape {
    Shape {
        vocab: VOCAB,
        width: 1,
        ends: Arc::new([0]),
        rotations_change_above: None,
        drafts: true,
    }
}

/// One stage, in one memory.
fn layout(cap: u64) -> Layout {
    let kv_block = vec![Bytes(10), Bytes(1)];
    let account = Account {
        device: "cpu".to_owned(),
        ledger: Ledger::new(Bytes(cap)),
        kv_block,
    };
    let room = Room {
        accounts: vec![account],
        windows: WINDOWS.to_vec(),
    };
    Layout {
        room,
        depth: 1,
        rows_are_alone: true,
    }
}

#[test]
fn what_never_fits_is_refused_with_the_figures() {
    let Layout { room: space, .. } = layout(100);
    let held = space.accounts[0]
        .ledger
        .reserve(Kind::Weights, Bytes(60))
        .expect("it fits");
    // 4 blocks of 10 and 3 of 1 (a window of 40 and its own 97 rows).
    let refusal = space.refuse_what_never_fits(97).expect_err("44 > 40");
    let Refusal::MemoryCap {
        needed, room, cap, ..
    } = refusal
    else {
        panic!("{refusal}")
    };
    assert_eq!((needed, room, cap), (Bytes(44), Bytes(40), Bytes(100)));
    assert_eq!(space.refuse_what_never_fits(96), Ok(()));
    assert!(space.check(Bytes(40)).is_ok() && space.check(Bytes(41)).is_err());
    drop(held);
}

#[test]
fn a_cap_that_falls_refuses_what_waits_and_keeps_what_runs() {
    let mut world = World::new(1, Spice::default());
    world.submit(fake::greedy(vec![1; 64], 8));
    world.tick(Vec::new());
    world.set_caps(Bytes(10));
    world.submit(fake::greedy(vec![1; 64], 8));
    world.drain();
    let ends: Vec<_> = world
        .records
        .values()
        .map(|r| r.end.as_ref().expect("it ended"))
        .collect();
    assert!(ends[0].is_ok(), "{ends:?}");
    assert!(
        matches!(
            ends[1],
            Err(GenerateError::Refused(Refusal::OverCap { .. }))
        ),
        "{ends:?}"
    );
}

#[test]
fn a_sequence_holds_one_lease_from_its_start_to_its_end() {
    let mut world = World::new(3, Spice::default());
    world.submit(fake::greedy(vec![5; 40], 100));
    world.tick(Vec::new());
    let leased: Bytes = world.core.layout.room.needed(140).into_iter().sum();
    assert!(leased > Bytes::ZERO);
    assert_eq!(
        world.memories.leased(Kind::Kv).into_iter().sum::<Bytes>(),
        leased
    );
    world.drain();
    assert!(
        world
            .memories
            .used()
            .iter()
            .all(|&used| used == Bytes::ZERO)
    );
}

#[test]
fn forced_tokens_are_fed_one_decode_step_each() {
    let mut world = World::new(4, Spice::default());
    let fed = vec![3, 0, 4, 0];
    world.submit(fake::Wish::Force {
        prompt: PromptRows::of_ids(vec![7]),
        fed: fed.clone(),
    });
    world.drain();
    let record = &world.records[&0];
    let Some(Ok(ending)) = &record.end else {
        panic!("it failed")
    };
    assert_eq!(record.ids, fed);
    assert_eq!(
        (ending.figures.decode_steps, ending.figures.generated_tokens),
        (4, 4)
    );
}

#[test]
fn scores_are_those_of_the_tokens_that_follow() {
    let mut world = World::new(5, Spice::default());
    let mut dice = Dice(9);
    let ids: Vec<u32> = (0..300).map(|_| dice.below(VOCAB as u64) as u32).collect();
    let wish = fake::Wish::Score { ids };
    world.submit(wish.clone());
    world.drain();
    let Some(Ok(ending)) = &world.records[&0].end else {
        panic!("it failed")
    };
    assert_eq!(ending.values.len(), 299);
    assert_eq!(ending.values, alone(&wish).scores);
}

#[test]
fn a_seed_decides_the_tokens_and_another_changes_them() {
    let wish = |seed| fake::Wish::Sample {
        prompt: PromptRows::of_ids(vec![1, 2, 3]),
        most: 30,
        sampling: Sampling {
            temperature: 1.0,
            seed,
            ignore_eos: true,
            ..Sampling::default()
        },
        extras: fake::Extras::default(),
    };
    let tokens = |seed| alone(&wish(seed)).ids;
    assert_eq!(tokens(1), tokens(1));
    assert_ne!(tokens(1), tokens(2));
}

const MS: u64 = 1_000_000;

/// A core whose starts are `interval_ms` apart, on one stage that the test plays.
fn core(interval_ms: u64, batch: usize) -> Core {
    Core::new(shape(), layout(10_000), &limits(interval_ms, batch))
}

fn limits(interval_ms: u64, batch: usize) -> ResourceConfig {
    ResourceConfig {
        min_request_interval_ms: interval_ms,
        max_batch_size: batch,
        ..ResourceConfig::default()
    }
}

fn submit(id: u64, ms: u64) -> Input {
    let place = Permits::new(1).take().expect("there is one");
    let wish = fake::greedy(vec![1], 50);
    Input::Submit(beginning(id, wish, Moment(ms * MS)), place)
}

fn started(actions: &[Action]) -> Vec<u64> {
    let start = |action: &Action| match action {
        Action::Start(id) => Some(*id),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

#[test]
fn a_credit_is_the_requests_from_when_it_is_submitted() {
    let mut core = core(100, 1);
    core.tick(Moment(0), [submit(0, 0)]);
    core.tick(Moment(0), [Input::Ask(7)]);
    assert_eq!(started(&core.tick(Moment(100 * MS), [])), [7]);
    core.tick(Moment(100 * MS), [submit(1, 100)]);
    assert_eq!(core.counts(), (1, 1), "there is room for one");
    // Long after a credit that nobody took would have lapsed.
    let step = *core.steps.keys().next().expect("a step is in flight");
    let inputs = [Input::Cancel(0), Input::Done(step, Ended::Abandoned)];
    core.tick(Moment(5000 * MS), inputs);
    assert_eq!(core.counts(), (0, 1));
    assert_eq!(core.stats().total_requests, 2);
}

#[test]
fn a_request_that_is_cancelled_leaves_its_turn_to_the_next() {
    let mut core = core(100, 4);
    core.tick(Moment(0), [submit(0, 0), submit(1, 0), submit(2, 0)]);
    assert_eq!(core.counts(), (2, 1));
    core.tick(Moment(50 * MS), [Input::Cancel(1)]);
    core.tick(Moment(100 * MS), []);
    assert_eq!(core.counts(), (0, 2));
}

#[test]
fn a_shorter_interval_helps_those_who_wait_already() {
    let mut core = core(1000, 4);
    core.tick(Moment(0), [submit(0, 0), submit(1, 0)]);
    core.tick(Moment(0), [Input::Ask(7)]);
    let now = Moment(50 * MS);
    let mut actions = core.tick(
        now,
        [Input::Limits {
            limits: limits(10, 4),
            stops: Stops::default(),
        }],
    );
    actions.extend(core.tick(Moment(60 * MS), []));
    // The request came first.
    assert_eq!(core.counts(), (0, 2));
    assert_eq!(started(&actions), [7]);
}

/// A core of two sequences of which a step that decodes both is in flight, with the step's number.
fn two_in_flight() -> (Core, u64) {
    let mut core = core(0, 2);
    core.tick(Moment(0), [submit(0, 0), submit(1, 0)]);
    let step = *core.steps.keys().next().expect("a step is in flight");
    let mut out = OutputBuf::default();
    out.logits.extend(sound());
    let prefilled = core.tick(Moment(0), [Input::Done(step, Ended::Output(out))]);
    assert!(prefilled.iter().all(|a| !matches!(a, Action::End { .. })));
    let Some((&step, flight)) = core.steps.iter().next() else {
        panic!("no step is in flight")
    };
    assert_eq!(flight.sequences, [0, 1]);
    (core, step)
}

/// Logits by which a token is chosen that ends nothing.
fn sound() -> [f32; VOCAB] {
    std::array::from_fn(|id| if id == 1 { 1.0 } else { 0.5 })
}

/// The sequences that failed by what the stages gave, with the problems.
fn failed(actions: &[Action]) -> Vec<(u64, &str)> {
    let failed = actions.iter().filter_map(|action| match action {
        Action::End {
            id,
            end: Err(GenerateError::BadOutput(problem)),
        } => Some((*id, &problem[..])),
        Action::End { id, end } => panic!("{id} ended with {end:?}"),
        _ => None,
    });
    failed.collect()
}

#[test]
fn logits_that_say_nothing_end_the_request_and_no_other() {
    let (mut core, step) = two_in_flight();
    let mut out = OutputBuf::default();
    out.logits.extend([f32::NAN; VOCAB]);
    out.logits.extend(sound());
    let actions = core.tick(Moment(0), [Input::Done(step, Ended::Output(out))]);
    let problem = "the logits after 2 tokens are not finite";
    assert_eq!(failed(&actions), [(0, problem)]);
    assert!(core.degraded().is_some());
}

#[test]
fn a_fault_ends_the_request_whose_row_it_is() {
    let (mut core, step) = two_in_flight();
    let mut out = OutputBuf::default();
    out.logits.extend([sound(), sound()].concat());
    let what = "a fault".to_owned();
    out.faults.push(RowFault { row: 1, what });
    let actions = core.tick(Moment(0), [Input::Done(step, Ended::Output(out))]);
    assert_eq!(failed(&actions), [(1, "a fault, at position 0")]);
}

/// Logits by which this token is chosen.
fn choosing(chosen: usize) -> [f32; VOCAB] {
    std::array::from_fn(|id| if id == chosen { 1.0 } else { 0.5 })
}

/// A core whose one sequence has said `1 2 3 1 2 3 …`, with a step in flight that has a draft, and that
/// step's number and rows.
fn drafted() -> (Core, u64, usize) {
    let mut core = core(0, 1);
    core.tick(Moment(0), [submit(0, 0)]);
    for round in 0.. {
        let (&step, flight) = core.steps.iter().next().expect("a step is in flight");
        let rows = flight.step.rows();
        if rows > 1 {
            return (core, step, rows);
        }
        let mut out = OutputBuf::default();
        out.logits.extend(choosing(1 + (round + 1) % 3));
        core.tick(
            Moment((round as u64 + 1) * MS),
            [Input::Done(step, Ended::Output(out))],
        );
    }
    unreachable!("a text that goes round is drafted")
}

/// The tokens that were told.
fn told(actions: &[Action]) -> Vec<u32> {
    let ids = actions.iter().filter_map(|action| match action {
        Action::Delta { ids, .. } => Some(ids.clone()),
        _ => None,
    });
    ids.flatten().collect()
}

#[test]
fn of_a_draft_what_is_chosen_too_comes_in_one_step() {
    let (mut core, step, rows) = drafted();
    let draft = core.steps[&step].step.sequences[0].wants.len() - 1;
    assert_eq!(draft, rows - 1);
    let next = |core: &Core| 1 + core.running[0].content.added() % 3;
    let first = next(&core);
    // The first token as drafted, then another, and the rows after it say nothing any more.
    let mut out = OutputBuf::default();
    out.logits.extend(choosing(1 + first % 3));
    out.logits.extend(choosing(9));
    (2..rows).for_each(|_| out.logits.extend([f32::NAN; VOCAB]));
    let ids = told(&core.tick(Moment(50 * MS), [Input::Done(step, Ended::Output(out))]));
    assert_eq!(ids, [1 + first as u32 % 3, 9]);
    let (_, flight) = core.steps.iter().next().expect("it goes on");
    assert_eq!(
        flight.step.sequences[0].start + 1,
        core.running[0].content.len()
    );
}

#[test]
fn a_fault_in_a_drafts_row_is_no_fault_of_the_request() {
    let (mut core, step, rows) = drafted();
    let first = 1 + core.running[0].content.added() % 3;
    let mut out = OutputBuf::default();
    (0..rows).for_each(|row| out.logits.extend(choosing(1 + (first + row) % 3)));
    let what = "a fault".to_owned();
    out.faults.push(RowFault { row: 1, what });
    let actions = core.tick(Moment(50 * MS), [Input::Done(step, Ended::Output(out))]);
    assert_eq!(told(&actions).len(), 1);
    assert!(core.degraded().is_none());
}

#[test]
fn no_sequence_takes_values_of_an_output_that_has_another_number_of_them() {
    // Values of one row where two are wanted, and of three.
    for rows in [0, 1, 3] {
        let (mut core, step) = two_in_flight();
        let mut out = OutputBuf::default();
        out.logits.extend(sound().repeat(rows));
        let what = "a fault".to_owned();
        out.faults.push(RowFault { row: 1, what });
        let actions = core.tick(Moment(0), [Input::Done(step, Ended::Output(out))]);
        let given = rows * VOCAB;
        let problem = format!(
            "the last stage gave 0 hidden values, {given} logits and 0 log-probabilities, where the \
             step wants 0 hidden values, {} logits and 0 log-probabilities",
            2 * VOCAB
        );
        // Each hears what is known of its own row.
        let expected = [(0, &problem[..]), (1, "a fault, at position 0")];
        assert_eq!(failed(&actions), expected);
    }
}
