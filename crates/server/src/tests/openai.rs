use serde_json::{Value, json};

use super::rig::{CONTEXT, Rig};

fn chat(more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 12,
        "temperature": 0,
    });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    body
}

/// The text, the finish reasons and the usage of a stream.
fn streamed(events: &[Value]) -> (String, Vec<String>, Option<Value>) {
    let (mut text, mut ends, mut usage) = (String::new(), Vec::new(), None);
    for event in events {
        for choice in event["choices"].as_array().expect("a list") {
            text += choice["delta"]["content"].as_str().unwrap_or_default();
            ends.extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
        if event["usage"].is_object() {
            usage = Some(event["usage"].clone());
        }
    }
    (text, ends, usage)
}

#[test]
fn a_chat_streams_what_it_says_at_once() {
    let rig = Rig::new();
    let whole = rig.post("/v1/chat/completions", &chat(json!({}))).json();
    let choice = &whole["choices"][0];
    assert_eq!(
        (&whole["object"], &choice["index"]),
        (&json!("chat.completion"), &json!(0))
    );
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(whole["created"].is_u64() && whole["id"].is_string());
    let usage = &whole["usage"];
    let counts = ["prompt_tokens", "completion_tokens", "total_tokens"];
    let [prompt, made, total] = counts.map(|name| usage[name].as_u64().expect("a number"));
    assert_eq!(prompt + made, total);
    let wanted = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let answer = rig.post("/v1/chat/completions", &wanted);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert!(answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    let events = answer.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let (text, ends, told) = streamed(&events);
    assert_eq!(text, choice["message"]["content"].as_str().expect("text"));
    assert_eq!(ends, [choice["finish_reason"].as_str().expect("a reason")]);
    let told = told.expect("usage");
    assert_eq!(told["completion_tokens"], usage["completion_tokens"]);
    let last = events.last().expect("usage comes last");
    assert_eq!(last["choices"], json!([]));
    let ids: Vec<_> = events.iter().map(|event| &event["id"]).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "one id: {ids:?}");
}

#[test]
fn usage_is_told_in_a_stream_only_where_it_was_asked_for() {
    let rig = Rig::new();
    let answer = rig.post("/v1/chat/completions", &chat(json!({"stream": true})));
    let (_, ends, usage) = streamed(&answer.events());
    assert_eq!((ends.len(), usage), (1, None));
}

#[test]
fn several_choices_differ_by_their_seed_and_repeat() {
    let rig = Rig::new();
    let body = chat(json!({"n": 3, "temperature": 1, "seed": 7}));
    let [one, other] = [(); 2].map(|()| rig.post("/v1/chat/completions", &body).json());
    assert_eq!(
        one["choices"], other["choices"],
        "the same request, the same answer"
    );
    let choices = one["choices"].as_array().expect("a list");
    let texts: Vec<_> = choices
        .iter()
        .map(|choice| &choice["message"]["content"])
        .collect();
    assert_eq!(texts.len(), 3);
    assert!(texts[0] != texts[1] || texts[1] != texts[2], "{texts:?}");
    let numbers: Vec<_> = choices
        .iter()
        .map(|choice| choice["index"].as_u64())
        .collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
}

#[test]
fn log_probabilities_have_both_shapes() {
    let rig = Rig::new();
    let body = chat(json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 3}));
    let whole = rig.post("/v1/chat/completions", &body).json();
    let content = whole["choices"][0]["logprobs"]["content"]
        .as_array()
        .expect("a list");
    assert!(!content.is_empty());
    for token in content {
        assert!(token["logprob"].as_f64().expect("a number") <= 0.0);
        assert!(token["bytes"].is_array() && token["token"].is_string());
        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(2));
    }
    let body =
        json!({"prompt": "ab", "max_tokens": 1, "logprobs": 1, "echo": true, "temperature": 0});
    let whole = rig.post("/v1/completions", &body).json();
    let choice = &whole["choices"][0];
    assert!(choice["text"].as_str().expect("text").starts_with("ab"));
    let told = &choice["logprobs"];
    let names = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];
    let lengths = names.map(|name| told[name].as_array().map(Vec::len));
    assert!(
        lengths
            .iter()
            .all(|length| *length == lengths[0] && length.is_some()),
        "{told}"
    );
    assert_eq!(
        told["token_logprobs"][0],
        Value::Null,
        "nothing comes before the first"
    );
}

#[test]
fn a_completion_takes_texts_ids_and_lists_of_them() {
    let rig = Rig::new();
    let ask = |prompt: Value| {
        let body = json!({"prompt": prompt, "max_tokens": 4, "temperature": 0});
        rig.post("/v1/completions", &body).json()
    };
    let of_text = ask(json!("ab"));
    assert_eq!(
        of_text["choices"][0]["text"],
        ask(json!([97, 98]))["choices"][0]["text"]
    );
    let both = ask(json!(["ab", "ab"]));
    let choices = both["choices"].as_array().expect("a list");
    assert_eq!((choices.len(), &choices[1]["index"]), (2, &json!(1)));
    assert_eq!(choices[1]["text"], of_text["choices"][0]["text"]);
    assert_eq!(both["usage"]["prompt_tokens"], 4);
}

#[test]
fn nothing_generated_is_a_wish_too() {
    let rig = Rig::new();
    let body = json!({"prompt": "ab", "max_tokens": 0, "echo": true, "logprobs": 0});
    let whole = rig.post("/v1/completions", &body).json();
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["text"], &choice["finish_reason"]),
        (&json!("ab"), &json!("length"))
    );
    assert_eq!(whole["usage"]["completion_tokens"], 0);
    assert_eq!(
        choice["logprobs"]["tokens"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn what_makes_no_sense_is_refused_by_field() {
    let rig = Rig::new();
    let long = "a".repeat(CONTEXT + 1);
    let cases = [
        (json!({"messages": "x"}), "messages", None),
        (json!({"messages": []}), "messages", None),
        (
            json!({"messages": [{"content": "x"}]}),
            "messages[0].role",
            None,
        ),
        (
            json!({"messages": [{"role": "user", "content": 3}]}),
            "messages[0].content",
            None,
        ),
        (chat(json!({"temperature": "hot"})), "temperature", None),
        (chat(json!({"temperature": -1})), "temperature", None),
        (chat(json!({"top_p": 2})), "top_p", None),
        (chat(json!({"n": 0})), "n", None),
        (chat(json!({"n": 1000})), "n", None),
        (chat(json!({"max_tokens": -5})), "max_tokens", None),
        (chat(json!({"top_logprobs": 3})), "top_logprobs", None),
        (
            chat(json!({"logprobs": true, "top_logprobs": 99})),
            "top_logprobs",
            None,
        ),
        (chat(json!({"logit_bias": {"x": 1}})), "logit_bias", None),
        (
            chat(json!({"logit_bias": {"99999": 1}})),
            "logit_bias",
            None,
        ),
        (chat(json!({"service_tier": "gold"})), "service_tier", None),
        (chat(json!({"tool_choice": "maybe"})), "tool_choice", None),
        (chat(json!({"stop": 5})), "stop", None),
        (
            chat(json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})),
            "messages[0].content[0]",
            Some("unsupported"),
        ),
        (
            chat(json!({"messages": [{"role": "user", "content": long}]})),
            "",
            Some("context_length_exceeded"),
        ),
        (
            chat(json!({"response_format": {"type": "xml"}})),
            "response_format.type",
            None,
        ),
    ];
    for (body, field, code) in cases {
        let answer = rig.post("/v1/chat/completions", &body);
        let (status, param, found) = answer.error();
        assert_eq!(status, 400, "{body}: {}", answer.text);
        assert_eq!(param.unwrap_or_default(), field, "{}", answer.text);
        assert_eq!(found.as_deref(), code, "{}", answer.text);
    }
    let too_long = chat(json!({"messages": [{"role": "user", "content": "a".repeat(2000)}]}));
    let text = rig.post("/v1/chat/completions", &too_long).text;
    assert!(
        text.contains(&format!("This model's maximum context length is {CONTEXT}")),
        "{text}"
    );
    assert!(text.contains("exceeds the context window"), "{text}");
}

#[test]
fn a_broken_body_and_a_wrong_path_have_errors_of_their_own() {
    let rig = Rig::new();
    assert_eq!(rig.post("/v1/chat/completions", &json!([])).error().0, 400);
    assert_eq!(rig.get("/v1/nothing").error().0, 404);
    assert_eq!(rig.get("/v1/chat/completions").error().0, 405);
}

#[test]
fn models_are_listed_and_found() {
    let rig = Rig::new();
    let list = rig.get("/v1/models").json();
    let ids: Vec<_> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(ids, ["one", "two", "plain"]);
    assert_eq!(list["data"][0]["gogrid"]["loaded"], false);
    rig.post("/v1/chat/completions", &chat(json!({"model": "gpt-4o"})))
        .json();
    let one = rig.get("/v1/models/one").json();
    let facts = (&one["gogrid"]["loaded"], &one["max_model_len"]);
    assert_eq!(facts, (&json!(true), &json!(CONTEXT)));
    let (status, param, code) = rig.get("/v1/models/none").error();
    assert_eq!((status, code.as_deref()), (404, Some("model_not_found")));
    assert_eq!(param.as_deref(), Some("model"));
    let unknown = rig.post("/v1/chat/completions", &chat(json!({"model": "none"})));
    assert_eq!(unknown.error().0, 404);
    assert!(unknown.text.contains("one, two, plain"), "{}", unknown.text);
}

#[test]
fn tokens_are_told_and_put_together_again() {
    let rig = Rig::new();
    let told = rig
        .post(
            "/tokenize",
            &json!({"content": "héllo", "with_pieces": true}),
        )
        .json();
    let ids: Vec<_> = told["tokens"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|t| &t["id"])
        .collect();
    assert_eq!(told["count"], 6);
    let text = rig.post("/detokenize", &json!({"tokens": ids})).json();
    assert_eq!(text["content"], "héllo");
    let unknown = rig.post("/detokenize", &json!({"tokens": [9999]}));
    assert_eq!(unknown.error().0, 400);
    let chat = json!({"messages": [{"role": "user", "content": "a"}]});
    let of_chat = rig.post("/tokenize", &chat).json();
    assert_eq!(of_chat["count"], "<user>a<assistant>".len());
}

#[test]
fn metrics_count_requests_and_tokens_of_models_that_are_closed_too() {
    let rig = Rig::new();
    let count = |name: &str| {
        let text = rig.get("/metrics").text;
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        let value = line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let body = chat(json!({"ignore_eos": true, "max_tokens": 5}));
    rig.post("/v1/chat/completions", &body).json();
    let names = [
        "inference_requests_total",
        "gogrid_tokens_total",
        "gogrid_requests_total",
    ];
    assert_eq!(names.map(count), [1.0, 5.0, 1.0]);
    rig.shared.models.close_soon("one");
    rig.wait(rig.shared.models.close_idle());
    assert!(rig.shared.models.opened().is_empty());
    assert_eq!(names.map(count), [1.0, 5.0, 1.0]);
}

#[test]
fn vectors_are_not_made_by_a_model_for_text() {
    let rig = Rig::new();
    let (status, param, code) = rig.post("/v1/embeddings", &json!({"input": "a"})).error();
    assert_eq!((status, param.as_deref()), (400, Some("model")));
    assert_eq!(code.as_deref(), Some("unsupported"));
}

#[test]
fn what_was_computed_before_is_not_computed_again() {
    let rig = Rig::new();
    let question = "x".repeat(200);
    let body = chat(json!({"messages": [{"role": "user", "content": question}]}));
    let cached = |body: &Value| {
        let whole = rig.post("/v1/chat/completions", body).json();
        let details = &whole["usage"]["prompt_tokens_details"];
        let text = whole["choices"][0]["message"]["content"].clone();
        (details["cached_tokens"].as_u64().expect("a number"), text)
    };
    let (first, said) = cached(&body);
    assert_eq!(first, 0);
    // What is kept goes whenever another test opens a model in this process.
    let is_hit = (0..100).any(|_| {
        let (again, text) = cached(&body);
        assert_eq!(text, said);
        again >= 128
    });
    assert!(is_hit, "nothing was kept");
}
