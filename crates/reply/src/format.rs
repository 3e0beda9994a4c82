/// How a model writes the calls of tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ToolFormat {
    /// It does not, or in no way that is known here: all is text.
    #[default]
    None,
    /// Llama 3: `{"name": …, "parameters": {…}}` at the beginning of the answer or after
    /// `<|python_tag|>`; several after each other, with `;`, white space or nothing between.
    Llama3,
    /// Qwen 2.5 and 3, Hermes 2 and 3, Granite 4: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.
    Hermes,
    /// Mistral: `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]` or, of newer models,
    /// `[TOOL_CALLS]name[ARGS]{…}`, with `[CALL_ID]…` before `[ARGS]` in some.
    Mistral,
    /// Mistral's newer one, where it is to be written: read as [`Mistral`](Self::Mistral).
    MistralArgs,
    /// Phi 4 mini and Granite 3: `<|tool_call|>[{"name": …, "arguments": {…}}, …]<|/tool_call|>`.
    Phi4,
    /// Firefunction and Phi 4: `functools[{"name": …, "arguments": {…}}, …]`.
    Functools,
}

/// What ids of calls look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdStyle {
    /// Any text, such as `call_` and random characters.
    Any,
    /// Nine letters and digits: Mistral's templates refuse others.
    NineAlphanumeric,
}

impl ToolFormat {
    /// The format that a chat template writes, by the marks that it mentions. A template that
    /// mentions none, or calls in a way of its own (Qwen 3 Coder's and GLM's XML, DeepSeek's marks,
    /// gpt-oss's channels), has [`None`](Self::None).
    pub fn of_template(source: &str) -> Self {
        let mentions = |mark: &str| source.contains(mark);
        let in_xml = ["<function=", "<arg_key>", "<parameter", "<invoke"]
            .into_iter()
            .any(mentions);
        if mentions("[TOOL_CALLS]") {
            match mentions("[ARGS]") {
                true => Self::MistralArgs,
                false => Self::Mistral,
            }
        } else if mentions("<|tool_call|>") || mentions("<|/tool|>") {
            Self::Phi4
        } else if mentions("functools[") {
            Self::Functools
        } else if in_xml {
            Self::None
        } else if mentions("<tool_call>") && mentions("</tool_call>") {
            Self::Hermes
        } else if is_llama3(source) {
            Self::Llama3
        } else {
            Self::None
        }
    }

    /// What ids of calls must look like.
    pub fn id_style(self) -> IdStyle {
        match self {
            Self::Mistral | Self::MistralArgs => IdStyle::NineAlphanumeric,
            _ => IdStyle::Any,
        }
    }

    /// What begins calls.
    pub(crate) fn opening(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::Llama3 => "<|python_tag|>",
            Self::Hermes => "<tool_call>",
            Self::Mistral | Self::MistralArgs => "[TOOL_CALLS]",
            Self::Phi4 => "<|tool_call|>",
            Self::Functools => "functools[",
        })
    }

    /// What ends them.
    pub(crate) fn closing(self) -> Option<&'static str> {
        match self {
            Self::Hermes => Some("</tool_call>"),
            Self::Phi4 => Some("<|/tool_call|>"),
            _ => None,
        }
    }

    /// The marks within calls.
    pub(crate) fn inner(self) -> &'static [&'static str] {
        match self {
            Self::Mistral | Self::MistralArgs => &[ARGS, CALL_ID],
            _ => &[],
        }
    }

    /// Whether a call may begin without a mark, at the beginning of an answer.
    pub(crate) fn is_bare(self) -> bool {
        self == Self::Llama3
    }

    /// Whether a call may be a name and its arguments.
    pub(crate) fn is_named(self) -> bool {
        matches!(self, Self::Mistral | Self::MistralArgs)
    }
}

/// Before a call's arguments, in Mistral's format.
pub(crate) const ARGS: &str = "[ARGS]";
/// Before a call's id, in Mistral's format.
pub(crate) const CALL_ID: &str = "[CALL_ID]";

/// Llama 3.2's template has no mark of its own; all ask for an object with `parameters` and give a
/// tool's answer as `ipython`.
fn is_llama3(source: &str) -> bool {
    source.contains("<|python_tag|>")
        || (source.contains("ipython") && source.contains("\"parameters\": "))
}

/// The tags between which a model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReasoningTags {
    /// `<think>` and `</think>`.
    Think,
    /// `[THINK]` and `[/THINK]`, of Mistral.
    Mistral,
}

impl ReasoningTags {
    /// The tags that a chat template mentions. The one that ends the reasoning must be among them.
    pub fn of_template(source: &str) -> Option<Self> {
        [Self::Think, Self::Mistral]
            .into_iter()
            .find(|tags| source.contains(tags.closing()))
    }

    /// Whether a prompt leaves the model in its reasoning: its last words open it.
    pub fn opened_by(self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.opening())
    }

    pub(crate) fn opening(self) -> &'static str {
        match self {
            Self::Think => "<think>",
            Self::Mistral => "[THINK]",
        }
    }

    pub(crate) fn closing(self) -> &'static str {
        match self {
            Self::Think => "</think>",
            Self::Mistral => "[/THINK]",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, format: ToolFormat, tags: Option<ReasoningTags>) {
        assert_eq!(ToolFormat::of_template(source), format, "{source}");
        assert_eq!(ReasoningTags::of_template(source), tags, "{source}");
    }

    /// What published templates say of calls, word for word.
    #[test]
    fn a_templates_marks_tell_its_format() {
        let qwen3 = r#"{%- if '</think>' in message.content %}{{- '<tool_call>\n{"name": "' }}{{- '}\n</tool_call>' }}"#;
        check(qwen3, ToolFormat::Hermes, Some(ReasoningTags::Think));
        let hermes3 = r#"{{- "<tool_call>" }}{{- '{"name": <function-name>}' }}{{- '</tool_call><|im_end|>' }}"#;
        check(hermes3, ToolFormat::Hermes, None);
        let llama31 = r#"{{- "<|python_tag|>" + tool_call.name + ".call(" }}"#;
        check(llama31, ToolFormat::Llama3, None);
        let llama32 =
            r#"{{- '"parameters": ' }}{{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}"#;
        check(llama32, ToolFormat::Llama3, None);
        let nemo = r#"{{- "[TOOL_CALLS][" }}"#;
        check(nemo, ToolFormat::Mistral, None);
        let ministral3 = "{{- '[/THINK]' }}{{- '[TOOL_CALLS]' }}{{- name + '[ARGS]' + arguments }}";
        check(
            ministral3,
            ToolFormat::MistralArgs,
            Some(ReasoningTags::Mistral),
        );
        let granite33 = "respond only with <|tool_call|> followed by a JSON list";
        check(granite33, ToolFormat::Phi4, None);
        let phi4_mini = "+ '<|tool|>' + message['tools'] + '<|/tool|>'";
        check(phi4_mini, ToolFormat::Phi4, None);
        let firefunction = "{%- set ns.content = ns.content + ' functools[' %}";
        check(firefunction, ToolFormat::Functools, None);
        let qwen3_coder =
            r"<tool_call>\n<function=example_function_name>\n</function>\n</tool_call>";
        check(qwen3_coder, ToolFormat::None, None);
        let functionary = "{{ '<function=' + name + '>' }}{{ '<|python_tag|>' }}";
        check(functionary, ToolFormat::None, None);
        check("{{ message.content }}", ToolFormat::None, None);
    }

    #[test]
    fn a_prompt_may_open_the_reasoning() {
        assert!(ReasoningTags::Think.opened_by("<|im_start|>assistant\n<think>\n"));
        assert!(!ReasoningTags::Think.opened_by("<think>\n\n</think>\n\n"));
        assert!(ReasoningTags::Mistral.opened_by("[THINK]"));
    }

    #[test]
    fn only_mistral_asks_for_ids_of_nine_characters() {
        assert_eq!(ToolFormat::Mistral.id_style(), IdStyle::NineAlphanumeric);
        assert_eq!(ToolFormat::Hermes.id_style(), IdStyle::Any);
    }
}
