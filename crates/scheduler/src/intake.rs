mod chat;
mod rows;
mod terms;
mod text;
mod worker;

use std::sync::Arc;

use gogrid_model::{ChatText, Conversation, EncodeLimit, Model, ModelError, Pooling, TextDecoder};
use gogrid_units::{Moment, Whose, contain};

use crate::constraint::Constraint;
use crate::core::{Decode, Embedding, FinalNorm, Task, Text, Urgency};
use crate::error::Refusal;
use crate::request::{Continuation, GenerateRequest, LogProbs, Prompt, PromptRows};
use crate::sampling::{Sampler, StopWatch};
use chat::{Chat, Size};
use rows::Takes;
use terms::Terms;
use text::{Marked, Plain, Route, Written};

pub(crate) use worker::{NoPrompt, TextWorkers};

/// Turns requests into what the core takes, or refuses them: here they are checked, once.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) model: Arc<Model>,
}

/// A request that makes sense.
pub(crate) struct Prepared {
    pub(crate) prompt: PromptRows,
    pub(crate) task: Task,
    pub(crate) text: Text,
    pub(crate) log_probs: Option<LogProbs>,
    pub(crate) urgency: Urgency,
    pub(crate) constraint: Option<Constraint>,
    pub(crate) cache_salt: Option<u64>,
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
    /// What a request that comes at `now` asks for besides its prompt, checked before any work is done
    /// for it.
    pub(crate) fn terms(
        &self,
        request: GenerateRequest,
        now: Moment,
    ) -> Result<(Prompt, Terms), Refusal> {
        let (prompt, terms) = Terms::of(request, now)?;
        if let Continuation::Forced(ids) = &terms.continuation {
            self.check_ids("continuation", ids)?;
        }
        let biased = terms.sampling.logit_bias.keys();
        let takes = self.takes();
        match biased.max().filter(|&&id| id as usize >= takes.vocab) {
            Some(&id) => Err(takes.no_token("logit_bias", id)),
            None => Ok((prompt, terms)),
        }
    }

    pub(crate) fn generation(&self, prompt: PromptRows, terms: Terms) -> Result<Prepared, Refusal> {
        let room = self.takes().check(&prompt)?;
        terms.check_prompt(prompt.rows.len())?;
        let Terms {
            max_tokens,
            sampling,
            continuation,
            shown_tokens,
            log_probs,
            urgency,
            constraint,
            cache_salt,
        } = terms;
        let stops = sampling.stop.clone();
        let task = match continuation {
            Continuation::Sample => Task::Sample {
                sampler: Box::new(Sampler::new(sampling)),
                most: max_tokens.min(room),
            },
            Continuation::Forced(forced) => forced_task(forced, room)?,
        };
        Ok(Prepared {
            prompt,
            task,
            text: self.text(stops, shown_tokens),
            log_probs,
            urgency,
            constraint,
            cache_salt,
        })
    }

    /// The rows of a prompt: at once, or by a thread that tokenises.
    pub(crate) async fn prompt(
        &self,
        prompt: Prompt,
        whose: Whose,
        workers: &TextWorkers,
    ) -> Result<PromptRows, NoPrompt> {
        let written = match prompt {
            Prompt::Text(text) => Written::Plain(Plain::Text(text)),
            Prompt::Chat(conversation) => Written::Chat(Chat::checked(conversation)?),
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
            Route::Worker(written) => workers.tokenize(written, whose, tokens_max).await?,
        };
        Ok(PromptRows::of_ids(ids))
    }

    pub(crate) fn score(&self, ids: Vec<u32>, whose: Whose) -> Result<Prepared, Refusal> {
        let task = Task::Score(Vec::with_capacity(ids.len()));
        self.reading(ids, whose, task)
    }

    /// A request to read `ids` and to add nothing.
    fn reading(&self, ids: Vec<u32>, whose: Whose, task: Task) -> Result<Prepared, Refusal> {
        self.check_ids("ids", &ids)?;
        let (tokens, context) = (ids.len(), self.model.decoder().context);
        if tokens > context {
            return Err(Refusal::PromptTooLong { tokens, context });
        }
        Ok(Prepared {
            prompt: PromptRows::of_ids(ids),
            task,
            text: self.text(Vec::new(), Vec::new()),
            log_probs: None,
            urgency: Urgency {
                whose,
                ..Urgency::default()
            },
            constraint: None,
            cache_salt: None,
        })
    }

    pub(crate) fn embed(
        &self,
        ids: Vec<u32>,
        pooling: Pooling,
        whose: Whose,
    ) -> Result<Prepared, Refusal> {
        let decoder = self.model.decoder();
        let norm = FinalNorm {
            weight: decoder.head.norm.values.clone(),
            epsilon: decoder.norm_epsilon,
        };
        let task = Task::Embed(Box::new(Embedding::new(pooling, norm)));
        self.reading(ids, whose, task)
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

    /// A conversation as the model's template writes it, on the calling thread.
    pub(crate) fn render(&self, conversation: &Conversation) -> Result<ChatText, Refusal> {
        Size::of(conversation)?;
        text::render_contained(&self.model, conversation, &|| true)
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

    /// How the tokens of a request become text, of which `shown` are named.
    fn text(&self, stops: Vec<String>, shown: Vec<u32>) -> Text {
        let decoder = TextDecoder::continuing(self.model.tokenizer()).showing(shown);
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

fn bad(field: &'static str, problem: impl Into<String>) -> Refusal {
    Refusal::BadRequest {
        field,
        problem: problem.into(),
    }
}

fn unusable(error: &ModelError) -> Refusal {
    bad("prompt", error.to_string())
}
