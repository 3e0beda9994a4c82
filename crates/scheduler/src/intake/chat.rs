//! How much a conversation says, and how much it may.

use std::fmt::Arguments;

use gogrid_model::{Content, Conversation, Message, Part, ToolCall};
use gogrid_units::Bytes;
use serde_json::Value;

use super::bad;
use crate::error::Refusal;
use crate::limits::{
    CHAT_MEMORY_PER_BYTE, CHAT_VALUE_BYTES, CHAT_VALUES_MAX, JSON_DEPTH_MAX, MESSAGES_MAX,
    PARTS_MAX, PROMPT_BYTES_MAX, TOOL_CALLS_MAX, TOOLS_MAX,
};

/// A conversation within its bounds.
pub(crate) struct Chat {
    conversation: Conversation,
    size: Size,
}

/// What a conversation's template is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Of every text and name in it.
    bytes: usize,
    /// Texts, names, numbers, lists and objects.
    values: usize,
}

impl Chat {
    /// Refuses one that says too much, naming the field.
    pub(crate) fn checked(conversation: Conversation) -> Result<Self, Refusal> {
        let size = Size::of(&conversation)?;
        Ok(Self { conversation, size })
    }

    pub(crate) fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    pub(crate) fn bytes(&self) -> usize {
        self.size.bytes
    }

    /// Memory that its template takes at most while it writes the chat.
    pub(crate) fn memory(&self) -> Bytes {
        let Size { bytes, values } = self.size;
        Bytes((bytes + values * CHAT_VALUE_BYTES) as u64).times(CHAT_MEMORY_PER_BYTE)
    }
}

impl Size {
    /// That of a conversation within its bounds.
    pub(crate) fn of(conversation: &Conversation) -> Result<Self, Refusal> {
        let Conversation {
            messages,
            tools,
            arguments,
            ending: _,
        } = conversation;
        if !(1..=MESSAGES_MAX).contains(&messages.len()) {
            let messages = messages.len();
            let problem = format!("{messages} messages; 1 to {MESSAGES_MAX} can be sent");
            return Err(bad("prompt", problem));
        }
        check_count(tools.len(), TOOLS_MAX, format_args!("tools"))?;
        let mut size = Self::default();
        for (at, message) in messages.iter().enumerate() {
            size.message(message, format_args!("messages[{at}]"))?;
        }
        for (at, tool) in tools.iter().enumerate() {
            size.json(tool, 0, format_args!("tools[{at}]"))?;
        }
        for (name, value) in arguments {
            size.text(name, format_args!("arguments"))?;
            size.json(value, 0, format_args!("arguments.{name:.40}"))?;
        }
        Ok(size)
    }

    fn message(&mut self, message: &Message, path: Arguments<'_>) -> Result<(), Refusal> {
        let Message {
            role,
            content,
            reasoning,
            tool_calls,
            tool_call_id,
            name,
        } = message;
        self.value(path)?;
        self.field(role, format_args!("{path}.role"))?;
        self.content(content, format_args!("{path}.content"))?;
        let texts = [
            ("reasoning", reasoning),
            ("tool_call_id", tool_call_id),
            ("name", name),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                self.field(text, format_args!("{path}.{field}"))?;
            }
        }
        let calls = tool_calls.len();
        check_count(calls, TOOL_CALLS_MAX, format_args!("{path}.tool_calls"))?;
        for (at, call) in tool_calls.iter().enumerate() {
            self.call(call, format_args!("{path}.tool_calls[{at}]"))?;
        }
        Ok(())
    }

    fn content(&mut self, content: &Content, path: Arguments<'_>) -> Result<(), Refusal> {
        match content {
            Content::Text(text) => self.field(text, path),
            Content::Parts(parts) => {
                check_count(parts.len(), PARTS_MAX, path)?;
                parts.iter().enumerate().try_for_each(|(at, part)| {
                    let Part::Text(text) = part else {
                        let problem = format!("{path}[{at}]: a part of a kind that is not known");
                        return Err(bad("prompt", problem));
                    };
                    self.value(path)?;
                    self.field(text, format_args!("{path}[{at}].text"))
                })
            }
        }
    }

    fn call(&mut self, call: &ToolCall, path: Arguments<'_>) -> Result<(), Refusal> {
        let ToolCall {
            id,
            name,
            arguments,
        } = call;
        self.value(path)?;
        self.field(id, format_args!("{path}.id"))?;
        self.field(name, format_args!("{path}.name"))?;
        self.json(arguments, 0, format_args!("{path}.arguments"))
    }

    fn json(&mut self, value: &Value, depth: usize, path: Arguments<'_>) -> Result<(), Refusal> {
        if depth > JSON_DEPTH_MAX {
            let problem =
                format!("{path}: lists or objects more than {JSON_DEPTH_MAX} inside each other");
            return Err(bad("prompt", problem));
        }
        match value {
            Value::String(text) => self.text(text, path),
            Value::Array(items) => {
                self.value(path)?;
                items
                    .iter()
                    .try_for_each(|item| self.json(item, depth + 1, path))
            }
            Value::Object(entries) => {
                self.value(path)?;
                entries.iter().try_for_each(|(key, value)| {
                    self.text(key, path)?;
                    self.json(value, depth + 1, path)
                })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.value(path),
        }
    }

    /// A text and its name.
    fn field(&mut self, text: &str, path: Arguments<'_>) -> Result<(), Refusal> {
        self.value(path)?;
        self.text(text, path)
    }

    fn text(&mut self, text: &str, path: Arguments<'_>) -> Result<(), Refusal> {
        self.value(path)?;
        self.bytes = self.bytes.saturating_add(text.len());
        match self.bytes <= PROMPT_BYTES_MAX {
            true => Ok(()),
            false => Err(bad(
                "prompt",
                format!(
                    "{path}: up to its end {} bytes of text; at most {PROMPT_BYTES_MAX}",
                    self.bytes
                ),
            )),
        }
    }

    fn value(&mut self, path: Arguments<'_>) -> Result<(), Refusal> {
        self.values += 1;
        match self.values <= CHAT_VALUES_MAX {
            true => Ok(()),
            false => Err(bad(
                "prompt",
                format!("{path}: up to here more than {CHAT_VALUES_MAX} values"),
            )),
        }
    }
}

fn check_count(count: usize, most: usize, path: Arguments<'_>) -> Result<(), Refusal> {
    match count <= most {
        true => Ok(()),
        false => Err(bad("prompt", format!("{path}: {count}; at most {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conversation() -> Conversation {
        let call = ToolCall {
            id: "1".into(),
            name: "now".into(),
            arguments: json!({"at": [1, "xyz"]}),
        };
        let called = Message {
            tool_calls: vec![call],
            ..Message::assistant("")
        };
        Conversation {
            tools: vec![json!({"type": "function"})],
            ..vec![Message::user("x"), called].into()
        }
    }

    fn refused(change: impl FnOnce(&mut Conversation)) -> String {
        let mut conversation = conversation();
        change(&mut conversation);
        Size::of(&conversation)
            .expect_err("it says too much")
            .to_string()
    }

    #[test]
    fn every_text_and_value_of_a_chat_counts() {
        let size = Size::of(&conversation()).expect("it is small");
        let texts = [
            "user",
            "x",
            "assistant",
            "1",
            "now",
            "at",
            "xyz",
            "type",
            "function",
        ];
        let expected = Size {
            bytes: texts.concat().len(),
            // Two messages of two fields; a call with two, its object with a list of two; a tool.
            values: 2 * 5 + 5 + 5 + 3,
        };
        assert_eq!(size, expected);
    }

    #[test]
    fn what_is_too_much_is_named() {
        let check = |refusal: String, words: &[&str]| {
            assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
        };
        let deep = || (0..=JSON_DEPTH_MAX + 1).fold(json!(1), |inside, _| json!([inside]));
        let long = || "x".repeat(PROMPT_BYTES_MAX);
        check(refused(|chat| chat.messages.clear()), &["0 messages; 1 to"]);
        let content = |chat: &mut Conversation| chat.messages[1].content = long().into();
        check(
            refused(content),
            &["messages[1].content: ", "bytes of text; at most"],
        );
        let name = |chat: &mut Conversation| chat.messages[0].name = Some(long());
        check(refused(name), &["messages[0].name: "]);
        let parts = |chat: &mut Conversation| {
            let parts = vec![Part::Text(String::new()); PARTS_MAX + 1];
            chat.messages[0].content = Content::Parts(parts);
        };
        check(refused(parts), &["messages[0].content: 1025; at most 1024"]);
        let tools = |chat: &mut Conversation| chat.tools = vec![json!({}); TOOLS_MAX + 1];
        check(refused(tools), &["tools: 513; at most 512"]);
        let calls = |chat: &mut Conversation| {
            let call = chat.messages[1].tool_calls[0].clone();
            chat.messages[1].tool_calls = vec![call; TOOL_CALLS_MAX + 1];
        };
        check(
            refused(calls),
            &["messages[1].tool_calls: 129; at most 128"],
        );
        let tool = |chat: &mut Conversation| chat.tools.push(deep());
        check(
            refused(tool),
            &["tools[1]: ", "more than 32 inside each other"],
        );
        let tool = |chat: &mut Conversation| chat.tools[0] = json!(vec![1; CHAT_VALUES_MAX]);
        check(refused(tool), &["tools[0]: ", "more than 131072 values"]);
        let call = |chat: &mut Conversation| chat.messages[1].tool_calls[0].arguments = deep();
        check(refused(call), &["messages[1].tool_calls[0].arguments: "]);
        let argument = |chat: &mut Conversation| {
            chat.arguments.insert("effort".into(), long().into());
        };
        check(refused(argument), &["arguments.effort: "]);
    }
}
