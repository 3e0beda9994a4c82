//! Single moves and losses, step by step.

use super::*;

/// A request that runs for a while: three rows, then tokens until it has fifty.
fn submit(id: u64) -> Input {
    let place = Permits::new(1).take().expect("there is one");
    let wish = fake::greedy(vec![1, 2, 3], 50);
    Input::Submit(beginning(id, wish, Moment(0)), place)
}

fn core() -> Core {
    Core::new(shape(), layout(10_000), &limits(0, 4))
}

/// The step in flight.
pub(super) fn step(core: &Core) -> u64 {
    *core.steps.keys().next().expect("a step is in flight")
}

/// Logits whose greatest is that of token 1, once for each of some sequences.
pub(super) fn ones(sequences: usize) -> Ended {
    let sound: [f32; VOCAB] = std::array::from_fn(|id| if id == 1 { 1.0 } else { 0.5 });
    Ended::Output(OutputBuf {
        logits: sound.repeat(sequences),
        ..OutputBuf::default()
    })
}

fn lost() -> Ended {
    Ended::Lost(GenerateError::BadOutput("it is gone".to_owned()))
}

/// What runs, and what is told, in words.
pub(super) fn words(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| {
        Some(match action {
            Action::Run { rows, step, .. } => {
                let starts: Vec<_> = step.sequences.iter().map(|rows| rows.start).collect();
                format!("run {:?} from {starts:?}", rows.ids)
            }
            Action::Release { group, blocks } => format!("release {group} {blocks:?}"),
            Action::Start(id) => format!("start {id}"),
            Action::Delta { id, ids, .. } => format!("delta {id} {ids:?}"),
            Action::End { id, end } => match end {
                Ok(ending) => format!("end {id} {:?}", ending.reason),
                Err(error) => format!("end {id}: {error}"),
            },
            Action::Queued { .. }
            | Action::Started { .. }
            | Action::Match { .. }
            | Action::Prompt { .. }
            | Action::Reuse(_) => return None,
        })
    };
    actions.iter().filter_map(word).collect()
}

pub(super) fn tick(core: &mut Core, inputs: impl IntoIterator<Item = Input>) -> Vec<String> {
    words(&core.tick(Moment(0), inputs))
}

#[test]
fn what_was_lost_is_fed_again_and_not_told_again() {
    let mut core = core();
    tick(&mut core, [submit(0)]);
    let done = Input::Done(step(&core), ones(1));
    assert_eq!(tick(&mut core, [done]), ["delta 0 [1]", "run [1] from [3]"]);
    let done = Input::Done(step(&core), lost());
    assert_eq!(tick(&mut core, [done]), [""; 0]);
    assert_eq!(core.degraded(), Some("it is gone"));
    assert_eq!((core.steps_in_flight(), core.wake()), (0, None));
    // Requests queue meanwhile.
    assert_eq!(tick(&mut core, [submit(1)]), [""; 0]);
    assert_eq!(core.counts(), (1, 1));
    let replaced = tick(&mut core, [Input::Replaced(layout(10_000))]);
    assert_eq!(replaced, ["run [1, 2, 3, 1] from [0]"]);
    let done = Input::Done(step(&core), ones(1));
    let told = tick(&mut core, [done]);
    assert_eq!(told[0], "delta 0 [1]");
    assert_eq!(core.degraded(), None);
}

#[test]
fn stages_that_are_gone_are_told_nothing() {
    let mut core = core();
    tick(&mut core, [submit(0), submit(1)]);
    let inputs = [
        Input::Done(step(&core), lost()),
        Input::Cancel(0),
        Input::Replaced(layout(10_000)),
    ];
    let told = tick(&mut core, inputs);
    assert_eq!(told, ["end 0 Cancelled", "run [1, 2, 3] from [0]"]);
}

#[test]
fn a_sequence_without_room_where_the_stages_stand_ends_with_the_figures() {
    let mut core = core();
    tick(&mut core, [submit(0), submit(1)]);
    let done = Input::Done(step(&core), lost());
    tick(&mut core, [done]);
    // 53 rows take two blocks of each group: 22 bytes.
    let told = tick(&mut core, [Input::Replaced(layout(43))]);
    let [refused, run] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(
        refused.starts_with("end 1: cpu: 22 B needed, 21 B left"),
        "{refused}"
    );
    assert_eq!(run, "run [1, 2, 3] from [0]");
}

#[test]
fn a_move_takes_the_blocks_that_were_written_and_goes_on() {
    let mut core = core();
    tick(&mut core, [submit(0), submit(1)]);
    let done = Input::Done(step(&core), ones(1));
    tick(&mut core, [done]);
    core.hold_still(true);
    // The first decodes and the second is prefilled for the first time.
    let abandoned = Input::Done(step(&core), Ended::Abandoned);
    assert_eq!(tick(&mut core, [abandoned]), [""; 0]);
    assert_eq!(core.written_blocks(), [[BlockId(0)], [BlockId(0)]]);
    let elsewhere = layout(100);
    let ledger = elsewhere.room.accounts[0].ledger.clone();
    let leases = core.lease_for(&elsewhere.room).expect("there is room");
    assert_eq!(ledger.used(), Bytes(44));
    assert_eq!(core.layout.room.accounts[0].ledger.used(), Bytes(44));
    let here = core.layout.room.accounts[0].ledger.clone();
    assert_eq!(
        tick(&mut core, [Input::Cancel(1)]).len(),
        3,
        "an end and two releases"
    );
    core.hold_still(false);
    let moved = tick(&mut core, [Input::Moved(elsewhere, leases)]);
    assert_eq!(moved, ["run [1] from [3]"]);
    assert_eq!((here.used(), ledger.used()), (Bytes::ZERO, Bytes(22)));
}

#[test]
fn a_move_that_finds_no_room_changes_nothing() {
    let mut core = core();
    tick(&mut core, [submit(0)]);
    core.hold_still(true);
    let refusal = core.lease_for(&layout(21).room).expect_err("22 > 21");
    assert!(matches!(refusal, Refusal::MemoryCap { .. }), "{refusal}");
    core.hold_still(false);
    let done = Input::Done(step(&core), ones(1));
    assert_eq!(tick(&mut core, [done]), ["delta 0 [1]", "run [1] from [3]"]);
}

#[test]
fn the_first_that_waits_gives_its_leases_back_for_a_move_and_takes_others_later() {
    let mut core = Core::new(shape(), layout(10_000), &limits(1000, 4));
    tick(&mut core, [submit(0), submit(1)]);
    let ledger = core.layout.room.accounts[0].ledger.clone();
    assert_eq!(
        ledger.used(),
        Bytes(44),
        "the second waits for the interval"
    );
    core.hold_still(true);
    let done = Input::Done(step(&core), Ended::Abandoned);
    tick(&mut core, [done]);
    let elsewhere = layout(100);
    let leases = core.lease_for(&elsewhere.room).expect("there is room");
    assert_eq!(ledger.used(), Bytes(22));
    core.hold_still(false);
    tick(&mut core, [Input::Moved(elsewhere, leases)]);
    assert_eq!(core.layout.room.accounts[0].ledger.used(), Bytes(44));
    assert_eq!(ledger.used(), Bytes::ZERO);
}

#[test]
fn when_nothing_can_run_any_more_all_end_and_all_that_come() {
    let mut core = Core::new(shape(), layout(10_000), &limits(1000, 4));
    tick(&mut core, [submit(0), submit(1)]);
    let error = GenerateError::BadOutput("no device is left".to_owned());
    let again = GenerateError::Stopped;
    let inputs = [
        Input::Failed(error),
        Input::Failed(again),
        submit(2),
        Input::Ask(7),
    ];
    let told = tick(&mut core, inputs);
    assert_eq!(
        told,
        ["end 1: no device is left", "end 2: no device is left"]
    );
    assert_eq!(core.degraded(), Some("no device is left"));
    // The one in a step ends with it, whatever it gave.
    let done = Input::Done(step(&core), ones(1));
    let told = tick(&mut core, [done]);
    let end = ["delta 0 [1]", "end 0: no device is left"];
    assert_eq!(told[..2], end);
    assert_eq!(core.degraded(), Some("no device is left"));
    assert_eq!(core.counts(), (0, 0));
    let actions = core.tick(Moment(1000 * MS), []);
    assert_eq!(started(&actions), [7], "nobody waits for a start for ever");
}

#[test]
fn a_model_without_a_place_goes_on_when_it_has_one_unless_it_failed_for_another_reason() {
    let no_place = || GenerateError::NoPlaceLeft {
        lost: "gpu:0".to_owned(),
        problem: "none is left".to_owned(),
    };
    let mut core = Core::new(shape(), layout(10_000), &limits(0, 4));
    let told = tick(&mut core, [Input::Failed(no_place()), submit(0)]);
    assert_eq!(told, ["end 0: gpu:0; none is left"]);
    assert_eq!(core.degraded(), Some("gpu:0; none is left"));
    tick(&mut core, [Input::Replaced(layout(10_000)), submit(1)]);
    let done = Input::Done(step(&core), ones(1));
    assert_eq!(tick(&mut core, [done])[0], "delta 1 [1]");
    assert_eq!(core.degraded(), None);

    let mut core = Core::new(shape(), layout(10_000), &limits(0, 4));
    let broken = GenerateError::BadOutput("it broke".to_owned());
    tick(
        &mut core,
        [Input::Failed(no_place()), Input::Failed(broken)],
    );
    let inputs = [Input::Replaced(layout(10_000)), submit(0)];
    assert_eq!(tick(&mut core, inputs), ["end 0: it broke"]);
}
