use serde_json::{Value, json};

use super::rig::Rig;

fn body(more: Value) -> Value {
    let mut body =
        json!({"model": "one", "input": "Hello", "max_output_tokens": 8, "temperature": 0});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    body
}

#[test]
fn a_response_streams_numbered_events_to_the_same_end() {
    let rig = Rig::new();
    let whole = rig.post("/v1/responses", &body(json!({}))).json();
    assert_eq!(whole["object"], "response");
    let text = whole["output"][0]["content"][0]["text"]
        .as_str()
        .expect("text");
    let events = rig
        .post("/v1/responses", &body(json!({"stream": true})))
        .events();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let deltas = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta");
    let told: String = deltas.filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(told, text);
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(
        kinds[..3],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added"
        ]
    );
    let last = &events.last().expect("events")["response"];
    assert_eq!(last["status"], whole["status"]);
    assert_eq!(
        last["output"][0]["content"][0]["text"],
        whole["output"][0]["content"][0]["text"]
    );
    assert_eq!(
        last["usage"]["output_tokens"],
        whole["usage"]["output_tokens"]
    );
}

#[test]
fn a_call_is_an_item_and_its_output_another() {
    let rig = Rig::new();
    let tool = json!({"type": "function", "name": "paint", "strict": true, "parameters": {
        "type": "object",
        "properties": {"colour": {"enum": ["red"]}},
        "required": ["colour"],
        "additionalProperties": false,
    }});
    let more = json!({
        "tools": [tool], "tool_choice": "required", "max_output_tokens": 300,
        "parallel_tool_calls": false,
    });
    let whole = rig.post("/v1/responses", &body(more.clone())).json();
    let call = &whole["output"][0];
    assert_eq!(
        (&call["type"], &call["name"]),
        (&json!("function_call"), &json!("paint")),
        "{whole}"
    );
    let arguments: Value =
        serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
    assert_eq!(arguments, json!({"colour": "red"}));
    let mut streams = more;
    streams["stream"] = json!(true);
    let events = rig.post("/v1/responses", &body(streams)).events();
    let deltas = events
        .iter()
        .filter(|e| e["type"] == "response.function_call_arguments.delta");
    let told: String = deltas.filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(told, call["arguments"].as_str().expect("text"));
    let input = json!([
        {"role": "user", "content": "Paint"},
        call,
        {"type": "function_call_output", "call_id": call["call_id"], "output": "done"},
    ]);
    rig.post("/v1/responses", &body(json!({"input": input})))
        .json();
}

#[test]
fn a_call_that_is_cut_is_told_so() {
    let rig = Rig::new();
    let tool = json!({"type": "function", "name": "paint", "parameters": {
        "type": "object",
        "properties": {"colour": {"enum": ["a colour of more tokens than there may be here"]}},
        "required": ["colour"],
        "additionalProperties": false,
    }});
    let more = json!({"tools": [tool], "tool_choice": "required", "max_output_tokens": 60});
    let whole = rig.post("/v1/responses", &body(more.clone())).json();
    assert_eq!(whole["status"], "incomplete", "{whole}");
    assert_eq!(whole["output"][0]["status"], "incomplete", "{whole}");
    let mut streams = more;
    streams["stream"] = json!(true);
    let events = rig.post("/v1/responses", &body(streams)).events();
    let done = events
        .iter()
        .find(|event| event["type"] == "response.output_item.done");
    assert_eq!(done.expect("it is told")["item"]["status"], "incomplete");
}

#[test]
fn what_needs_a_memory_is_refused_by_name() {
    let rig = Rig::new();
    for (more, field) in [
        (
            json!({"previous_response_id": "resp_1"}),
            "previous_response_id",
        ),
        (json!({"background": true}), "background"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0]"),
        (json!({"input": null}), "input"),
        (
            json!({"text": {"format": {"type": "json_schema"}}}),
            "text.format.schema",
        ),
    ] {
        let answer = rig.post("/v1/responses", &body(more.clone()));
        let (status, param, _) = answer.error();
        assert_eq!(
            (status, param.as_deref()),
            (400, Some(field)),
            "{more}: {}",
            answer.text
        );
    }
}
