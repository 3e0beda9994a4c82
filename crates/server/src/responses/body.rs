use corpgrid_scheduler::{Conversation, Message, Prompt, Sampling, ToolCall};
use gogrid_grammar::Spec;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ask::{Ask, Form, TokensWanted, seed};
use crate::body::json_or_text;
use crate::by_name::by_name;
use crate::caller::Caller;
use crate::content::ContentBody;
use crate::error::ApiError;
use crate::limits::CALLS_MAX;
use crate::reading::{check_function, check_tool, tool_choice};

/// What `/v1/responses` takes. What is not named here is left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ResponsesBody {
    model: Option<String>,
    input: Option<Input>,
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    pub(super) stream: Option<bool>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<TextBody>,
    previous_response_id: Option<String>,
    conversation: Option<Value>,
    background: Option<bool>,
    service_tier: Option<String>,
    metadata: Option<Value>,
}

/// One text, or items.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "must be a text or a list of items, each an object"
)]
enum Input {
    Text(String),
    Items(Vec<ItemBody>),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
struct TextBody {
    format: Option<Value>,
}

/// An item of some kind; without one it is a message.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
struct ItemBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<ContentBody>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<ContentBody>,
}

by_name!(TextBody, ItemBody);

impl ResponsesBody {
    /// What a response says of its request.
    pub(super) fn echoed(&self) -> Value {
        let format = self.text.as_ref().and_then(|text| text.format.clone());
        json!({
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "temperature": self.temperature.unwrap_or(1.0),
            "top_p": self.top_p.unwrap_or(1.0),
            "tools": self.tools.clone().unwrap_or_default(),
            "tool_choice": self.tool_choice.clone().unwrap_or_else(|| json!("auto")),
            "parallel_tool_calls": self.parallel_tool_calls.unwrap_or(true),
            "text": {"format": format.unwrap_or_else(|| json!({"type": "text"}))},
            "reasoning": {"effort": null, "summary": null},
            "service_tier": "default",
            "metadata": self.metadata.clone().unwrap_or_else(|| json!({})),
        })
    }

    pub(super) fn ask(self, caller: &Caller) -> Result<Ask, ApiError> {
        self.refuse_what_is_not_built()?;
        let plain = Sampling::default();
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(plain.top_p),
            seed: seed(None),
            ..plain
        };
        let tier = self.service_tier.as_deref();
        let terms = caller.terms(tier)?;
        let format = self.text.as_ref().and_then(|text| text.format.as_ref());
        Ok(Ask {
            model: self.model.clone().unwrap_or_default(),
            tokens: self
                .max_output_tokens
                .map_or(TokensWanted::Default, TokensWanted::Exactly),
            sampling,
            choices: 1,
            log_probs: None,
            form: form(format)?,
            tool_choice: tool_choice(self.tool_choice.as_ref())?,
            calls_max: match self.parallel_tool_calls {
                Some(false) => 1,
                _ => CALLS_MAX,
            },
            terms,
            names: &[("prompt", "input")],
            prompt: Prompt::Chat(self.conversation()?),
        })
    }

    fn refuse_what_is_not_built(&self) -> Result<(), ApiError> {
        if self.previous_response_id.is_some() || self.conversation.is_some() {
            let what = "going on with what the server keeps: it keeps nothing; give the whole input, which";
            return Err(ApiError::unsupported("previous_response_id", what));
        }
        match self.background {
            Some(true) => Err(ApiError::unsupported(
                "background",
                "answering in the background",
            )),
            _ => Ok(()),
        }
    }

    fn conversation(self) -> Result<Conversation, ApiError> {
        let system = self.instructions.map(Message::system);
        let mut messages: Vec<Message> = system.into_iter().collect();
        match self.input {
            None => return Err(ApiError::bad("input", "is missing")),
            Some(Input::Text(text)) => messages.push(Message::user(text)),
            Some(Input::Items(items)) => {
                for (at, item) in items.into_iter().enumerate() {
                    item.read(&format!("input[{at}]"), &mut messages)?;
                }
            }
        }
        let tools = self.tools.unwrap_or_default().into_iter().enumerate();
        let tools = tools.map(|(at, tool)| read_tool(tool, at));
        Ok(Conversation {
            messages,
            tools: tools.collect::<Result<_, _>>()?,
            ..Conversation::default()
        })
    }
}

impl ItemBody {
    fn read(self, field: &str, into: &mut Vec<Message>) -> Result<(), ApiError> {
        match self.kind.as_deref() {
            None | Some("message") => {
                let Some(role) = self.role else {
                    return Err(ApiError::bad(format!("{field}.role"), "is missing"));
                };
                let content = self
                    .content
                    .map(|content| content.read(field))
                    .transpose()?;
                into.push(Message::new(role, content.unwrap_or_default()));
            }
            Some("function_call") => {
                let text = self.arguments.unwrap_or_default();
                let call = ToolCall {
                    id: self.call_id.unwrap_or_default(),
                    name: self.name.unwrap_or_default(),
                    arguments: json_or_text(&text),
                };
                // Calls of one turn stand in one message.
                match into.last_mut() {
                    Some(last) if last.role == "assistant" => last.tool_calls.push(call),
                    _ => into.push(Message {
                        tool_calls: vec![call],
                        ..Message::assistant("")
                    }),
                }
            }
            Some("function_call_output") => {
                let output = self.output.map(|output| output.read(field)).transpose()?;
                let id = self.call_id.unwrap_or_default();
                into.push(Message::tool(id, output.unwrap_or_default()));
            }
            // What was thought before is no part of what the model is told.
            Some("reasoning") => {}
            Some(kind) => {
                return Err(ApiError::unsupported(
                    field,
                    &format!("an item of type {kind:?}"),
                ));
            }
        }
        Ok(())
    }
}

/// A tool of this protocol has its function's fields beside its type.
fn read_tool(mut tool: Value, at: usize) -> Result<Value, ApiError> {
    if tool["type"] != "function" {
        let what = format!("a tool of type {}", tool["type"]);
        return Err(ApiError::unsupported(&format!("tools[{at}]"), &what));
    }
    let field = format!("tools[{at}]");
    if tool["function"].is_object() {
        check_tool(&tool, &field)?;
        return Ok(tool);
    }
    check_function(&tool, &field)?;
    if let Some(fields) = tool.as_object_mut() {
        fields.remove("type");
        fields.remove("strict");
    }
    Ok(json!({"type": "function", "function": tool}))
}

/// The form of the text: this protocol has the schema beside the type.
fn form(format: Option<&Value>) -> Result<Option<Form>, ApiError> {
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(None);
    };
    let spec = match format["type"].as_str() {
        Some("text") => return Ok(None),
        Some("json_object") => Spec::JsonObject,
        Some("json_schema") if format["schema"].is_object() => {
            Spec::JsonSchema(format["schema"].clone())
        }
        Some("json_schema") => {
            return Err(ApiError::bad(
                "text.format.schema",
                "is missing, or no schema",
            ));
        }
        _ => {
            let problem = "must be text, json_object or json_schema";
            return Err(ApiError::bad("text.format.type", problem));
        }
    };
    Ok(Some(Form {
        spec,
        field: "text.format",
    }))
}
