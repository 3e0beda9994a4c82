use std::collections::BTreeMap;

use corpgrid_scheduler::{LogProbs, Prompt, Sampling};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ask::{Ask, FieldNames, OneOrMany, TokensWanted, seed, stops};
use crate::by_name::by_name;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::limits::CALLS_MAX;
use crate::reading::tool_choice;

use super::messages::ChatMessage;

const CHAT_NAMES: FieldNames = &[
    ("prompt", "messages"),
    ("last_n", "repeat_last_n"),
    ("log_probs", "top_logprobs"),
];
const SWITCHED_NAMES: FieldNames = &[("last_n", "repeat_last_n"), ("log_probs", "top_logprobs")];
const NUMBERED_NAMES: FieldNames = &[("last_n", "repeat_last_n"), ("log_probs", "logprobs")];

/// What `/v1/chat/completions` and `/v1/completions` take, with the names that llama.cpp and vLLM added
/// to it. What is not named here is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Body {
    pub(crate) model: Option<String>,
    pub(crate) messages: Option<Vec<ChatMessage>>,
    pub(crate) prompt: Option<Value>,
    pub(crate) suffix: Option<String>,
    pub(crate) echo: Option<bool>,
    pub(crate) best_of: Option<usize>,
    pub(crate) max_tokens: Option<i64>,
    pub(crate) max_completion_tokens: Option<i64>,
    pub(crate) n_predict: Option<i64>,
    pub(crate) n: Option<usize>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<i64>,
    pub(crate) min_p: Option<f32>,
    #[serde(alias = "repeat_penalty")]
    pub(crate) repetition_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) repeat_last_n: Option<i64>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Option<OneOrMany>,
    pub(crate) ignore_eos: Option<bool>,
    pub(crate) logit_bias: Option<Value>,
    pub(crate) logprobs: Option<Value>,
    pub(crate) top_logprobs: Option<usize>,
    pub(crate) tools: Option<Vec<Value>>,
    pub(crate) tool_choice: Option<Value>,
    pub(crate) parallel_tool_calls: Option<bool>,
    pub(crate) response_format: Option<Value>,
    pub(crate) guided_json: Option<Value>,
    pub(crate) guided_regex: Option<String>,
    pub(crate) guided_choice: Option<Value>,
    pub(crate) guided_grammar: Option<Value>,
    pub(crate) functions: Option<Value>,
    pub(crate) function_call: Option<Value>,
    pub(crate) json_schema: Option<Value>,
    pub(crate) structured_outputs: Option<Value>,
    pub(crate) grammar: Option<String>,
    pub(crate) chat_template_kwargs: Option<Map<String, Value>>,
    pub(crate) add_generation_prompt: Option<bool>,
    pub(crate) continue_final_message: Option<bool>,
    pub(crate) service_tier: Option<String>,
    pub(crate) gogrid: Option<bool>,
}

/// How a stream is wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

by_name!(StreamOptions);

impl Body {
    pub(crate) fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(crate) fn wants_usage(&self) -> bool {
        let options = self.stream_options.unwrap_or_default();
        options.include_usage.unwrap_or(false)
    }

    /// What is wanted, of this prompt and with these log-probabilities.
    pub(crate) fn ask(
        &self,
        prompt: Prompt,
        log_probs: Option<LogProbs>,
        caller: &Caller,
    ) -> Result<Ask, ApiError> {
        let tier = self.service_tier.as_deref();
        let names = match (&prompt, &self.logprobs) {
            (Prompt::Chat(_), _) => CHAT_NAMES,
            // A completion's log-probabilities are asked for by their number, or by a switch and a number.
            (_, Some(Value::Number(_))) => NUMBERED_NAMES,
            _ => SWITCHED_NAMES,
        };
        Ok(Ask {
            model: self.model.clone().unwrap_or_default(),
            prompt,
            tokens: self.tokens()?,
            sampling: self.sampling()?,
            choices: Ask::check_choices(self.n)?,
            log_probs,
            form: self.form()?,
            tool_choice: tool_choice(self.tool_choice.as_ref())?,
            calls_max: match self.parallel_tool_calls {
                Some(false) => 1,
                _ => CALLS_MAX,
            },
            terms: caller.terms(tier)?,
            names,
        })
    }

    fn tokens(&self) -> Result<TokensWanted, ApiError> {
        let named = [
            ("max_completion_tokens", self.max_completion_tokens),
            ("max_tokens", self.max_tokens),
            ("n_predict", self.n_predict),
        ];
        for (name, value) in named {
            if let Some(value @ ..-1) = value {
                return Err(ApiError::bad(name, format!("{value}; must be at least 0")));
            }
        }
        let first = named.into_iter().find_map(|(_, value)| value);
        // As llama.cpp has it, -1 is as many as there is room for.
        let most = first.and_then(|most| usize::try_from(most).ok());
        Ok(most.map_or(TokensWanted::Default, TokensWanted::Exactly))
    }

    fn sampling(&self) -> Result<Sampling, ApiError> {
        let plain = Sampling::default();
        // -1 means all to vLLM, and none to llama.cpp's look back.
        let size = |value: Option<i64>| value.and_then(|value| usize::try_from(value).ok());
        Ok(Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: size(self.top_k).unwrap_or(0),
            top_p: self.top_p.unwrap_or(plain.top_p),
            min_p: self.min_p.unwrap_or(plain.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(plain.repetition_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(plain.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(plain.presence_penalty),
            last_n: size(self.repeat_last_n).unwrap_or(plain.last_n),
            seed: seed(self.seed),
            stop: stops(self.stop.clone()),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            logit_bias: bias(self.logit_bias.as_ref())?,
        })
    }
}

/// A bias as OpenAI has it, ids in text by name, or as pairs of ids and numbers.
fn bias(value: Option<&Value>) -> Result<BTreeMap<u32, f32>, ApiError> {
    let wrong = || ApiError::bad("logit_bias", "must have token ids for names, and numbers");
    let number = |value: &Value| match value {
        // As llama.cpp has it: never this token.
        Value::Bool(false) => Some(-100.0),
        value => Some(value.as_f64()? as f32),
    };
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(map)) => {
            let entries = map
                .iter()
                .map(|(id, value)| Some((id.parse().ok()?, number(value)?)));
            entries.collect::<Option<_>>().ok_or_else(wrong)
        }
        Some(Value::Array(pairs)) => {
            let entries = pairs.iter().map(|pair| match pair.as_array()?.as_slice() {
                [id, value] => Some((u32::try_from(id.as_u64()?).ok()?, number(value)?)),
                _ => None,
            });
            entries.collect::<Option<_>>().ok_or_else(wrong)
        }
        Some(_) => Err(wrong()),
    }
}
