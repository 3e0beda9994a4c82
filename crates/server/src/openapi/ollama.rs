//! The schemas of Ollama's protocol.

use super::openai::{last_n, penalty, repetition_penalty, share, temperature, texts};
use super::schemas::{
    Field, SchemaRef, answer, answer_with, any_integer, anything, count, either, flag, list,
    list_of, maybe, named, no_text, null, number, object, only, text, words,
};
use crate::limits::TEXTS_MAX;

pub(super) fn schemas() -> Vec<Field> {
    let requests = [
        ("OllamaChatRequest", chat_request()),
        ("OllamaGenerateRequest", generate_request()),
        ("OllamaEmbedRequest", embed_request()),
        ("OllamaShowRequest", object([("model", text())], &[])),
        ("OllamaOptions", options()),
        ("OllamaTurn", turn()),
    ];
    let answers = [
        ("OllamaChat", chat()),
        ("OllamaGenerated", generated()),
        ("OllamaEmbedded", embedded()),
        (
            "OllamaModels",
            answer([("models", list(named("OllamaModel")))]),
        ),
        ("OllamaModel", model()),
        ("OllamaDetails", details()),
        ("OllamaShown", shown()),
        (
            "OllamaVersion",
            answer([("version", text()), ("gogrid", text())]),
        ),
        ("OllamaError", answer([("error", text())])),
    ];
    requests.into_iter().chain(answers).collect()
}

/// What both ways of asking take.
fn common() -> [Field; 6] {
    let format = either([words(["json", ""]), object([], &[])]);
    [
        ("model", text()),
        ("options", maybe(named("OllamaOptions"))),
        ("format", maybe(format)),
        ("stream", maybe(flag())),
        ("keep_alive", keep_alive()),
        ("think", maybe(either([flag(), text()]))),
    ]
}

/// Pictures, which are not supported: none may be there.
fn no_images() -> SchemaRef {
    maybe(list_of(anything(), 0, Some(0)))
}

fn embed_request() -> SchemaRef {
    let fields = [
        ("model", text()),
        ("input", texts(TEXTS_MAX)),
        ("dimensions", null()),
        ("keep_alive", keep_alive()),
    ];
    object(fields, &["input"])
}

/// Seconds, or a time.
fn keep_alive() -> SchemaRef {
    maybe(either([number(), text()]))
}

fn chat_request() -> SchemaRef {
    let more = [
        ("messages", maybe(list(named("OllamaTurn")))),
        ("tools", maybe(list(named("Tool")))),
    ];
    object(common().into_iter().chain(more), &[])
}

fn generate_request() -> SchemaRef {
    let more = [
        ("prompt", maybe(text())),
        ("suffix", maybe(no_text())),
        ("system", maybe(text())),
        ("images", no_images()),
        ("raw", maybe(flag())),
    ];
    object(common().into_iter().chain(more), &[])
}

fn turn() -> SchemaRef {
    let function = object([("name", text()), ("arguments", anything())], &[]);
    let fields = [
        ("role", text()),
        ("content", maybe(text())),
        ("thinking", maybe(text())),
        ("images", no_images()),
        (
            "tool_calls",
            maybe(list(object([("function", function)], &[]))),
        ),
        ("tool_name", maybe(text())),
    ];
    object(fields, &[])
}

fn options() -> SchemaRef {
    let fields = [
        ("num_predict", maybe(any_integer())),
        ("temperature", temperature()),
        ("top_k", maybe(any_integer())),
        ("top_p", share()),
        ("min_p", share()),
        ("repeat_penalty", repetition_penalty()),
        ("repeat_last_n", last_n()),
        ("presence_penalty", penalty()),
        ("frequency_penalty", penalty()),
        ("seed", maybe(any_integer())),
        ("stop", maybe(named("Stop"))),
    ];
    object(fields, &[])
}

/// What an answer says that has all of it at once.
fn whole() -> [Field; 4] {
    [
        ("model", text()),
        ("created_at", text()),
        ("done", only(true)),
        ("done_reason", words(["stop", "length", "load", "unload"])),
    ]
}

/// Figures, which an answer that made no token has not.
fn figures() -> [Field; 6] {
    [
        ("total_duration", count()),
        ("load_duration", count()),
        ("prompt_eval_count", count()),
        ("prompt_eval_duration", count()),
        ("eval_count", count()),
        ("eval_duration", count()),
    ]
}

fn chat() -> SchemaRef {
    let function = answer([("name", text()), ("arguments", anything())]);
    let calls = list(answer([("function", function)]));
    let message = answer_with(
        [("role", only("assistant")), ("content", text())],
        [("thinking", text()), ("tool_calls", calls)],
    );
    answer_with(whole().into_iter().chain([("message", message)]), figures())
}

fn generated() -> SchemaRef {
    let fields = whole().into_iter().chain([("response", text())]);
    answer_with(fields, figures().into_iter().chain([("thinking", text())]))
}

fn embedded() -> SchemaRef {
    answer([
        ("model", text()),
        ("embeddings", list(list(number()))),
        ("prompt_eval_count", count()),
    ])
}

fn model() -> SchemaRef {
    answer_with(
        [
            ("name", text()),
            ("model", text()),
            ("modified_at", text()),
            ("size", count()),
            ("digest", text()),
            ("license", maybe(text())),
            ("details", named("OllamaDetails")),
        ],
        [
            ("size_vram", count()),
            ("context_length", count()),
            ("expires_at", text()),
        ],
    )
}

fn details() -> SchemaRef {
    answer([
        ("parent_model", text()),
        ("format", text()),
        ("family", text()),
        ("families", list(text())),
        ("parameter_size", text()),
        ("quantization_level", text()),
    ])
}

fn shown() -> SchemaRef {
    answer([
        ("modelfile", text()),
        ("parameters", text()),
        ("template", text()),
        ("license", maybe(text())),
        ("details", named("OllamaDetails")),
        ("capabilities", list(text())),
        ("modified_at", maybe(text())),
        ("model_info", object([], &[])),
    ])
}
