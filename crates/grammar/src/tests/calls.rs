//! Grammars of tool calls, and what a parser of replies makes of their texts.

use corpgrid_scheduler::{Allowed, Grammar};
use gogrid_reply::{CallRules, Part, ReasoningTags, ReplyOptions, ReplyParser, ToolFormat};
use gogrid_testkit::Rng;
use serde_json::{Value, json};

use crate::spec::Spec;

use super::schema::allows;
use super::vocabulary::{END, grammars, tokenizer};

const FORMATS: [ToolFormat; 6] = [
    ToolFormat::Llama3,
    ToolFormat::Hermes,
    ToolFormat::Mistral,
    ToolFormat::MistralArgs,
    ToolFormat::Phi4,
    ToolFormat::Functools,
];

fn tools() -> Vec<Value> {
    let f = json!({
        "type": "object",
        "properties": { "a": { "type": "integer" }, "b": { "enum": ["x", "}\""] } },
        "required": ["a", "b"],
        "additionalProperties": false,
    });
    let g =
        json!({ "properties": { "list": { "type": "array", "items": { "type": "boolean" } } } });
    vec![
        json!({ "type": "function", "function": { "name": "fun", "parameters": f } }),
        json!({ "type": "function", "function": { "name": "tool", "parameters": g } }),
    ]
}

/// The text of a reply of random tokens, marks written out.
fn reply(spec: &Spec, rng: &mut Rng) -> String {
    let tokenizer = tokenizer(true);
    let mut matcher = grammars().compiled(spec).unwrap().begin();
    let (mut bytes, mut token) = (Vec::new(), None);
    for step in 0..3000 {
        let Allowed::Tokens(set) = matcher.next(token).unwrap() else {
            return String::from_utf8(bytes).unwrap();
        };
        let allowed: Vec<u32> = (0..500).filter(|id| set.contains(*id)).collect();
        // A line end is allowed in the reasoning, and in no string.
        let thinks = set.contains(b'\n'.into()) && set.contains(b'Z'.into());
        let closing = match thinks {
            true => vec![u32::from(b"</think>"[step % 8])],
            false => vec![END, b'"'.into(), b'}'.into(), b']'.into()],
        };
        let mut closing = closing.into_iter();
        let closing = closing.find(|id| allowed.contains(id) && step >= 64);
        let chosen = closing.unwrap_or_else(|| allowed[rng.below(allowed.len())]);
        let name = tokenizer.name(chosen).filter(|_| chosen != END);
        let piece = tokenizer.piece(chosen).unwrap();
        bytes.extend(name.map_or(piece, |name| name.as_bytes().to_vec()));
        token = Some(chosen);
    }
    panic!("no end: {}", String::from_utf8_lossy(&bytes));
}

fn check(format: ToolFormat, rules: &CallRules<'_>, rng: &mut Rng) {
    let tokenizer = tokenizer(true);
    let ids = 0..tokenizer.vocab() as u32;
    let control = |mark: &str| ids.clone().find(|id| tokenizer.name(*id) == Some(mark));
    let grammar = format.grammar(rules, &control).unwrap();
    let text = reply(&Spec::ToolCalls(grammar), rng);
    let mut parser = ReplyParser::new(ReplyOptions {
        format,
        tools: vec!["fun".into(), "tool".into()],
        reasoning: rules.reasoning,
        starts_in_reasoning: rules.starts_in_reasoning,
        ..ReplyOptions::default()
    });
    let mut parts = parser.push(&text);
    parts.extend(parser.finish());
    let (mut names, mut arguments) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::CallBegin { name, .. } => names.push(name),
            Part::CallArguments { json, .. } => arguments.push(json),
            Part::CallEnd { .. } => {}
            Part::Reasoning(_) if rules.reasoning.is_some() => {}
            other => panic!("{format:?} gave {other:?} in {text:?}"),
        }
    }
    assert!(
        !names.is_empty() && (rules.parallel || names.len() == 1),
        "{text:?}"
    );
    for (name, arguments) in names.iter().zip(&arguments) {
        assert!(rules.named.is_none_or(|named| named == name), "{text:?}");
        let tool = rules
            .tools
            .iter()
            .find(|tool| tool["function"]["name"] == **name)
            .unwrap();
        let schema = &tool["function"]["parameters"];
        match serde_json::from_str::<Value>(arguments) {
            Ok(value) => assert!(
                value.is_object() && allows(schema, &value, schema),
                "{text:?}"
            ),
            Err(error) => assert!(
                error.to_string().starts_with("number out of range"),
                "{text:?}"
            ),
        }
    }
}

#[test]
fn calls_that_a_grammar_allows_are_calls_of_the_requests_tools() {
    let tools = tools();
    for format in FORMATS {
        for seed in 0..24 {
            let rng = &mut Rng::new(seed);
            let rules = CallRules {
                tools: &tools,
                named: (seed % 3 == 0).then_some("tool"),
                parallel: seed % 2 == 0,
                reasoning: None,
                starts_in_reasoning: false,
            };
            check(format, &rules, rng);
        }
    }
}

#[test]
fn a_model_may_think_before_it_must_call() {
    let tools = tools();
    for format in FORMATS {
        for seed in 0..12 {
            let rules = CallRules {
                tools: &tools,
                named: None,
                parallel: false,
                reasoning: Some(ReasoningTags::Think),
                starts_in_reasoning: seed % 2 == 0,
            };
            check(format, &rules, &mut Rng::new(seed));
        }
    }
}
