use corpgrid_scheduler::{Content, Conversation, Ending, Message, Part, ToolCall};
use serde::Deserialize;
use serde_json::Value;

use super::body::Body;
use crate::by_name::by_name;
use crate::error::ApiError;
use crate::reading::check_tool;

/// A message as OpenAI has it.
#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
pub(crate) struct ChatMessage {
    pub(crate) role: String,
    pub(crate) content: Option<ChatContent>,
    pub(crate) name: Option<String>,
    pub(crate) tool_calls: Option<Vec<ChatToolCall>>,
    pub(crate) tool_call_id: Option<String>,
    #[serde(alias = "reasoning")]
    pub(crate) reasoning_content: Option<String>,
}

/// One text, or parts.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "must be a text or a list of parts, each with a type"
)]
pub(crate) enum ChatContent {
    Text(String),
    Parts(Vec<ChatPart>),
}

/// A part: of some kind, which must be text.
#[derive(Debug, Deserialize)]
#[serde(remote = "Self")]
pub(crate) struct ChatPart {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) text: Option<String>,
}

/// A call of a tool in a message.
#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
pub(crate) struct ChatToolCall {
    pub(crate) id: Option<String>,
    pub(crate) function: ChatFunction,
}

/// The function that is called. Its arguments are JSON in a text, or JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
pub(crate) struct ChatFunction {
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

by_name!(ChatMessage, ChatPart, ChatToolCall, ChatFunction);

impl Body {
    /// The conversation of a request.
    pub(crate) fn conversation(&mut self) -> Result<Conversation, ApiError> {
        let messages = self.messages.take().unwrap_or_default();
        if messages.is_empty() {
            return Err(ApiError::bad(
                "messages",
                "there is none; at least one message is needed",
            ));
        }
        let numbered = messages.into_iter().enumerate();
        let messages = numbered.map(|(at, message)| message.read(at));
        let messages: Vec<Message> = messages.collect::<Result<_, _>>()?;
        let tools = self.tools.clone().unwrap_or_default();
        for (at, tool) in tools.iter().enumerate() {
            check_tool(tool, &format!("tools[{at}]"))?;
        }
        let ending = match (self.continue_final_message, self.add_generation_prompt) {
            (Some(true), Some(true)) => {
                let problem = "excludes add_generation_prompt";
                return Err(ApiError::bad("continue_final_message", problem));
            }
            (Some(true), _) => Ending::FinalMessage,
            (_, Some(false)) => Ending::Closed,
            _ => Ending::GenerationPrompt,
        };
        Ok(Conversation {
            messages,
            tools,
            arguments: self.chat_template_kwargs.take().unwrap_or_default(),
            ending,
        })
    }
}

impl ChatMessage {
    fn read(self, at: usize) -> Result<Message, ApiError> {
        if self.role.is_empty() {
            return Err(ApiError::bad(format!("messages[{at}].role"), "is missing"));
        }
        let content = match self.content {
            None => Content::default(),
            Some(ChatContent::Text(text)) => Content::Text(text),
            Some(ChatContent::Parts(parts)) => parts_of(parts, at)?,
        };
        let calls = self.tool_calls.unwrap_or_default();
        Ok(Message {
            role: self.role,
            content,
            reasoning: self.reasoning_content,
            tool_calls: calls.into_iter().map(ChatToolCall::read).collect(),
            tool_call_id: self.tool_call_id,
            name: self.name,
        })
    }
}

fn parts_of(parts: Vec<ChatPart>, at: usize) -> Result<Content, ApiError> {
    let parts = parts.into_iter().enumerate().map(|(number, part)| {
        let field = format!("messages[{at}].content[{number}]");
        match (part.kind.as_str(), part.text) {
            ("text" | "input_text" | "output_text" | "refusal", Some(text)) => Ok(Part::Text(text)),
            ("text" | "input_text" | "output_text", None) => {
                Err(ApiError::bad(field, "has no text"))
            }
            (kind, _) => Err(ApiError::unsupported(
                &field,
                &format!("content of type {kind:?}"),
            )),
        }
    });
    Ok(Content::Parts(parts.collect::<Result<_, _>>()?))
}

impl ChatToolCall {
    fn read(self) -> ToolCall {
        let arguments = match self.function.arguments {
            // A text that is no JSON is what the model said, and stays so.
            Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            value => value,
        };
        ToolCall {
            id: self.id.unwrap_or_default(),
            name: self.function.name,
            arguments,
        }
    }
}
