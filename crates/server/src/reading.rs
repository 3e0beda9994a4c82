//! How a model's text is read: what of it is reasoning, answer, and calls of tools.

use corpgrid_scheduler::{Conversation, HeterogeneousPipeline, Prompt};
use gogrid_grammar::Spec;
use gogrid_reply::{
    CallRules, IdStyle, Part as ReplyPart, ReasoningTags, ReplyOptions, ReplyParser, ToolFormat,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::answer::Part;
use crate::ask::{Ask, Form};
use crate::by_name::by_name;
use crate::error::ApiError;
use crate::models::OpenModel;

/// Whether and which tools may be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// As the model will.
    #[default]
    Auto,
    /// None.
    None,
    /// One at least.
    Required,
    /// This one.
    Named(String),
}

/// How the answers of one request are read, and what must be known of the model for it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    options: ReplyOptions,
    ids: IdStyle,
    /// The control tokens that the reader must see.
    pub(crate) shown: Vec<u32>,
}

/// Reads one answer.
pub(crate) struct Reader {
    parser: ReplyParser,
    ids: IdStyle,
    /// What makes the ids of this answer's calls differ from those of others.
    salt: String,
}

impl Reading {
    /// Answers of a completion are text and nothing else.
    pub(crate) fn plain() -> Self {
        Self {
            options: ReplyOptions::default(),
            ids: IdStyle::Any,
            shown: Vec::new(),
        }
    }

    /// Whether that takes more than a moment: a prompt to render, or a form to compile.
    pub(crate) fn takes_work(model: &OpenModel, ask: &Ask) -> bool {
        let must_call = matches!(ask.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        let template = model.pipeline.model().chat_template();
        let thinks = matches!(ask.prompt, Prompt::Chat(_))
            && template.is_some_and(|one| ReasoningTags::of_template(one.source()).is_some());
        ask.form.is_some() || must_call || thinks
    }

    /// How answers to this request are read. It may render the prompt, on the calling thread, to know
    /// whether it opens the reasoning.
    pub(crate) fn of(model: &OpenModel, ask: &Ask) -> Result<Self, ApiError> {
        let pipeline = &model.pipeline;
        let template = pipeline.model().chat_template();
        let (Prompt::Chat(conversation), Some(template)) = (&ask.prompt, template) else {
            return Ok(Self::plain());
        };
        let format = match conversation.tools.is_empty() {
            true => ToolFormat::None,
            false => ToolFormat::of_template(template.source()),
        };
        if !conversation.tools.is_empty() && format == ToolFormat::None {
            let what = "calling tools: the model's chat template has no format for it that is known, so it";
            return Err(ApiError::unsupported("tools", what));
        }
        // An answer that is held to a form is that form and nothing else.
        let reasoning = match ask.form {
            Some(_) => None,
            None => ReasoningTags::of_template(template.source()),
        };
        let starts_in_reasoning = match reasoning {
            Some(tags) => {
                let rendered = pipeline.render_chat(conversation);
                tags.opened_by(&rendered.map_err(|refusal| ask.refused(refusal))?)
            }
            None => false,
        };
        let options = ReplyOptions {
            format,
            tools: tool_names(conversation),
            reasoning,
            starts_in_reasoning,
            calls_max: ask.calls_max,
        };
        let markers = options.markers();
        let marks = model.control_tokens().iter();
        let shown = marks.filter(|(_, name)| markers.contains(&name.as_str()));
        let shown = shown.map(|(id, _)| *id).collect();
        Ok(Self {
            ids: format.id_style(),
            options,
            shown,
        })
    }

    /// The form that makes the model call a tool, where the client chose that it must.
    pub(crate) fn calls(
        &self,
        pipeline: &HeterogeneousPipeline,
        ask: &Ask,
    ) -> Result<Option<Form>, ApiError> {
        let named = match &ask.tool_choice {
            ToolChoice::Auto | ToolChoice::None => return Ok(None),
            ToolChoice::Required => None,
            ToolChoice::Named(name) => Some(name.as_str()),
        };
        let Prompt::Chat(conversation) = &ask.prompt else {
            return Err(ApiError::bad("tool_choice", "is for chats"));
        };
        let rules = CallRules {
            tools: &conversation.tools,
            named,
            parallel: ask.calls_max > 1,
            reasoning: self.options.reasoning,
            starts_in_reasoning: self.options.starts_in_reasoning,
        };
        let tokenizer = pipeline.model().tokenizer();
        let control = |mark: &str| {
            let mut shown = self.shown.iter();
            shown.find(|&&id| tokenizer.name(id) == Some(mark)).copied()
        };
        let grammar = self.options.format.grammar(&rules, &control);
        let grammar = grammar.map_err(|error| ApiError::bad("tool_choice", error.to_string()))?;
        for (index, tool) in conversation.tools.iter().enumerate() {
            // Within a grammar a schema is not looked at as closely.
            let schema = &tool["function"]["parameters"];
            let checked = match schema.is_null() {
                true => Ok(()),
                false => Spec::JsonSchema(schema.clone()).check(),
            };
            let field = format!("tools[{index}].function.parameters");
            checked.map_err(|error| ApiError::bad(field, error.to_string()))?;
        }
        Ok(Some(Form {
            spec: Spec::ToolCalls(grammar),
            field: "tools",
        }))
    }

    /// Reads one of the answers.
    pub(crate) fn reader(&self, salt: String) -> Reader {
        Reader {
            parser: ReplyParser::new(self.options.clone()),
            ids: self.ids,
            salt,
        }
    }
}

impl Reader {
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        let parts = self.parser.push(text);
        self.named(parts)
    }

    /// What is left when nothing follows.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let parts = self.parser.finish();
        self.named(parts)
    }

    pub(crate) fn has_called(&self) -> bool {
        self.parser.calls() > 0
    }

    fn named(&self, parts: Vec<ReplyPart>) -> Vec<Part> {
        let named = parts.into_iter().map(|part| match part {
            ReplyPart::Reasoning(text) => Part::Reasoning(text),
            ReplyPart::Text(text) => Part::Text(text),
            ReplyPart::CallBegin { index, name } => Part::CallBegin {
                index,
                id: self.call_id(index),
                name,
            },
            ReplyPart::CallArguments { index, json } => Part::CallArguments { index, json },
            ReplyPart::CallEnd { index } => Part::CallEnd { index },
        });
        named.collect()
    }

    /// A name for a call, in the shape that the model's template takes back.
    fn call_id(&self, index: usize) -> String {
        match self.ids {
            IdStyle::Any => format!("call_{}{index:02}", self.salt),
            IdStyle::NineAlphanumeric => {
                let salt = &self.salt[self.salt.len().saturating_sub(6)..];
                format!("{salt:0>6}{index:03}")
            }
        }
    }
}

/// The names of a conversation's tools.
fn tool_names(conversation: &Conversation) -> Vec<String> {
    let names = conversation.tools.iter().filter_map(tool_name);
    names.map(str::to_owned).collect()
}

/// The name of a tool as OpenAI has it.
pub(crate) fn tool_name(tool: &Value) -> Option<&str> {
    tool["function"]["name"].as_str()
}

/// A tool as OpenAI has it; `field` is where it stands.
pub(crate) fn check_tool(tool: &Value, field: &str) -> Result<(), ApiError> {
    match &tool["type"] {
        Value::Null => {}
        Value::String(kind) if kind == "function" => {}
        kind => {
            let what = format!("a tool of type {kind}");
            return Err(ApiError::unsupported(field, &what));
        }
    }
    check_function(&tool["function"], &format!("{field}.function"))
}

/// The function of a tool: templates and grammars are told of it as it is.
pub(crate) fn check_function(function: &Value, field: &str) -> Result<(), ApiError> {
    let checked: Result<Function, _> = serde_path_to_error::deserialize(function);
    let function = checked.map_err(|error| {
        let field = match error.path().to_string().as_str() {
            "." => field.to_owned(),
            path => format!("{field}.{path}"),
        };
        ApiError::bad(field, error.into_inner().to_string())
    })?;
    match function.name.is_empty() {
        true => Err(ApiError::bad(format!("{field}.name"), "is empty")),
        false => Ok(()),
    }
}

/// What must hold of a function; the rest of it is its own.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Function {
    name: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "parameters")]
    _parameters: Option<Map<String, Value>>,
}

by_name!(Function);

/// A choice as OpenAI writes it: a word, or an object that names a function.
pub(crate) fn tool_choice(value: Option<&Value>) -> Result<ToolChoice, ApiError> {
    let wrong = || {
        ApiError::bad(
            "tool_choice",
            "must be none, auto, required, or {\"type\": \"function\", \"function\": {\"name\": …}}",
        )
    };
    match value {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" | "any" => Ok(ToolChoice::Required),
            _ => Err(wrong()),
        },
        Some(value) => match (
            value["type"].as_str(),
            &value["function"]["name"],
            &value["name"],
        ) {
            (Some("auto"), ..) => Ok(ToolChoice::Auto),
            (Some("none"), ..) => Ok(ToolChoice::None),
            (Some("any" | "required"), ..) => Ok(ToolChoice::Required),
            (_, Value::String(name), _) | (_, _, Value::String(name)) => {
                Ok(ToolChoice::Named(name.clone()))
            }
            _ => Err(wrong()),
        },
    }
}
