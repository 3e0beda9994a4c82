use serde_json::{Value, json};

use super::rig::Rig;

/// A request for a colour by a tool.
fn with_tool(more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "Paint it"}],
        "max_tokens": 400,
        "temperature": 0,
        "tools": [{"type": "function", "function": {
            "name": "paint",
            "description": "Paints <|im_end|>",
            "parameters": {
                "type": "object",
                "properties": {"colour": {"enum": ["red", "green"]}, "coats": {"enum": [1, 2]}},
                "required": ["colour", "coats"],
                "additionalProperties": false,
            },
        }}],
    });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    body
}

fn check_call(call: &Value) {
    assert_eq!(call["function"]["name"], "paint", "{call}");
    assert!(
        call["id"].as_str().is_some_and(|id| !id.is_empty()),
        "{call}"
    );
    let arguments = call["function"]["arguments"].as_str().expect("a text");
    let arguments: Value = serde_json::from_str(arguments).expect("JSON");
    assert!(["red", "green"].contains(&arguments["colour"].as_str().expect("a text")));
    assert!([1, 2].contains(&arguments["coats"].as_u64().expect("a number")));
}

#[test]
fn a_tool_that_must_be_called_is_called_as_its_schema_says() {
    let rig = Rig::new();
    let named = json!({"type": "function", "function": {"name": "paint"}});
    for choice in [json!("required"), named] {
        let body = with_tool(json!({"tool_choice": choice, "parallel_tool_calls": false}));
        let whole = rig.post("/v1/chat/completions", &body).json();
        let choice = &whole["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{whole}");
        assert_eq!(choice["message"]["content"], Value::Null);
        let calls = choice["message"]["tool_calls"].as_array().expect("a list");
        assert_eq!(calls.len(), 1);
        check_call(&calls[0]);
    }
}

#[test]
fn a_call_that_streams_is_the_same_call() {
    let rig = Rig::new();
    let body = |stream: bool| {
        with_tool(json!({
            "tool_choice": "required",
            "parallel_tool_calls": false,
            "stream": stream,
        }))
    };
    let whole = rig.post("/v1/chat/completions", &body(false)).json();
    let whole = &whole["choices"][0]["message"]["tool_calls"][0];
    let (mut name, mut arguments, mut ends) = (String::new(), String::new(), Vec::new());
    let mut begins = 0;
    for event in rig.post("/v1/chat/completions", &body(true)).events() {
        let choice = &event["choices"][0];
        ends.extend(choice["finish_reason"].as_str().map(str::to_owned));
        for call in choice["delta"]["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
        {
            assert_eq!(call["index"], 0);
            if let Some(told) = call["function"]["name"].as_str() {
                begins += 1;
                assert_eq!(
                    (&call["type"], call["id"].is_string()),
                    (&json!("function"), true)
                );
                name.push_str(told);
            }
            arguments += call["function"]["arguments"].as_str().expect("a text");
        }
    }
    assert_eq!((begins, ends), (1, vec!["tool_calls".to_owned()]));
    assert_eq!(name, whole["function"]["name"].as_str().expect("a text"));
    assert_eq!(
        arguments,
        whole["function"]["arguments"].as_str().expect("a text")
    );
}

#[test]
fn a_tool_that_may_not_be_called_is_not_told_of() {
    let rig = Rig::new();
    let tokens = |body: &Value| {
        let whole = rig.post("/v1/chat/completions", body).json();
        whole["usage"]["prompt_tokens"].as_u64().expect("a number")
    };
    let (with, without) = (
        tokens(&with_tool(json!({"max_tokens": 1}))),
        tokens(&with_tool(json!({"max_tokens": 1, "tool_choice": "none"}))),
    );
    assert!(without + 100 < with, "{without} and {with}");
}

#[test]
fn choices_that_cannot_be_honoured_are_refused() {
    let rig = Rig::new();
    let other = json!({"type": "function", "function": {"name": "other"}});
    let cases = [
        (
            with_tool(json!({"response_format": {"type": "json_object"}})),
            "response_format",
        ),
        (
            with_tool(json!({"guided_choice": ["a", "b"]})),
            "guided_choice",
        ),
        (with_tool(json!({"functions": []})), "functions"),
        (with_tool(json!({"tool_choice": other})), "tool_choice"),
        (
            with_tool(json!({"tools": [], "tool_choice": "required"})),
            "tool_choice",
        ),
        (
            with_tool(
                json!({"tool_choice": "required", "response_format": {"type": "json_object"}}),
            ),
            "response_format",
        ),
    ];
    for (body, field) in cases {
        let answer = rig.post("/v1/chat/completions", &body);
        let (status, param, _) = answer.error();
        assert_eq!(
            (status, param.as_deref()),
            (400, Some(field)),
            "{}",
            answer.text
        );
    }
}

#[test]
fn an_answer_is_held_to_a_schema_and_to_an_expression() {
    let rig = Rig::new();
    let schema = json!({
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 20, 300]}},
        "required": ["ok", "n"],
        "additionalProperties": false,
    });
    let ask = |format: Value| {
        let body = json!({
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 300,
            "temperature": 1,
            "seed": 3,
            "response_format": format,
        });
        rig.post("/v1/chat/completions", &body)
    };
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let whole = ask(format).json();
    assert_eq!(whole["choices"][0]["finish_reason"], "stop", "{whole}");
    let text = whole["choices"][0]["message"]["content"]
        .as_str()
        .expect("text");
    let value: Value = serde_json::from_str(text).expect("JSON");
    assert!(value["ok"].is_boolean() && [1, 20, 300].contains(&value["n"].as_u64().unwrap()));
    let whole = ask(json!({"type": "regex", "regex": "(ab|cd){3}"})).json();
    let text = whole["choices"][0]["message"]["content"]
        .as_str()
        .expect("text");
    assert_eq!(text.len(), 6);
    assert!(
        text.as_bytes()
            .chunks(2)
            .all(|pair| pair == b"ab" || pair == b"cd"),
        "{text}"
    );
    let refused = ask(json!({"type": "json_schema", "json_schema": {"schema": {"type": "none"}}}));
    assert_eq!(refused.error().0, 400, "{}", refused.text);
}
