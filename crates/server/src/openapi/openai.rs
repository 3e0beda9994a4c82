//! The schemas of OpenAI's protocol.

use super::schemas::{
    Field, SchemaRef, answer, answer_with, any_integer, anything, count, either, flag, integer,
    list, list_of, map, maybe, named, no_text, null, number, object, only, text, text_of, token_id,
    within, words,
};
use crate::limits::{CHOICES_MAX, PROMPTS_MAX, TEXTS_MAX};

/// Bounds of the library, which refuses what is beyond them.
const STOPS_MAX: usize = 16;
const STOP_CHARACTERS_MAX: usize = 256;
const LAST_N_MAX: isize = 4096;
const TOP_LOG_PROBS_MAX: isize = 20;

pub(super) fn schemas() -> Vec<Field> {
    let requests = [
        ("ChatRequest", chat_request()),
        ("CompletionRequest", completion_request()),
        ("EmbeddingsRequest", embeddings_request()),
        ("TokenizeRequest", tokenize_request()),
        ("DetokenizeRequest", detokenize_request()),
        ("ChatMessage", chat_message()),
        ("Tool", tool()),
        ("ToolChoice", tool_choice()),
        ("ResponseFormat", response_format()),
        ("JsonSchema", either([object([], &[]), flag()])),
        ("Stop", stop()),
    ];
    let answers = [
        ("OpenAiError", error()),
        (
            "ServerSentEvent",
            answer_with([("data", text())], [("event", text())]),
        ),
        ("Figures", figures()),
        ("Usage", usage()),
        ("ChatCompletion", chat_completion()),
        ("Completion", completion()),
        ("Embeddings", embeddings()),
        ("Model", model()),
        (
            "Models",
            answer([("object", only("list")), ("data", list(named("Model")))]),
        ),
        ("Tokenized", tokenized()),
        (
            "Detokenized",
            answer([("prompt", text()), ("content", text())]),
        ),
        ("TokenizerInfo", tokenizer_info()),
    ];
    requests.into_iter().chain(answers).collect()
}

/// Temperatures, as far as any model's scores tell them apart.
pub(super) fn temperature() -> SchemaRef {
    maybe(within(0.0, 1e6))
}

pub(super) fn share() -> SchemaRef {
    maybe(within(0.0, 1.0))
}

pub(super) fn penalty() -> SchemaRef {
    maybe(within(-2.0, 2.0))
}

pub(super) fn repetition_penalty() -> SchemaRef {
    maybe(within(0.01, 100.0))
}

/// How many tokens a penalty looks back at; a negative number stands for the default.
pub(super) fn last_n() -> SchemaRef {
    maybe(integer(isize::MIN, LAST_N_MAX))
}

pub(super) fn stop_strings(least: usize) -> SchemaRef {
    let one = text_of(least, Some(STOP_CHARACTERS_MAX));
    list_of(one, 0, Some(STOPS_MAX))
}

fn stop() -> SchemaRef {
    either([text_of(0, Some(STOP_CHARACTERS_MAX)), stop_strings(0)])
}

/// What both ways of generating take.
fn generation() -> Vec<Field> {
    let most = || maybe(integer(-1, isize::MAX));
    vec![
        ("model", maybe(text())),
        ("max_tokens", most()),
        ("max_completion_tokens", most()),
        ("n_predict", most()),
        ("n", maybe(integer(1, CHOICES_MAX as isize))),
        ("stream", maybe(flag())),
        (
            "stream_options",
            maybe(object([("include_usage", maybe(flag()))], &[])),
        ),
        ("temperature", temperature()),
        ("top_p", share()),
        ("top_k", maybe(any_integer())),
        ("min_p", share()),
        ("repetition_penalty", repetition_penalty()),
        ("frequency_penalty", penalty()),
        ("presence_penalty", penalty()),
        ("repeat_last_n", last_n()),
        ("seed", maybe(any_integer())),
        ("stop", maybe(named("Stop"))),
        ("ignore_eos", maybe(flag())),
        ("logit_bias", maybe(logit_bias())),
        ("top_logprobs", maybe(integer(0, TOP_LOG_PROBS_MAX))),
        (
            "service_tier",
            maybe(words(["auto", "default", "flex", "priority"])),
        ),
        ("response_format", maybe(named("ResponseFormat"))),
        ("guided_json", maybe(named("JsonSchema"))),
        ("guided_regex", maybe(text())),
        ("json_schema", maybe(named("JsonSchema"))),
        ("structured_outputs", maybe(structured_outputs())),
        ("grammar", maybe(no_text())),
        ("gogrid", maybe(flag())),
    ]
}

fn logit_bias() -> SchemaRef {
    let bias = || either([within(-100.0, 100.0), only(false)]);
    // A pair's two items are of different kinds, which a list of either describes as far as it goes.
    let pair = list_of(either([token_id(), bias()]), 2, Some(2));
    either([map(bias()), list(pair)])
}

fn structured_outputs() -> SchemaRef {
    let fields = [
        ("json", maybe(named("JsonSchema"))),
        ("json_object", maybe(only(true))),
        ("regex", maybe(text())),
        ("grammar", maybe(text())),
    ];
    object(fields, &[])
}

fn response_format() -> SchemaRef {
    let of = |kind: &'static str, more: Vec<Field>, required: &[&'static str]| {
        let fields = [("type", only(kind))].into_iter().chain(more);
        object(fields, &[&["type"], required].concat())
    };
    let schema = || named("JsonSchema");
    let inner = object([("schema", schema())], &["schema"]);
    either([
        of("text", vec![], &[]),
        of("json_object", vec![("schema", maybe(schema()))], &[]),
        of(
            "json_schema",
            vec![("json_schema", inner)],
            &["json_schema"],
        ),
        of("json_schema", vec![("schema", schema())], &["schema"]),
        of("regex", vec![("regex", text())], &["regex"]),
        of("regex", vec![("pattern", text())], &["pattern"]),
        of("lark", vec![("lark", text())], &["lark"]),
        of("lark", vec![("grammar", text())], &["grammar"]),
        of("grammar", vec![("grammar", text())], &["grammar"]),
        of("grammar", vec![("lark", text())], &["lark"]),
    ])
}

fn chat_request() -> SchemaRef {
    let more = [
        ("messages", list_of(named("ChatMessage"), 1, None)),
        ("logprobs", maybe(flag())),
        ("tools", maybe(list(named("Tool")))),
        ("tool_choice", maybe(named("ToolChoice"))),
        ("parallel_tool_calls", maybe(flag())),
        ("chat_template_kwargs", maybe(map(anything()))),
        ("add_generation_prompt", maybe(flag())),
        ("continue_final_message", maybe(flag())),
    ];
    object(generation().into_iter().chain(more), &["messages"])
}

fn chat_message() -> SchemaRef {
    let part = [
        (
            "type",
            words(["text", "input_text", "output_text", "refusal"]),
        ),
        ("text", text()),
    ];
    let parts = list(object(part, &["type", "text"]));
    let function = object([("name", text()), ("arguments", anything())], &[]);
    let call = object([("id", maybe(text())), ("function", function)], &[]);
    let fields = [
        ("role", text_of(1, None)),
        ("content", either([text(), parts, null()])),
        ("name", maybe(text())),
        ("tool_calls", maybe(list(call))),
        ("tool_call_id", maybe(text())),
        ("reasoning_content", maybe(text())),
    ];
    object(fields, &["role"])
}

fn tool() -> SchemaRef {
    let function = [
        ("name", text_of(1, None)),
        ("description", maybe(text())),
        ("parameters", maybe(object([], &[]))),
    ];
    let fields = [
        ("type", only("function")),
        ("function", object(function, &["name"])),
    ];
    object(fields, &["function"])
}

fn tool_choice() -> SchemaRef {
    let function = object([("name", text())], &["name"]);
    either([
        words(["auto", "none", "required", "any"]),
        object(
            [("type", words(["auto", "none", "any", "required"]))],
            &["type"],
        ),
        object([("function", function)], &["function"]),
        object([("name", text())], &["name"]),
    ])
}

fn completion_request() -> SchemaRef {
    let top = integer(0, TOP_LOG_PROBS_MAX);
    let more = [
        ("prompt", texts(PROMPTS_MAX)),
        ("suffix", maybe(no_text())),
        ("echo", maybe(flag())),
        ("best_of", maybe(integer(0, CHOICES_MAX as isize))),
        ("logprobs", maybe(either([top, flag()]))),
    ];
    object(generation().into_iter().chain(more), &["prompt"])
}

/// One text or list of ids, or several.
pub(super) fn texts(most: usize) -> SchemaRef {
    let ids = || list_of(token_id(), 1, None);
    let several = list_of(either([text(), ids()]), 1, Some(most));
    either([text(), ids(), several])
}

fn embeddings_request() -> SchemaRef {
    let fields = [
        ("model", maybe(text())),
        ("input", texts(TEXTS_MAX)),
        ("encoding_format", maybe(words(["float", "base64"]))),
        ("dimensions", null()),
    ];
    object(fields, &["input"])
}

fn tokenize_request() -> SchemaRef {
    let fields = [
        ("model", maybe(text())),
        ("prompt", maybe(text())),
        ("messages", maybe(list_of(named("ChatMessage"), 1, None))),
        ("add_special_tokens", maybe(flag())),
        ("with_pieces", maybe(flag())),
        ("return_token_strs", maybe(flag())),
    ];
    object(fields, &[])
}

fn detokenize_request() -> SchemaRef {
    object(
        [("model", maybe(text())), ("tokens", list(token_id()))],
        &[],
    )
}

fn error() -> SchemaRef {
    let error = answer([
        ("message", text()),
        ("type", text()),
        ("param", maybe(text())),
        ("code", maybe(text())),
    ]);
    answer([("error", error)])
}

fn figures() -> SchemaRef {
    answer([
        ("queue_s", number()),
        ("prefill_s", number()),
        ("decode_s", number()),
        ("paused_s", number()),
        ("accepted_tokens", count()),
    ])
}

fn usage() -> SchemaRef {
    answer([
        ("prompt_tokens", count()),
        ("completion_tokens", count()),
        ("total_tokens", count()),
        (
            "prompt_tokens_details",
            answer([("cached_tokens", count())]),
        ),
        ("gogrid", named("Figures")),
    ])
}

fn chat_completion() -> SchemaRef {
    let choice = answer([
        ("index", count()),
        ("message", answered_message()),
        ("logprobs", maybe(chat_log_probs())),
        ("finish_reason", words(["stop", "length", "tool_calls"])),
    ]);
    answer([
        ("id", text()),
        ("object", only("chat.completion")),
        ("created", count()),
        ("model", text()),
        ("service_tier", text()),
        ("system_fingerprint", text()),
        ("choices", list_of(choice, 1, None)),
        ("usage", named("Usage")),
    ])
}

fn answered_message() -> SchemaRef {
    let function = answer([("name", text()), ("arguments", text())]);
    let call = answer([
        ("id", text()),
        ("type", only("function")),
        ("function", function),
    ]);
    answer_with(
        [
            ("role", only("assistant")),
            ("content", maybe(text())),
            ("refusal", null()),
        ],
        [("reasoning_content", text()), ("tool_calls", list(call))],
    )
}

fn chat_log_probs() -> SchemaRef {
    let token = || {
        [
            ("token", text()),
            ("logprob", number()),
            ("bytes", list(integer(0, 255))),
        ]
    };
    let top = [("top_logprobs", list(answer(token())))];
    let content = list(answer(token().into_iter().chain(top)));
    answer([("content", content), ("refusal", null())])
}

fn completion() -> SchemaRef {
    let log_probs = answer([
        ("tokens", list(text())),
        ("token_logprobs", list(maybe(number()))),
        ("top_logprobs", list(maybe(map(number())))),
        ("text_offset", list(count())),
    ]);
    let choice = answer([
        ("index", count()),
        ("text", text()),
        ("logprobs", maybe(log_probs)),
        ("finish_reason", words(["stop", "length", "tool_calls"])),
    ]);
    answer([
        ("id", text()),
        ("object", only("text_completion")),
        ("created", count()),
        ("model", text()),
        ("choices", list_of(choice, 1, None)),
        ("usage", named("Usage")),
    ])
}

fn embeddings() -> SchemaRef {
    let vector = answer([
        ("object", only("embedding")),
        ("index", count()),
        ("embedding", either([list(number()), text()])),
    ]);
    answer([
        ("object", only("list")),
        ("data", list(vector)),
        ("model", text()),
        (
            "usage",
            answer([("prompt_tokens", count()), ("total_tokens", count())]),
        ),
    ])
}

fn model() -> SchemaRef {
    let ours = answer([
        ("loaded", flag()),
        ("here", flag()),
        ("bytes", count()),
        ("licence", maybe(text())),
    ]);
    answer([
        ("id", text()),
        ("object", only("model")),
        ("created", count()),
        ("owned_by", text()),
        ("max_model_len", maybe(count())),
        ("gogrid", ours),
    ])
}

fn tokenized() -> SchemaRef {
    // A piece that is no whole character is its bytes.
    let piece = || either([text(), list(integer(0, 255))]);
    let with_piece = answer([("id", token_id()), ("piece", piece())]);
    answer_with(
        [
            ("tokens", either([list(token_id()), list(with_piece)])),
            ("count", count()),
            ("max_model_len", count()),
        ],
        [("token_strs", list(piece()))],
    )
}

fn tokenizer_info() -> SchemaRef {
    answer([
        ("model", text()),
        ("vocab_size", count()),
        ("bos_token_id", maybe(token_id())),
        ("eos_token_id", maybe(token_id())),
        ("max_model_len", count()),
        ("chat_template", flag()),
    ])
}
