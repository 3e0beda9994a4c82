use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::rig::{Answered, Rig, options, request};
use crate::options::ServeOptions;

/// Much longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

fn chat(stream: bool, tokens: usize) -> Value {
    json!({
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": tokens,
        "ignore_eos": true,
        "stream": stream,
    })
}

fn with_deadline(body: &Value, seconds: &str) -> Request<Body> {
    let mut asked = request("POST", "/v1/chat/completions", Body::from(body.to_string()));
    asked
        .headers_mut()
        .insert("x-gogrid-deadline", seconds.parse().expect("a header"));
    asked
}

fn open(rig: &Rig) {
    rig.post("/v1/chat/completions", &chat(false, 1)).json();
}

#[test]
fn a_deadline_that_a_pause_outlasts_is_told_with_the_reason() {
    let rig = Rig::new();
    open(&rig);
    rig.post("/gogrid/pause", &json!({})).json();
    assert_eq!(rig.get("/ready").error().0, 503);
    assert_eq!(rig.get("/health").status, 200, "it lives all the same");
    let answer = rig.wait(rig.ask(with_deadline(&chat(false, 2), "0.2")));
    let (status, _, code) = answer.error();
    assert_eq!(
        (status, code.as_deref()),
        (503, Some("paused_by_owner")),
        "{}",
        answer.text
    );
    assert!(answer.headers.contains_key("retry-after"));
    // The stream has begun by then, so the error is in it, and nothing follows.
    let answer = rig.wait(rig.ask(with_deadline(&chat(true, 2), "0.2")));
    let events = answer.events();
    let last = events.last().expect("events");
    assert_eq!(last["error"]["code"], "paused_by_owner", "{}", answer.text);
    assert!(!answer.text.contains("[DONE]"));
    assert!(
        answer
            .text
            .contains(": gogrid paused reason=paused_by_owner"),
        "{}",
        answer.text
    );
    rig.post("/gogrid/resume", &json!({})).json();
    assert_eq!(rig.get("/ready").status, 200);
    rig.post("/v1/chat/completions", &chat(false, 2)).json();
}

#[test]
fn a_client_that_asks_is_told_by_data_how_it_stands() {
    let rig = Rig::new();
    open(&rig);
    rig.post("/gogrid/pause", &json!({})).json();
    let mut body = chat(true, 2);
    body["gogrid"] = json!(true);
    let answer = rig.wait(rig.ask(with_deadline(&body, "0.2")));
    let told = answer
        .events()
        .into_iter()
        .find(|event| event["gogrid"]["state"] == "paused");
    let told = told.unwrap_or_else(|| panic!("not told: {}", answer.text));
    assert_eq!(told["gogrid"]["reason"], "paused_by_owner");
    assert_eq!(told["choices"][0]["finish_reason"], Value::Null);
}

#[test]
fn a_snooze_that_is_longer_than_the_deadline_is_told_at_once_with_its_end() {
    let rig = Rig::new();
    open(&rig);
    rig.post("/gogrid/snooze", &json!({"seconds": 600})).json();
    let answer = rig.wait(rig.ask(with_deadline(&chat(true, 2), "60")));
    let (status, _, code) = answer.error();
    assert_eq!((status, code.as_deref()), (503, Some("paused_by_owner")));
    let after = answer.headers["retry-after"].to_str().expect("text");
    assert!(
        (590..=600).contains(&after.parse::<u64>().expect("a number")),
        "{after}"
    );
    assert_eq!(answer.headers["x-should-retry"], "false");
    assert_eq!(
        rig.post("/gogrid/snooze", &json!({"seconds": 0})).error().0,
        400
    );
}

#[test]
fn what_is_finishing_ends_what_runs_and_takes_no_more() {
    let rig = Rig::new();
    open(&rig);
    rig.post("/gogrid/finish", &json!({})).json();
    let answer = rig.post("/v1/chat/completions", &chat(false, 1));
    let (status, _, code) = answer.error();
    assert_eq!((status, code.as_deref()), (503, Some("finishing")));
    assert_eq!(rig.get("/ready").error().0, 503);
    rig.post("/gogrid/resume", &json!({})).json();
    open(&rig);
}

#[test]
fn a_server_that_ends_tells_every_stream() {
    let rig = Rig::new();
    open(&rig);
    rig.post("/gogrid/pause", &json!({})).json();
    let body = chat(true, 20);
    let (answer, ()) = rig.wait(async {
        let asked = rig.ask(request(
            "POST",
            "/v1/chat/completions",
            Body::from(body.to_string()),
        ));
        let end = async {
            // The stream tells that it is paused before it is told to end.
            while rig.shared.models.opened()[0].lent() == 0 {
                tokio::task::yield_now().await;
            }
            rig.shared.drain.begin();
            rig.shared.drain.end();
        };
        timeout(LONG, async { tokio::join!(asked, end) })
            .await
            .expect("it ends")
    });
    let events = answer.events();
    let last = events.last().expect("an event");
    assert_eq!(last["error"]["code"], "finishing", "{}", answer.text);
    let refused: Answered = rig.post("/v1/chat/completions", &body);
    assert_eq!(refused.error().0, 503);
    assert_eq!(rig.get("/ready").error().0, 503);
}

/// A request with the key of the tests' file of keys.
fn shown(body: &Value, path: &str) -> Request<Body> {
    let mut asked = request("POST", path, Body::from(body.to_string()));
    let key = "Bearer secret-key".parse().expect("a header");
    asked.headers_mut().insert("authorization", key);
    asked
}

#[test]
fn no_key_keeps_a_model_open_for_longer_than_the_server_was_told_unless_it_may_change_limits() {
    use crate::keys::Keys;
    let hour = Duration::from_secs(3600);
    let prompt = json!({"model": "one", "keep_alive": "1h", "prompt": "a", "stream": false,
        "options": {"num_predict": 1}});
    let requests = [
        ("/api/generate", json!({"model": "one", "keep_alive": "1h"})),
        ("/api/generate", prompt),
        // The model makes no vectors, and stays as long all the same.
        (
            "/api/embed",
            json!({"model": "one", "keep_alive": "1h", "input": "a"}),
        ),
    ];
    for (line, stays) in [
        ("secret-key", Some(Duration::from_secs(60))),
        ("secret-key limits=yes", Some(hour)),
    ] {
        for (path, body) in &requests {
            let rig = Rig::with(ServeOptions {
                keys: Some(Keys::parse(line).expect("keys")),
                keep_alive: Some(Duration::from_secs(60)),
                ..options()
            });
            rig.wait(rig.ask(shown(body, path)));
            // One that is still lent has all of its time before it.
            let model = rig.wait(rig.shared.models.lend("one")).expect("it is open");
            assert_eq!(model.closes_in(), stays, "{line}, {path}: {body}");
        }
    }
}

#[test]
fn no_request_asks_for_more_haste_than_its_key_allows() {
    use crate::keys::Keys;
    let rig = Rig::with(ServeOptions {
        keys: Some(Keys::parse("secret-key tier=flex").expect("keys")),
        ..options()
    });
    let mut body = chat(false, 1);
    body["service_tier"] = json!("priority");
    let whole = rig
        .wait(rig.ask(shown(&body, "/v1/chat/completions")))
        .json();
    assert_eq!(
        whole["service_tier"], "default",
        "what clients expect to read"
    );
}

/// Others have all of the memory that the policy leaves them, so guests' requests are stopped.
fn stop_guests(rig: &Rig) {
    let machine = rig.shared.models.machine();
    let mut settings = machine.settings();
    for limits in [&mut settings.limits, &mut settings.away] {
        limits.enable_auto_throttle = true;
    }
    let memory = &mut settings.policy.memory;
    (memory.available_min, memory.resume_available) = (1.0, 1.0);
    rig.wait(machine.set_settings(settings)).expect("they hold");
}

#[test]
fn a_key_says_whose_its_requests_are() {
    use crate::keys::Keys;
    for (line, status) in [("secret-key class=owner", 200), ("secret-key", 503)] {
        let rig = Rig::with(ServeOptions {
            keys: Some(Keys::parse(line).expect("keys")),
            ..options()
        });
        rig.wait(rig.ask(shown(&chat(false, 1), "/v1/chat/completions")))
            .json();
        stop_guests(&rig);
        let mut asked = shown(&chat(false, 4), "/v1/chat/completions");
        let soon = "0.2".parse().expect("a header");
        let patient = "60".parse().expect("a header");
        let deadline = if status == 200 { patient } else { soon };
        asked.headers_mut().insert("x-gogrid-deadline", deadline);
        let answer = rig.wait(rig.ask(asked));
        assert_eq!(answer.status.as_u16(), status, "{line}: {}", answer.text);
        if status == 503 {
            assert_eq!(answer.error().2.as_deref(), Some("memory_available"));
        }
    }
}

#[test]
fn requests_without_a_key_are_a_guests_unless_the_server_was_told_otherwise() {
    use corpgrid_scheduler::Whose;
    let rig = Rig::with(ServeOptions {
        without_key: Whose::Owner,
        ..options()
    });
    open(&rig);
    stop_guests(&rig);
    rig.wait(rig.ask(with_deadline(&chat(false, 4), "60")))
        .json();
    let rig = Rig::new();
    open(&rig);
    stop_guests(&rig);
    let answer = rig.wait(rig.ask(with_deadline(&chat(false, 4), "0.2")));
    assert_eq!(answer.error().0, 503, "{}", answer.text);
}
