use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::rig::{Rig, request};
use crate::routes::table;

fn document(rig: &Rig) -> Value {
    rig.get("/openapi.json").json()
}

/// Every operation: its method and its path.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().expect("an object");
    let all = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("an object").keys();
        methods.map(|method| (method.to_uppercase(), path.clone()))
    });
    all.collect()
}

/// The schema that a reference means, or the schema itself.
fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(name) => {
            let place = name.strip_prefix('#').expect("of this document");
            document.pointer(place).unwrap_or_else(|| panic!("{name}"))
        }
        None => schema,
    }
}

#[test]
fn every_path_of_the_router_is_in_the_document_and_no_other() {
    let rig = Rig::new();
    let document = document(&rig);
    assert_eq!(document["openapi"], "3.1.0");
    let mut documented: Vec<_> = operations(&document)
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    let mut routed = table().paths;
    routed.push("/openapi.json".to_owned());
    for path in &mut routed {
        *path = path.replace("{*", "{");
    }
    documented.sort();
    routed.sort();
    assert_eq!(documented, routed);
}

#[test]
fn a_path_takes_the_documented_method_and_no_other() {
    let rig = Rig::new();
    for (method, path) in operations(&document(&rig)) {
        // Not an order that there is: that one would be obeyed.
        let path = path.replace("{id}", "one").replace("{order}", "none");
        for tried in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let answered = rig.wait(rig.ask(request(tried, &path, Body::empty())));
            let is_taken = answered.status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(is_taken, tried == method, "{tried} {path}");
        }
    }
}

#[test]
fn every_schema_that_is_named_is_there() {
    fn check(document: &Value, value: &Value) {
        match value {
            Value::Object(fields) => {
                resolved(document, value);
                fields.values().for_each(|value| check(document, value));
            }
            Value::Array(items) => items.iter().for_each(|value| check(document, value)),
            _ => {}
        }
    }
    let document = document(&Rig::new());
    check(&document, &document);
}

#[test]
fn keys_are_in_the_document_where_they_are_asked_for() {
    let document = document(&Rig::new());
    assert_eq!(
        document["paths"]["/v1/models"]["get"]["security"],
        Value::Null
    );
    let asking = crate::openapi::document(&table().paths, true);
    let asking = serde_json::to_value(asking).expect("plain data");
    let paths = &asking["paths"];
    let both = json!([{"bearer": []}, {"key": []}]);
    assert_eq!(paths["/v1/models"]["get"]["security"], both);
    assert_eq!(paths["/health"]["get"]["security"], Value::Null);
}

/// The least and the most of a field that is a number, as the document writes them.
fn range<'d>(document: &'d Value, schema: &'d Value) -> Option<(&'d Value, &'d Value)> {
    let schema = resolved(document, schema);
    match schema["anyOf"].as_array() {
        Some(kinds) => kinds.iter().find_map(|kind| range(document, kind)),
        None => Some((schema.get("minimum")?, schema.get("maximum")?)),
    }
}

/// Numbers outside of a range, as JSON.
fn outside((least, most): (&Value, &Value)) -> [String; 2] {
    let whole = |value: &Value| value.to_string().parse::<i128>();
    match (whole(least), whole(most)) {
        (Ok(least), Ok(most)) => [(least - 1).to_string(), (most + 1).to_string()],
        _ => {
            let number = |value: &Value| value.as_f64().expect("a number");
            [number(least) - 0.01, number(most) * 1.01].map(|number| number.to_string())
        }
    }
}

/// A body with a number, written as text, in one of its fields.
fn with_number(body: &Value, place: &str, number: &str) -> String {
    let mut body = body.clone();
    *body.pointer_mut(place).expect("it is there") = json!("@");
    body.to_string().replace("\"@\"", number)
}

/// Asks with each number at and beyond the ends of its range. `place` is where the fields are.
fn check_ranges(path: &str, schema: &str, body: &Value, place: &str) {
    let rig = Rig::new();
    let document = document(&rig);
    let fields = &document["components"]["schemas"][schema]["properties"];
    let mut checked = 0;
    for (field, kind) in fields.as_object().expect("an object") {
        let Some(range) = range(&document, kind) else {
            continue;
        };
        let mut body = body.clone();
        body.pointer_mut(place).expect("an object")[field] = Value::Null;
        let place = format!("{place}/{field}");
        let post = |number: &str| {
            let body = with_number(&body, &place, number);
            rig.wait(rig.ask(request("POST", path, Body::from(body))))
        };
        for number in outside(range) {
            let refused = post(&number);
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{field} {number}");
            assert!(refused.text.contains(field), "{number}: {}", refused.text);
        }
        // How many tokens there are is how long the test takes.
        if !field.contains("token") && !field.contains("predict") {
            for number in [range.0, range.1] {
                let taken = post(&number.to_string());
                assert_eq!(
                    taken.status,
                    StatusCode::OK,
                    "{field} {number}: {}",
                    taken.text
                );
            }
        }
        checked += 1;
    }
    assert!(checked > 3, "{path}: {checked}");
}

#[test]
fn numbers_are_refused_beyond_their_documented_ranges_and_taken_at_the_ends() {
    let messages = json!([{"role": "user", "content": "a"}]);
    let chat = json!({"messages": messages, "max_tokens": 1, "logprobs": true});
    check_ranges("/v1/chat/completions", "ChatRequest", &chat, "");
    let completion = json!({"prompt": "a", "max_tokens": 1, "logprobs": true, "n": 16});
    check_ranges("/v1/completions", "CompletionRequest", &completion, "");
    let messages_ = json!({"messages": messages, "max_tokens": 1});
    check_ranges("/v1/messages", "MessagesRequest", &messages_, "");
    let options = json!({"num_predict": 1});
    let ollama = json!({"messages": messages, "stream": false, "options": options});
    check_ranges("/api/chat", "OllamaOptions", &ollama, "/options");
}
