use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;
use crate::progress::Silent;

const SHA256: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

/// Time that passes only by waiting, and by so much with each look at it.
#[derive(Default)]
struct Fake {
    nanos: Cell<u64>,
    look_nanos: u64,
    waited: RefCell<Duration>,
    variables: Vec<(&'static str, String)>,
}

impl Surroundings for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        let found = self.variables.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.clone())
    }

    fn now(&self) -> Moment {
        self.nanos.set(self.nanos.get() + self.look_nanos);
        Moment(self.nanos.get())
    }

    fn wait(&self, time: Duration) {
        *self.waited.borrow_mut() += time;
    }

    fn chance(&self) -> f64 {
        1.0
    }
}

/// For a hub that answers, however busy this machine is.
const QUICK: Patience = Patience {
    connect: Duration::from_secs(30),
    ..Patience::HUB
};

/// For a hub that says nothing.
const SHORT: Patience = Patience {
    first_byte: Duration::from_millis(150),
    silence: Duration::from_millis(150),
    ..QUICK
};

/// For one that says nothing and then answers.
const MIXED: Patience = Patience {
    first_byte: Duration::from_secs(1),
    silence: Duration::from_secs(1),
    ..QUICK
};

/// What a hub does with one connection.
enum Act {
    /// Answers and hangs up.
    Say(String),
    /// Answers and then says nothing more until the caller hangs up.
    SayAndHold(String),
}

use Act::{Say, SayAndHold};

/// A hub on the loopback that does this with one connection each; its address, and each request's lines.
fn hub(acts: Vec<Act>) -> (String, Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        for act in acts {
            let (stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines = lines.map_while(Result::ok);
            let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let _ = tell.send(lines);
            match act {
                Say(text) => say(&stream, &text),
                SayAndHold(text) => {
                    say(&stream, &text);
                    let _ = BufReader::new(stream).lines().next();
                }
            }
        }
    });
    (format!("http://{address}/"), told)
}

fn say(mut stream: &TcpStream, text: &str) {
    // The caller may have given up.
    let _ = stream.write_all(text.as_bytes());
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}")
}

fn whole() -> Act {
    Say(answer(
        "200 OK",
        "content-length: 11\r\netag: \"a\"\r\n",
        "hello world",
    ))
}

/// Five of the eleven bytes.
fn broken() -> Act {
    Say(answer(
        "200 OK",
        "content-length: 11\r\netag: \"a\"\r\n",
        "hello",
    ))
}

fn rest(headers: &str, body: &str) -> Act {
    Say(answer("206 Partial Content", headers, body))
}

struct Outcome {
    content: Result<String, Fault>,
    /// The value of each request's `range` and `if-range`.
    ranges: Vec<[Option<String>; 2]>,
    waited: Duration,
}

impl Outcome {
    fn error(&self) -> String {
        match &self.content {
            Err(Fault::Source(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

/// Fetches a file of eleven bytes, "hello world", from a hub that does this.
fn check(acts: Vec<Act>) -> Outcome {
    check_with(QUICK, acts)
}

fn check_with(patience: Patience, acts: Vec<Act>) -> Outcome {
    let (url, told) = hub(acts);
    let fake = Fake::default();
    let content = fetched(&web(patience, &fake, &url));
    let value = |lines: &[String], name: &str| {
        let mut values = lines.iter().filter_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        values.next()
    };
    let requests = told.try_iter();
    Outcome {
        content,
        ranges: requests
            .map(|lines| ["range", "if-range"].map(|name| value(&lines, name)))
            .collect(),
        waited: fake.waited.take(),
    }
}

fn web<'a>(patience: Patience, around: &'a Fake, endpoint: &str) -> Web<'a> {
    Web {
        patience,
        around,
        endpoint: endpoint.to_owned(),
        token: None,
    }
}

fn fetched(web: &Web<'_>) -> Result<String, Fault> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut silent = Silent;
    let mut sink = Sink::open(&path, (Bytes(11), SHA256), &mut silent).unwrap();
    web.fetch("owner/name/resolve/main/file", &mut sink)?;
    sink.finish()?;
    Ok(std::fs::read_to_string(&path).unwrap())
}

const NONE: [Option<String>; 2] = [None, None];

fn from_5(version: Option<&str>) -> [Option<String>; 2] {
    [Some("bytes=5-".to_owned()), version.map(str::to_owned)]
}

#[test]
fn a_file_comes_by_redirections() {
    let to = |place: &str| {
        let headers = format!("location: {place}\r\nx-linked-size: 11\r\n");
        Say(answer("302 Found", &headers, ""))
    };
    let outcome = check(vec![to("/elsewhere"), to("here?x=1"), whole()]);
    assert_eq!(outcome.content.unwrap(), "hello world");
    assert_eq!(
        (outcome.ranges, outcome.waited),
        (vec![NONE; 3], Duration::ZERO)
    );
    let round = (0..=REDIRECTS_MAX).map(|_| to("/again")).collect();
    assert!(check(round).error().contains("more than 5 redirections"));
    let outside = check(vec![to("ftp://elsewhere/file")]);
    assert!(outside.error().contains("neither http nor https"));
}

#[test]
fn another_length_is_refused_before_the_download() {
    for other in [
        Say(answer(
            "302 Found",
            "location: /x\r\nx-linked-size: 12\r\n",
            "",
        )),
        Say(answer("200 OK", "content-length: 12\r\n", "hello world!")),
    ] {
        let outcome = check(vec![other]);
        assert_eq!(outcome.error(), "has 12 bytes instead of 11");
    }
}

#[test]
fn what_broke_off_goes_on_where_it_was() {
    let outcome = check(vec![
        broken(),
        rest("content-range: bytes 5-10/11\r\n", " world"),
    ]);
    assert_eq!(outcome.content.unwrap(), "hello world");
    assert_eq!(outcome.ranges, [NONE, from_5(Some("\"a\""))]);
    assert_eq!(outcome.waited, Duration::from_secs(1));
    // Without a strong name for the version the hash alone decides.
    let weak = Say(answer(
        "200 OK",
        "content-length: 11\r\netag: W/\"a\"\r\n",
        "hello",
    ));
    let outcome = check(vec![
        weak,
        rest("content-range: bytes 5-10/*\r\n", " world"),
    ]);
    assert_eq!(outcome.content.unwrap(), "hello world");
    assert_eq!(outcome.ranges, [NONE, from_5(None)]);
    // An end without a length, as of a connection that just ends.
    let unlengthed = Say(answer("200 OK", "", "hello"));
    let outcome = check(vec![
        unlengthed,
        rest("content-range: bytes 5-10/11\r\n", " world"),
    ]);
    assert_eq!(outcome.content.unwrap(), "hello world");
}

#[test]
fn a_server_that_gives_the_whole_again_is_taken_at_its_word() {
    let outcome = check(vec![broken(), whole()]);
    assert_eq!(outcome.content.unwrap(), "hello world");
    assert_eq!(outcome.ranges, [NONE, from_5(Some("\"a\""))]);
    // It cannot go on from there, and is asked for the whole.
    let refuses = Say(answer(
        "416 Range Not Satisfiable",
        "content-range: bytes */11\r\n",
        "",
    ));
    let outcome = check(vec![broken(), refuses, whole()]);
    assert_eq!(outcome.content.unwrap(), "hello world");
    assert_eq!(outcome.ranges, [NONE, from_5(Some("\"a\"")), NONE]);
    let other = Say(answer(
        "416 Range Not Satisfiable",
        "content-range: bytes */5\r\n",
        "",
    ));
    assert_eq!(
        check(vec![broken(), other]).error(),
        "has 5 bytes instead of 11"
    );
}

#[test]
fn parts_that_do_not_fit_are_never_kept() {
    let other_end = || rest("content-range: bytes 5-10/11\r\n", " WORLD");
    let outcome = check(vec![broken(), other_end(), whole()]);
    assert_eq!(outcome.content.unwrap(), "hello world");
    assert_eq!(outcome.ranges, [NONE, from_5(Some("\"a\"")), NONE]);
    // The whole is wrong as well.
    let wrong = Say(answer("200 OK", "content-length: 11\r\n", "hello WORLD"));
    let error = check(vec![broken(), other_end(), wrong]).error();
    assert!(error.starts_with("has a file with SHA-256"), "{error}");
    // A part that was not asked for.
    for range in [
        "bytes 0-10/11",
        "bytes 6-10/11",
        "bytes x-10/11",
        "bytes",
        "bytes */11",
    ] {
        let odd = rest(&format!("content-range: {range}\r\n"), " world");
        let error = check(vec![broken(), odd]).error();
        assert_eq!(error, "answered with HTTP status 206", "{range}");
    }
    let longer = rest("content-range: bytes 5-10/12\r\n", " world");
    assert_eq!(
        check(vec![broken(), longer]).error(),
        "has 12 bytes instead of 11"
    );
    let too_much = Say(answer("200 OK", "", "hello world and more"));
    assert_eq!(check(vec![too_much]).error(), "has 20 bytes instead of 11");
}

#[test]
fn a_slow_first_byte_and_a_stalled_transfer_are_given_up_and_tried_again() {
    let silent = || SayAndHold(String::new());
    let outcome = check_with(MIXED, vec![silent(), whole()]);
    assert_eq!(outcome.content.unwrap(), "hello world");
    let stalls = SayAndHold(answer(
        "200 OK",
        "content-length: 11\r\netag: \"a\"\r\n",
        "hello",
    ));
    let mixed = vec![stalls, rest("content-range: bytes 5-10/11\r\n", " world")];
    let outcome = check_with(MIXED, mixed);
    assert_eq!(outcome.content.unwrap(), "hello world");
    assert_eq!(outcome.ranges, [NONE, from_5(Some("\"a\""))]);
    let outcome = check_with(SHORT, (0..SHORT.tries).map(|_| silent()).collect());
    let error = "out of reach: no answer within 0.1 s (tried 5 times)";
    assert_eq!(outcome.error().replace("0.2", "0.1"), error);
    // 1, 2, 4 and 8 seconds.
    assert_eq!(outcome.waited, Duration::from_secs(15));
}

#[test]
fn a_trickle_is_a_stall() {
    let fake = Fake {
        look_nanos: 4_000_000_000,
        ..Fake::default()
    };
    let web = web(QUICK, &fake, "http://hub.invalid");
    let trickle = |body| Watched {
        body,
        web: &web,
        since: fake.now(),
        came: 0,
    };
    let mut one_byte_each = trickle(io::repeat(7).take(100));
    let mut came = 0;
    let error = loop {
        match one_byte_each.read(&mut [0]) {
            Ok(read) => came += read,
            Err(error) => break error,
        }
    };
    assert_eq!((came, error.kind()), (7, ErrorKind::TimedOut));
    assert!(error.to_string().contains("in 32 s"), "{error}");
    let mut enough = trickle(io::repeat(7).take(1 << 20));
    let mut buffer = vec![0; 8 << 10];
    while enough.read(&mut buffer).unwrap() > 0 {}
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_says() {
    let busy = |after: &str| {
        let headers = format!("content-length: 0\r\nretry-after: {after}\r\n");
        Say(answer("503 Service Unavailable", &headers, ""))
    };
    let outcome = check(vec![busy("7"), whole()]);
    assert_eq!(outcome.content.unwrap(), "hello world");
    assert_eq!(outcome.waited, Duration::from_secs(7));
    let outcome = check(vec![busy("Wed, 21 Oct 2099 07:28:00 GMT"), whole()]);
    assert_eq!(outcome.waited, Duration::from_secs(1));
    let outcome = check(vec![busy("999999999999")]);
    assert_eq!(outcome.error(), "answered with HTTP status 503");
    assert_eq!(outcome.waited, Duration::ZERO);
}

#[test]
fn what_is_final_is_not_asked_again() {
    for status in [400, 401, 403, 404, 410, 418, 501] {
        let says = Say(answer(&format!("{status} No"), "content-length: 0\r\n", ""));
        let outcome = check(vec![says, whole()]);
        let expected = match status {
            401 | 404 => NotShown::Unknown.to_string(),
            403 => NotShown::Gated.to_string(),
            _ => format!("answered with HTTP status {status}"),
        };
        assert_eq!(outcome.error(), expected);
        assert_eq!((outcome.ranges.len(), outcome.waited), (1, Duration::ZERO));
    }
}

#[test]
fn a_port_where_nobody_listens_is_left_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let fake = Fake::default();
    let content = fetched(&web(QUICK, &fake, &url));
    let Err(Fault::Source(error)) = content else {
        panic!("{content:?}")
    };
    assert!(error.to_string().ends_with("(tried 2 times)"), "{error}");
    assert_eq!(*fake.waited.borrow(), Duration::from_secs(1));
}

#[test]
fn a_name_without_an_address_is_left_soon() {
    let fake = Fake::default();
    let content = fetched(&web(QUICK, &fake, "http://no-such-host.invalid"));
    let Err(Fault::Source(error)) = content else {
        panic!("{content:?}")
    };
    assert!(error.to_string().ends_with("(tried 2 times)"), "{error}");
}

#[test]
fn tries_are_bounded_however_much_each_brings() {
    let fake = Fake::default();
    let web = web(QUICK, &fake, "http://hub.invalid");
    let mut tries = Tries::default();
    let made = (0..).find(|_| web.pause(&mut tries, PROGRESS_MIN, Again::Soon).is_none());
    assert_eq!(made, Some(TRIES_MAX - 1));
    // A longest pause, and one that is asked for with every doubling there is.
    let mut tries = Tries::default();
    let pauses: Vec<_> = (0..)
        .map_while(|_| web.pause(&mut tries, 0, Again::Soon))
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8].map(Duration::from_secs));
}

#[test]
fn a_request_goes_by_the_proxy_of_its_scheme() {
    let (proxy, told) = hub(vec![Say(answer(
        "502 Bad Gateway",
        "content-length: 0\r\n",
        "",
    ))]);
    let fake = Fake {
        variables: vec![("https_proxy", proxy)],
        ..Fake::default()
    };
    let patience = Patience {
        tries: 1,
        tries_to_reach: 1,
        ..QUICK
    };
    let content = fetched(&web(patience, &fake, "https://hub.invalid/"));
    assert!(matches!(content, Err(Fault::Source(_))), "{content:?}");
    let request = told.recv().unwrap();
    assert!(
        request[0].starts_with("CONNECT hub.invalid:443"),
        "{request:?}"
    );
}

#[test]
fn a_list_is_read_whole_or_not_at_all() {
    let check = |acts: Vec<Act>, expected: Result<&str, &str>| {
        let (url, _told) = hub(acts);
        let fake = Fake::default();
        let answer = web(QUICK, &fake, &url).read("api/models/a/b", &mut Silent);
        match (answer, expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer, expected.as_bytes()),
            (Err(Fault::Source(error)), Err(words)) => {
                assert!(error.to_string().contains(words), "{error}");
            }
            other => panic!("{other:?}"),
        }
    };
    let moved = Say(answer("307 Moved", "location: /api/models/c/d\r\n", ""));
    check(vec![moved, broken(), whole()], Ok("hello world"));
    let unknown = Say(answer("401 No", "content-length: 0\r\n", ""));
    check(vec![unknown], Err("no such repository or file"));
    let endless = Say(answer("200 OK", "", &"x".repeat(LISTING_MAX + 1)));
    check(vec![endless], Err("is over 16.0 MiB"));
}

#[test]
fn a_token_is_shown_to_the_hub_alone() {
    let (elsewhere, told_elsewhere) = hub(vec![whole()]);
    let away = Say(answer(
        "302 Found",
        &format!("location: {elsewhere}x\r\n"),
        "",
    ));
    let (url, told) = hub(vec![away]);
    let fake = Fake::default();
    let with_token = |endpoint: &str| Web {
        token: Some("hf_secret".to_owned()),
        ..web(QUICK, &fake, endpoint)
    };
    assert_eq!(fetched(&with_token(&url)).unwrap(), "hello world");
    let has_token = |lines: Vec<String>| lines.iter().any(|line| line.contains("Bearer hf_secret"));
    assert!(has_token(told.recv().unwrap()));
    assert!(!has_token(told_elsewhere.recv().unwrap()));

    let check = |endpoint: &str, url: &str, expected: bool| {
        assert_eq!(
            with_token(endpoint).may_be_told_who_asks(url),
            expected,
            "{url}"
        );
    };
    check("https://hub.org", "https://hub.org/x", true);
    check("https://hub.org", "https://hub.org:444/x", false);
    check("https://hub.org", "https://hub.org.evil.org/x", false);
    check("https://hub.org", "http://hub.org/x", false);
    check("http://hub.org", "http://hub.org/x", false);
    check("http://localhost:1", "http://localhost:1/x", true);
}

#[test]
fn redirections_are_resolved_and_never_lose_encryption() {
    let check = |url: &str, location: &str, expected: Option<&str>| {
        let found = target(url, location).ok();
        assert_eq!(found.as_deref(), expected, "{url} {location}");
    };
    let url = "https://hub.org/a/b?c=/d";
    check(url, "https://cdn.org/x?y=1", Some("https://cdn.org/x?y=1"));
    check(url, "//cdn.org/x", Some("https://cdn.org/x"));
    check(url, "/x", Some("https://hub.org/x"));
    check(url, "x", Some("https://hub.org/a/x"));
    let at = "/x?to=http://cdn.org/y";
    check(url, at, Some("https://hub.org/x?to=http://cdn.org/y"));
    let at = "x?to=a://b";
    check(url, at, Some("https://hub.org/a/x?to=a://b"));
    check(url, "HTTPS://cdn.org/x", Some("HTTPS://cdn.org/x"));
    check(url, "file:/etc/hosts", None);
    check(url, "1x:y", Some("https://hub.org/a/1x:y"));
    check("https://hub.org", "x", Some("https://hub.org/x"));
    check(url, "http://cdn.org/x", None);
    check(url, "ftp://cdn.org/x", None);
    check(
        "http://hub.org/a",
        "http://cdn.org/x",
        Some("http://cdn.org/x"),
    );
    check(url, "", None);
    check(url, &"x".repeat(URL_MAX + 1), None);
    check("rubbish", "/x", None);
}
