use corpgrid_scheduler::{Conversation, Ending, Message, ToolCall};
use serde::Deserialize;
use serde_json::Value;

use super::body::Body;
use crate::body::json_or_text;
use crate::by_name::by_name;
use crate::content::ContentBody;
use crate::error::ApiError;
use crate::reading::check_tool;

/// A message as OpenAI has it.
#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
pub(crate) struct ChatMessage {
    pub(crate) role: String,
    pub(crate) content: Option<ContentBody>,
    pub(crate) name: Option<String>,
    pub(crate) tool_calls: Option<Vec<ChatToolCall>>,
    pub(crate) tool_call_id: Option<String>,
    #[serde(alias = "reasoning")]
    pub(crate) reasoning_content: Option<String>,
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

by_name!(ChatMessage, ChatToolCall, ChatFunction);

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
        let field = format!("messages[{at}]");
        let content = self.content.map(|content| content.read(&field));
        let calls = self.tool_calls.unwrap_or_default();
        Ok(Message {
            role: self.role,
            content: content.transpose()?.unwrap_or_default(),
            reasoning: self.reasoning_content,
            tool_calls: calls.into_iter().map(ChatToolCall::read).collect(),
            tool_call_id: self.tool_call_id,
            name: self.name,
        })
    }
}

impl ChatToolCall {
    fn read(self) -> ToolCall {
        let arguments = match self.function.arguments {
            // A text that is no JSON is what the model said, and stays so.
            Value::String(text) => json_or_text(&text),
            value => value,
        };
        ToolCall {
            id: self.id.unwrap_or_default(),
            name: self.function.name,
            arguments,
        }
    }
}
