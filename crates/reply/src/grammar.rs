use serde_json::{Map, Value, json};

use crate::format::{ARGS, ReasoningTags, ToolFormat};

/// What the calls of a reply must be.
#[derive(Clone, Debug)]
pub struct CallRules<'a> {
    /// The request's tools, each `{"type": "function", "function": {"name", "parameters"}}`.
    pub tools: &'a [Value],
    /// The one tool that must be called. Without, any one must be.
    pub named: Option<&'a str>,
    /// Whether there may be several calls.
    pub parallel: bool,
    /// Between which tags the model may think before.
    pub reasoning: Option<ReasoningTags>,
    /// Whether the prompt has opened the reasoning.
    pub starts_in_reasoning: bool,
}

/// Why there is no grammar of calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallRulesError {
    /// The model has no format of calls that is known.
    #[error("the model's chat template has no format of tool calls that is supported")]
    NoFormat,
    /// There is no such tool.
    #[error("there is no tool {name:?} among the request's tools")]
    NoTool {
        /// The tool that must be called.
        name: String,
    },
    /// No tool can be called.
    #[error("a tool must be called, and the request has none")]
    NoTools,
    /// A tool is not what it must be.
    #[error("tools[{index}]: {what}")]
    BadTool {
        /// Which tool.
        index: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A tool that may be called.
struct Tool<'a> {
    name: &'a str,
    schema: Map<String, Value>,
}

/// White space within arguments: a space, or a new line with indentation.
const WHITE_SPACE: &str = r"\x20|\x0A[\x20\x09]{0,32}";

impl ToolFormat {
    /// A grammar, in llguidance's dialect of Lark, of replies that call tools as `rules` say, with
    /// arguments that the tools' schemas allow. `control` gives the id of a mark that is a control
    /// token of the model's: a grammar names those by their ids.
    ///
    /// # Errors
    /// When there is nothing to call, or no way to.
    pub fn grammar(
        self,
        rules: &CallRules<'_>,
        control: &dyn Fn(&str) -> Option<u32>,
    ) -> Result<String, CallRulesError> {
        let opening = self.opening().ok_or(CallRulesError::NoFormat)?;
        let tools = tools(rules)?;
        let mark = |text: &str| match control(text) {
            Some(id) => format!("<[{id}]>"),
            None => literal(text),
        };
        let mut lines = vec![format!("start: {}calls", thoughts(rules, &mark))];
        lines.push(self.calls(opening, rules.parallel, &mark));
        let names: Vec<String> = (0..tools.len()).map(|index| format!("t{index}")).collect();
        lines.push(format!("call: {}", names.join(" | ")));
        for (index, tool) in tools.iter().enumerate() {
            lines.push(format!("t{index}: {}", self.call(tool, &mark)));
        }
        if rules.reasoning.is_some() {
            lines.push(thought(rules, control));
        }
        Ok(lines.join("\n"))
    }

    /// One call or several, with the marks around them.
    fn calls(self, opening: &str, parallel: bool, mark: &dyn Fn(&str) -> String) -> String {
        let several = |between: &str| match parallel {
            true => format!("call ({between} call)*"),
            false => "call".to_owned(),
        };
        let begin = mark(opening);
        let comma = literal(", ");
        let end = self.closing().map(mark).unwrap_or_default();
        match self {
            Self::None | Self::Llama3 => format!("calls: {}", several(&literal("; "))),
            Self::Hermes => {
                let one = format!("one: {begin} \"\\n\" call \"\\n\" {end}");
                let between = several(&literal("\n")).replace("call", "one");
                format!("calls: {between}\n{one}")
            }
            Self::Mistral => format!("calls: {begin} \"[\" {} \"]\"", several(&comma)),
            Self::MistralArgs => {
                format!("calls: {begin} {}", several(&begin))
            }
            Self::Phi4 => format!("calls: {begin} \"[\" {} \"]\" {end}", several(&comma)),
            Self::Functools => format!("calls: {begin} {} \"]\"", several(&comma)),
        }
    }

    /// A call of one tool.
    fn call(self, tool: &Tool<'_>, mark: &dyn Fn(&str) -> String) -> String {
        let schema = Value::from(tool.schema.clone());
        if self == Self::MistralArgs {
            return format!("{} {} %json {schema}", literal(tool.name), mark(ARGS));
        }
        let key = match self {
            Self::Llama3 => "parameters",
            _ => "arguments",
        };
        let name = Value::from(tool.name);
        let before = literal(&format!("{{\"name\": {name}, \"{key}\": "));
        format!("{before} %json {schema} \"}}\"")
    }
}

/// The tools that may be called.
fn tools<'a>(rules: &CallRules<'a>) -> Result<Vec<Tool<'a>>, CallRulesError> {
    let all = rules.tools.iter().enumerate();
    let mut tools = all
        .map(|(index, tool)| read_tool(index, tool))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = rules.named {
        tools.retain(|tool| tool.name == name);
        let name = name.to_owned();
        return match tools.is_empty() {
            true => Err(CallRulesError::NoTool { name }),
            false => Ok(tools),
        };
    }
    match tools.is_empty() {
        true => Err(CallRulesError::NoTools),
        false => Ok(tools),
    }
}

fn read_tool(index: usize, tool: &Value) -> Result<Tool<'_>, CallRulesError> {
    let bad = |what| CallRulesError::BadTool { index, what };
    let function = &tool["function"];
    let name = function["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(bad("it has no function with a name"));
    }
    let mut schema = match &function["parameters"] {
        Value::Null => Map::new(),
        Value::Object(schema) => schema.clone(),
        _ => return Err(bad("its parameters are no object")),
    };
    // What is called with is an object, whether the schema says so or not.
    let kind = schema.entry("type").or_insert("object".into());
    if kind != "object" {
        return Err(bad("its parameters are not of type object"));
    }
    let options = json!({ "whitespace_pattern": WHITE_SPACE });
    schema.insert("x-guidance".to_owned(), options);
    Ok(Tool { name, schema })
}

/// What comes before the calls.
fn thoughts(rules: &CallRules<'_>, mark: &dyn Fn(&str) -> String) -> String {
    match rules.reasoning {
        None => String::new(),
        Some(_) if rules.starts_in_reasoning => "thought ".to_owned(),
        Some(tags) => format!("({} thought)? ", mark(tags.opening())),
    }
}

/// The reasoning up to where it ends, and the line ends that models write after it.
fn thought(rules: &CallRules<'_>, control: &dyn Fn(&str) -> Option<u32>) -> String {
    let closing = rules
        .reasoning
        .map(ReasoningTags::closing)
        .unwrap_or_default();
    let after = "after: /\\n{0,2}/";
    match control(closing) {
        Some(id) => format!("thought: /(.|\\n)*/ <[{id}]> after\n{after}"),
        None => {
            let closing = literal(closing);
            format!("thought: inner after\ninner[lazy]: /(.|\\n)*/ {closing}\n{after}")
        }
    }
}

/// A text as Lark writes it.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<Value> {
        let tool = |name: &str, parameters: Value| json!({ "type": "function", "function": { "name": name, "parameters": parameters } });
        vec![
            tool(
                "f",
                json!({ "type": "object", "properties": { "a": { "type": "integer" } } }),
            ),
            tool("g\"", Value::Null),
        ]
    }

    fn rules(tools: &[Value]) -> CallRules<'_> {
        CallRules {
            tools,
            named: None,
            parallel: false,
            reasoning: None,
            starts_in_reasoning: false,
        }
    }

    #[test]
    fn marks_that_are_control_tokens_are_named_by_their_ids() {
        let tools = tools();
        let control = |mark: &str| (mark == "[ARGS]").then_some(7);
        let grammar = ToolFormat::MistralArgs.grammar(&rules(&tools), &control);
        let options = json!({ "whitespace_pattern": WHITE_SPACE });
        let g = json!({ "type": "object", "x-guidance": options });
        let last = format!("\nt1: \"g\\\"\" <[7]> %json {g}");
        let grammar = grammar.unwrap();
        assert!(
            grammar.starts_with("start: calls\ncalls: \"[TOOL_CALLS]\" call\n"),
            "{grammar}"
        );
        assert!(grammar.ends_with(&last), "{grammar}");
    }

    #[test]
    fn what_cannot_be_called_is_an_error() {
        let tools = tools();
        let check = |format: ToolFormat, rules: CallRules<'_>, error: CallRulesError| {
            assert_eq!(format.grammar(&rules, &|_| None), Err(error));
        };
        check(ToolFormat::None, rules(&tools), CallRulesError::NoFormat);
        check(ToolFormat::Hermes, rules(&[]), CallRulesError::NoTools);
        let named = CallRules {
            named: Some("h"),
            ..rules(&tools)
        };
        check(
            ToolFormat::Hermes,
            named,
            CallRulesError::NoTool { name: "h".into() },
        );
        for (tool, what) in [
            (json!({}), "it has no function with a name"),
            (
                json!({ "function": { "name": "f", "parameters": 1 } }),
                "its parameters are no object",
            ),
            (
                json!({ "function": { "name": "f", "parameters": { "type": "array" } } }),
                "its parameters are not of type object",
            ),
        ] {
            check(
                ToolFormat::Phi4,
                rules(&[tool]),
                CallRulesError::BadTool { index: 0, what },
            );
        }
    }
}
