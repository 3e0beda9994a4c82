use gogrid_units::Moment;

use super::states::{StatePlace, States};
use crate::caller::{Answerer, Teller};
use crate::core::{Action, End};
use crate::error::GenerateError;
use crate::generation::{Event, Finish};
use crate::pause::Stop;

/// Where a request's owner listens. Once it listens no more, the request is cancelled.
pub(crate) enum Listener {
    Generation(Box<Audience>),
    /// The answer of a request to score or to embed.
    Values(Answerer<Result<Vec<f32>, GenerateError>>),
}

/// A stream, with room for every event the request can have.
pub(crate) struct Audience {
    events: Teller<Result<Event, GenerateError>>,
    states: States,
}

/// Events of a generation besides one for each token: its start, its prompt, how it stands, text held
/// back, and the end.
pub(crate) const OTHER_EVENTS_MAX: usize = 5;

impl Listener {
    /// A stream that has a place for how the request stands.
    pub(crate) fn stream(events: Teller<Result<Event, GenerateError>>, place: StatePlace) -> Self {
        let states = States::new(place);
        Self::Generation(Box::new(Audience { events, states }))
    }

    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Generation(audience) => audience.events.is_unwanted(),
            Self::Values(answer) => answer.is_unwanted(),
        }
    }

    /// Tells what it is of an action that is its owner's to know.
    pub(crate) fn hear(&mut self, action: Action) {
        let Self::Generation(audience) = self else {
            return;
        };
        let Audience { events, states } = &mut **audience;
        let event = match action {
            Action::Queued { position, .. } => return states.stands(Some(position)),
            Action::Started { cached_tokens, .. } => {
                states.stands(None);
                states.works();
                Event::Started { cached_tokens }
            }
            Action::Prompt { log_probs, .. } => Event::Prompt { log_probs },
            Action::Delta {
                ids,
                text,
                log_probs,
                ..
            } => {
                states.works();
                Event::Delta {
                    ids,
                    text,
                    log_probs,
                }
            }
            _ => return,
        };
        events.tell(Ok(event));
    }

    /// Tells how the request stands, if that is news and the last was heard.
    pub(crate) fn tell_state(&mut self, stop: Option<&Stop>, now: Moment) {
        if let Self::Generation(audience) = self {
            let Audience { events, states } = &mut **audience;
            states.stops(stop);
            if let Some(event) = states.next(now) {
                events.tell(Ok(event));
            }
        }
    }

    pub(crate) fn end(self, end: End) {
        match self {
            Self::Generation(mut audience) => {
                let event = end.map(|ending| Event::Finished {
                    reason: ending.reason,
                    figures: ending.figures,
                });
                audience.events.tell(event);
            }
            Self::Values(answer) => answer.answer(end.and_then(|ending| match ending.reason {
                Finish::Stop => Ok(ending.values),
                // Those so far are not those of the whole text.
                _ => Err(GenerateError::Cancelled),
            })),
        }
    }
}
