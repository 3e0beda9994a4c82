//! The way from what a client wants to what it is told, whatever protocol it speaks.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use corpgrid_scheduler::{
    Event, Figures, Finish, GenerateError, Generation, Reason, Refusal, TokenLogProb, Verdict,
};
use futures_util::stream::{SelectAll, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::ask::{Ask, Bound, TokensWanted};
use crate::board::Counts;
use crate::caller::Terms;
use crate::error::{ApiError, reason_code};
use crate::limits::DEFAULT_TOKENS_MIN;
use crate::models::Lent;
use crate::reading::{Reader, Reading};
use crate::shared::{Shared, now};

/// What a client is told of one choice, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// How it stands.
    Standing(Standing),
    /// The log-probabilities of the prompt's tokens.
    Prompt(Vec<Option<Likely>>),
    /// Tokens came, and with them parts of the answer, maybe none yet.
    Delta {
        parts: Vec<Part>,
        log_probs: Vec<Likely>,
    },
    /// The end, once.
    End(End),
}

/// How likely a token was, and those that were likely in its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Likely {
    pub(crate) token: TokenBytes,
    pub(crate) log_prob: f32,
    pub(crate) top: Vec<(TokenBytes, f32)>,
}

/// A token and the bytes it stands for, which may be part of a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenBytes {
    pub(crate) id: u32,
    pub(crate) bytes: Vec<u8>,
}

impl TokenBytes {
    /// As text, with a mark for bytes that are no whole character.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What the model thinks before it answers.
    Reasoning(String),
    Text(String),
    /// A call of a tool begins; calls are numbered from 0.
    CallBegin {
        index: usize,
        id: String,
        name: String,
    },
    /// More of its arguments, which are JSON once the call has ended.
    CallArguments {
        index: usize,
        json: String,
    },
    CallEnd {
        index: usize,
    },
}

/// A call of a tool, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// How a request stands that has nothing else to tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Standing {
    /// Its model is being opened.
    Opening,
    Queued {
        position: usize,
    },
    Paused {
        reason: Reason,
        left: Option<Duration>,
    },
    Runs,
}

impl Standing {
    /// As data, for clients that ask for it.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Opening => json!({"state": "opening"}),
            Self::Queued { position } => json!({"state": "queued", "position": position}),
            Self::Paused { reason, left } => json!({
                "state": "paused",
                "reason": reason_code(reason),
                "eta_s": left.map(|left| left.as_secs()),
            }),
            Self::Runs => json!({"state": "running"}),
        }
    }
}

/// How a choice ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) finish: Finish,
    pub(crate) figures: Figures,
    /// Whether it called a tool, and the last call is whole.
    pub(crate) called: bool,
}

/// The choices of a request under way. Dropping it cancels them.
pub(crate) struct Answer {
    choices: SelectAll<Choice>,
    /// What reads each choice.
    readers: Vec<Reader>,
    /// What has been made of an event and not been told yet.
    made: VecDeque<(usize, Piece)>,
    wants_none: bool,
    prompt_tokens: usize,
    /// Names it in the log.
    id: String,
    /// Whose key asked.
    owner: String,
    shared: Arc<Shared>,
    /// Dropped last, so that the model stays until its requests have gone.
    pub(crate) model: Lent,
}

/// One choice and its number.
struct Choice {
    number: usize,
    events: Generation,
}

impl Stream for Choice {
    type Item = (usize, Result<Event, GenerateError>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let number = self.number;
        let polled = Pin::new(&mut self.events).poll_next(context);
        polled.map(|event| event.map(|event| (number, event)))
    }
}

/// Admits a request: the model is opened if need be, and each choice has a place in its queue. All of
/// that counts against the request's deadline, and ends with the server.
pub(crate) async fn begin(shared: Arc<Shared>, ask: Ask) -> Result<Answer, ApiError> {
    if shared.drain.has_begun() {
        return Err(ApiError::draining());
    }
    let deadline = ask.terms.deadline;
    refuse_while_stopped_for_long(&shared, &ask.terms)?;
    let began = now();
    // One that has no time at all may still be answered at once.
    let time = deadline.max(AT_ONCE);
    tokio::select! {
        () = shared.drain.over() => Err(ApiError::draining()),
        admitted = timeout(time, admit(Arc::clone(&shared), ask, began)) => {
            admitted.unwrap_or_else(|_| {
                let seconds = deadline.as_secs_f64();
                let message = format!("its model was not open within {seconds:.1} s");
                let late = ApiError::unavailable(message, "deadline");
                Err(late.after(Duration::from_secs(5)))
            })
        }
    }
}

/// What a request without any patience may still take.
const AT_ONCE: Duration = Duration::from_millis(200);

async fn admit(shared: Arc<Shared>, ask: Ask, began: Instant) -> Result<Answer, ApiError> {
    let model = shared.lend_for(&ask.model, &ask.terms).await?;
    // A request that would be refused has no work done for it.
    model.pipeline.check_admits(ask.terms.owner.whose)?;
    let (mut ask, bound) = bind(&shared, &model, ask).await?;
    ask.terms.deadline = ask.terms.deadline.saturating_sub(began.elapsed());
    let salt = shared.request_id();
    let mut choices = SelectAll::new();
    let (mut most, mut prompt_tokens) = (ask.most_tokens(), 0);
    for number in 0..ask.choices {
        let events = loop {
            let request = ask.request(&bound, number, most);
            match model.pipeline.generate(request).await {
                Ok(events) => break events,
                Err(Refusal::MemoryCap { .. })
                    if ask.tokens == TokensWanted::Default && most > DEFAULT_TOKENS_MIN =>
                {
                    most = (most / 2).max(DEFAULT_TOKENS_MIN);
                }
                Err(refusal) if is_for_ever(&shared, &refusal) => {
                    let message = format!("{refusal}, which no limits of this machine allow");
                    return Err(ApiError::bad("", message).coded("memory_never"));
                }
                Err(refusal) => return Err(ask.refused(refusal)),
            }
        };
        prompt_tokens = events.prompt_tokens();
        choices.push(Choice { number, events });
    }
    shared.tokens.note();
    let readers = (0..ask.choices).map(|number| bound.reading.reader(format!("{salt}{number:x}")));
    let readers = readers.collect();
    Ok(Answer {
        choices,
        readers,
        made: VecDeque::new(),
        wants_none: ask.wants_none(),
        prompt_tokens,
        id: salt,
        owner: ask.terms.owner.name.clone(),
        shared,
        model,
    })
}

/// Looks up what must be known of the model.
async fn bind(shared: &Shared, model: &Lent, mut ask: Ask) -> Result<(Ask, Bound), ApiError> {
    ask.drop_tools_that_may_not_be_called();
    if !Reading::takes_work(model, &ask) {
        let bound = bind_now(model, &ask)?;
        return Ok((ask, bound));
    }
    let model = model.again();
    let work = move || {
        let bound = bind_now(&model, &ask)?;
        Ok((ask, bound))
    };
    shared.workers.run(work).await
}

fn bind_now(model: &Lent, ask: &Ask) -> Result<Bound, ApiError> {
    let reading = Reading::of(model, ask)?;
    let form = match (&ask.form, reading.calls(&model.pipeline, ask)?) {
        (Some(_), Some(_)) => {
            let problem = "an answer that must call a tool is held to the tool's form alone";
            return Err(ApiError::bad("response_format", problem));
        }
        (Some(form), None) if ask.has_tools() => {
            let what =
                "a form beside tools that may be called or not (tool_choice none leaves them out)";
            return Err(ApiError::unsupported(form.field, what));
        }
        (Some(form), None) => Some(form.clone()),
        (None, calls) => calls,
    };
    let constraint = form.map(|form| model.constraint(&form)).transpose()?;
    Ok(Bound {
        reading,
        constraint,
    })
}

/// Whether no profile's cap could ever hold what was asked for.
fn is_for_ever(shared: &Shared, refusal: &Refusal) -> bool {
    let Refusal::MemoryCap { needed, cap, .. } = refusal else {
        return false;
    };
    let settings = shared.models.machine().settings();
    let shares = [&settings.limits, &settings.away].map(|limits| limits.max_vram_usage_percent);
    let (least, most) = (shares[0].min(shares[1]), shares[0].max(shares[1]));
    // The cap is one of the two profiles', and at most so much less than the other's.
    least > 0.0 && needed.0 as f64 > cap.0 as f64 * most / least
}

/// A request that would wait past its deadline for certain is told so at once.
fn refuse_while_stopped_for_long(shared: &Shared, terms: &Terms) -> Result<(), ApiError> {
    let (deadline, whose) = (terms.deadline, terms.owner.whose);
    let ruling = shared.models.machine().ruling();
    match ruling.verdict_of(whose) {
        Verdict::Shut(reason) => {
            let left = left_of(reason);
            match left.is_some_and(|left| left > deadline) || deadline.is_zero() {
                true => Err(ApiError::stopped(reason, left)),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The time until a reason ends by itself, where the reason knows it.
fn left_of(reason: &Reason) -> Option<Duration> {
    match reason {
        Reason::Snoozed { left_s } => Some(Duration::from_secs(*left_s)),
        _ => None,
    }
}

impl Answer {
    /// What comes next, of whichever choice; `None` after the end of all.
    pub(crate) async fn next(&mut self) -> Option<(usize, Result<Piece, ApiError>)> {
        loop {
            if let Some((number, piece)) = self.made.pop_front() {
                return Some((number, Ok(piece)));
            }
            let (number, event) = self.choices.next().await?;
            match event {
                Ok(event) => self.take(number, event),
                Err(error) => return Some((number, Err(error.into()))),
            }
        }
    }

    /// Makes pieces of an event.
    fn take(&mut self, number: usize, event: Event) {
        let piece = match event {
            Event::Queued { position } => Piece::Standing(Standing::Queued { position }),
            Event::Started { .. } | Event::Resumed => Piece::Standing(Standing::Runs),
            Event::Paused { reason, left } => Piece::Standing(Standing::Paused { reason, left }),
            Event::Prompt { log_probs } => {
                let likely = log_probs.into_iter().map(|one| Some(self.likely(one?)));
                Piece::Prompt(likely.collect())
            }
            Event::Delta {
                ids,
                text,
                log_probs,
            } => {
                self.shared.tokens.note();
                Counts::add(&self.shared.counts.tokens, ids.len());
                if self.wants_none {
                    return;
                }
                Piece::Delta {
                    parts: self.readers[number].push(&text),
                    log_probs: log_probs.into_iter().map(|one| self.likely(one)).collect(),
                }
            }
            Event::Finished { reason, figures } => self.ended(number, reason, figures),
            // Whatever else is told is no part of an answer.
            _ => return,
        };
        self.made.push_back((number, piece));
    }

    /// The end, and before it what the reader held back.
    fn ended(&mut self, number: usize, finish: Finish, mut figures: Figures) -> Piece {
        if self.wants_none {
            figures.generated_tokens = 0;
        }
        let counts = &self.shared.counts;
        Counts::add(&counts.prompt_tokens, figures.prompt_tokens);
        Counts::add(&counts.cached_tokens, figures.cached_tokens);
        self.log(&finish, &figures);
        let reader = &mut self.readers[number];
        let parts = reader.finish();
        let called = reader.has_called();
        if !parts.is_empty() {
            let last = Piece::Delta {
                parts,
                log_probs: Vec::new(),
            };
            self.made.push_back((number, last));
        }
        Piece::End(End {
            finish,
            figures,
            called,
        })
    }
}

impl Answer {
    /// Tokens of the prompt.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    fn log(&self, finish: &Finish, figures: &Figures) {
        let Figures {
            prompt_tokens,
            cached_tokens,
            generated_tokens,
            accepted_tokens,
            queue_s,
            prefill_s,
            decode_s,
            paused_s,
            ..
        } = *figures;
        let (id, model) = (self.id.as_str(), self.model.name.as_str());
        let owner = self.owner.as_str();
        tracing::info!(
            id,
            owner,
            model,
            prompt_tokens,
            cached_tokens,
            generated_tokens,
            accepted_tokens,
            queue_s,
            prefill_s,
            decode_s,
            paused_s,
            ?finish,
            "answered"
        );
    }

    fn likely(&self, one: TokenLogProb) -> Likely {
        let top = one.top.into_iter();
        Likely {
            token: self.token(one.id),
            log_prob: told(one.log_prob),
            top: top
                .map(|(id, log_prob)| (self.token(id), told(log_prob)))
                .collect(),
        }
    }

    fn token(&self, id: u32) -> TokenBytes {
        let tokenizer = self.model.pipeline.model().tokenizer();
        let bytes = tokenizer.piece(id).unwrap_or_default();
        TokenBytes { id, bytes }
    }
}

/// A log-probability as JSON can have it: OpenAI's number for a token that cannot be.
fn told(log_prob: f32) -> f32 {
    log_prob.max(-9999.0)
}

/// All of an answer, for clients that want it at once.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) choices: Vec<WholeChoice>,
}

/// One choice, whole.
#[derive(Debug, Default)]
pub(crate) struct WholeChoice {
    pub(crate) reasoning: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) log_probs: Vec<Likely>,
    pub(crate) prompt: Vec<Option<Likely>>,
    pub(crate) end: Option<End>,
}

/// Waits for all of the one choice that is asked for.
pub(crate) async fn whole_choice(shared: &Arc<Shared>, ask: Ask) -> Result<WholeChoice, ApiError> {
    let whole = whole(begin(Arc::clone(shared), ask).await?).await?;
    Ok(whole.choices.into_iter().next().unwrap_or_default())
}

/// Waits for all of it.
pub(crate) async fn whole(mut answer: Answer) -> Result<Whole, ApiError> {
    let mut whole = Whole::default();
    let choices = answer.readers.len();
    whole.choices.resize_with(choices, WholeChoice::default);
    let shared = Arc::clone(&answer.shared);
    loop {
        let next = tokio::select! {
            next = answer.next() => next,
            () = shared.drain.over() => return Err(ApiError::draining()),
        };
        let Some((number, piece)) = next else {
            return Ok(whole);
        };
        whole.choices[number].take(piece?);
    }
}

impl WholeChoice {
    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Standing(_) => {}
            Piece::Prompt(log_probs) => self.prompt = log_probs,
            Piece::Delta { parts, log_probs } => {
                parts.into_iter().for_each(|part| self.take_part(part));
                self.log_probs.extend(log_probs);
            }
            Piece::End(end) => self.end = Some(end),
        }
    }

    fn take_part(&mut self, part: Part) {
        match part {
            Part::Reasoning(text) => self.reasoning.push_str(&text),
            Part::Text(text) => self.text.push_str(&text),
            Part::CallBegin { id, name, .. } => self.calls.push(Call {
                id,
                name,
                arguments: String::new(),
            }),
            Part::CallArguments { index, json } => self.calls[index].arguments.push_str(&json),
            Part::CallEnd { .. } => {}
        }
    }
}

impl Whole {
    /// The figures of all choices: of the prompt once, of the generated tokens together.
    pub(crate) fn figures(&self) -> Figures {
        let ends = self.choices.iter().filter_map(|choice| choice.end);
        sum_figures(ends.map(|end| end.figures))
    }
}

/// The figures of a request with several choices: counts of what was generated add up, and of the times
/// the longest counts.
pub(crate) fn sum_figures(all: impl Iterator<Item = Figures>) -> Figures {
    all.fold(Figures::default(), |sum, one| Figures {
        prompt_tokens: sum.prompt_tokens.max(one.prompt_tokens),
        cached_tokens: sum.cached_tokens.max(one.cached_tokens),
        generated_tokens: sum.generated_tokens + one.generated_tokens,
        decode_steps: sum.decode_steps + one.decode_steps,
        accepted_tokens: sum.accepted_tokens + one.accepted_tokens,
        queue_s: sum.queue_s.max(one.queue_s),
        prefill_s: sum.prefill_s.max(one.prefill_s),
        decode_s: sum.decode_s.max(one.decode_s),
        paused_s: sum.paused_s.max(one.paused_s),
    })
}
