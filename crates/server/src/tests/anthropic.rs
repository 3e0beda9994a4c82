use serde_json::{Value, json};

use super::rig::Rig;

fn body(more: Value) -> Value {
    let mut body = json!({
        "model": "one",
        "max_tokens": 8,
        "temperature": 0,
        "system": "Be short",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    body
}

#[test]
fn a_message_streams_what_it_says_at_once() {
    let rig = Rig::new();
    let whole = rig.post("/v1/messages", &body(json!({}))).json();
    assert_eq!(
        (&whole["type"], &whole["role"]),
        (&json!("message"), &json!("assistant"))
    );
    let text = whole["content"][0]["text"].as_str().expect("text");
    let events = rig
        .post("/v1/messages", &body(json!({"stream": true})))
        .events();
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(kinds[..2], ["message_start", "content_block_start"]);
    let end = ["content_block_stop", "message_delta", "message_stop"];
    assert_eq!(kinds[kinds.len() - 3..], end);
    let told: String = events
        .iter()
        .filter_map(|event| event["delta"]["text"].as_str())
        .collect();
    assert_eq!(told, text);
    let last = &events[events.len() - 2];
    assert_eq!(last["delta"]["stop_reason"], whole["stop_reason"]);
    assert_eq!(
        last["usage"]["output_tokens"],
        whole["usage"]["output_tokens"]
    );
}

#[test]
fn tools_and_their_results_are_read() {
    let rig = Rig::new();
    let tools = json!([{"name": "paint", "input_schema": {
        "type": "object",
        "properties": {"colour": {"enum": ["red"]}},
        "required": ["colour"],
        "additionalProperties": false,
    }}]);
    let choice = json!({"type": "tool", "name": "paint", "disable_parallel_tool_use": true});
    let more = json!({"tools": tools, "tool_choice": choice, "max_tokens": 300});
    let whole = rig.post("/v1/messages", &body(more)).json();
    assert_eq!(whole["stop_reason"], "tool_use", "{whole}");
    let call = &whole["content"][0];
    assert_eq!(
        (&call["type"], &call["input"]),
        (&json!("tool_use"), &json!({"colour": "red"}))
    );
    let messages = json!([
        {"role": "user", "content": "Paint"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call["id"], "content": "done"},
            {"type": "text", "text": "And?"},
        ]},
    ]);
    let asked = body(json!({"messages": messages}));
    let counted = rig.post("/v1/messages/count_tokens", &asked).json();
    let used = rig.post("/v1/messages", &asked).json();
    assert_eq!(counted["input_tokens"], used["usage"]["input_tokens"]);
    assert!(counted["input_tokens"].as_u64().expect("a number") > 100);
}

#[test]
fn errors_have_this_protocols_shape() {
    let rig = Rig::new();
    let kind = |answer: &super::rig::Answered| answer.value()["error"]["type"].clone();
    let unknown = rig.post("/v1/messages", &body(json!({"model": "none"})));
    assert_eq!(
        (unknown.status.as_u16(), kind(&unknown)),
        (404, json!("not_found_error"))
    );
    for wrong in [
        json!({"messages": []}),
        json!({"messages": [{"role": "robot", "content": "x"}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
        json!({"max_tokens": "many"}),
        json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ] {
        let answer = rig.post("/v1/messages", &body(wrong.clone()));
        let found = (answer.status.as_u16(), kind(&answer));
        assert_eq!(found, (400, json!("invalid_request_error")), "{wrong}");
        assert_eq!(answer.value()["type"], "error");
    }
}
