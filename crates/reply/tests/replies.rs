//! Replies of each format, whole and cut anywhere.

use gogrid_reply::{Part, ReasoningTags, ReplyOptions, ReplyParser, ToolFormat};
use proptest::prelude::*;

/// Parts without those that only continue the one before.
fn joined(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        match (all.last_mut(), part) {
            (Some(Part::Text(text)), Part::Text(more))
            | (Some(Part::Reasoning(text)), Part::Reasoning(more))
            | (
                Some(Part::CallArguments { json: text, .. }),
                Part::CallArguments { json: more, .. },
            ) => text.push_str(&more),
            (_, part) => all.push(part),
        }
    }
    all
}

/// What a parser says to `pieces`, one after the other.
fn read<'a>(options: &ReplyOptions, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Part> {
    let mut parser = ReplyParser::new(options.clone());
    let mut parts = Vec::new();
    for piece in pieces {
        let more = parser.push(piece);
        assert!(more.iter().all(is_something), "{more:?}");
        parts.extend(more);
    }
    parts.extend(parser.finish());
    joined(parts)
}

fn is_something(part: &Part) -> bool {
    match part {
        Part::Text(text) | Part::Reasoning(text) => !text.is_empty(),
        Part::CallBegin { name, .. } => !name.is_empty(),
        Part::CallArguments { json, .. } => !json.is_empty(),
        Part::CallEnd { .. } => true,
    }
}

/// `text` in pieces, cut before the characters that `cuts` name.
fn cut<'a>(text: &'a str, cuts: &[usize]) -> Vec<&'a str> {
    let chars: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let mut at: Vec<usize> = cuts
        .iter()
        .filter_map(|cut| chars.get(*cut).copied())
        .collect();
    at.extend([0, text.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect()
}

fn with(format: ToolFormat) -> ReplyOptions {
    ReplyOptions {
        format,
        tools: vec!["f".into(), "g".into()],
        reasoning: Some(match format {
            ToolFormat::Mistral | ToolFormat::MistralArgs => ReasoningTags::Mistral,
            _ => ReasoningTags::Think,
        }),
        ..ReplyOptions::default()
    }
}

fn opened(format: ToolFormat) -> ReplyOptions {
    ReplyOptions {
        starts_in_reasoning: true,
        ..with(format)
    }
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

fn thought(text: &str) -> Part {
    Part::Reasoning(text.into())
}

/// A call that is told from beginning to end.
fn call(index: usize, name: &str, json: &str) -> Vec<Part> {
    let name = name.into();
    let json = json.into();
    vec![
        Part::CallBegin { index, name },
        Part::CallArguments { index, json },
        Part::CallEnd { index },
    ]
}

/// The reply, whole and in single characters.
#[track_caller]
fn check(options: &ReplyOptions, reply: &str, parts: impl IntoIterator<Item = Vec<Part>>) {
    let parts: Vec<Part> = parts.into_iter().flatten().collect();
    assert_eq!(read(options, [reply]), parts, "{reply:?}");
    let every: Vec<usize> = (0..reply.len()).collect();
    assert_eq!(
        read(options, cut(reply, &every)),
        parts,
        "{reply:?} in characters"
    );
}

#[test]
fn hermes_calls_stand_between_tags() {
    let options = with(ToolFormat::Hermes);
    let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, {\"b\": \"}\\\"\"}]}}\n</tool_call>";
    let arguments = "{\"a\": [1, {\"b\": \"}\\\"\"}]}";
    check(&options, one, [call(0, "f", arguments)]);
    check(&options, &format!("\n\n{one}\n"), [call(0, "f", arguments)]);
    check(
        &options,
        &format!("Let me see.\n{one}\n{one}"),
        [
            vec![text("Let me see.\n")],
            call(0, "f", arguments),
            call(1, "f", arguments),
        ],
    );
    check(
        &options,
        &format!("{one}\nDone."),
        [call(0, "f", arguments), vec![text("\nDone.")]],
    );
    // A tool that the request does not have is the client's to refuse.
    check(
        &options,
        "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>",
        [call(0, "unknown", "{}")],
    );
}

#[test]
fn arguments_before_the_name_wait_for_it() {
    check(
        &with(ToolFormat::Hermes),
        "<tool_call>{\"arguments\": {\"x\":  1 }, \"name\": \"f\"}</tool_call>",
        [call(0, "f", "{\"x\":  1 }")],
    );
    check(
        &with(ToolFormat::Phi4),
        "<|tool_call|>[{\"type\": \"function\", \"parameters\":{}, \"n\": -1.5e3, \"name\":\"f\"}]<|/tool_call|>",
        [call(0, "f", "{}")],
    );
}

#[test]
fn a_tool_without_parameters_is_called_with_an_empty_object() {
    check(
        &with(ToolFormat::Hermes),
        "<tool_call>{\"name\": \"f\"}</tool_call>",
        [call(0, "f", "{}")],
    );
}

#[test]
fn a_missing_brace_at_the_end_costs_nothing() {
    let reply = "<tool_call>{\"name\": \"f\", \"arguments\": {}</tool_call> ok";
    check(
        &with(ToolFormat::Hermes),
        reply,
        [call(0, "f", "{}"), vec![text(" ok")]],
    );
}

#[test]
fn what_is_no_call_is_text_as_it_was_written() {
    let not_calls = [
        "<tool_call>",
        "<tool_call>\n{\"name\": \"f\", ",
        "<tool_call>not json</tool_call>",
        "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": 7, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": \"{}\"}</tool_call>",
        "<tool_call>{\"name\": \"\\x\"}",
        "<tool_call>{\"arguments\": {\"a\": 1}}</tool_call>",
        "<tool_call>{'name': 'f'}</tool_call>",
        "<tool_call><tool_ca",
        "</tool_call> a",
        "<tool_cal> <<tool",
        " \n",
        "a <think> b </think>",
    ];
    for reply in not_calls {
        check(&with(ToolFormat::Hermes), reply, [vec![text(reply)]]);
    }
    check(
        &with(ToolFormat::Hermes),
        "<tool_call><tool_call>{\"name\": \"f\", \"arguments\": {}}",
        [vec![text("<tool_call>")], call(0, "f", "{}")],
    );
    // Without tools there is nothing to look for.
    let call = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    check(&ReplyOptions::default(), call, [vec![text(call)]]);
}

#[test]
fn llama_calls_need_no_mark_at_the_beginning() {
    let options = with(ToolFormat::Llama3);
    let f = "{\"name\": \"f\", \"parameters\": {\"a\": 1}}";
    let g = "{\"type\": \"function\", \"name\": \"g\", \"parameters\": {}}";
    check(&options, f, [call(0, "f", "{\"a\": 1}")]);
    for between in ["; ", "\n", "", ";\n<|python_tag|>"] {
        let reply = format!("<|python_tag|>{f}{between}{g}\n");
        check(
            &options,
            &reply,
            [call(0, "f", "{\"a\": 1}"), call(1, "g", "{}")],
        );
    }
    check(
        &options,
        &format!("I call.<|python_tag|>{f}"),
        [vec![text("I call.")], call(0, "f", "{\"a\": 1}")],
    );
    let not_calls = [
        "{\"name\": \"Alice\", \"parameters\": {}}",
        "{\"answer\": {\"name\": \"f\", \"parameters\": {}}}",
        "{\"name\": \"f\"}",
        "{}",
        "I say {\"name\": \"f\", \"parameters\": {}}",
        "[{\"name\": \"f\", \"parameters\": {}}]",
        "<|python_tag|>brave_search.call(query=\"x\")",
        "\n {a}",
    ];
    for reply in not_calls {
        check(&options, reply, [vec![text(reply)]]);
    }
    check(
        &options,
        &format!("{f}; that was it"),
        [call(0, "f", "{\"a\": 1}"), vec![text("; that was it")]],
    );
}

#[test]
fn mistral_calls_are_a_list_or_a_name_with_arguments() {
    let options = with(ToolFormat::Mistral);
    let list = "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": \"[ARGS]\"}}, {\"name\": \"g\", \"arguments\": {}, \"id\": \"abcdefghi\"}]";
    let both = [call(0, "f", "{\"a\": \"[ARGS]\"}"), call(1, "g", "{}")];
    check(&options, list, both.clone());
    for reply in [
        "[TOOL_CALLS]f[ARGS]{\"a\": \"[ARGS]\"}[TOOL_CALLS]g[ARGS]{}",
        "[TOOL_CALLS]f{\"a\": \"[ARGS]\"}[TOOL_CALLS] g [ARGS] {}",
        "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"a\": \"[ARGS]\"}\n[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}",
    ] {
        check(&options, reply, both.clone());
    }
    for reply in [
        "[TOOL_CALLS]f[ARGS]",
        "[TOOL_CALLS]one two{}",
        "[TOOL_CALLS][ARGS]{}",
        "[TOOL_CALLS][]",
        "[TOOL_CALLS]größer{}",
        "[TOOL_CALLS]f[OTHER]{}",
    ] {
        check(&options, reply, [vec![text(reply)]]);
    }
    let long = format!("[TOOL_CALLS]{}[ARGS]{{}}", "n".repeat(5000));
    check(&options, &long, [vec![text(&long)]]);
}

#[test]
fn phi_and_firefunction_write_lists() {
    let list =
        "{\"name\": \"f\", \"arguments\": {\"a\": 1}} , {\"name\": \"g\", \"arguments\": {}}]";
    let both = [call(0, "f", "{\"a\": 1}"), call(1, "g", "{}")];
    let phi = with(ToolFormat::Phi4);
    check(
        &phi,
        &format!("<|tool_call|>[{list}<|/tool_call|>"),
        both.clone(),
    );
    check(&phi, &format!("<|tool_call|> [{list}"), both.clone());
    let functools = with(ToolFormat::Functools);
    check(&functools, &format!(" functools[{list}"), both.clone());
    check(
        &functools,
        "import functools\nfunctools[0]",
        [vec![text("import functools\nfunctools[0]")]],
    );
    // The first call stands; what follows it is text.
    check(
        &phi,
        "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}, {\"nom\": 1}]",
        [call(0, "f", "{}"), vec![text(", {\"nom\": 1}]")]],
    );
}

#[test]
fn reasoning_is_told_apart_from_the_answer() {
    for options in [
        with(ToolFormat::None),
        with(ToolFormat::Hermes),
        with(ToolFormat::Llama3),
    ] {
        check(
            &options,
            "<think>\nWell,  <b>.\n\n</think>\n\nYes. </think>",
            [vec![thought("Well,  <b>."), text("Yes. </think>")]],
        );
        check(&options, " <think>\n\n</think>\n\nYes", [vec![text("Yes")]]);
        check(&options, "<thinking>", [vec![text("<thinking>")]]);
    }
    let options = opened(ToolFormat::Hermes);
    check(&options, "Well </thin", [vec![thought("Well </thin")]]);
    check(&options, "\nWell\n</think>\n\n", [vec![thought("Well")]]);
    check(
        &options,
        "<think>Well</think>x",
        [vec![thought("Well"), text("x")]],
    );
    let f = "{\"name\": \"f\", \"arguments\": {}}";
    check(
        &options,
        &format!("Hm <tool_call></think>\n<tool_call>{f}</tool_call>"),
        [vec![thought("Hm <tool_call>")], call(0, "f", "{}")],
    );
    check(
        &with(ToolFormat::Llama3),
        &format!("<think>a</think>\n{f}"),
        [vec![thought("a")], call(0, "f", "{}")],
    );
    check(
        &opened(ToolFormat::MistralArgs),
        "a[/THINK][TOOL_CALLS]f[ARGS]{}",
        [vec![thought("a")], call(0, "f", "{}")],
    );
}

#[test]
fn a_call_that_a_limit_cuts_is_told_as_it_stands() {
    let reply = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"b\\";
    let parts = call(0, "f", "{\"a\": \"b\\");
    check(&with(ToolFormat::Hermes), reply, [parts.clone()]);
    check(
        &with(ToolFormat::Mistral),
        "[TOOL_CALLS]f[ARGS]{\"a\": \"b\\",
        [parts],
    );
}

#[test]
fn no_more_calls_are_told_than_may_be() {
    let mut options = with(ToolFormat::Hermes);
    let one = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    options.calls_max = 1;
    check(
        &options,
        &format!("{one}{one} and more"),
        [call(0, "f", "{}")],
    );
    let mut parser = ReplyParser::new(options.clone());
    parser.push(&one[..one.len() - "}</tool_call>".len()]);
    assert!(parser.is_over());
    assert_eq!(parser.calls(), 1);
    options.calls_max = 0;
    check(&options, one, [vec![text(one)]]);
    options.calls_max = usize::MAX;
    let calls = (0..128).map(|index| call(index, "f", "{}"));
    check(&options, &one.repeat(200), calls);
}

#[test]
fn only_what_may_become_a_mark_is_held_back() {
    let mut parser = ReplyParser::new(with(ToolFormat::Hermes));
    let said = |parser: &mut ReplyParser, piece: &str| parser.push(piece);
    assert_eq!(said(&mut parser, "a <tool"), [text("a ")]);
    assert_eq!(said(&mut parser, "s> <think"), [text("<tools> <think")]);
    assert_eq!(
        said(&mut parser, "<tool_call>{\"name\":\"f\",\"arguments\":"),
        []
    );
    assert_eq!(said(&mut parser, " {")[1..], call(0, "f", "{")[1..2]);
    let more = Part::CallArguments {
        index: 0,
        json: "\"a\": 1".into(),
    };
    assert_eq!(said(&mut parser, "\"a\": 1"), [more]);
}

#[test]
fn a_long_beginning_of_a_call_is_text() {
    let options = with(ToolFormat::Hermes);
    let reply = format!(
        "<tool_call>{{\"arguments\": {{\"a\": \"{}\"}}, \"name\": \"f\"}}",
        "x".repeat(1 << 20)
    );
    assert_eq!(read(&options, [reply.as_str()]), [text(&reply)]);
}

#[test]
fn the_marks_that_are_looked_for_are_named() {
    let markers = with(ToolFormat::Mistral).markers();
    assert_eq!(
        markers,
        ["[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"]
    );
    let markers = with(ToolFormat::Hermes).markers();
    assert_eq!(
        markers,
        ["<think>", "</think>", "<tool_call>", "</tool_call>"]
    );
}

const FORMATS: [ToolFormat; 7] = [
    ToolFormat::None,
    ToolFormat::Llama3,
    ToolFormat::Hermes,
    ToolFormat::Mistral,
    ToolFormat::MistralArgs,
    ToolFormat::Phi4,
    ToolFormat::Functools,
];

/// Pieces of which replies are made that come near calls, and words.
fn pieces() -> impl Strategy<Value = Vec<&'static str>> {
    let all = [
        "<tool_call>",
        "</tool_call>",
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[CALL_ID]",
        "<|tool_call|>",
        "<|/tool_call|>",
        "functools[",
        "<think>",
        "</think>",
        "[THINK]",
        "[/THINK]",
        "{\"name\": \"f\", \"arguments\": ",
        "{\"name\":\"g\",\"parameters\":",
        "{\"a\": \"\\u00e9\\\"}\"}",
        "{\"arguments\": {\"x\": [1, {}]}, \"name\": \"f\"}",
        "{}",
        "}",
        "]",
        "[",
        "{",
        "\"",
        "\\",
        ",",
        ":",
        "; ",
        "\n",
        " ",
        "f",
        "größer 語",
        "1e5",
        "null",
        "<",
        "<to",
        "[TOOL",
        "\u{a0}",
    ];
    prop::collection::vec(prop::sample::select(all.to_vec()), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_cut_gives_the_same_parts(
        pieces in pieces(),
        format in prop::sample::select(FORMATS.to_vec()),
        starts_in_reasoning: bool,
        calls_max in 0usize..4,
        cuts in prop::collection::vec(0usize..200, 0..12),
    ) {
        let options = ReplyOptions { starts_in_reasoning, calls_max, ..with(format) };
        let reply = pieces.concat();
        let whole = read(&options, [reply.as_str()]);
        prop_assert_eq!(&read(&options, cut(&reply, &cuts)), &whole);
        let every: Vec<usize> = (0..reply.len()).collect();
        prop_assert_eq!(&read(&options, cut(&reply, &every)), &whole);
        check_order(&whole);
    }

    #[test]
    fn a_reply_without_calls_and_reasoning_is_told_whole(
        pieces in pieces(),
        format in prop::sample::select(FORMATS.to_vec()),
    ) {
        let options = ReplyOptions { reasoning: None, ..with(format) };
        let reply = pieces.concat();
        let parts = read(&options, [reply.as_str()]);
        let has_calls = parts.iter().any(|part| matches!(part, Part::CallBegin { .. }));
        if !has_calls && !reply.is_empty() {
            prop_assert_eq!(parts, vec![text(&reply)]);
        }
    }

    #[test]
    fn arguments_are_told_as_they_were_written(
        value in "[a-z0-9 {}\\[\\]:,<>é語\"\\\\]{0,40}",
        format in prop::sample::select(FORMATS[1..].to_vec()),
        cuts in prop::collection::vec(0usize..200, 0..12),
    ) {
        let value = serde_json::Value::String(value);
        let arguments = format!("{{ \"key\":{value} , \"list\": [{value}, {{}}]}}");
        let object = format!("{{\"name\": \"f\", \"parameters\": {arguments}}}");
        let reply = match format {
            ToolFormat::Llama3 => object,
            ToolFormat::Hermes => format!("<tool_call>{object}</tool_call>"),
            ToolFormat::Mistral => format!("[TOOL_CALLS][{object}]"),
            ToolFormat::MistralArgs => format!("[TOOL_CALLS]f[ARGS]{arguments}"),
            ToolFormat::Phi4 => format!("<|tool_call|>[{object}]"),
            _ => format!("functools[{object}]"),
        };
        prop_assert_eq!(read(&with(format), cut(&reply, &cuts)), call(0, "f", &arguments));
    }
}

/// Calls are numbered from 0, one after the other, and each ends before anything else is told.
fn check_order(parts: &[Part]) {
    let mut open = None;
    let mut count = 0;
    for part in parts {
        match (part, open) {
            (Part::CallBegin { index, .. }, None) if *index == count => {
                open = Some(*index);
                count += 1;
            }
            (Part::CallArguments { index, .. }, Some(at)) if *index == at => {}
            (Part::CallEnd { index }, Some(at)) if *index == at => open = None,
            (Part::Text(_) | Part::Reasoning(_), None) => {}
            _ => panic!("{part:?} stands wrong in {parts:?}"),
        }
    }
    assert_eq!(open, None, "{parts:?}");
}
