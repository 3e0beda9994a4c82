use serde_json::{Value, json};

use super::rig::{Answered, Rig};

fn lines(answer: &Answered) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
        .text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn a_chat_comes_in_lines_unless_it_is_wanted_whole() {
    let rig = Rig::new();
    let body = |stream: bool| {
        json!({
            "model": "one:latest",
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": stream,
            "options": {"num_predict": 6, "temperature": 0},
        })
    };
    let whole = rig.post("/api/chat", &body(false)).json();
    let told = lines(&rig.post("/api/chat", &body(true)));
    let texts = told
        .iter()
        .map(|line| line["message"]["content"].as_str().expect("text"));
    assert_eq!(
        texts.collect::<String>(),
        whole["message"]["content"].as_str().expect("text")
    );
    let (last, before) = told.split_last().expect("lines");
    assert!(before.iter().all(|line| line["done"] == false));
    for end in [last, &whole] {
        assert_eq!(end["done"], true);
        assert!(["stop", "length"].contains(&end["done_reason"].as_str().expect("a reason")));
        for figure in [
            "total_duration",
            "prompt_eval_count",
            "eval_count",
            "eval_duration",
        ] {
            assert!(end[figure].is_u64(), "{figure} in {end}");
        }
    }
    assert_eq!(whole["model"], "one:latest", "as the client wrote it");
}

#[test]
fn a_text_is_continued_and_a_form_is_held() {
    let rig = Rig::new();
    let schema = json!({
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": false,
    });
    let body = json!({
        "model": "one", "prompt": "x", "stream": false, "format": schema,
        "options": {"num_predict": 200},
    });
    let whole = rig.post("/api/generate", &body).json();
    let text = whole["response"].as_str().expect("text");
    let value: Value = serde_json::from_str(text).expect("JSON");
    assert!(value["ok"].is_boolean());
    let wrong = json!({"model": "one", "prompt": "x", "format": "xml"});
    assert_eq!(rig.post("/api/generate", &wrong).status, 400);
}

#[test]
fn models_are_opened_listed_and_closed_by_requests_without_a_prompt() {
    let rig = Rig::new();
    let running = || {
        let list = rig.get("/api/ps").json();
        let models = list["models"].as_array().expect("a list").clone();
        models
            .iter()
            .map(|model| model["name"].clone())
            .collect::<Vec<_>>()
    };
    assert!(running().is_empty());
    let loaded = rig
        .post("/api/generate", &json!({"model": "one", "keep_alive": -1}))
        .json();
    assert_eq!(
        (&loaded["done_reason"], running()),
        (&json!("load"), vec![json!("one")])
    );
    let unloaded = rig
        .post("/api/chat", &json!({"model": "one", "keep_alive": 0}))
        .json();
    assert_eq!(unloaded["done_reason"], "unload");
    rig.wait(rig.shared.models.close_idle());
    assert!(running().is_empty());
    let tags = rig.get("/api/tags").json();
    let names: Vec<_> = tags["models"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|m| &m["name"])
        .collect();
    assert_eq!(names, ["one", "two", "plain"], "those that are here");
    assert!(rig.get("/api/version").json()["version"].is_string());
    let shown = rig.post("/api/show", &json!({"model": "one"})).json();
    assert_eq!(
        shown["model_info"]["general.context_length"],
        super::rig::CONTEXT
    );
    let unknown = rig.post("/api/show", &json!({"model": "none"}));
    assert_eq!(unknown.status, 404);
    assert!(unknown.value()["error"].is_string());
}
