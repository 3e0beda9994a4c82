//! The schemas of Anthropic's protocol.

use super::openai::{share, stop_strings, temperature};
use super::schemas::{
    Field, SchemaRef, answer, any_count, any_integer, anything, count, either, flag, list, list_of,
    maybe, named, object, only, text, text_of, words,
};

pub(super) fn schemas() -> Vec<Field> {
    vec![
        ("MessagesRequest", request()),
        ("CountTokensRequest", object(conversation(), &["messages"])),
        ("Turn", turn()),
        ("TextBlocks", text_blocks()),
        ("AnthropicTool", tool()),
        ("Message", message()),
        ("CountedTokens", answer([("input_tokens", count())])),
        ("AnthropicError", error()),
    ]
}

/// What says what is to be answered.
fn conversation() -> [Field; 6] {
    [
        ("model", maybe(text())),
        ("messages", list_of(named("Turn"), 1, None)),
        ("system", maybe(named("TextBlocks"))),
        ("tools", maybe(list(named("AnthropicTool")))),
        ("tool_choice", maybe(named("ToolChoice"))),
        ("thinking", anything()),
    ]
}

fn request() -> SchemaRef {
    let tiers = ["auto", "standard_only", "default", "flex", "priority"];
    let schema = [("type", only("json_schema")), ("schema", object([], &[]))];
    let format = || maybe(object(schema.clone(), &["type", "schema"]));
    let more = [
        ("max_tokens", maybe(any_count())),
        ("stop_sequences", maybe(stop_strings(1))),
        ("stream", maybe(flag())),
        ("temperature", temperature()),
        ("top_p", share()),
        ("top_k", maybe(any_integer())),
        ("output_config", maybe(object([("format", format())], &[]))),
        ("output_format", format()),
        ("service_tier", maybe(words(tiers))),
    ];
    object(conversation().into_iter().chain(more), &["messages"])
}

fn text_blocks() -> SchemaRef {
    either([text(), list(text_block())])
}

fn text_block() -> SchemaRef {
    object(
        [("type", only("text")), ("text", text())],
        &["type", "text"],
    )
}

fn turn() -> SchemaRef {
    let call = [
        ("type", only("tool_use")),
        ("id", maybe(text())),
        ("name", maybe(text())),
        ("input", anything()),
    ];
    let result = [
        ("type", only("tool_result")),
        ("tool_use_id", maybe(text())),
        ("content", maybe(named("TextBlocks"))),
    ];
    let thought = [("type", only("thinking")), ("thinking", maybe(text()))];
    let block = either([
        text_block(),
        object(call, &["type"]),
        object(result, &["type"]),
        object(thought, &["type"]),
        object([("type", only("redacted_thinking"))], &["type"]),
    ]);
    let fields = [
        ("role", words(["user", "assistant", "system"])),
        ("content", either([text(), list(block)])),
    ];
    object(fields, &["role"])
}

fn tool() -> SchemaRef {
    let fields = [
        ("name", text_of(1, None)),
        ("description", maybe(text())),
        ("input_schema", maybe(object([], &[]))),
    ];
    object(fields, &["name"])
}

fn message() -> SchemaRef {
    let thought = answer([
        ("type", only("thinking")),
        ("thinking", text()),
        ("signature", text()),
    ]);
    let call = answer([
        ("type", only("tool_use")),
        ("id", text()),
        ("name", text()),
        ("input", anything()),
    ]);
    let said = answer([("type", only("text")), ("text", text())]);
    let usage = answer([
        ("input_tokens", count()),
        ("cache_read_input_tokens", count()),
        ("cache_creation_input_tokens", count()),
        ("output_tokens", count()),
        ("gogrid", named("Figures")),
    ]);
    let reasons = ["end_turn", "max_tokens", "stop_sequence", "tool_use"];
    answer([
        ("id", text()),
        ("type", only("message")),
        ("role", only("assistant")),
        ("model", text()),
        ("content", list(either([thought, said, call]))),
        ("stop_reason", words(reasons)),
        ("stop_sequence", maybe(text())),
        ("usage", usage),
    ])
}

fn error() -> SchemaRef {
    let kinds = [
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "overloaded_error",
        "api_error",
    ];
    let error = answer([("type", words(kinds)), ("message", text())]);
    answer([("type", only("error")), ("error", error)])
}
