//! Priorities and deadlines, and what is told of them.

use std::time::Duration;

use gogrid_governor::Reason;
use gogrid_lease::Permits;
use gogrid_pipeline::OutputBuf;

use super::fake::{self, VOCAB};
use super::world::beginning;
use super::{MS, core, layout, limits, shape};
use crate::core::{Action, Beginning, Core, Deadline, Ended, Hold, Input, Urgency};
use crate::error::{GenerateError, Refusal};
use crate::pause::{Stop, Stops};
use crate::request::Priority;
use gogrid_units::{Each, Moment};

const SECOND: u64 = 1000 * MS;

fn submit(id: u64, at: Moment, urgency: Urgency) -> Input {
    let place = Permits::new(1).take().expect("there is one");
    let beginning = Beginning {
        urgency,
        ..beginning(id, fake::greedy(vec![1], 50), at)
    };
    Input::Submit(beginning, place)
}

fn of(priority: Priority) -> Urgency {
    Urgency {
        priority,
        ..Urgency::default()
    }
}

fn due_after(ms: u64, at: Moment) -> Urgency {
    let after = Duration::from_millis(ms);
    Urgency {
        deadline: Some(Deadline {
            after,
            at: at.after(after),
        }),
        ..Urgency::default()
    }
}

/// The requests that started, in order.
pub(super) fn started(actions: &[Action]) -> Vec<u64> {
    let start = |action: &Action| match action {
        Action::Started { id, .. } => Some(*id),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

/// Where requests are told that they wait.
fn queued(actions: &[Action]) -> Vec<(u64, usize)> {
    let place = |action: &Action| match action {
        Action::Queued { id, position } => Some((*id, *position)),
        _ => None,
    };
    actions.iter().filter_map(place).collect()
}

/// The requests whose deadlines passed, with why and when to come back.
fn late(actions: &[Action]) -> Vec<(u64, Option<Reason>, Duration)> {
    let late = |action: &Action| match action {
        Action::End {
            id,
            end:
                Err(GenerateError::Refused(Refusal::Deadline {
                    why, retry_after, ..
                })),
        } => Some((*id, why.clone(), *retry_after)),
        _ => None,
    };
    actions.iter().filter_map(late).collect()
}

fn step(core: &Core) -> u64 {
    *core.steps.keys().next().expect("a step is in flight")
}

/// Ends what runs, so that the next starts.
fn next(core: &mut Core, running: u64, now: Moment) -> Vec<u64> {
    let done = Input::Done(step(core), Ended::Abandoned);
    started(&core.tick(now, [Input::Cancel(running), done]))
}

#[test]
fn a_higher_class_goes_first_and_each_hears_where_it_stands() {
    let mut core = core(0, 1);
    let now = Moment(0);
    core.tick(now, [submit(0, now, of(Priority::Low))]);
    let told = core.tick(now, [submit(1, now, of(Priority::Low))]);
    assert_eq!(queued(&told), [(1, 0)]);
    let told = core.tick(now, [submit(2, now, of(Priority::High))]);
    assert_eq!(queued(&told), [(2, 0), (1, 1)]);
    let told = core.tick(
        now,
        [
            submit(3, now, of(Priority::Normal)),
            submit(4, now, of(Priority::High)),
        ],
    );
    assert_eq!(queued(&told), [(4, 1), (3, 2), (1, 3)]);
    assert_eq!(queued(&core.tick(now, [])), [], "nothing has changed");
    let mut running = 0;
    for expected in [2, 4, 3, 1] {
        assert_eq!(next(&mut core, running, now), [expected]);
        running = expected;
    }
}

#[test]
fn a_head_that_is_displaced_gives_its_leases_up() {
    let mut core = core(100, 4);
    let now = Moment(0);
    core.tick(now, [submit(0, now, of(Priority::Normal))]);
    core.tick(now, [submit(1, now, of(Priority::Low))]);
    core.tick(now, [submit(2, now, of(Priority::Low))]);
    assert_eq!(core.counts(), (2, 1), "they wait for the interval");
    let rows = core.queue[0].rows_leased();
    assert!(rows > 0);
    core.tick(now, [submit(3, now, of(Priority::High))]);
    let leased: Vec<_> = core
        .queue
        .iter()
        .map(|w| (w.id(), w.rows_leased()))
        .collect();
    assert_eq!(leased, [(3, rows), (1, 0), (2, 0)]);
    for (ms, expected) in [(100, 3), (200, 1), (300, 2)] {
        assert_eq!(started(&core.tick(Moment(ms * MS), [])), [expected]);
    }
}

#[test]
fn a_credit_stays_with_its_request_whatever_comes_before_it() {
    let mut core = core(100, 1);
    let now = Moment(0);
    core.tick(now, [submit(0, now, of(Priority::Normal))]);
    core.tick(now, [Input::Ask(7)]);
    let now = Moment(100 * MS);
    core.tick(now, []);
    core.tick(now, [submit(1, now, of(Priority::Low))]);
    core.tick(now, [submit(2, now, of(Priority::High))]);
    // The one without a credit is the interval after the start that the credit counts as.
    assert_eq!(next(&mut core, 0, now), [0; 0]);
    assert_eq!(core.wake(), Some(Moment(200 * MS)));
    assert_eq!(started(&core.tick(Moment(200 * MS), [])), [2]);
    assert_eq!(next(&mut core, 2, Moment(300 * MS)), [1]);
    assert_eq!(core.stats().total_requests, 3);
}

#[test]
fn a_low_request_comes_before_newcomers_of_a_higher_class_in_the_end() {
    let mut core = core(0, 1);
    core.tick(Moment(0), [submit(0, Moment(0), of(Priority::Low))]);
    core.tick(Moment(0), [submit(1, Moment(0), of(Priority::Low))]);
    let mut running = 0;
    // A request of the highest class comes every ten seconds, and takes as long.
    for number in 1..30 {
        let now = Moment(number * 10 * SECOND);
        let id = 1 + number;
        core.tick(now, [submit(id, now, of(Priority::High))]);
        let started = next(&mut core, running, now);
        running = started[0];
        if running == 1 {
            // After two minutes it counts as the highest, and is older than the others.
            return assert_eq!(number, 12);
        }
    }
    panic!("it starves");
}

#[test]
fn a_deadline_passes_for_what_waits_and_for_what_runs_and_not_after_a_token() {
    let mut core = core(0, 1);
    let begin = Moment(0);
    core.tick(begin, [submit(0, begin, due_after(50, begin))]);
    core.tick(begin, [submit(1, begin, due_after(80, begin))]);
    // What is in a step ends with it.
    assert_eq!(core.wake(), Some(Moment(80 * MS)));
    assert_eq!(late(&core.tick(Moment(60 * MS), [])), []);
    let sound = std::array::from_fn::<f32, VOCAB, _>(|id| if id == 1 { 1.0 } else { 0.5 });
    let out = || OutputBuf {
        logits: sound.to_vec(),
        ..OutputBuf::default()
    };
    let done = Input::Done(step(&core), Ended::Output(out()));
    let actions = core.tick(Moment(61 * MS), [done]);
    let second = Duration::from_secs(1);
    assert_eq!(late(&actions), [(0, None, second)]);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Delta { .. }))
    );
    // The next has its first token in time, and goes on after its deadline.
    let done = Input::Done(step(&core), Ended::Output(out()));
    core.tick(Moment(79 * MS), [done]);
    let abandoned = Input::Done(step(&core), Ended::Abandoned);
    assert_eq!(late(&core.tick(Moment(500 * MS), [abandoned])), []);
    assert_eq!((core.counts(), core.wake()), ((0, 1), None));
}

#[test]
fn a_deadline_passes_while_work_is_stopped_with_the_reason_and_the_time_left() {
    let stop = |reason: Reason, until: Option<Moment>| Input::Limits {
        limits: limits(0, 1),
        stops: Stops {
            each: Each::of(|_| {
                Some(Stop {
                    reason: reason.clone(),
                    until,
                })
            }),
            owner_first: false,
        },
    };
    let check = |stop: Option<Input>, hold: Hold, expected: (Option<Reason>, Duration)| {
        let mut core = Core::new(shape(), layout(10_000), &limits(0, 1));
        core.hold_back(Each::of(|_| hold));
        let begin = Moment(0);
        core.tick(
            begin,
            stop.into_iter()
                .chain([submit(0, begin, due_after(50, begin))]),
        );
        assert_eq!(core.wake(), Some(Moment(50 * MS)));
        let (why, retry_after) = expected;
        assert_eq!(
            late(&core.tick(Moment(50 * MS), [])),
            [(0, why, retry_after)]
        );
        assert_eq!(core.wake(), None);
    };
    let second = Duration::from_secs(1);
    let snoozed = Reason::Snoozed { left_s: 100 };
    let until = Some(Moment(100 * SECOND + 50 * MS));
    let left = Duration::from_secs(100);
    check(
        Some(stop(snoozed.clone(), until)),
        Hold::Other,
        (Some(snoozed), left),
    );
    check(
        Some(stop(Reason::Battery, None)),
        Hold::Nothing,
        (Some(Reason::Battery), second),
    );
    check(None, Hold::ByHand, (Some(Reason::Paused), second));
    check(None, Hold::Other, (None, second));
}

#[test]
fn a_clock_that_goes_back_puts_no_deadline_further_off() {
    let mut core = core(0, 1);
    let begin = Moment(1000 * SECOND);
    core.hold_back(Each::of(|_| Hold::ByHand));
    core.tick(begin, [submit(0, begin, due_after(50, begin))]);
    core.tick(Moment(0), []);
    assert_eq!(core.wake(), Some(Moment(50 * MS)));
}
