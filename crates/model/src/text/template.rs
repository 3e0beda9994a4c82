use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;

use crate::error::ModelError;
use crate::gguf::Metadata;

use super::limits::{RENDERED_BYTES_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_FUEL};

/// How a model wants a conversation written down: a Jinja template that came with it, run with a
/// limit on its work and its memory.
#[derive(Debug)]
pub struct ChatTemplate {
    /// Or why it cannot be used. A model whose template is broken still continues plain text.
    environment: Result<Environment<'static>, String>,
    bos: String,
    eos: String,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` in most templates.
    pub role: String,
    /// What was said.
    pub content: String,
}

const NAME: &str = "chat template";

impl ChatTemplate {
    /// The template of a GGUF file, or `None` when it has none: then a conversation cannot be
    /// written down, and only plain text can be continued.
    pub(crate) fn from_gguf(metadata: &Metadata) -> Result<Option<Self>, ModelError> {
        let Some(source) = metadata.str("tokenizer.chat_template")? else {
            return Ok(None);
        };
        let text = |key: &str| -> Result<String, ModelError> {
            let (id, tokens) = (
                metadata.u32(key)?,
                metadata.strings("tokenizer.ggml.tokens")?,
            );
            let (Some(id), Some(mut tokens)) = (id, tokens) else {
                return Ok(String::new());
            };
            Ok(tokens
                .nth(id as usize)
                .transpose()?
                .unwrap_or_default()
                .to_owned())
        };
        let bos = text("tokenizer.ggml.bos_token_id")?;
        let eos = text("tokenizer.ggml.eos_token_id")?;
        Ok(Some(Self::new(source.to_owned(), bos, eos)))
    }

    /// A template and the texts of the tokens it may use.
    pub(super) fn new(source: String, bos: String, eos: String) -> Self {
        Self {
            environment: environment(source),
            bos,
            eos,
        }
    }

    /// Writes down `messages`; with `add_generation_prompt`, up to where the assistant's answer
    /// begins. The text is to be encoded with [`SpecialTokens::Parse`](super::SpecialTokens), and
    /// many templates begin it with the BOS token, which must then not be added again.
    ///
    /// Fails when the template raises an exception (roles it does not know), is broken, or takes
    /// more work or memory than a conversation can need.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        let failed = |what: String| ModelError::Template { what };
        let mut environment = self.environment.clone().map_err(failed)?;
        environment.set_fuel(Some(fuel(messages)));
        let conversation = context! {
            messages => messages.iter().map(Message::value).collect::<Value>(),
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            tools => (),
            documents => (),
        };
        let text = environment
            .get_template(NAME)
            .and_then(|template| template.render(conversation))
            .map_err(|error| failed(error.to_string()))?;
        if text.len() > RENDERED_BYTES_MAX {
            let len = text.len();
            return Err(failed(format!(
                "it made {len} bytes; the limit is {RENDERED_BYTES_MAX}"
            )));
        }
        Ok(text)
    }
}

impl Message {
    fn value(&self) -> Value {
        Value::from_pairs([
            ("role", self.role.as_str()),
            ("content", self.content.as_str()),
        ])
    }
}

/// What a template may use for these messages: a fixed amount, for each message, and for its text
/// to be gone through a few times.
fn fuel(messages: &[Message]) -> u64 {
    let bytes: usize = messages
        .iter()
        .map(|m| m.role.len() + m.content.len())
        .sum();
    TEMPLATE_FUEL + 2_000 * messages.len() as u64 + bytes as u64 / 4
}

/// As transformers runs chat templates, but for `strftime_now`: a template does not learn the
/// date. Those that know of it test for it and have a date of their own.
fn environment(source: String) -> Result<Environment<'static>, String> {
    if source.len() > TEMPLATE_BYTES_MAX {
        let len = source.len();
        return Err(format!(
            "it has {len} bytes; the limit is {TEMPLATE_BYTES_MAX}"
        ));
    }
    let mut environment = Environment::new();
    environment.set_syntax(syntax()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", to_json);
    environment
        .add_template_owned(NAME, source)
        .map_err(|error| error.to_string())?;
    Ok(environment)
}

fn syntax() -> Result<SyntaxConfig, String> {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    syntax.build().map_err(|error| error.to_string())
}

fn raise_exception(what: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, what))
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let mut out = Vec::new();
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, OneLine)),
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let pretty = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, pretty))
        }
    };
    let failed = |error: String| Error::new(ErrorKind::BadSerialization, error);
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(out).map_err(|error| failed(error.to_string()))
}

/// JSON on one line with a space after commas and colons.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        w.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        w.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}
