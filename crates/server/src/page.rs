//! The page at `/`: a chat, and the machine. One answer with all that it needs, under a policy by which the
//! browser runs nothing else and asks nobody else.

use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::ApiError;

/// The page with its styles and scripts in it, and a mark where each answer's nonce belongs.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = include_str!("page/page.html");
    let page = page.replace("{style}", &[PLOT_STYLE, STYLE].concat());
    page.replace(
        "{script}",
        &format!("\"use strict\";\n{PLOT}\n{}", script()),
    )
});

/// uPlot, which draws the plots.
const PLOT: &str = include_str!("page/uplot.js");
const PLOT_STYLE: &str = include_str!("page/uplot.css");

const STYLE: &str = include_str!("page/page.css");
const SCRIPTS: [&str; 4] = [
    include_str!("page/common.js"),
    include_str!("page/chat.js"),
    include_str!("page/machine.js"),
    include_str!("page/history.js"),
];

const NONCE_MARK: &str = "{nonce}";

const NONCE_BYTES: usize = 18;

fn script() -> String {
    SCRIPTS.concat()
}

/// `GET /`.
pub(crate) async fn page() -> Result<Response, ApiError> {
    let mut chance = [0; NONCE_BYTES];
    let none = |problem| ApiError::internal(format!("the system gives no random bytes: {problem}"));
    getrandom::fill(&mut chance).map_err(none)?;
    let nonce = STANDARD.encode(chance);
    let headers: [(HeaderName, &str); 4] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        // Another answer has another nonce.
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let policy = [(CONTENT_SECURITY_POLICY, policy(&nonce))];
    Ok((headers, policy, PAGE.replace(NONCE_MARK, &nonce)).into_response())
}

/// Only what carries this answer's nonce runs, and only this server is asked.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::to_bytes;

    use super::*;

    /// The headers of an answer, by name, and its text.
    async fn answer() -> (impl Fn(&str) -> String, String) {
        let response = page().await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let header = move |name: &str| headers[name].to_str().unwrap().to_owned();
        (header, String::from_utf8(body.to_vec()).unwrap())
    }

    fn nonce_of(policy: &str) -> &str {
        let after = policy.split("script-src 'nonce-").nth(1).unwrap();
        after.split('\'').next().unwrap()
    }

    #[tokio::test]
    async fn the_page_comes_with_a_policy_that_lets_its_own_script_and_style_in() {
        let (header, text) = answer().await;
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control"), "no-store");
        let policy = header("content-security-policy");
        let nonce = nonce_of(&policy);
        assert!(nonce.len() >= 22, "{nonce}");
        for rule in [
            "default-src 'none'",
            &format!("style-src 'nonce-{nonce}'"),
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(rule), "{rule}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(text.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
        assert!(!text.contains(NONCE_MARK) && !text.contains("{style}"));
    }

    #[tokio::test]
    async fn no_two_answers_have_the_same_nonce() {
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            let (header, _) = answer().await;
            let policy = header("content-security-policy");
            assert!(seen.insert(nonce_of(&policy).to_owned()), "{policy}");
        }
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere_and_no_text_becomes_markup() {
        let script = script();
        let page = include_str!("page/page.html");
        for (name, text) in [("markup", page), ("style", STYLE), ("script", &script)] {
            for foreign in ["http://", "https://", "//cdn", "@import", "url("] {
                assert!(!text.contains(foreign), "{foreign} in the {name}");
            }
        }
        for markup in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            assert!(!script.contains(markup), "{markup} in the script");
        }
        for request in ["fetch(", "XMLHttpRequest", "WebSocket", "import("] {
            assert!(!PLOT.contains(request), "{request} in uPlot");
        }
        assert!(!PLOT_STYLE.contains("url("));
        // Two elements would be cut short by their own ends.
        assert!(!script.contains("</script") && !PLOT.contains("</script"));
        assert!(!STYLE.contains("</style") && !PLOT_STYLE.contains("</style"));
    }

    #[test]
    fn no_element_has_a_handler_or_a_style_of_its_own() {
        let page = include_str!("page/page.html");
        for tag in page.split('<').filter_map(|rest| rest.split('>').next()) {
            for attribute in tag.split_whitespace().skip(1) {
                let name = attribute.split('=').next().unwrap();
                assert!(!name.starts_with("on") && name != "style", "<{tag}>");
            }
        }
    }

    #[test]
    fn every_control_has_a_label() {
        let page = include_str!("page/page.html");
        for control in ["<input ", "<select ", "<textarea "] {
            for tag in page.split(control).skip(1) {
                let id = tag
                    .split("id=\"")
                    .nth(1)
                    .and_then(|id| id.split('"').next());
                let id = id.unwrap();
                assert!(page.contains(&format!("for=\"{id}\"")), "{control}{id}");
            }
        }
    }
}
