use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use regex::{Captures, Regex};
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
    let source = without_generation_marks(&source)?;
    environment
        .add_template_owned(NAME, source)
        .map_err(|error| error.to_string())?;
    Ok(environment)
}

/// `{% generation %}` marks what was learnt in training and prints nothing of its own; only
/// transformers knows it.
fn without_generation_marks(source: &str) -> Result<String, String> {
    let marks = Regex::new(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})");
    let marks = marks.map_err(|error| error.to_string())?;
    let plain = marks.replace_all(source, |found: &Captures<'_>| {
        let tag = if found.get(2).is_some() {
            "endif"
        } else {
            "if true"
        };
        format!("{}{tag}{}", &found[1], &found[3])
    });
    Ok(plain.into_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    const SMOLLM2: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    /// What templates in use do: line control, namespaces, Python's methods, exceptions.
    const GEMMA_LIKE: &str = "{{ bos_token }}
{%- set ns = namespace(first='') -%}
{%- if messages[0].role == 'system' -%}
    {%- set ns.first = messages[0].content.strip() + '\n\n' -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{% for message in messages %}
    {% if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must alternate') }}
    {% endif %}
    {% if message.role == 'skip' %}{% continue %}{% endif %}
<turn>{{ message.role | upper }}
{{ ns.first if loop.first else '' }}{{ message.content | trim }}
{% endfor %}
{%- if tools is not none or strftime_now is defined %}never{% endif -%}
{% generation %}{{ messages[-1] | tojson }}{% endgeneration %}";

    fn message(role: &str, content: &str) -> Message {
        Message {
            role: role.to_owned(),
            content: content.to_owned(),
        }
    }

    fn render(source: &str, messages: &[Message], prompt: bool) -> Result<String, String> {
        let template = ChatTemplate::new(source.to_owned(), "<s>".into(), "</s>".into());
        template
            .render(messages, prompt)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_conversation_is_written_down_up_to_the_answer() {
        let text = render(SMOLLM2, &[message("user", "<b>é")], true).unwrap();
        let system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
        let expected = format!(
            "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n<b>é<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(text, expected);
        let with_system = [message("system", "x"), message("user", "y")];
        let text = render(SMOLLM2, &with_system, false).unwrap();
        assert_eq!(
            text,
            "<|im_start|>system\nx<|im_end|>\n<|im_start|>user\ny<|im_end|>\n"
        );
    }

    #[test]
    fn what_templates_in_use_do_works() {
        let messages = [
            message("system", " S "),
            message("user", "a "),
            message("assistant", "b"),
        ];
        let json = r#"{"role": "assistant", "content": "b"}"#;
        let expected = format!("<s><turn>USER\nS\n\na\n<turn>ASSISTANT\nb\n{json}");
        let text = render(GEMMA_LIKE, &messages, false).unwrap();
        // The order of keys in JSON is the engine's own.
        let other = r#"{"content": "b", "role": "assistant"}"#;
        assert!(
            text == expected || text == expected.replace(json, other),
            "{text}"
        );
        let error = render(GEMMA_LIKE, &messages[2..], false).unwrap_err();
        assert!(error.contains("chat template: ") && error.contains("roles must alternate"));
    }

    #[test]
    fn a_hostile_template_ends_with_an_error() {
        let loops = |depth: usize| {
            let open = "{% for i in range(9999) %}".repeat(depth);
            format!("{open}x{}", "{% endfor %}".repeat(depth))
        };
        let hostile = [
            loops(4),
            "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}".to_owned(),
            "{{ 'x' * 99999999 }}".to_owned(),
            "{{ 'a\nb' | indent(99999999) }}".to_owned(),
            "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
            "{{ ('x' * 9999).replace('', 'y' * 99999) }}".to_owned(),
            "{{ '%99999999d' | format(1) }}".to_owned(),
            "{{ range(9999) | map('string') | join('x' * 99999) }}".to_owned(),
            "{% include 'other' %}".to_owned(),
            "{{ open('/etc/passwd') }}".to_owned(),
        ];
        for source in hostile {
            let result = render(&source, &[message("user", "x")], true);
            assert!(
                result.is_err(),
                "{source} gave {} bytes",
                result.unwrap().len()
            );
        }
    }

    #[test]
    fn a_broken_template_says_so_when_it_is_used() {
        for source in ["{% for %}".to_owned(), " ".repeat(TEMPLATE_BYTES_MAX + 1)] {
            assert!(
                render(&source, &[], true)
                    .unwrap_err()
                    .starts_with("chat template: ")
            );
        }
    }

    #[test]
    fn json_is_as_python_writes_it() {
        let value = "{{ [1, {'a<': 'é&'}, none] | tojson }} {{ [1] | tojson(indent=2) }}";
        assert_eq!(
            render(value, &[], false).unwrap(),
            "[1, {\"a<\": \"é&\"}, null] [\n  1\n]"
        );
    }

    #[test]
    fn long_conversations_have_fuel() {
        let messages: Vec<_> = (0..500)
            .map(|n| message("user", &format!("{n} ").repeat(2000)))
            .collect();
        assert!(render(SMOLLM2, &messages, true).unwrap().len() > 3_000_000);
    }
}
