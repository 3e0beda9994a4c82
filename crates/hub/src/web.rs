use std::time::Duration;

use gogrid_units::Bytes;
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};

use crate::error::SourceError;
use crate::sink::{Fault, Sink};

/// A hub out of reach is given up after this long, whatever it is that does not answer.
const REACH_MAX: Duration = Duration::from_secs(3);
/// A download that gives no byte for this long has broken off.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Slower than this in the mean is given up too, so that no download lasts for ever.
const BYTES_PER_SECOND_MIN: u64 = 20_000;
const REDIRECTS_MAX: u32 = 5;

/// The hub's address, or a company's mirror of it as the hub's own tools name one.
pub(crate) fn hub_endpoint() -> String {
    let mirror = std::env::var("HF_ENDPOINT")
        .ok()
        .filter(|url| !url.is_empty());
    mirror.unwrap_or_else(|| "https://huggingface.co".to_owned())
}

/// Writes the file at `path` under `endpoint` to `sink`. A first request without a body finds out
/// within [`REACH_MAX`] whether the hub can be reached and has a file of the right length.
pub(crate) fn fetch(endpoint: &str, path: &str, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let url = format!("{}/{path}", endpoint.trim_end_matches('/'));
    sink.progress.phase("asking the hub", None);
    probe(&url, sink.expected())?;
    sink.progress
        .phase("downloading from the hub", Some(Bytes(sink.expected())));
    let body_max = SILENCE_MAX + Duration::from_secs(sink.expected() / BYTES_PER_SECOND_MIN);
    let agent = agent(|config| {
        config
            .max_redirects(REDIRECTS_MAX)
            .timeout_resolve(Some(REACH_MAX))
            .timeout_connect(Some(REACH_MAX))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .timeout_recv_body(Some(body_max))
    });
    let response = agent.get(&url).call().map_err(unreachable)?;
    if !response.status().is_success() {
        return Err(SourceError::Status {
            status: response.status().as_u16(),
        }
        .into());
    }
    let mut body = response.into_body().into_reader();
    sink.take_all(&mut body, &|after, error| SourceError::BrokeOff {
        after,
        detail: error.to_string(),
    })
}

fn probe(url: &str, expected: u64) -> Result<(), SourceError> {
    let agent = agent(|config| config.max_redirects(0).timeout_global(Some(REACH_MAX)));
    let response = agent.head(url).call().map_err(unreachable)?;
    let status = response.status();
    if !status.is_success() && !status.is_redirection() {
        return Err(SourceError::Status {
            status: status.as_u16(),
        });
    }
    // The hub names a large file's length in a header of its own, beside the redirection to it.
    let linked = header_u64(&response, "x-linked-size");
    let direct = header_u64(&response, "content-length").filter(|_| status.is_success());
    match linked.or(direct) {
        Some(found) if found != expected => Err(SourceError::WrongLength { expected, found }),
        _ => Ok(()),
    }
}

fn header_u64<T>(response: &Response<T>, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}

type Config = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

/// The certificates are the operating system's, so that a company's own authority counts; a proxy
/// is taken from the environment.
fn agent(more: impl FnOnce(Config) -> Config) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("gogrid/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects_will_error(false);
    more(config).build().into()
}

fn unreachable(error: ureq::Error) -> SourceError {
    SourceError::Unreachable {
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::progress::Silent;

    /// A hub on the loopback that gives these answers to one connection each, and its address.
    fn hub(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for _ in lines
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                {}
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        format!("http://{address}/")
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}")
    }

    /// Fetches a file of eleven bytes, "hello world", from a hub that answers so.
    fn check(answers: Vec<String>) -> Result<String, Fault> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut silent = Silent;
        let mut sink = Sink::create(&path, Bytes(11), &mut silent).unwrap();
        fetch(&hub(answers), "owner/name/resolve/main/file", &mut sink)?;
        sink.finish("b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9")?;
        Ok(std::fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn a_file_comes_after_its_length_was_asked() {
        let content = check(vec![
            answer(
                "302 Found",
                "location: /elsewhere\r\nx-linked-size: 11\r\n",
                "",
            ),
            answer("200 OK", "content-length: 11\r\n", "hello world"),
        ]);
        assert_eq!(content.unwrap(), "hello world");
    }

    #[test]
    fn another_length_is_refused_before_the_download() {
        let content = check(vec![answer("302 Found", "x-linked-size: 12\r\n", "")]);
        let wrong = matches!(
            content,
            Err(Fault::Source(SourceError::WrongLength {
                expected: 11,
                found: 12
            }))
        );
        assert!(wrong, "{content:?}");
    }

    #[test]
    fn an_error_status_is_told() {
        let content = check(vec![answer("404 Not Found", "content-length: 0\r\n", "")]);
        assert!(
            matches!(
                content,
                Err(Fault::Source(SourceError::Status { status: 404 }))
            ),
            "{content:?}"
        );
    }

    #[test]
    fn a_download_that_breaks_off_is_told() {
        let content = check(vec![
            answer("200 OK", "content-length: 11\r\n", ""),
            answer("200 OK", "content-length: 11\r\n", "hello"),
        ]);
        assert!(
            matches!(
                content,
                Err(Fault::Source(SourceError::BrokeOff {
                    after: Bytes(5),
                    ..
                }))
            ),
            "{content:?}"
        );
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the promise is about time")]
    fn a_hub_that_never_answers_is_given_up_soon() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", silent.local_addr().unwrap());
        let before = std::time::Instant::now();
        let result = probe(&url, 11);
        assert!(
            matches!(result, Err(SourceError::Unreachable { .. })),
            "{result:?}"
        );
        assert!(
            before.elapsed() < REACH_MAX + Duration::from_secs(1),
            "{:?}",
            before.elapsed()
        );
    }
}
