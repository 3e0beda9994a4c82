use serde_json::{Map, Value};

/// A conversation, and what a model's chat template is told besides it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// What was said, in order.
    pub messages: Vec<Message>,
    /// The tools that the model may call, each as templates expect it: `{"type": "function",
    /// "function": {"name", "description", "parameters"}}`.
    pub tools: Vec<Value>,
    /// Further variables of the template, such as `enable_thinking`. Those that the template is told
    /// anyway (`messages`, `tools`, `bos_token`, …) cannot be among them.
    pub arguments: Map<String, Value>,
    /// Where the text ends.
    pub ending: Ending,
}

/// Where the text of a conversation ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// With the opening of the assistant's turn (`add_generation_prompt`).
    #[default]
    GenerationPrompt,
    /// Inside the last message, which the model goes on with (`continue_final_message`).
    FinalMessage,
    /// With the last message.
    Closed,
}

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The speaker: `system`, `developer`, `user`, `assistant` or `tool` in most templates.
    pub role: String,
    /// What was said.
    pub content: Content,
    /// What the assistant thought before it answered, where that is kept apart.
    pub reasoning: Option<String>,
    /// The tools that the assistant called.
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's answer, the call that it answers.
    pub tool_call_id: Option<String>,
    /// The speaker's name, or the tool's.
    pub name: Option<String>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One text, maybe empty.
    Text(String),
    /// Several parts. Templates that do not know parts are given their texts as one.
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Text.
    Text(String),
}

/// A tool that the assistant called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// What the tool's answer names.
    pub id: String,
    /// The tool.
    pub name: String,
    /// What it was called with: an object in most cases.
    pub arguments: Value,
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Content {
    /// The texts of all parts, one after the other.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.iter().map(|Part::Text(text)| text.as_str()).collect(),
        }
    }

    /// Bytes of its text.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Parts(parts) => parts.iter().map(|Part::Text(text)| text.len()).sum(),
        }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Message {
    /// A text that `role` says.
    pub fn new(role: impl Into<String>, text: impl Into<Content>) -> Self {
        Self {
            role: role.into(),
            content: text.into(),
            ..Self::default()
        }
    }

    /// What the model is told before the conversation.
    pub fn system(text: impl Into<Content>) -> Self {
        Self::new("system", text)
    }

    /// What the user says.
    pub fn user(text: impl Into<Content>) -> Self {
        Self::new("user", text)
    }

    /// What the model answered.
    pub fn assistant(text: impl Into<Content>) -> Self {
        Self::new("assistant", text)
    }

    /// What a tool answered to a call.
    pub fn tool(call_id: impl Into<String>, text: impl Into<Content>) -> Self {
        Self {
            tool_call_id: Some(call_id.into()),
            ..Self::new("tool", text)
        }
    }
}

impl From<Vec<Message>> for Conversation {
    /// The messages, up to where the assistant's answer begins.
    fn from(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }
}
