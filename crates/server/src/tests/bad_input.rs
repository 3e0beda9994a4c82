use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::rig::{Rig, request};

/// What a request is refused with: a status of 400, and the field at the start of the message.
fn check(rig: &Rig, path: &str, body: &Value, field: &str) {
    let refused = rig.post(path, body);
    let error = &refused.value()["error"];
    let message = error["message"].as_str().or(error.as_str());
    let message = message.unwrap_or_else(|| panic!("{}", refused.text));
    assert_eq!(refused.status, 400, "{body}: {message}");
    assert!(
        message.starts_with(&format!("{field}: ")),
        "{body}: {message}"
    );
    if let Some(param) = error.get("param") {
        assert_eq!(param, field, "{body}");
    }
}

fn with(base: Value, more: Value) -> Value {
    let (mut base, more) = (base, more);
    let fields = more.as_object().expect("an object").clone();
    base.as_object_mut().expect("an object").extend(fields);
    base
}

#[test]
fn the_field_that_is_wrong_is_named_as_the_client_calls_it() {
    let rig = Rig::new();
    let messages = json!([{"role": "user", "content": "a"}]);
    let base = json!({"messages": messages, "prompt": "a", "input": "a", "max_tokens": 1});
    let many = vec!["x"; 17];
    let cases = [
        (
            "/v1/chat/completions",
            json!({"repeat_last_n": 5000}),
            "repeat_last_n",
        ),
        (
            "/v1/chat/completions",
            json!({"logprobs": true, "top_logprobs": 21}),
            "top_logprobs",
        ),
        ("/v1/chat/completions", json!({"stop": 5}), "stop"),
        (
            "/v1/chat/completions",
            json!({"chat_template_kwargs": {"messages": 1}}),
            "messages",
        ),
        ("/v1/completions", json!({"logprobs": 21}), "logprobs"),
        (
            "/v1/completions",
            json!({"top_logprobs": 21}),
            "top_logprobs",
        ),
        (
            "/v1/completions",
            json!({"structured_outputs": 5}),
            "structured_outputs",
        ),
        (
            "/v1/messages",
            json!({"stop_sequences": many}),
            "stop_sequences",
        ),
        ("/v1/messages", json!({"output_config": 5}), "output_config"),
        (
            "/api/chat",
            json!({"options": {"temperature": -1}}),
            "options.temperature",
        ),
        (
            "/api/chat",
            json!({"options": {"repeat_penalty": 0}}),
            "options.repeat_penalty",
        ),
        (
            "/api/chat",
            json!({"options": {"stop": many}}),
            "options.stop",
        ),
        ("/api/chat", json!({"think": 5}), "think"),
        ("/api/generate", json!({"think": []}), "think"),
    ];
    for (path, more, field) in cases {
        check(&rig, path, &with(base.clone(), more), field);
    }
}

#[test]
fn tools_that_are_none_are_refused_before_a_template_is_told_of_them() {
    let rig = Rig::new();
    let messages = json!([{"role": "user", "content": "a"}]);
    let base = json!({"messages": messages, "input": "a", "max_tokens": 1});
    let cases = [
        ("/v1/chat/completions", json!(5), "tools[0].function"),
        (
            "/v1/chat/completions",
            json!({"function": {}}),
            "tools[0].function",
        ),
        (
            "/v1/chat/completions",
            json!({"function": {"name": ""}}),
            "tools[0].function.name",
        ),
        (
            "/v1/chat/completions",
            json!({"function": {"name": 5}}),
            "tools[0].function.name",
        ),
        (
            "/v1/chat/completions",
            json!({"function": {"name": "a", "parameters": true}}),
            "tools[0].function.parameters",
        ),
        (
            "/v1/chat/completions",
            json!({"type": "web", "function": {"name": "a"}}),
            "tools[0]",
        ),
        ("/v1/responses", json!({"type": "function"}), "tools[0]"),
        (
            "/v1/responses",
            json!({"type": "function", "name": 5}),
            "tools[0].name",
        ),
        ("/v1/messages", json!({"description": "a"}), "tools[0].name"),
        (
            "/v1/messages",
            json!({"name": "a", "input_schema": 5}),
            "tools[0].input_schema",
        ),
        (
            "/api/chat",
            json!({"function": {"name": []}}),
            "tools[0].function.name",
        ),
    ];
    for (path, tool, field) in cases {
        check(
            &rig,
            path,
            &with(base.clone(), json!({"tools": [tool]})),
            field,
        );
    }
}

#[test]
fn what_is_wanted_of_vectors_is_refused_or_done() {
    let rig = Rig::new();
    for path in ["/v1/embeddings", "/api/embed"] {
        let short = json!({"input": "a", "dimensions": 8});
        check(&rig, path, &short, "dimensions");
        check(&rig, path, &json!({"input": []}), "input");
    }
    let soon = json!({"input": "a", "keep_alive": "soon"});
    check(&rig, "/api/embed", &soon, "keep_alive");
}

#[test]
fn a_request_that_only_opens_a_model_is_read_as_closely() {
    let rig = Rig::new();
    for path in ["/api/chat", "/api/generate"] {
        check(&rig, path, &json!({"keep_alive": "soon"}), "keep_alive");
        check(&rig, path, &json!({"keep_alive": true}), "keep_alive");
    }
    check(&rig, "/api/generate", &json!({"think": {}}), "think");
    check(
        &rig,
        "/api/chat",
        &json!({"tools": [null]}),
        "tools[0].function",
    );
    for path in ["/api/chat", "/api/generate"] {
        let late = request("POST", path, Body::from("{}"));
        let (mut parts, body) = late.into_parts();
        let header = "-1".parse().expect("a header");
        parts.headers.insert("x-gogrid-deadline", header);
        let refused = rig.wait(rig.ask(Request::from_parts(parts, body)));
        assert_eq!(refused.status, 400, "{path}: {}", refused.text);
    }
    check(&rig, "/api/generate", &json!({"suffix": "a"}), "suffix");
    check(&rig, "/api/generate", &json!({"images": ["a"]}), "images");
}

#[test]
fn a_list_is_no_object_wherever_it_stands() {
    let rig = Rig::new();
    let messages = json!([{"role": "user", "content": "a"}]);
    let base = json!({"messages": messages, "prompt": "a", "input": "a", "max_tokens": 1});
    let call = json!({"role": "assistant", "tool_calls": [["a"]]});
    let cases = [
        (
            "/v1/chat/completions",
            json!({"messages": [["user", "a"]]}),
            "messages[0]",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [call]}),
            "messages[0].tool_calls[0]",
        ),
        (
            "/v1/chat/completions",
            json!({"stream_options": [true]}),
            "stream_options",
        ),
        (
            "/v1/chat/completions",
            json!({"tools": [{"function": ["paint"]}]}),
            "tools[0].function",
        ),
        (
            "/v1/messages",
            json!({"messages": [["user", "a"]]}),
            "messages[0]",
        ),
        ("/v1/messages", json!({"tools": [["paint"]]}), "tools[0]"),
        ("/v1/responses", json!({"text": [null]}), "text"),
        (
            "/v1/responses",
            json!({"input": [["message", "user", "a"]]}),
            "input",
        ),
        ("/api/chat", json!({"options": [null, null]}), "options"),
        (
            "/api/chat",
            json!({"messages": [["user", "a"]]}),
            "messages[0]",
        ),
        ("/api/generate", json!({"options": []}), "options"),
    ];
    for (path, more, field) in cases {
        check(&rig, path, &with(base.clone(), more), field);
    }
}

#[test]
fn an_order_is_read_whether_or_not_it_needs_what_it_says() {
    let rig = Rig::new();
    for order in ["pause", "snooze"] {
        let path = format!("/gogrid/{order}");
        for wrong in [json!(0), json!(604_801), json!("a"), json!(-1), json!(1.5)] {
            check(&rig, &path, &json!({"seconds": wrong}), "seconds");
        }
        let refused = rig.wait(rig.ask(request("POST", &path, Body::from("{"))));
        assert_eq!(refused.status, 400, "{order}");
    }
    check(&rig, "/gogrid/snooze", &json!({}), "seconds");
    let paused = rig.wait(rig.ask(request("POST", "/gogrid/pause", Body::empty())));
    assert_eq!(paused.json()["verdict"], "shut");
}

#[test]
fn a_form_of_no_text_is_the_clients_mistake() {
    let rig = Rig::new();
    let schema = json!({"$ref": "#"});
    let body = json!({"prompt": "a", "max_tokens": 4, "guided_json": schema});
    check(&rig, "/v1/completions", &body, "guided_json");
}

#[test]
fn bytes_that_are_no_json_are_refused_whatever_they_are() {
    let rig = Rig::new();
    let deep = format!(
        "{{\"prompt\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let cases: [&[u8]; 11] = [
        b"",
        b"[]",
        b" [null, null]",
        b"[\"one\", [{\"role\": \"user\"}]]",
        b"null",
        b"\xff\xfe",
        b"{\"prompt\":\"\xff\"}",
        b"{\"prompt\":\"\\ud800\"}",
        b"{\"prompt\":\"a\",\"temperature\":1e400}",
        b"{\"prompt\":\"a\",\"temperature\":NaN}",
        deep.as_bytes(),
    ];
    for path in [
        "/v1/completions",
        "/v1/messages",
        "/api/generate",
        "/tokenize",
    ] {
        for case in cases {
            let body = Body::from(case.to_vec());
            let refused = rig.wait(rig.ask(request("POST", path, body)));
            let shown = String::from_utf8_lossy(&case[..case.len().min(40)]);
            // What a path does not take is left out there.
            let is_left_out = !path.contains("completions") && case.contains(&b'a');
            assert!(
                refused.status == 400 || is_left_out,
                "{path} {shown}: {}",
                refused.text
            );
        }
    }
}
