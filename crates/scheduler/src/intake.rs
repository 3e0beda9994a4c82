mod rows;

use std::sync::Arc;

use gogrid_model::{Message, Model, ModelError, SpecialTokens, TextDecoder};

use crate::core::{Decode, Task, Text};
use crate::error::Refusal;
use crate::limits::{
    LAST_N_MAX, MESSAGES_MAX, PROMPT_BYTES_MAX, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX,
};
use crate::request::{Continuation, GenerateRequest, Prompt, PromptRows, Sampling};
use crate::sampling::{Sampler, StopWatch};
use rows::Takes;

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
    pub(crate) fn generation(&self, request: GenerateRequest) -> Result<Prepared, Refusal> {
        let GenerateRequest {
            prompt,
            max_tokens,
            sampling,
            continuation,
        } = request;
        check_sampling(&sampling)?;
        if max_tokens == 0 {
            return Err(bad("max_tokens", "0; at least 1 token must be asked for"));
        }
        let prompt = self.prompt(prompt)?;
        let room = self.takes().check(&prompt)?;
        let task = match continuation {
            Continuation::Sample => {
                let most = max_tokens.min(room);
                Task::Sample {
                    sampler: Box::new(Sampler::new(sampling.clone())),
                    most,
                }
            }
            Continuation::Forced(forced) => self.forced(forced, room)?,
        };
        Ok(Prepared {
            prompt,
            task,
            text: self.text(sampling.stop),
        })
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

    pub(crate) fn tokenize(&self, text: &str, bos: bool) -> Result<Vec<u32>, Refusal> {
        if text.len() > PROMPT_BYTES_MAX {
            let problem = format!("{} bytes of text; at most {PROMPT_BYTES_MAX}", text.len());
            return Err(bad("prompt", problem));
        }
        let tokenizer = self.model.tokenizer();
        let ids = tokenizer
            .encode(text, SpecialTokens::Parse)
            .map_err(|e| unusable(&e))?;
        // A template may have written it already.
        let begins = tokenizer
            .bos()
            .filter(|first| bos && ids.first() != Some(first));
        Ok(begins.into_iter().chain(ids).collect())
    }

    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, Refusal> {
        let Some(template) = self.model.chat_template() else {
            return Err(bad(
                "prompt",
                "this model has no chat template; give it text to go on with",
            ));
        };
        if messages.is_empty() || messages.len() > MESSAGES_MAX {
            let problem = format!(
                "{} messages; 1 to {MESSAGES_MAX} can be sent",
                messages.len()
            );
            return Err(bad("prompt", problem));
        }
        template.render(messages, true).map_err(|e| unusable(&e))
    }

    fn prompt(&self, prompt: Prompt) -> Result<PromptRows, Refusal> {
        let ids = match prompt {
            Prompt::Text(text) => self.tokenize(&text, true)?,
            Prompt::Chat(messages) => self.tokenize(&self.render(&messages)?, true)?,
            Prompt::Ids(ids) => ids,
            Prompt::Rows(prompt) => return Ok(prompt),
        };
        Ok(PromptRows::of_ids(ids))
    }

    fn forced(&self, forced: Vec<u32>, room: usize) -> Result<Task, Refusal> {
        self.check_ids("continuation", &forced)?;
        if forced.len() > room {
            let problem = format!(
                "{} tokens after the prompt; the context has room for {room}",
                forced.len()
            );
            return Err(bad("continuation", problem));
        }
        Ok(Task::Force(forced))
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
