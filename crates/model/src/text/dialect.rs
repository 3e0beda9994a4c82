//! What a template expects of the conversation that it is given. Templates differ, and say nowhere
//! how: a few short conversations are rendered to find out, once.

use gogrid_jinja::{CivilTime, Data, Template};
use serde_json::{Value, json};

use super::conversation::{Content, Conversation, Ending, Message, Part, ToolCall};
use super::variables::variables;

/// What a template expects of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// It speaks of the role `developer`; others are told `system`.
    pub(super) knows_developer: bool,
    /// The field of a message that it reads the assistant's thoughts from.
    pub(super) reasoning: &'static str,
    /// It writes the arguments of a call as they are, so they must be a text.
    pub(super) textual_arguments: bool,
    /// It takes a message with calls as such only where its content is none.
    pub(super) silent_calls: bool,
    /// It refuses a message that has a content, thoughts and calls, so the thoughts are left out.
    pub(super) refuses_thoughts: bool,
    /// The roles whose content it takes in parts.
    parts: Vec<&'static str>,
}

/// Where templates look for thoughts; the first is what most do.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

const PROBED_ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

// Said in conversations that are rendered to find out what a template does.
const FIRST: &str = "FIRST-PROBE";
const SECOND: &str = "SECOND-PROBE";
const NAME: &str = "probe_name";
const KEY: &str = "probe_key";

impl Default for Dialect {
    fn default() -> Self {
        Self {
            knows_developer: true,
            reasoning: REASONING[0],
            textual_arguments: false,
            silent_calls: false,
            refuses_thoughts: false,
            parts: Vec::new(),
        }
    }
}

impl Dialect {
    /// That of a template.
    pub(super) fn of(template: &Template, source: &str) -> Self {
        let reasoning = REASONING.into_iter().find(|name| has_field(source, name));
        let mut dialect = Self {
            knows_developer: has_quoted(source, "developer"),
            reasoning: reasoning.unwrap_or(REASONING[0]),
            ..Self::default()
        };
        dialect.learn_calls(template);
        dialect.refuses_thoughts = !dialect.writes_call_after(template, true)
            && dialect.writes_call_after(template, false);
        let takes = |role: &&str| dialect.writes_parts(template, role);
        dialect.parts = PROBED_ROLES.into_iter().filter(takes).collect();
        dialect
    }

    /// Whether the content of such a message is given in parts. Roles that only some templates know
    /// are as a user's.
    pub(super) fn takes_parts(&self, role: &str) -> bool {
        let role = match PROBED_ROLES.contains(&role) {
            true => role,
            false if role == "developer" => "system",
            false => "user",
        };
        self.parts.contains(&role)
    }

    /// Finds the first way to give a call in which it is written; where there is none, that of most.
    fn learn_calls(&mut self, template: &Template) {
        let conversation = conversation(vec![Message::user(FIRST), called()]);
        for (textual_arguments, silent_calls) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let tried = Self {
                textual_arguments,
                silent_calls,
                ..self.clone()
            };
            if tried
                .render(template, &conversation)
                .is_some_and(|text| writes_call(&text))
            {
                *self = tried;
                return;
            }
        }
    }

    /// Whether it writes a call after a content, with thoughts or without.
    fn writes_call_after(&self, template: &Template, thinks: bool) -> bool {
        let message = Message {
            content: FIRST.into(),
            reasoning: thinks.then(|| SECOND.to_owned()),
            ..called()
        };
        let messages = vec![Message::user("asks"), message];
        self.render(template, &conversation(messages)).is_some()
    }

    fn writes_parts(&self, template: &Template, role: &str) -> bool {
        let parts = [FIRST, SECOND].map(|text| Part::Text(text.to_owned()));
        let mut probed = Message::new(role, Content::Parts(parts.into()));
        let asks = || Message::user("asks");
        let messages = match role {
            "system" => vec![probed, asks()],
            "assistant" => vec![asks(), probed, asks()],
            "tool" => {
                let called = called();
                probed.tool_call_id = called.tool_calls.first().map(|call| call.id.clone());
                probed.name = Some(NAME.to_owned());
                vec![asks(), called, probed]
            }
            _ => vec![probed],
        };
        let tried = Self {
            parts: vec!["system", "user", "assistant", "tool"],
            ..self.clone()
        };
        let text = tried.render(template, &conversation(messages));
        text.is_some_and(|text| writes_both(&text))
    }

    /// The text of a conversation, or `None` where the template cannot write it.
    fn render(&self, template: &Template, conversation: &Conversation) -> Option<String> {
        let mut variables = variables(conversation, self).ok()?;
        variables.push(("bos_token", Data::Trusted("".into())));
        variables.push(("eos_token", Data::Trusted("".into())));
        let now = CivilTime::new([2024, 7, 26], [12, 0, 0]);
        let rendered = template.render(&variables, now.as_ref()).ok()?;
        Some(rendered.text)
    }
}

fn conversation(messages: Vec<Message>) -> Conversation {
    Conversation {
        messages,
        tools: vec![json!({
            "type": "function",
            "function": {
                "name": NAME,
                "description": "probes",
                "parameters": {"type": "object", "properties": {}},
            },
        })],
        ending: Ending::Closed,
        ..Conversation::default()
    }
}

/// A message with a call. Mistral's templates want ids of nine characters.
fn called() -> Message {
    let call = ToolCall {
        id: "probe0001".to_owned(),
        name: NAME.to_owned(),
        arguments: Value::Object(
            [(KEY.to_owned(), json!("probe_value"))]
                .into_iter()
                .collect(),
        ),
    };
    Message {
        tool_calls: vec![call],
        ..Message::assistant("")
    }
}

/// Whether the arguments of the call are there, neither as Python prints a dict nor with a text's
/// quotes escaped.
fn writes_call(text: &str) -> bool {
    let python = format!("'{KEY}':");
    let escaped = format!("\\\"{KEY}");
    text.contains(KEY) && !text.contains(&python) && !text.contains(&escaped)
}

/// Whether both parts are there, and between them no part's name: then it is the list that was
/// written, not what is in it.
fn writes_both(text: &str) -> bool {
    let Some((_, rest)) = text.split_once(FIRST) else {
        return false;
    };
    let between = rest.split_once(SECOND).map(|(between, _)| between);
    between.is_some_and(|between| !between.contains("text"))
}

fn has_quoted(source: &str, name: &str) -> bool {
    ['\'', '"']
        .iter()
        .any(|quote| source.contains(&format!("{quote}{name}{quote}")))
}

/// Whether a template reads a field of that name: `message.name` or `message['name']`.
fn has_field(source: &str, name: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    let after_dot = |found: &str| !goes_on(&found[1 + name.len()..]);
    let dotted = format!(".{name}");
    has_quoted(source, name)
        || source
            .match_indices(&dotted)
            .any(|(at, _)| after_dot(&source[at..]))
}
