use std::time::Duration;

use corpgrid_scheduler::{Conversation, Message, Prompt, Sampling, ToolCall};
use gogrid_grammar::Spec;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ask::{Ask, FieldNames, Form, OneOrMany, TokensWanted, seed, stops};
use crate::by_name::by_name;
use crate::caller::{Caller, Terms};
use crate::error::ApiError;
use crate::limits::CALLS_MAX;
use crate::reading::{ToolChoice, check_tool};

const NAMES: FieldNames = &[
    ("temperature", "options.temperature"),
    ("top_p", "options.top_p"),
    ("min_p", "options.min_p"),
    ("repetition_penalty", "options.repeat_penalty"),
    ("last_n", "options.repeat_last_n"),
    ("presence_penalty", "options.presence_penalty"),
    ("frequency_penalty", "options.frequency_penalty"),
    ("stop", "options.stop"),
];

/// What `/api/chat` takes. What is not named here is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChatBody {
    model: String,
    messages: Option<Vec<TurnBody>>,
    tools: Option<Vec<Value>>,
    options: Option<OptionsBody>,
    format: Option<Value>,
    pub(super) stream: Option<bool>,
    keep_alive: Option<Value>,
    think: Option<Value>,
}

/// What `/api/generate` takes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GenerateBody {
    model: String,
    prompt: Option<String>,
    suffix: Option<String>,
    system: Option<String>,
    images: Option<Vec<Value>>,
    raw: Option<bool>,
    options: Option<OptionsBody>,
    format: Option<Value>,
    pub(super) stream: Option<bool>,
    keep_alive: Option<Value>,
    think: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
struct TurnBody {
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    images: Option<Vec<Value>>,
    tool_calls: Option<Vec<CallBody>>,
    #[serde(alias = "name")]
    tool_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
struct CallBody {
    function: FunctionBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
struct FunctionBody {
    name: String,
    arguments: Value,
}

/// Ollama's options, with its defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
struct OptionsBody {
    num_predict: Option<i64>,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    repeat_last_n: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
}

by_name!(TurnBody, CallBody, FunctionBody, OptionsBody);

/// The parts that both ways of asking have.
struct Common {
    model: String,
    options: OptionsBody,
    format: Option<Value>,
}

impl ChatBody {
    /// Whether it only opens or closes a model.
    pub(super) fn says_nothing(&self) -> bool {
        self.messages.as_ref().is_none_or(Vec::is_empty)
    }

    pub(super) fn ask(self, caller: &Caller) -> Result<Ask, ApiError> {
        let turns = self.messages.unwrap_or_default().into_iter().enumerate();
        let messages = turns.map(|(at, turn)| turn.read(at));
        let conversation = Conversation {
            messages: messages.collect::<Result<_, _>>()?,
            tools: self.tools.unwrap_or_default(),
            arguments: thinking(self.think.as_ref())?,
            ..Conversation::default()
        };
        for (at, tool) in conversation.tools.iter().enumerate() {
            check_tool(tool, &format!("tools[{at}]"))?;
        }
        let common = Common {
            model: self.model,
            options: self.options.unwrap_or_default(),
            format: self.format,
        };
        let terms = terms(caller, self.keep_alive.as_ref())?;
        common.ask(Prompt::Chat(conversation), terms)
    }
}

impl GenerateBody {
    /// Whether it only opens or closes a model.
    pub(super) fn says_nothing(&self) -> bool {
        self.prompt.as_ref().is_none_or(String::is_empty)
    }

    fn refuse_what_is_not_built(&self) -> Result<(), ApiError> {
        if self
            .suffix
            .as_ref()
            .is_some_and(|suffix| !suffix.is_empty())
        {
            return Err(ApiError::unsupported(
                "suffix",
                "filling in before a suffix",
            ));
        }
        if self
            .images
            .as_ref()
            .is_some_and(|images| !images.is_empty())
        {
            return Err(ApiError::unsupported("images", "a prompt with images"));
        }
        Ok(())
    }

    pub(super) fn ask(self, caller: &Caller) -> Result<Ask, ApiError> {
        self.refuse_what_is_not_built()?;
        let text = self.prompt.unwrap_or_default();
        let prompt = match self.raw.unwrap_or(false) {
            true => Prompt::Text(text),
            false => {
                let system = self.system.map(Message::system);
                let messages = system.into_iter().chain([Message::user(text)]);
                Prompt::Chat(Conversation {
                    messages: messages.collect(),
                    arguments: thinking(self.think.as_ref())?,
                    ..Conversation::default()
                })
            }
        };
        let common = Common {
            model: self.model,
            options: self.options.unwrap_or_default(),
            format: self.format,
        };
        let terms = terms(caller, self.keep_alive.as_ref())?;
        common.ask(prompt, terms)
    }
}

impl Common {
    fn ask(self, prompt: Prompt, terms: Terms) -> Result<Ask, ApiError> {
        let options = self.options;
        let size = |value: Option<i64>, default: usize| match value {
            None => default,
            Some(value) => usize::try_from(value).unwrap_or(0),
        };
        let sampling = Sampling {
            temperature: options.temperature.unwrap_or(0.8),
            top_k: size(options.top_k, 40),
            top_p: options.top_p.unwrap_or(0.9),
            min_p: options.min_p.unwrap_or(0.0),
            repetition_penalty: options.repeat_penalty.unwrap_or(1.1),
            last_n: size(options.repeat_last_n, 64),
            presence_penalty: options.presence_penalty.unwrap_or(0.0),
            frequency_penalty: options.frequency_penalty.unwrap_or(0.0),
            seed: seed(options.seed),
            stop: stops(options.stop),
            ..Sampling::default()
        };
        // A negative number means as many as there is room for.
        let tokens = options
            .num_predict
            .and_then(|most| usize::try_from(most).ok());
        Ok(Ask {
            model: self.model,
            prompt,
            tokens: tokens.map_or(TokensWanted::Default, TokensWanted::Exactly),
            sampling,
            choices: 1,
            log_probs: None,
            form: form(self.format)?,
            tool_choice: ToolChoice::Auto,
            calls_max: CALLS_MAX,
            terms,
            names: NAMES,
        })
    }
}

impl TurnBody {
    fn read(self, at: usize) -> Result<Message, ApiError> {
        if self
            .images
            .as_ref()
            .is_some_and(|images| !images.is_empty())
        {
            let field = format!("messages[{at}].images");
            return Err(ApiError::unsupported(&field, "a message with images"));
        }
        let calls = self.tool_calls.unwrap_or_default().into_iter();
        Ok(Message {
            reasoning: self.thinking,
            tool_calls: calls.map(CallBody::read).collect(),
            name: self.tool_name,
            ..Message::new(self.role, self.content.unwrap_or_default())
        })
    }
}

impl CallBody {
    fn read(self) -> ToolCall {
        ToolCall {
            id: String::new(),
            name: self.function.name,
            arguments: self.function.arguments,
        }
    }
}

/// The word `json`, or a schema.
fn form(format: Option<Value>) -> Result<Option<Form>, ApiError> {
    let spec = match format {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(word)) if word.is_empty() => return Ok(None),
        Some(Value::String(word)) if word == "json" => Spec::JsonObject,
        Some(schema @ Value::Object(_)) => Spec::JsonSchema(schema),
        Some(_) => return Err(ApiError::bad("format", "must be \"json\" or a schema")),
    };
    Ok(Some(Form {
        spec,
        field: "format",
    }))
}

/// The template's switch, where the client says whether to think.
fn thinking(think: Option<&Value>) -> Result<Map<String, Value>, ApiError> {
    let thinks = match think {
        None | Some(Value::Null) => return Ok(Map::new()),
        Some(Value::Bool(thinks)) => *thinks,
        // How much it is to think, which no template here is told.
        Some(Value::String(_)) => true,
        Some(_) => return Err(ApiError::bad("think", "must be true, false or a text")),
    };
    Ok(Map::from_iter([(
        "enable_thinking".to_owned(),
        json!(thinks),
    )]))
}

/// The caller's terms, with the time that the model is to stay open.
pub(super) fn terms(caller: &Caller, asked: Option<&Value>) -> Result<Terms, ApiError> {
    Ok(Terms {
        keep_alive: asked.map(keep_alive).transpose()?,
        ..caller.terms(None)?
    })
}

/// Seconds, or a text such as `5m`, `1h30m`, `300ms`; a negative one means for ever.
fn keep_alive(value: &Value) -> Result<Option<Duration>, ApiError> {
    let wrong = || ApiError::bad("keep_alive", "must be seconds, or a time such as 5m or -1");
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => seconds_of(text),
        _ => None,
    };
    let seconds = seconds
        .filter(|seconds| seconds.is_finite())
        .ok_or_else(wrong)?;
    match seconds < 0.0 {
        true => Ok(None),
        false => Duration::try_from_secs_f64(seconds)
            .map(Some)
            .map_err(|_| wrong()),
    }
}

/// A time as Go writes it.
fn seconds_of(text: &str) -> Option<f64> {
    if let Ok(plain) = text.parse() {
        return Some(plain);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let after = &rest[digits..];
        let (unit, seconds) = units.iter().find(|(unit, _)| after.starts_with(unit))?;
        sum += number * seconds;
        rest = &after[unit.len()..];
    }
    Some(sign * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        let read = |value: Value| keep_alive(&value).map_err(|error| error.message);
        let seconds = |seconds: f64| Ok(Some(Duration::from_secs_f64(seconds)));
        assert_eq!(read(json!(0)), seconds(0.0));
        assert_eq!(read(json!(90)), seconds(90.0));
        assert_eq!(read(json!("5m")), seconds(300.0));
        assert_eq!(read(json!("1h30m")), seconds(5400.0));
        assert_eq!(read(json!("300ms")), seconds(0.3));
        assert_eq!(read(json!("-1")), Ok(None));
        assert_eq!(read(json!("-1m")), Ok(None));
        for wrong in [
            json!("soon"),
            json!("5"),
            json!(true),
            json!("1.2.3s"),
            json!(1e300),
        ] {
            let is_plain = wrong == json!("5");
            assert_eq!(read(wrong.clone()).is_err(), !is_plain, "{wrong}");
        }
    }
}
