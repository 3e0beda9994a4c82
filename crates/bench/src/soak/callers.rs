//! Callers: requests of every kind, heard to their end or dropped on the way.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use corpgrid_scheduler::{
    Event, Finish, GenerateError, GenerateRequest, Generation, HeterogeneousPipeline, Refusal,
};
use futures_executor::block_on;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::{Stream, StreamExt};

use super::plan::{Ask, Ending, Plan, RequestPlan};
use super::world::World;
use crate::clock::sleep;

/// How long a waker that panics waits for something to wake it.
const WAKER_WAITS: Duration = Duration::from_millis(500);

/// Asks one request after the other until the round ends.
pub(super) fn call(world: &World, mut plan: Plan) {
    while world.goes_on() {
        let request = plan.request();
        let outcome = one(world, request);
        world.count_request(outcome);
        world.wait(plan.wait(Duration::ZERO, Duration::from_millis(150)));
    }
}

/// Runs a request in sight of the checks, which abort it when it is stuck.
fn one(world: &World, request: RequestPlan) -> &'static str {
    let second = world.second().filter(|_| request.to_second);
    let (pipeline, may_stop) = match second {
        Some(second) => (second, true),
        None => (Arc::clone(&world.first), false),
    };
    let (abort, registration) = AbortHandle::new_pair();
    let what = match &request.ask {
        Ask::Score(ids) => format!("the scores of {} tokens", ids.len()),
        Ask::Generate(request) => format!("{} tokens, {:?}", request.max_tokens, request.prompt),
    };
    let number = world.launched(what.chars().take(200).collect(), abort);
    let run = async {
        if request.throttled {
            pipeline.throttle_if_needed().await;
        }
        match request.ask {
            Ask::Score(ids) => ended(pipeline.score(ids).await.map(|_| "scored")),
            Ask::Generate(asked) => generate(pipeline, asked, request.ending).await,
        }
    };
    let done = block_on(Abortable::new(run, registration));
    world.landed(number);
    match done {
        Err(_) => "stuck",
        Ok(Ok(outcome)) => outcome,
        Ok(Err(GenerateError::Stopped)) if may_stop => "model closed",
        Ok(Err(error)) => {
            world.fault(format!("a request failed: {error}"));
            "failed"
        }
    }
}

/// The pipeline is let go once the request is admitted, so that it can be closed meanwhile.
async fn generate(
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
        Ending::Whole => ended(hear(generation, usize::MAX).await),
        Ending::DroppedAfter(events) => ended(hear(generation, events).await),
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
async fn hear(mut generation: Generation, events: usize) -> Result<&'static str, GenerateError> {
    for _ in 0..events {
        match generation.next().await {
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
        Refusal::MemoryCap { .. } => Ok("refused: memory"),
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
        if !matches!(event, Some(Ok(Event::Delta { .. }))) {
            return;
        }
    }
    sleep(WAKER_WAITS);
}
