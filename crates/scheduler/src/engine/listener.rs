use crate::caller::{Answerer, Teller};
use crate::core::End;
use crate::error::GenerateError;
use crate::generation::Event;

/// Where a request's owner listens. Once it listens no more, the request is cancelled.
pub(crate) enum Listener {
    /// A stream, with room for every event the request can have.
    Generation(Teller<Result<Event, GenerateError>>),
    /// The answer of a request to score.
    Scores(Answerer<Result<Vec<f32>, GenerateError>>),
}

impl Listener {
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Generation(events) => events.is_unwanted(),
            Self::Scores(answer) => answer.is_unwanted(),
        }
    }

    pub(crate) fn delta(&mut self, ids: Vec<u32>, text: String) {
        if let Self::Generation(events) = self {
            events.tell(Ok(Event::Delta {
                ids,
                text,
                log_probs: Vec::new(),
            }));
        }
    }

    pub(crate) fn end(self, end: End) {
        match self {
            Self::Generation(mut events) => {
                let event = end.map(|ending| Event::Finished {
                    reason: ending.reason,
                    figures: ending.figures,
                });
                events.tell(event);
            }
            Self::Scores(answer) => answer.answer(end.map(|ending| ending.scores)),
        }
    }
}
