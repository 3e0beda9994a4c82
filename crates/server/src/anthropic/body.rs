use corpgrid_scheduler::{Content, Conversation, Message, Part, Prompt, Sampling, ToolCall};
use gogrid_grammar::Spec;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ask::{Ask, Form, TokensWanted, seed};
use crate::by_name::by_name;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::limits::CALLS_MAX;
use crate::reading::{ToolChoice, tool_choice};

/// What `/v1/messages` takes. What is not named here is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessagesBody {
    model: Option<String>,
    messages: Vec<TurnBody>,
    system: Option<Blocks>,
    max_tokens: Option<usize>,
    stop_sequences: Option<Vec<String>>,
    pub(super) stream: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    tools: Option<Vec<ToolBody>>,
    tool_choice: Option<Value>,
    thinking: Option<Value>,
    output_config: Option<Map<String, Value>>,
    output_format: Option<Value>,
    service_tier: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
struct TurnBody {
    role: String,
    content: Blocks,
}

/// One text, or blocks.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "must be a text or a list of blocks, each an object"
)]
enum Blocks {
    Text(String),
    Blocks(Vec<Block>),
}

impl Default for Blocks {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// A block of some kind.
#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Value>,
    tool_use_id: Option<String>,
    content: Option<Box<Blocks>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", default)]
struct ToolBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    description: Option<String>,
    input_schema: Option<Map<String, Value>>,
}

by_name!(TurnBody, Block, ToolBody);

impl MessagesBody {
    /// What is wanted, in our words.
    pub(super) fn ask(self, caller: &Caller) -> Result<Ask, ApiError> {
        let plain = Sampling::default();
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(plain.top_p),
            top_k: self
                .top_k
                .and_then(|k| usize::try_from(k).ok())
                .unwrap_or(0),
            seed: seed(None),
            stop: self.stop_sequences.clone().unwrap_or_default(),
            ..plain
        };
        // `standard_only` and `auto` are Anthropic's; ours are the same as everywhere.
        let tier = self
            .service_tier
            .as_deref()
            .filter(|tier| *tier != "standard_only");
        let terms = caller.terms(tier)?;
        let tokens = self
            .max_tokens
            .map_or(TokensWanted::Default, TokensWanted::Exactly);
        Ok(Ask {
            model: self.model.clone().unwrap_or_default(),
            tokens,
            sampling,
            choices: 1,
            log_probs: None,
            form: self.form()?,
            tool_choice: self.choice()?,
            calls_max: match self.is_parallel() {
                true => CALLS_MAX,
                false => 1,
            },
            terms,
            names: &[("prompt", "messages"), ("stop", "stop_sequences")],
            prompt: Prompt::Chat(self.conversation()?),
        })
    }

    /// A schema that the text is held to, where it is asked for in either of two fields.
    fn form(&self) -> Result<Option<Form>, ApiError> {
        let of_config = self.output_config.as_ref();
        let of_config = of_config.and_then(|config| config.get("format"));
        let of_format = self.output_format.as_ref();
        let fields = [
            ("output_config.format", of_config),
            ("output_format", of_format),
        ];
        let named = fields.into_iter().find_map(|(field, format)| {
            let format = format.filter(|format| !format.is_null())?;
            Some((field, format))
        });
        let Some((field, format)) = named else {
            return Ok(None);
        };
        match (format["type"].as_str(), &format["schema"]) {
            (Some("json_schema"), schema @ Value::Object(_)) => Ok(Some(Form {
                spec: Spec::JsonSchema(schema.clone()),
                field,
            })),
            _ => Err(ApiError::bad(
                field,
                "must be of type json_schema, with a schema",
            )),
        }
    }

    /// Anthropic names a tool beside the kind of choice.
    fn choice(&self) -> Result<ToolChoice, ApiError> {
        tool_choice(self.tool_choice.as_ref())
    }

    fn is_parallel(&self) -> bool {
        let choice = self.tool_choice.as_ref();
        choice.is_none_or(|choice| choice["disable_parallel_tool_use"] != true)
    }

    fn conversation(self) -> Result<Conversation, ApiError> {
        let mut messages = Vec::new();
        if let Some(system) = self.system {
            messages.push(Message::system(system.content("system")?));
        }
        if self.messages.is_empty() {
            let problem = "there is none; at least one message is needed";
            return Err(ApiError::bad("messages", problem));
        }
        for (at, turn) in self.messages.into_iter().enumerate() {
            turn.read(&format!("messages[{at}]"), &mut messages)?;
        }
        let thinks = self
            .thinking
            .as_ref()
            .map(|thinking| thinking["type"] == "enabled");
        let tools = self.tools.unwrap_or_default().into_iter().enumerate();
        let tools = tools.map(|(at, tool)| tool.read(&format!("tools[{at}]")));
        let arguments = thinks.map(|thinks| ("enable_thinking".to_owned(), json!(thinks)));
        Ok(Conversation {
            messages,
            tools: tools.collect::<Result<_, _>>()?,
            arguments: arguments.into_iter().collect::<Map<_, _>>(),
            ..Conversation::default()
        })
    }
}

impl Blocks {
    /// Blocks that must all be text.
    fn content(self, field: &str) -> Result<Content, ApiError> {
        match self {
            Self::Text(text) => Ok(Content::Text(text)),
            Self::Blocks(blocks) => {
                let numbered = blocks.into_iter().enumerate();
                let parts = numbered.map(|(at, block)| block.text(&format!("{field}[{at}]")));
                Ok(Content::Parts(parts.collect::<Result<_, _>>()?))
            }
        }
    }
}

impl Block {
    fn text(self, field: &str) -> Result<Part, ApiError> {
        match (self.kind.as_str(), self.text) {
            ("text", Some(text)) => Ok(Part::Text(text)),
            ("text", None) => Err(ApiError::bad(field, "has no text")),
            (kind, _) => Err(ApiError::unsupported(
                field,
                &format!("a block of type {kind:?}"),
            )),
        }
    }
}

impl TurnBody {
    /// A turn becomes one message, and one more for each result of a tool in it, which come first.
    fn read(self, field: &str, into: &mut Vec<Message>) -> Result<(), ApiError> {
        if !["user", "assistant", "system"].contains(&self.role.as_str()) {
            let problem = format!("{:?}; must be user or assistant", self.role);
            return Err(ApiError::bad(format!("{field}.role"), problem));
        }
        let blocks = match self.content {
            Blocks::Text(text) => {
                into.push(Message::new(self.role, text));
                return Ok(());
            }
            Blocks::Blocks(blocks) => blocks,
        };
        let mut message = Message::new(self.role, "");
        let mut parts = Vec::new();
        for (at, block) in blocks.into_iter().enumerate() {
            let field = format!("{field}.content[{at}]");
            match block.kind.as_str() {
                "tool_result" => {
                    let content = block.content.map(|content| *content).unwrap_or_default();
                    let id = block.tool_use_id.unwrap_or_default();
                    into.push(Message::tool(id, content.content(&field)?));
                }
                "tool_use" => message.tool_calls.push(ToolCall {
                    id: block.id.unwrap_or_default(),
                    name: block.name.unwrap_or_default(),
                    arguments: block.input.unwrap_or_else(|| json!({})),
                }),
                "thinking" => message.reasoning = block.thinking,
                "redacted_thinking" => {}
                _ => parts.push(block.text(&field)?),
            }
        }
        if !parts.is_empty() || !message.tool_calls.is_empty() {
            message.content = Content::Parts(parts);
            into.push(message);
        }
        Ok(())
    }
}

impl ToolBody {
    /// As templates expect a tool.
    fn read(self, field: &str) -> Result<Value, ApiError> {
        if let Some(kind) = self.kind.filter(|kind| kind != "custom") {
            let what = format!("a tool of type {kind:?}");
            return Err(ApiError::unsupported(field, &what));
        }
        if self.name.is_empty() {
            return Err(ApiError::bad(format!("{field}.name"), "is missing"));
        }
        let mut function = json!({"name": self.name});
        if let Some(description) = self.description {
            function["description"] = json!(description);
        }
        function["parameters"] = self
            .input_schema
            .map_or_else(|| json!({"type": "object"}), Value::Object);
        Ok(json!({"type": "function", "function": function}))
    }
}
