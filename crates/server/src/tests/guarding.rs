use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::rig::{Answered, Rig, options, request};
use crate::keys::Keys;
use crate::options::ServeOptions;

fn asked(rig: &Rig, path: &str, headers: &[(&str, &str)]) -> Answered {
    let mut builder = Request::builder().uri(path).method("GET");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    rig.wait(rig.ask(builder.body(Body::empty()).expect("a request")))
}

#[test]
fn without_keys_only_names_of_this_machine_are_served() {
    let rig = Rig::new();
    for host in ["localhost:1234", "127.0.0.1", "[::1]:80"] {
        assert_eq!(
            asked(&rig, "/v1/models", &[("host", host)]).status,
            200,
            "{host}"
        );
    }
    for host in ["evil.example", "10.0.0.1:80", "localhost.evil.example"] {
        assert_eq!(
            asked(&rig, "/v1/models", &[("host", host)]).error().0,
            403,
            "{host}"
        );
    }
    assert_eq!(
        asked(&rig, "/v1/models", &[]).error().0,
        403,
        "no host at all"
    );
}

#[test]
fn pages_of_other_origins_may_not_ask() {
    let rig = Rig::with(ServeOptions {
        origins: vec!["https://chat.example".to_owned()],
        ..options()
    });
    let from = |origin| {
        asked(
            &rig,
            "/v1/models",
            &[("host", "localhost"), ("origin", origin)],
        )
    };
    for origin in ["http://localhost:3000", "https://chat.example"] {
        let answer = from(origin);
        assert_eq!(answer.status, 200, "{origin}");
        assert_eq!(answer.headers["access-control-allow-origin"], origin);
    }
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
    ] {
        assert_eq!(from(origin).error().0, 403, "{origin}");
    }
    let preflight = Request::builder()
        .method("OPTIONS")
        .uri("/v1/chat/completions");
    let preflight = preflight
        .header("host", "localhost")
        .header("origin", "http://localhost:1");
    let answer = rig.wait(rig.ask(preflight.body(Body::empty()).expect("a request")));
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains_key("access-control-allow-headers"));
}

#[test]
fn a_page_of_the_servers_own_name_may_ask_where_keys_are_asked_for() {
    let rig = Rig::with(ServeOptions {
        keys: Some(Keys::parse("secret-key").expect("keys")),
        ..options()
    });
    let from = |origin| {
        let headers = [
            ("host", "desk.example:8080"),
            ("authorization", "Bearer secret-key"),
            ("origin", origin),
        ];
        asked(&rig, "/v1/models", &headers).status
    };
    assert_eq!(from("http://desk.example:8080"), 200);
    assert_eq!(from("http://desk.example"), 403);
    assert_eq!(from("https://evil.example"), 403);
}

#[test]
fn a_key_opens_and_its_ceiling_and_rights_hold() {
    let keys = "guest-secret name=guest tier=flex\nowner-secret name=owner limits=yes\n";
    let rig = Rig::with(ServeOptions {
        keys: Some(Keys::parse(keys).expect("keys")),
        ..options()
    });
    let bearer = |key: &str| format!("Bearer {key}");
    let with = |key: &str| asked(&rig, "/v1/models", &[("authorization", &bearer(key))]);
    assert_eq!(with("guest-secret").status, 200);
    let shown = asked(&rig, "/v1/models", &[("x-api-key", "guest-secret")]);
    assert_eq!(shown.status, 200, "as Anthropic's clients show it");
    for wrong in ["", "guest", "guest-secret2"] {
        let (status, _, code) = with(wrong).error();
        assert_eq!(
            (status, code.as_deref()),
            (401, Some("invalid_api_key")),
            "{wrong}"
        );
    }
    assert_eq!(
        asked(&rig, "/health", &[]).status,
        200,
        "that it lives is no secret"
    );
    let pause = |key: &str| {
        let mut asked = request("POST", "/gogrid/pause", Body::empty());
        let value = bearer(key).parse().expect("a header");
        asked.headers_mut().insert("authorization", value);
        rig.wait(rig.ask(asked))
    };
    assert_eq!(pause("guest-secret").error().0, 403);
    assert_eq!(pause("owner-secret").status, 200);
}

#[test]
fn limits_are_changed_and_what_they_cannot_be_is_refused() {
    let rig = Rig::new();
    let share = |status: &Value| {
        status["settings"]["limits"]["max_compute_usage_percent"]
            .as_f64()
            .expect("a share")
    };
    let change = json!({"limits": {"max_compute_usage_percent": 0.5}});
    rig.post("/gogrid/settings", &change).json();
    assert_eq!(share(&rig.get("/gogrid/status").json()), 0.5);
    for wrong in [
        json!({"limits": {"max_compute_usage_percent": 5}}),
        json!({"limits": {"no_such_limit": 1}}),
        json!({"mode": "warp"}),
    ] {
        assert_eq!(
            rig.post("/gogrid/settings", &wrong).error().0,
            400,
            "{wrong}"
        );
    }
    assert_eq!(share(&rig.get("/gogrid/status").json()), 0.5);
    assert_eq!(rig.post("/gogrid/dance", &json!({})).error().0, 404);
}
