//! The schemas of OpenAI's newer protocol.

use super::openai::{share, temperature};
use super::schemas::{
    Field, SchemaRef, answer, any_count, anything, count, either, flag, list, maybe, named, null,
    object, only, text, text_of, words,
};

pub(super) fn schemas() -> Vec<Field> {
    vec![
        ("ResponsesRequest", request()),
        ("ResponsesItem", item()),
        ("ResponsesTool", tool()),
        ("ResponsesFormat", format()),
        ("Response", response()),
        ("ResponsesOutput", output()),
    ]
}

fn request() -> SchemaRef {
    let fields = [
        ("model", maybe(text())),
        ("input", either([text(), list(named("ResponsesItem"))])),
        ("instructions", maybe(text())),
        ("max_output_tokens", maybe(any_count())),
        ("temperature", temperature()),
        ("top_p", share()),
        ("stream", maybe(flag())),
        ("tools", maybe(list(named("ResponsesTool")))),
        ("tool_choice", maybe(named("ToolChoice"))),
        ("parallel_tool_calls", maybe(flag())),
        (
            "text",
            maybe(object([("format", maybe(named("ResponsesFormat")))], &[])),
        ),
        ("previous_response_id", null()),
        ("conversation", null()),
        ("background", maybe(only(false))),
        (
            "service_tier",
            maybe(words(["auto", "default", "flex", "priority"])),
        ),
        ("metadata", anything()),
    ];
    object(fields, &["input"])
}

fn item() -> SchemaRef {
    let part = [
        ("type", words(["input_text", "output_text", "text"])),
        ("text", text()),
    ];
    let parts = list(object(part, &["type", "text"]));
    let content = || maybe(either([text(), parts.clone()]));
    let message = [
        ("type", maybe(only("message"))),
        ("role", text()),
        ("content", content()),
    ];
    let call = [
        ("type", only("function_call")),
        ("call_id", maybe(text())),
        ("name", maybe(text())),
        ("arguments", maybe(text())),
    ];
    let output = [
        ("type", only("function_call_output")),
        ("call_id", maybe(text())),
        ("output", content()),
    ];
    either([
        object(message, &["role"]),
        object(call, &["type"]),
        object(output, &["type"]),
        object([("type", only("reasoning"))], &["type"]),
    ])
}

/// A tool with its function's fields beside its type, or as chats have it.
fn tool() -> SchemaRef {
    let plain = [
        ("type", only("function")),
        ("name", text_of(1, None)),
        ("description", maybe(text())),
        ("parameters", maybe(object([], &[]))),
    ];
    let nested = [
        ("type", only("function")),
        ("function", object([("name", text_of(1, None))], &["name"])),
    ];
    either([
        object(plain, &["type", "name"]),
        object(nested, &["type", "function"]),
    ])
}

fn format() -> SchemaRef {
    let schema = [("type", only("json_schema")), ("schema", object([], &[]))];
    either([
        object([("type", words(["text", "json_object"]))], &["type"]),
        object(schema, &["type", "schema"]),
    ])
}

fn response() -> SchemaRef {
    let usage = answer([
        ("input_tokens", count()),
        ("input_tokens_details", answer([("cached_tokens", count())])),
        ("output_tokens", count()),
        (
            "output_tokens_details",
            answer([("reasoning_tokens", count())]),
        ),
        ("total_tokens", count()),
        ("gogrid", named("Figures")),
    ]);
    answer([
        ("id", text()),
        ("object", only("response")),
        ("created_at", count()),
        ("model", text()),
        ("status", words(["in_progress", "incomplete", "completed"])),
        ("error", null()),
        ("incomplete_details", maybe(answer([("reason", text())]))),
        ("output", list(named("ResponsesOutput"))),
        ("usage", maybe(usage)),
        ("previous_response_id", null()),
        ("store", only(false)),
        ("truncation", only("disabled")),
        ("instructions", maybe(text())),
        ("tools", list(anything())),
        ("tool_choice", anything()),
        ("parallel_tool_calls", flag()),
        ("metadata", anything()),
    ])
}

fn output() -> SchemaRef {
    let thought = answer([("type", only("reasoning_text")), ("text", text())]);
    let reasoning = answer([
        ("id", text()),
        ("type", only("reasoning")),
        ("summary", list(anything())),
        ("content", list(thought)),
    ]);
    let said = answer([
        ("type", only("output_text")),
        ("text", text()),
        ("annotations", list(anything())),
        ("logprobs", list(anything())),
    ]);
    let message = answer([
        ("id", text()),
        ("type", only("message")),
        ("role", only("assistant")),
        ("status", words(["in_progress", "incomplete", "completed"])),
        ("content", list(said)),
    ]);
    let call = answer([
        ("id", text()),
        ("type", only("function_call")),
        ("call_id", text()),
        ("name", text()),
        ("arguments", text()),
        ("status", words(["in_progress", "incomplete", "completed"])),
    ]);
    either([reasoning, message, call])
}
