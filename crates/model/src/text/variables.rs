//! A conversation as the variables of a template. Whatever comes from a caller stays known as such:
//! only the names of roles that templates are written for count as the template's own text.

use std::borrow::Cow;
use std::io;

use gogrid_jinja::Data;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

use crate::error::ModelError;

use super::conversation::{Content, Conversation, Ending, Message, Part, ToolCall};
use super::dialect::Dialect;
use super::ending::MARK;
use super::limits::JSON_DEPTH_MAX;

/// Roles that templates are written for. Some make a control token of the role's name, as Phi does
/// with `'<|' + role + '|>'`, so these count as the template's own text; any other role does not.
const ROLES: [&str; 8] = [
    "system",
    "user",
    "assistant",
    "tool",
    "developer",
    "model",
    "ipython",
    "function",
];

/// Variables that a template is told by the conversation and the model alone.
const TOLD_ANYWAY: [&str; 6] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "bos_token",
    "eos_token",
];

type Entries<'a> = Vec<(Cow<'a, str>, Data<'a>)>;

/// The variables that `conversation` gives a template that speaks `dialect`; BOS and EOS are the
/// template's own.
pub(super) fn variables<'a>(
    conversation: &'a Conversation,
    dialect: &Dialect,
) -> Result<Vec<(&'a str, Data<'a>)>, ModelError> {
    let messages = messages(conversation, dialect)?;
    let tools = match conversation.tools.as_slice() {
        [] => Data::None,
        tools => Data::List(list(tools, 0)?),
    };
    let mut variables = vec![
        ("messages", Data::List(messages)),
        ("tools", tools),
        (
            "add_generation_prompt",
            Data::Bool(conversation.ending == Ending::GenerationPrompt),
        ),
    ];
    if !conversation.arguments.contains_key("documents") {
        variables.push(("documents", Data::None));
    }
    for (name, value) in &conversation.arguments {
        if TOLD_ANYWAY.contains(&name.as_str()) {
            return Err(failed(format!(
                "`{name}` cannot be among its arguments; the conversation says it"
            )));
        }
        variables.push((name, json(value, 0)?));
    }
    Ok(variables)
}

fn messages<'a>(
    conversation: &'a Conversation,
    dialect: &Dialect,
) -> Result<Vec<Data<'a>>, ModelError> {
    let last = conversation.messages.len().saturating_sub(1);
    let messages = conversation.messages.iter().enumerate();
    let messages = messages.map(|(at, message)| {
        let goes_on = at == last && conversation.ending == Ending::FinalMessage;
        one(message, dialect, goes_on)
    });
    messages.collect()
}

/// A message; one that `goes_on` has the mark after its content.
fn one<'a>(message: &'a Message, dialect: &Dialect, goes_on: bool) -> Result<Data<'a>, ModelError> {
    let role = match message.role.as_str() {
        "developer" if !dialect.knows_developer => "system",
        role => role,
    };
    let content = match goes_on {
        true => marked(&message.content, dialect.takes_parts(role)),
        false if dialect.silent_calls && is_silent_call(message) => Data::None,
        false => content(&message.content, dialect.takes_parts(role)),
    };
    let role = match ROLES.contains(&role) {
        true => Data::Trusted(role.into()),
        false => Data::Given(role.into()),
    };
    let mut entries: Entries<'a> = vec![("role".into(), role), ("content".into(), content)];
    let is_full = !message.tool_calls.is_empty() && message.content.bytes() > 0;
    let reasoning = match dialect.refuses_thoughts && is_full {
        true => &None,
        false => &message.reasoning,
    };
    let texts = [
        ("name", &message.name),
        (dialect.reasoning, reasoning),
        ("tool_call_id", &message.tool_call_id),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            entries.push((key.into(), given(text)));
        }
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|one| call(one, dialect));
        let calls = calls.collect::<Result<_, _>>()?;
        entries.push(("tool_calls".into(), Data::List(calls)));
    }
    Ok(Data::Dict(entries))
}

fn is_silent_call(message: &Message) -> bool {
    !message.tool_calls.is_empty() && message.content.bytes() == 0
}

fn content(content: &Content, as_parts: bool) -> Data<'_> {
    match content {
        Content::Text(text) => given(text),
        Content::Parts(parts) if as_parts => {
            let parts = parts.iter().map(|Part::Text(text)| part(given(text)));
            Data::List(parts.collect())
        }
        Content::Parts(_) => Data::Given(content.text().into()),
    }
}

/// The content with the mark after its last text.
fn marked(whole: &Content, as_parts: bool) -> Data<'_> {
    let with_mark = |text: &str| Data::Given(format!("{text}{MARK}").into());
    match (whole, content(whole, as_parts)) {
        (Content::Parts(parts), Data::List(mut list)) => {
            let Part::Text(last) = parts.last().unwrap_or(const { &Part::Text(String::new()) });
            list.pop();
            list.push(part(with_mark(last)));
            Data::List(list)
        }
        _ => with_mark(&whole.text()),
    }
}

fn part(text: Data<'_>) -> Data<'_> {
    Data::Dict(vec![("type".into(), given("text")), ("text".into(), text)])
}

/// As OpenAI's protocol writes it, but for the arguments: most templates expect an object.
fn call<'a>(call: &'a ToolCall, dialect: &Dialect) -> Result<Data<'a>, ModelError> {
    let arguments = match &call.arguments {
        Value::String(text) => given(text),
        value if dialect.textual_arguments => {
            // Bounds its depth first.
            json(value, 0)?;
            Data::Given(written(value)?.into())
        }
        value => json(value, 0)?,
    };
    let function = Data::Dict(vec![
        ("name".into(), given(&call.name)),
        ("arguments".into(), arguments),
    ]);
    Ok(Data::Dict(vec![
        ("id".into(), given(&call.id)),
        ("type".into(), given("function")),
        ("function".into(), function),
    ]))
}

fn given(text: &str) -> Data<'_> {
    Data::Given(text.into())
}

fn json(value: &Value, depth: usize) -> Result<Data<'_>, ModelError> {
    if depth > JSON_DEPTH_MAX {
        return Err(failed(format!(
            "a tool or an argument has lists or objects more than {JSON_DEPTH_MAX} inside each other"
        )));
    }
    Ok(match value {
        Value::Null => Data::None,
        Value::Bool(value) => Data::Bool(*value),
        // Python's integers have no end; those beyond 64 bits are near enough as floats.
        Value::Number(number) => match number.as_i64() {
            Some(number) => Data::Int(number),
            None => Data::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => given(text),
        Value::Array(items) => Data::List(list(items, depth)?),
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Ok((key.into(), json(value, depth + 1)?)));
            Data::Dict(entries.collect::<Result<_, ModelError>>()?)
        }
    })
}

fn list(items: &[Value], depth: usize) -> Result<Vec<Data<'_>>, ModelError> {
    items.iter().map(|item| json(item, depth + 1)).collect()
}

/// JSON with a space after each comma and colon, as models mostly write it themselves.
fn written(value: &Value) -> Result<String, ModelError> {
    let mut out = Vec::new();
    let wrote = value.serialize(&mut Serializer::with_formatter(&mut out, Spaced));
    wrote.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(out).map_err(|error| failed(error.to_string()))
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

fn failed(what: String) -> ModelError {
    ModelError::Template { what }
}
