use corpgrid_scheduler::{Allowed, Grammar};
use gogrid_model::Tokenizer;
use gogrid_testkit::Rng;
use serde_json::{Value, json};

use crate::error::GrammarError;
use crate::grammars::Grammars;
use crate::spec::Spec;

use super::schema::allows;
use super::vocabulary::{CONTROL, END, grammars, tokenizer};

/// Tokens that are chosen at random; after these the shortest way to the end is taken.
const FREE: usize = 60;
/// Tokens of a text at most.
const TOKENS: usize = 2000;

/// A text of random tokens that the grammar allows, up to its end.
fn walk(grammars: &Grammars, tokenizer: &Tokenizer, spec: &Spec, rng: &mut Rng) -> String {
    let mut matcher = grammars.compiled(spec).unwrap().begin();
    let mut bytes = Vec::new();
    let mut token = None;
    for step in 0..TOKENS {
        let allowed = match matcher.next(token).unwrap() {
            Allowed::Nothing => return String::from_utf8(bytes).unwrap(),
            Allowed::Tokens(set) => (0..500)
                .filter(|id| set.contains(*id))
                .collect::<Vec<u32>>(),
        };
        assert!(
            !allowed.is_empty(),
            "{spec:?} allows nothing after {bytes:?}"
        );
        let closing = [END, b'"'.into(), b'}'.into(), b']'.into()];
        let closing = closing.into_iter().find(|id| allowed.contains(id));
        let chosen = match closing {
            Some(closing) if step >= FREE => closing,
            _ => allowed[rng.below(allowed.len())],
        };
        bytes.extend(tokenizer.piece(chosen).unwrap());
        token = Some(chosen);
    }
    panic!("{spec:?} does not end: {}", String::from_utf8_lossy(&bytes));
}

fn walks(spec: &Spec, count: usize, check: impl Fn(&str)) {
    let tokenizer = tokenizer(true);
    for seed in 0..count as u64 {
        check(&walk(grammars(), &tokenizer, spec, &mut Rng::new(seed)));
    }
}

/// The value that a text is, `None` where it has a number that no float can hold.
fn parsed(text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().starts_with("number out of range") => None,
        Err(error) => panic!("{text:?} is no JSON: {error}"),
    }
}

fn schemas() -> Vec<Value> {
    vec![
        json!({}),
        json!({ "type": "object" }),
        json!({ "type": ["integer", "null"] }),
        json!({ "enum": ["abc", 12, null, true, "é\n\""] }),
        json!({ "type": "integer", "minimum": -17, "maximum": 345 }),
        json!({ "type": "number", "minimum": 0.25, "maximum": 4 }),
        json!({ "type": "string", "minLength": 2, "maxLength": 7 }),
        json!({ "type": "array", "items": { "type": "boolean" }, "minItems": 1, "maxItems": 4 }),
        json!({
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "arguments": { "type": "array", "items": { "const": "ab" } },
                "other": { "anyOf": [{ "type": "null" }, { "type": "number" }] },
            },
            "required": ["name", "other"],
            "additionalProperties": false,
        }),
        json!({
            "$defs": { "tree": {
                "type": "object",
                "properties": {
                    "left": { "anyOf": [{ "$ref": "#/$defs/tree" }, { "type": "null" }] },
                    "of": { "oneOf": [{ "type": "integer" }, { "type": "string" }] },
                },
                "required": ["left"],
                "additionalProperties": false,
            } },
            "$ref": "#/$defs/tree",
        }),
    ]
}

#[test]
fn texts_are_what_the_schema_allows() {
    for schema in schemas() {
        walks(&Spec::JsonSchema(schema.clone()), 40, |text| {
            let Some(value) = parsed(text) else {
                return;
            };
            assert!(allows(&schema, &value, &schema), "{schema} gave {text:?}");
        });
    }
}

#[test]
fn a_json_object_is_one() {
    walks(&Spec::JsonObject, 100, |text| {
        assert!(
            parsed(text).is_none_or(|value| value.is_object()),
            "{text:?}"
        );
    });
}

#[test]
fn white_space_between_values_is_bounded() {
    walks(&Spec::JsonObject, 200, |text| {
        assert!(
            !text.contains("\n\n") && !text.starts_with([' ', '\n']),
            "{text:?}"
        );
    });
    let pretty = "{\n  \"name\": [\n    12, null\n  ]\n}";
    assert!(accepts(&Spec::JsonObject, pretty));
    assert!(accepts(&Spec::JsonObject, "{\"name\":[12,null]}"));
    assert!(!accepts(&Spec::JsonObject, "{  \"name\": 1}"));
    assert!(!accepts(
        &Spec::JsonObject,
        &format!("{{\n{}}}", " ".repeat(33))
    ));
}

/// Whether `text`, byte by byte, is allowed and may end.
fn accepts(spec: &Spec, text: &str) -> bool {
    let mut matcher = grammars().compiled(spec).unwrap().begin();
    let mut token = None;
    let mut bytes = text.bytes();
    loop {
        match (matcher.next(token).unwrap(), bytes.next()) {
            (Allowed::Nothing, rest) => return rest.is_none(),
            (Allowed::Tokens(set), None) => return set.contains(END),
            (Allowed::Tokens(set), Some(byte)) if set.contains(byte.into()) => {
                token = Some(byte.into());
            }
            _ => return false,
        }
    }
}

#[test]
fn texts_match_the_expression() {
    let spec = Spec::Regex("^(ab|é)+-[0-9]{2,4}$".to_owned());
    walks(&spec, 60, |text| {
        let (words, number) = text.split_once('-').unwrap();
        assert!(
            !words.is_empty() && words.replace("ab", "").replace('é', "").is_empty(),
            "{text}"
        );
        assert!((2..=4).contains(&number.len()), "{text}");
        assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    });
    assert!(accepts(&Spec::Regex("a/b\\/c".to_owned()), "a/b/c"));
    assert!(!accepts(&Spec::Regex("a".to_owned()), "aa"));
}

#[test]
fn a_lark_grammar_may_name_control_tokens_and_hold_schemas() {
    let spec = Spec::ToolCalls(format!(
        "start: \"<tool_call>\" %json {{\"type\": \"boolean\"}} (<[{CONTROL}]> | <|tool_call|>) \"ab\""
    ));
    let mut matcher = grammars().compiled(&spec).unwrap().begin();
    let mut token = None;
    let mut seen = Vec::new();
    while let Allowed::Tokens(set) = matcher.next(token).unwrap() {
        // The longest token that is allowed.
        let chosen = (0..500).rev().find(|id| set.contains(*id)).unwrap();
        seen.push(chosen);
        token = Some(chosen);
    }
    let tokenizer = tokenizer(true);
    let texts = seen.iter().map(|id| {
        let piece = tokenizer.piece(*id).unwrap();
        tokenizer
            .name(*id)
            .map_or(String::from_utf8(piece).unwrap(), str::to_owned)
    });
    assert_eq!(texts.collect::<String>(), "<tool_call>true<|tool_call|>ab");
}

#[test]
fn only_end_tokens_are_allowed_beside_text() {
    let mut matcher = grammars()
        .compiled(&Spec::Lark("start: /(.|\\n)*/".to_owned()))
        .unwrap()
        .begin();
    let Allowed::Tokens(set) = matcher.next(None).unwrap() else {
        panic!("nothing is allowed");
    };
    assert!(set.contains(END) && !set.contains(CONTROL));
    assert!(set.contains(u32::from(b'a')) && set.contains(0xc3));
    // No character begins with these.
    assert!(!set.contains(0xff) && !set.contains(0x80));
    assert_eq!(matcher.next(Some(END)), Ok(Allowed::Nothing));
}

#[test]
fn a_token_that_is_not_allowed_is_an_error() {
    let mut matcher = grammars().compiled(&Spec::JsonObject).unwrap().begin();
    matcher.next(None).unwrap();
    let refused = matcher.next(Some(u32::from(b'x'))).unwrap_err();
    assert!(
        !refused.is_empty() && refused.len() < 400 && !refused.contains('<'),
        "{refused}"
    );
}

#[test]
fn a_vocabulary_without_an_end_stops_where_nothing_follows() {
    let tokenizer = tokenizer(false);
    let grammars = Grammars::new(&tokenizer).unwrap();
    let text = walk(
        &grammars,
        &tokenizer,
        &Spec::Regex("ab{2}".to_owned()),
        &mut Rng::new(1),
    );
    assert_eq!(text, "abb");
}

#[test]
fn texts_of_one_constraint_do_not_know_each_other() {
    let compiled = grammars().compiled(&Spec::Regex("a+b".to_owned())).unwrap();
    let (mut one, mut other) = (compiled.begin(), compiled.begin());
    let beginning = one.next(None).unwrap();
    one.next(Some(u32::from(b'a'))).unwrap();
    assert_eq!(other.next(None).unwrap(), beginning);
}

#[track_caller]
fn check_refused(spec: &Spec, names: &str) {
    let refused = grammars().compile(spec).unwrap_err();
    assert!(refused.to_string().contains(names), "{refused}");
}

#[test]
fn what_cannot_be_held_is_refused_by_name() {
    let schema = |schema: Value| Spec::JsonSchema(schema);
    for (refused, names) in [
        (
            json!({ "type": "array", "uniqueItems": true }),
            "uniqueItems",
        ),
        (json!({ "not": { "type": "null" } }), "not"),
        (json!({ "if": {}, "then": {} }), "if"),
        (
            json!({ "properties": { "a": { "contains": {} } } }),
            "contains",
        ),
        (json!({ "propertyNames": {} }), "propertyNames"),
        (json!({ "dependentRequired": {} }), "dependentRequired"),
        (json!({ "type": "string", "format": "color" }), "color"),
        (json!({ "type": "text" }), "text"),
        (json!({ "type": "string", "minLength": -1 }), "minLength"),
        (
            json!({ "type": "string", "maxLength": 1_000_000 }),
            "maxLength is 1000000",
        ),
        (json!({ "type": "string", "pattern": "(?=a)" }), "look"),
        (json!({ "type": "string", "pattern": "a{99999}" }), "99999"),
        (
            json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] }),
            "oneOf",
        ),
        (json!({ "$ref": "#/$defs/none" }), "none"),
        (
            json!({ "$ref": "https://example.com/schema" }),
            "example.com",
        ),
        (
            json!({ "x-guidance": { "lenient": true }, "not": {} }),
            "x-guidance",
        ),
        (json!(false), "nothing"),
        (json!("string"), "neither"),
        (json!({ "enum": [] }), "empty"),
    ] {
        check_refused(&schema(refused), names);
    }
    check_refused(&Spec::Regex("(a".to_owned()), "regular expression");
    check_refused(&Spec::Regex("a\\".to_owned()), "backslash");
    check_refused(&Spec::Regex(String::new()), "empty");
    check_refused(&Spec::Regex("a\\bc".to_owned()), "regular expression");
    check_refused(&Spec::Lark("start: unknown".to_owned()), "unknown");
    check_refused(
        &Spec::Lark("start: %json {\"allOf\": [{\"multipleOf\": 99991}]}".to_owned()),
        "%json",
    );
    check_refused(
        &Spec::Lark("start: <|no_such_token|>".to_owned()),
        "no_such_token",
    );
    check_refused(&Spec::Lark(String::new()), "grammar");
}

#[test]
fn messages_are_short() {
    let long = "k".repeat(5000);
    let refused = grammars().compile(&Spec::JsonSchema(
        json!({ "format": long, "type": "string" }),
    ));
    let message = refused.unwrap_err().to_string();
    assert!(message.len() < 400, "{message}");
    assert!(matches!(
        grammars().compile(&Spec::Regex("a".repeat(1 << 20))),
        Err(GrammarError::TooLarge { of: "bytes", .. })
    ));
}
