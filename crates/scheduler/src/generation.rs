use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use gogrid_governor::Reason;
use serde::Serialize;

use crate::caller::{Told, WakerPanicked};
use crate::engine::{Bell, RingOnDrop, StatePlace};
use crate::error::GenerateError;

/// A request under way: a stream of events that ends after [`Event::Finished`] or an error.
/// Dropping it cancels the request and gives back all it held.
#[derive(Debug)]
pub struct Generation {
    events: Told<Result<Event, GenerateError>>,
    prompt_tokens: usize,
    state: StatePlace,
    /// Whether its last event has been given.
    ended: bool,
    /// Dropped after `events`, so that the engine wakes to a closed channel.
    ring: RingOnDrop,
}

impl Generation {
    pub(crate) fn new(
        events: Told<Result<Event, GenerateError>>,
        state: StatePlace,
        prompt_tokens: usize,
        bell: Bell,
    ) -> Self {
        Self {
            events,
            prompt_tokens,
            state,
            ended: false,
            ring: RingOnDrop(bell),
        }
    }
}

impl Generation {
    /// Tokens of its prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }
}

impl Stream for Generation {
    type Item = Result<Event, GenerateError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.events.poll_next(cx);
        polled.map(|event| {
            let event = match event {
                Ok(Some(event)) => event,
                // A channel that closes before the last event belonged to an engine that is no more.
                Ok(None) => Err(GenerateError::Stopped),
                Err(WakerPanicked(problem)) => Err(GenerateError::Waker(problem)),
            };
            if event.as_ref().is_ok_and(|event| self.state.free(event)) {
                self.ring.0.ring();
            }
            self.ended = matches!(event, Err(_) | Ok(Event::Finished { .. }));
            Some(event)
        })
    }
}

/// What a generation tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// It waits for its start. Told at once, and again when its place has changed.
    Queued {
        /// Requests before it.
        position: usize,
    },
    /// It has started.
    Started {
        /// Tokens of the prompt whose keys and values were there already.
        cached_tokens: usize,
    },
    /// Nothing may be taken of the machine now, so it stands still.
    Paused {
        /// Why.
        reason: Reason,
        /// Until when, where that is known.
        left: Option<Duration>,
    },
    /// It goes on.
    Resumed,
    /// The log-probabilities of the prompt's tokens, where they were asked for; that of the first is
    /// not known.
    Prompt {
        /// By token, in order.
        log_probs: Vec<Option<TokenLogProb>>,
    },
    /// Tokens were generated.
    Delta {
        /// Their ids, in order.
        ids: Vec<u32>,
        /// Text that is certain since the last delta: whole characters, and nothing that may yet
        /// turn out to be part of a stop string. May be empty.
        text: String,
        /// Of each token, where that was asked for.
        log_probs: Vec<TokenLogProb>,
    },
    /// The end, once.
    Finished {
        /// Why.
        reason: Finish,
        /// How it went.
        figures: Figures,
    },
}

/// How likely a token was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogProb {
    /// The token.
    pub id: u32,
    /// The natural logarithm of its probability.
    pub log_prob: f32,
    /// The likeliest tokens and theirs, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finish {
    /// The model ended it, or the forced tokens did.
    Stop,
    /// A stop string was met.
    StopString,
    /// `max_tokens` or the context was reached.
    Length,
    /// It was cancelled, by [`HeterogeneousPipeline::cancel_all`].
    ///
    /// [`HeterogeneousPipeline::cancel_all`]: crate::HeterogeneousPipeline::cancel_all
    Cancelled,
}

/// How a generation went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them whose keys and values were there already.
    pub cached_tokens: usize,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// Steps after the one that gave the first token. Each gave a token or the end.
    pub decode_steps: usize,
    /// Tokens that were drafted from the text before them and came beside another in one step.
    pub accepted_tokens: usize,
    /// Seconds from the request to its start: queue, interval, memory.
    pub queue_s: f64,
    /// Seconds from the start to the first token.
    pub prefill_s: f64,
    /// Seconds from the first token to the last.
    pub decode_s: f64,
    /// Seconds since its start in which nothing might be taken of the machine. They are part of
    /// `prefill_s` and `decode_s`.
    pub paused_s: f64,
}

impl Figures {
    /// Tokens that `decode_s` gave, the end among them.
    pub fn decoded_tokens(&self) -> usize {
        self.decode_steps + self.accepted_tokens
    }
}
