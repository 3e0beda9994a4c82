mod rows;
mod text;
mod worker;

use std::sync::Arc;

use gogrid_model::{EncodeLimit, Message, Model, ModelError, TextDecoder};
use gogrid_units::contain;

use crate::core::{Decode, Task, Text};
use crate::error::Refusal;
use crate::limits::{LAST_N_MAX, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX};
use crate::request::{Continuation, GenerateRequest, Prompt, PromptRows, Sampling};
use crate::sampling::{Sampler, StopWatch};
use rows::Takes;
use text::{Marked, Plain, Route, Written};

pub(crate) use worker::{NoPrompt, TextWorkers};

/// Turns requests into what the core takes, or refuses them: here they are checked, once.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) model: Arc<Model>,
}

/// What a request asks for besides its prompt.
pub(crate) struct Terms {
    max_tokens: usize,
    sampling: Sampling,
    continuation: Continuation,
}

/// A request that makes sense.
pub(crate) struct Prepared {
    pub(crate) prompt: PromptRows,
    pub(crate) task: Task,
    pub(crate) text: Text,
}

impl Decode for TextDecoder {
    fn push(&mut self, id: u32) -> String {
        self.push(id)
    }

    fn finish(&mut self) -> String {
        self.finish()
    }
}

impl Intake {
    /// What a request asks for besides its prompt, checked before any work is done for it.
    pub(crate) fn terms(&self, request: GenerateRequest) -> Result<(Prompt, Terms), Refusal> {
        let GenerateRequest {
            prompt,
            max_tokens,
            sampling,
            continuation,
            constraint,
            log_probs,
            ..
        } = request;
        check_sampling(&sampling)?;
        if constraint.is_some() {
            return Err(bad("constraint", "constraints are not supported yet"));
        }
        if log_probs.is_some() {
            return Err(bad("log_probs", "log-probabilities are not supported yet"));
        }
        if !sampling.logit_bias.is_empty() {
            return Err(bad("logit_bias", "a bias is not supported yet"));
        }
        if max_tokens == 0 {
            return Err(bad("max_tokens", "0; at least 1 token must be asked for"));
        }
        if let Continuation::Forced(ids) = &continuation {
            self.check_ids("continuation", ids)?;
        }
        let terms = Terms {
            max_tokens,
            sampling,
            continuation,
        };
        Ok((prompt, terms))
    }

    pub(crate) fn generation(&self, prompt: PromptRows, terms: Terms) -> Result<Prepared, Refusal> {
        let room = self.takes().check(&prompt)?;
        let Terms {
            max_tokens,
            sampling,
            continuation,
        } = terms;
        let task = match continuation {
            Continuation::Sample => {
                let most = max_tokens.min(room);
                Task::Sample {
                    sampler: Box::new(Sampler::new(sampling.clone())),
                    most,
                }
            }
            Continuation::Forced(forced) => forced_task(forced, room)?,
        };
        Ok(Prepared {
            prompt,
            task,
            text: self.text(sampling.stop),
        })
    }

    /// The rows of a prompt: at once, or by a thread that tokenises.
    pub(crate) async fn prompt(
        &self,
        prompt: Prompt,
        workers: &TextWorkers,
    ) -> Result<PromptRows, NoPrompt> {
        let written = match prompt {
            Prompt::Text(text) => Written::Plain(Plain::Text(text)),
            Prompt::Chat(conversation) => Written::Chat(conversation.messages),
            Prompt::Ids(ids) => return Ok(PromptRows::of_ids(ids)),
            Prompt::Rows(prompt) => return Ok(prompt),
        };
        // One more must fit.
        let tokens_max = self.model.decoder().context.saturating_sub(1);
        written.check(&self.model, tokens_max)?;
        let ids = match written.route(&self.model)? {
            Route::Caller(written) => {
                let limit = EncodeLimit {
                    tokens_max,
                    ..EncodeLimit::NONE
                };
                written.tokenize(&self.model, limit)?
            }
            Route::Worker(written) => workers.tokenize(written, tokens_max).await?,
        };
        Ok(PromptRows::of_ids(ids))
    }

    pub(crate) fn score(&self, ids: Vec<u32>) -> Result<Prepared, Refusal> {
        self.check_ids("ids", &ids)?;
        let (tokens, context) = (ids.len(), self.model.decoder().context);
        if tokens > context {
            return Err(Refusal::PromptTooLong { tokens, context });
        }
        let task = Task::Score(Vec::with_capacity(tokens));
        Ok(Prepared {
            prompt: PromptRows::of_ids(ids),
            task,
            text: self.text(Vec::new()),
        })
    }

    /// The ids of a text of any number of tokens, on the calling thread.
    pub(crate) fn tokenize(&self, text: &str, bos: bool) -> Result<Vec<u32>, Refusal> {
        let marked = Marked::parsed(text);
        let tokenized = contain(|| match bos {
            true => text::with_bos(&self.model, &marked, EncodeLimit::NONE),
            false => text::encode(&self.model, &marked, EncodeLimit::NONE),
        });
        tokenized.unwrap_or_else(|problem| Err(text::panicked(&self.model, &problem)))
    }

    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, Refusal> {
        let chat = text::render_contained(&self.model, messages, &|| true)?;
        Ok(chat.text().to_owned())
    }

    fn check_ids(&self, field: &'static str, ids: &[u32]) -> Result<(), Refusal> {
        let takes = self.takes();
        if ids.is_empty() {
            return Err(bad(field, "no tokens"));
        }
        match ids.iter().find(|&&id| id as usize >= takes.vocab) {
            Some(&id) => Err(takes.no_token(field, id)),
            None => Ok(()),
        }
    }

    fn takes(&self) -> Takes {
        let decoder = self.model.decoder();
        Takes {
            vocab: decoder.vocab,
            width: decoder.width,
            context: decoder.context,
        }
    }

    fn text(&self, stops: Vec<String>) -> Text {
        let decoder = TextDecoder::continuing(self.model.tokenizer());
        Text {
            decoder: Box::new(decoder),
            stops: StopWatch::new(stops),
        }
    }
}

fn forced_task(forced: Vec<u32>, room: usize) -> Result<Task, Refusal> {
    if forced.len() > room {
        let problem = format!(
            "{} tokens after the prompt; the context has room for {room}",
            forced.len()
        );
        return Err(bad("continuation", problem));
    }
    Ok(Task::Force(forced))
}

fn check_sampling(sampling: &Sampling) -> Result<(), Refusal> {
    let within = |field, value: f32, (least, most): (f32, f32)| match value {
        v if (least..=most).contains(&v) => Ok(()),
        v => Err(bad(field, format!("{v}; must be in {least}..={most}"))),
    };
    // A thousandth and a million are as good as greedy and even draws.
    within("temperature", sampling.temperature, (0.0, 1e6))?;
    within("top_p", sampling.top_p, (0.0, 1.0))?;
    within("min_p", sampling.min_p, (0.0, 1.0))?;
    within(
        "repetition_penalty",
        sampling.repetition_penalty,
        (0.01, 100.0),
    )?;
    within("frequency_penalty", sampling.frequency_penalty, (-2.0, 2.0))?;
    within("presence_penalty", sampling.presence_penalty, (-2.0, 2.0))?;
    if sampling.last_n > LAST_N_MAX {
        return Err(bad(
            "last_n",
            format!("{}; at most {LAST_N_MAX}", sampling.last_n),
        ));
    }
    if sampling.stop.len() > STOP_STRINGS_MAX {
        let problem = format!(
            "{} strings; at most {STOP_STRINGS_MAX}",
            sampling.stop.len()
        );
        return Err(bad("stop", problem));
    }
    match sampling
        .stop
        .iter()
        .map(String::len)
        .find(|len| !(1..=STOP_STRING_BYTES_MAX).contains(len))
    {
        Some(len) => {
            let problem = format!("a string of {len} bytes; 1 to {STOP_STRING_BYTES_MAX} allowed");
            Err(bad("stop", problem))
        }
        None => Ok(()),
    }
}

fn bad(field: &'static str, problem: impl Into<String>) -> Refusal {
    Refusal::BadRequest {
        field,
        problem: problem.into(),
    }
}

fn unusable(error: &ModelError) -> Refusal {
    bad("prompt", error.to_string())
}
