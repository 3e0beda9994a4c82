//! Callers: requests of every kind, heard to their end or dropped on the way.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use corpgrid_scheduler::{
    Event, Finish, GenerateError, GenerateRequest, Generation, HeterogeneousPipeline, Refusal,
    Whose,
};
use futures_executor::block_on;
use futures_util::{Stream, StreamExt};

use super::books::Operation;
use super::plan::{Ask, Ending, Plan, RequestPlan};
use super::world::World;
use crate::clock::sleep;

/// How long a waker that panics waits for something to wake it.
const WAKER_WAITS: Duration = Duration::from_millis(500);
/// How long a caller waits after a refusal, at least and at most.
const REFUSED_WAITS: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_millis(1500));

/// Asks one request after the other until the round ends.
pub(super) fn call(world: &World, mut plan: Plan) {
    while world.goes_on() {
        let Some(first) = world.first() else { return };
        let ended = one(world, first, plan.request());
        world.books.count_request(ended.outcome, ended.as_meant);
        let (least, most) = match ended.as_meant {
            true => (Duration::ZERO, Duration::from_millis(150)),
            false => REFUSED_WAITS,
        };
        world.wait(plan.wait(least, most));
    }
}

/// How a request ended.
struct Ended {
    outcome: &'static str,
    /// Not refused and not failed: heard to its end, or left by its caller on purpose.
    as_meant: bool,
}

/// Runs a request in sight of the wall clock.
fn one(world: &World, first: Arc<HeterogeneousPipeline>, request: RequestPlan) -> Ended {
    let second = world.second().filter(|_| request.to_second);
    let (pipeline, may_stop) = match second {
        Some(second) => (second, true),
        None => (first, false),
    };
    let _flight = world.books.begin(Operation::Request, named(&request.ask));
    let run = async {
        if request.throttled {
            pipeline.throttle_if_needed().await;
        }
        match request.ask {
            Ask::Score(ids) => ended(pipeline.score(ids, Whose::Guest).await.map(|_| "scored")),
            Ask::Generate(asked) => generate(world, pipeline, *asked, request.ending).await,
        }
    };
    let outcome = match block_on(run) {
        Ok(outcome) => outcome,
        Err(GenerateError::Stopped) if may_stop => "model closed",
        Err(error) => {
            world.books.fault(format!("a request failed: {error}"));
            "failed"
        }
    };
    Ended {
        outcome,
        as_meant: !outcome.starts_with("refused") && !["failed", "model closed"].contains(&outcome),
    }
}

fn named(ask: &Ask) -> String {
    let what = match ask {
        Ask::Score(ids) => format!("the scores of {} tokens", ids.len()),
        Ask::Generate(request) => format!("{} tokens, {:?}", request.max_tokens, request.prompt),
    };
    what.chars().take(200).collect()
}

/// A chat whose answer is of no interest, with a model whose template is hostile.
pub(super) fn chat(
    world: &World,
    pipeline: HeterogeneousPipeline,
    request: GenerateRequest,
) -> Result<&'static str, GenerateError> {
    let _flight = world
        .books
        .begin(Operation::HostileChat, "a chat with a hostile template");
    block_on(generate(world, Arc::new(pipeline), request, Ending::Whole))
}

/// The pipeline is let go once the request is admitted, so that it can be closed meanwhile.
async fn generate(
    world: &World,
    pipeline: Arc<HeterogeneousPipeline>,
    request: GenerateRequest,
    ending: Ending,
) -> Result<&'static str, GenerateError> {
    let generation = pipeline.generate(request).await;
    drop(pipeline);
    let generation = match generation {
        Ok(generation) => generation,
        Err(refusal) => return refused(refusal),
    };
    match ending {
        Ending::Whole => ended(hear(world, generation, usize::MAX).await),
        Ending::DroppedAfter(events) => ended(hear(world, generation, events).await),
        Ending::DroppedByPanic => {
            // Unwinds without the words that a panic would print.
            let unwind = AssertUnwindSafe(move || {
                let _held = generation;
                resume_unwind(Box::new("a caller's own panic"));
            });
            let _ = catch_unwind(unwind);
            Ok("dropped by a panic")
        }
        Ending::WakerPanics => {
            leave_to_panicking_waker(generation);
            Ok("left to a waker that panics")
        }
    }
}

/// Hears so many events at most, then drops it.
async fn hear(
    world: &World,
    mut generation: Generation,
    events: usize,
) -> Result<&'static str, GenerateError> {
    for _ in 0..events {
        let event = generation.next().await;
        world.books.spent();
        match event {
            None => return Ok("ended without a word"),
            Some(Ok(Event::Finished { reason, .. })) => {
                return Ok(match reason {
                    Finish::Stop => "finished: stop",
                    Finish::StopString => "finished: stop string",
                    Finish::Length => "finished: length",
                    Finish::Cancelled => "cancelled",
                    _ => "finished",
                });
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
        }
    }
    Ok("dropped")
}

/// What of errors is no fault: a refusal that says why.
fn ended(outcome: Result<&'static str, GenerateError>) -> Result<&'static str, GenerateError> {
    match outcome {
        Err(GenerateError::Refused(refusal)) => refused(refusal),
        other => other,
    }
}

fn refused(refusal: Refusal) -> Result<&'static str, GenerateError> {
    match refusal {
        Refusal::PromptTooLong { .. } => Ok("refused: too long"),
        Refusal::TooManyQueued { .. } => Ok("refused: queue"),
        Refusal::MemoryCap { .. } | Refusal::NoRoomForText { .. } => Ok("refused: memory"),
        Refusal::OverCap { .. } => Ok("refused: over a lowered cap"),
        Refusal::Finishing => Ok("refused: finishing"),
        Refusal::BadRequest { .. } => Ok("refused: no sense in it"),
        Refusal::Stopped => Err(GenerateError::Stopped),
        other => Err(other.into()),
    }
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        // As a caller's bug would, without the words that a panic prints.
        resume_unwind(Box::new("a caller's waker"));
    }
}

fn leave_to_panicking_waker(mut generation: Generation) {
    let waker = Waker::from(Arc::new(PanickingWaker));
    let mut context = Context::from_waker(&waker);
    // It may have events already; the waker waits for the next.
    while let Poll::Ready(event) = Pin::new(&mut generation).poll_next(&mut context) {
        if !matches!(&event, Some(Ok(event)) if !matches!(event, Event::Finished { .. })) {
            return;
        }
    }
    sleep(WAKER_WAITS);
}
