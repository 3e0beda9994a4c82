//! Requests of the machine's owner beside those of guests.

use gogrid_governor::Reason;
use gogrid_lease::Permits;
use gogrid_units::{Each, Moment, Whose};

use super::fake::{self, Wish};
use super::hurry::started;
use super::world::beginning;
use super::{MS, core, layout, limits, shape};
use crate::core::{Action, Beginning, Core, Ended, Hold, Input, Urgency};
use crate::pause::{Stop, Stops};

fn submit_wish(id: u64, whose: Whose, wish: Wish) -> Input {
    let place = Permits::new(1).take().expect("there is one");
    let beginning = Beginning {
        urgency: Urgency {
            whose,
            ..Urgency::default()
        },
        ..beginning(id, wish, Moment(0))
    };
    Input::Submit(beginning, place)
}

fn submit(id: u64, whose: Whose) -> Input {
    submit_wish(id, whose, fake::greedy(vec![1], 50))
}

fn order(batch: usize, stops: Stops) -> Input {
    let limits = limits(0, batch);
    Input::Limits { limits, stops }
}

/// Guests are stopped by others' load, and the owner is not.
fn loaded() -> Stops {
    let reason = Reason::OthersCpu { others: 1.0 };
    let stop = Stop {
        reason,
        until: None,
    };
    Stops {
        each: Each {
            owner: None,
            guest: Some(stop),
        },
        owner_first: true,
    }
}

/// Guests may take less.
fn limited() -> Stops {
    Stops {
        owner_first: true,
        ..Stops::default()
    }
}

/// The steps that begin: their sequences, and whose they are.
fn runs(core: &Core, actions: &[Action]) -> Vec<(Vec<u64>, Whose)> {
    let run = |action: &Action| match action {
        Action::Run { id, whose, .. } => Some((core.steps[id].sequences.clone(), *whose)),
        _ => None,
    };
    actions.iter().filter_map(run).collect()
}

fn abandoned(core: &Core) -> Input {
    let step = core.steps.keys().next().expect("a step is in flight");
    Input::Done(*step, Ended::Abandoned)
}

fn why(core: &Core, whose: Whose) -> Option<&'static str> {
    core.stop(whose).map(|stop| stop.reason.name())
}

#[test]
fn the_owners_request_runs_where_guests_are_stopped() {
    let mut core = core(0, 1);
    let now = Moment(0);
    let begun = core.tick(now, [submit(0, Whose::Guest)]);
    assert_eq!(runs(&core, &begun), [(vec![0], Whose::Guest)]);
    let done = abandoned(&core);
    let told = core.tick(now, [order(1, loaded()), done, submit(1, Whose::Guest)]);
    assert_eq!(runs(&core, &told), []);
    assert_eq!(
        (core.wake(), why(&core, Whose::Guest)),
        (None, Some("others_cpu"))
    );
    // The one place is a guest's, and another guest waits before it.
    let told = core.tick(now, [submit(2, Whose::Owner)]);
    assert_eq!(started(&told), [2]);
    assert_eq!(runs(&core, &told), [(vec![2], Whose::Owner)]);
    assert_eq!(why(&core, Whose::Owner), None);
    let done = abandoned(&core);
    let told = core.tick(now, [Input::Cancel(2), done, order(1, Stops::default())]);
    assert_eq!(runs(&core, &told), [(vec![0], Whose::Guest)]);
}

#[test]
fn guests_that_may_take_less_wait_while_the_owners_request_runs() {
    let mut core = core(0, 4);
    let now = Moment(0);
    core.tick(now, [order(4, limited()), submit(0, Whose::Guest)]);
    let done = abandoned(&core);
    let told = core.tick(now, [done, submit(1, Whose::Owner)]);
    assert_eq!(runs(&core, &told), [(vec![1], Whose::Owner)]);
    assert_eq!(why(&core, Whose::Guest), Some("owner_first"));
    let done = abandoned(&core);
    let told = core.tick(now, [Input::Cancel(1), done]);
    assert_eq!(runs(&core, &told), [(vec![0], Whose::Guest)]);
    assert_eq!(why(&core, Whose::Guest), None);
    // So it is where the owner's runs in another engine.
    let done = abandoned(&core);
    core.hold_back(Each {
        owner: Hold::Nothing,
        guest: Hold::OwnerFirst,
    });
    let told = core.tick(Moment(MS), [done]);
    assert_eq!(runs(&core, &told), []);
    assert_eq!(why(&core, Whose::Guest), Some("owner_first"));
}

#[test]
fn both_share_steps_where_both_may_take_as_much() {
    let mut core = core(0, 4);
    let now = Moment(0);
    core.tick(now, [submit(0, Whose::Guest)]);
    let done = abandoned(&core);
    let told = core.tick(now, [done, submit(1, Whose::Owner)]);
    // One prompt at a time, and the owner's first.
    assert_eq!(runs(&core, &told), [(vec![1], Whose::Owner)]);
}

#[test]
fn a_guest_gives_its_room_to_the_owners_request_and_goes_on_after_it() {
    let wish = || fake::greedy(vec![1; 40], 50);
    let rows = 90;
    let cap = layout(10_000).room.needed(rows)[0].0;
    // Room for one of them, and not for two.
    let mut core = Core::new(shape(), layout(cap * 3 / 2), &limits(0, 4));
    let now = Moment(0);
    core.tick(now, [submit_wish(0, Whose::Guest, wish())]);
    core.tick(now, [submit_wish(1, Whose::Guest, wish())]);
    let told = core.tick(now, [submit_wish(2, Whose::Owner, wish())]);
    assert_eq!(started(&told), [0; 0], "its step is in flight");
    let done = abandoned(&core);
    let told = core.tick(now, [done]);
    assert_eq!(started(&told), [2]);
    assert_eq!(runs(&core, &told), [(vec![2], Whose::Owner)]);
    assert!(core.running[0].is_parked);
    let done = abandoned(&core);
    let told = core.tick(now, [Input::Cancel(2), done]);
    // It goes on before the guest that waits.
    assert_eq!(started(&told), [0; 0]);
    assert_eq!(runs(&core, &told), [(vec![0], Whose::Guest)]);
    assert!(!core.running[0].is_parked);
    let done = abandoned(&core);
    let told = core.tick(now, [Input::Cancel(0), done]);
    assert_eq!(started(&told), [1]);
}

#[test]
fn a_caller_that_asks_for_a_start_is_a_guest() {
    let mut core = core(100, 4);
    let now = Moment(0);
    core.tick(now, [order(4, loaded()), Input::Ask(7)]);
    assert_eq!(core.wake(), None);
    let told = core.tick(Moment(MS), [submit(0, Whose::Owner)]);
    assert_eq!(started(&told), [0], "nobody who is stopped goes before it");
    let told = core.tick(Moment(500 * MS), [order(4, Stops::default())]);
    let starts = told.iter().filter(|a| matches!(a, Action::Start(7)));
    assert_eq!(starts.count(), 1);
}
