use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use gogrid_units::{Bytes, Moment};
use ureq::http::uri::Scheme;
use ureq::http::{Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, Timeout};

use crate::error::{NotShown, SourceError};
use crate::limits::{
    ETAG_MAX, LISTING_MAX, LOOK_EVERY, PROGRESS_MIN, Patience, REDIRECTS_MAX, TRIES_MAX, URL_MAX,
};
use crate::progress::Progress;
use crate::proxy::proxy_for;
use crate::sink::{Fault, Sink};

/// What a download takes from around it.
pub(crate) trait Surroundings {
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// The time.
    fn now(&self) -> Moment;
    /// Lets so much of it pass.
    fn wait(&self, time: Duration);
    /// Chance, in 0..1.
    fn chance(&self) -> f64;
}

/// Downloads by HTTP.
pub(crate) struct Web<'a> {
    pub(crate) patience: Patience,
    pub(crate) around: &'a dyn Surroundings,
    /// The hub's address.
    pub(crate) endpoint: String,
    /// What says to the hub, and to no other server, who asks.
    pub(crate) token: Option<String>,
}

/// The hub's address, or a company's mirror of it as the hub's own tools name one.
pub(crate) fn hub_endpoint(around: &dyn Surroundings) -> String {
    let mirror = around.variable("HF_ENDPOINT").filter(|url| !url.is_empty());
    mirror.unwrap_or_else(|| "https://huggingface.co".to_owned())
}

/// Why a try failed.
enum Stop {
    /// For good.
    Final(Fault),
    /// For now.
    Again(SourceError, Again),
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Again {
    /// The server was not reached.
    Unreached,
    Soon,
    /// It asked for such a pause.
    After(Duration),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Final(fault)
    }
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Self::Final(error.into())
    }
}

/// What tries before this one came to.
#[derive(Default)]
struct Tries {
    made: u32,
    /// Those since the last that brought something.
    in_vain: u32,
    unreached: u32,
    /// The version of the file that the sink has the beginning of, as the server names it.
    version: Option<String>,
    /// Beginnings and ends did not fit: the file is fetched in one piece or not at all.
    in_one_piece: bool,
}

impl Web<'_> {
    /// All that the hub answers at `path`, of which it has no length to be held to. What fails and may go well
    /// later is tried again.
    pub(crate) fn read(&self, path: &str, progress: &mut dyn Progress) -> Result<Vec<u8>, Fault> {
        let url = self.url(path);
        progress.phase("asking the hub", None);
        let mut tries = Tries::default();
        loop {
            let (error, again) = match self.read_once(&url) {
                Ok(answer) => return Ok(answer),
                Err(Stop::Final(fault)) => return Err(fault),
                Err(Stop::Again(error, again)) => (error, again),
            };
            let Some(pause) = self.pause(&mut tries, 0, again) else {
                return Err(tries.given_up(error).into());
            };
            self.wait(pause, &error, progress)?;
        }
    }

    fn read_once(&self, url: &str) -> Result<Vec<u8>, Stop> {
        let response = self.follow(url, (0, None), None)?;
        match response.status().as_u16() {
            200 => {}
            _ => return Err(refusal(&response)),
        }
        let mut answer = Vec::new();
        let limit = Bytes::of(LISTING_MAX).0 + 1;
        let read = self.watched(response).take(limit).read_to_end(&mut answer);
        read.map_err(|error| {
            let (after, detail) = (Bytes::of(answer.len()), error.to_string());
            Stop::Again(SourceError::BrokeOff { after, detail }, Again::Soon)
        })?;
        if answer.len() > LISTING_MAX {
            let detail = format!("it is over {}", Bytes::of(LISTING_MAX));
            return Err(SourceError::Odd { detail }.into());
        }
        Ok(answer)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint.trim_end_matches('/'))
    }

    /// Writes the file at `path` to `sink`, after what that has of it already. What fails and may go well later is
    /// tried again, from where it broke off if the server can.
    pub(crate) fn fetch(&self, path: &str, sink: &mut Sink<'_>) -> Result<(), Fault> {
        let url = self.url(path);
        sink.progress.phase("asking the hub", None);
        let mut tries = Tries::default();
        loop {
            let before = sink.written();
            let (error, again) = match self.attempt(&url, &mut tries, sink) {
                Ok(resumed) if !resumed || sink.is_right() => return Ok(()),
                Ok(_) => {
                    tries.in_one_piece = true;
                    (sink.wrong_hash(), Again::Soon)
                }
                Err(Stop::Final(fault)) => return Err(fault),
                Err(Stop::Again(error, again)) => (error, again),
            };
            let brought = sink.written().saturating_sub(before);
            let Some(pause) = self.pause(&mut tries, brought, again) else {
                return Err(tries.given_up(error).into());
            };
            self.wait(pause, &error, sink.progress)?;
        }
    }

    /// How long to wait before the next try, if there is one.
    fn pause(&self, tries: &mut Tries, brought: u64, again: Again) -> Option<Duration> {
        let patience = &self.patience;
        if brought >= PROGRESS_MIN {
            tries.in_vain = 0;
        }
        tries.made += 1;
        tries.in_vain += 1;
        tries.unreached += u32::from(again == Again::Unreached);
        let are_used_up = tries.in_vain >= patience.tries
            || tries.unreached >= patience.tries_to_reach
            || tries.made >= TRIES_MAX;
        if are_used_up {
            return None;
        }
        let doublings = (tries.in_vain - 1).min(16);
        let pause = patience.pause.saturating_mul(1 << doublings);
        // So that those who failed together do not come back together.
        let pause = pause
            .min(patience.pause_max)
            .mul_f64(0.5 + self.around.chance() / 2.0);
        match again {
            Again::After(asked) if asked > patience.asked_pause_max => None,
            Again::After(asked) => Some(asked.max(pause)),
            Again::Unreached | Again::Soon => Some(pause),
        }
    }

    fn wait(
        &self,
        pause: Duration,
        error: &SourceError,
        progress: &mut dyn Progress,
    ) -> Result<(), Fault> {
        let label = format!("trying again in {:.0} s: {error}", pause.as_secs_f64());
        progress.phase(&label, None);
        let mut left = pause;
        while !left.is_zero() {
            if !progress.keep_going() {
                return Err(Fault::Cancelled);
            }
            let part = left.min(LOOK_EVERY);
            self.around.wait(part);
            left -= part;
        }
        Ok(())
    }

    /// One try; whether it went on from an earlier one.
    fn attempt(&self, url: &str, tries: &mut Tries, sink: &mut Sink<'_>) -> Result<bool, Stop> {
        if tries.in_one_piece {
            sink.restart().map_err(Fault::Local)?;
        }
        if sink.written() == sink.expected() {
            return Ok(true);
        }
        let beginning_is = (sink.written(), tries.version.as_deref());
        let response = self.follow(url, beginning_is, Some(sink.expected()))?;
        let from = match beginning(&response, (sink.written(), sink.expected())) {
            Ok(from) => from,
            Err(stop) => {
                if response.status() == 416 {
                    tries.in_one_piece = true;
                }
                return Err(stop);
            }
        };
        if from == 0 {
            sink.restart().map_err(Fault::Local)?;
        }
        tries.version = version(&response);
        let total = Some(Bytes(sink.expected()));
        sink.progress.phase("downloading from the hub", total);
        self.take(response, sink)?;
        Ok(from > 0)
    }

    fn take(&self, response: Response<Body>, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let mut body = self.watched(response);
        let taken = sink.take_all(&mut body, &|after, error| SourceError::BrokeOff {
            after,
            detail: error.to_string(),
        });
        let after = Bytes(sink.written());
        match taken {
            Err(Fault::Source(error @ SourceError::BrokeOff { .. })) => {
                Err(Stop::Again(error, Again::Soon))
            }
            Err(fault) => Err(fault.into()),
            Ok(()) if sink.written() < sink.expected() => {
                let detail = format!("the connection ended before all {}", Bytes(sink.expected()));
                Err(Stop::Again(
                    SourceError::BrokeOff { after, detail },
                    Again::Soon,
                ))
            }
            Ok(()) => Ok(()),
        }
    }

    fn watched(&self, response: Response<Body>) -> impl Read {
        Watched {
            body: response.into_body().into_reader(),
            web: self,
            since: self.around.now(),
            came: 0,
        }
    }

    /// The answer at the end of all redirections, each by its own proxy; a file is to have the length that is
    /// expected.
    fn follow(
        &self,
        url: &str,
        beginning: (u64, Option<&str>),
        expected: Option<u64>,
    ) -> Result<Response<Body>, Stop> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.ask(&url, beginning)?;
            // The hub names a large file's length in a header of its own, beside the redirection to it.
            if let Some(expected) = expected {
                check_length(header_u64(&response, "x-linked-size"), expected)?;
            }
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            url = target(&url, header(&response, "location").unwrap_or(""))?;
        }
        let detail = format!("more than {REDIRECTS_MAX} redirections");
        Err(SourceError::Unreachable { detail }.into())
    }

    fn ask(&self, url: &str, (from, version): (u64, Option<&str>)) -> Result<Response<Body>, Stop> {
        let agent = self.agent(url)?;
        let mut request = agent.get(url).header("accept-encoding", "identity");
        if let Some(token) = self
            .token
            .as_ref()
            .filter(|_| self.may_be_told_who_asks(url))
        {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
            if let Some(version) = version {
                request = request.header("if-range", version);
            }
        }
        request.call().map_err(|error| self.unreachable(error))
    }

    /// Whether an address is the hub's own, and what goes there is read by nobody on the way.
    fn may_be_told_who_asks(&self, url: &str) -> bool {
        let parts = |url: &str| url.parse::<Uri>().ok().map(Uri::into_parts);
        let (Some(asked), Some(hub)) = (parts(url), parts(&self.endpoint)) else {
            return false;
        };
        let host = asked.authority.as_ref().map(|authority| authority.host());
        let is_direct = |host: &str| {
            let proxy = proxy_for(("http", host), &|name| self.around.variable(name));
            proxy.is_ok_and(|proxy| proxy.is_none())
        };
        let is_here = host.is_some_and(|host| {
            ["127.0.0.1", "[::1]", "localhost"].contains(&host) && is_direct(host)
        });
        let is_private = is_here || asked.scheme == Some(Scheme::HTTPS);
        is_private && asked.scheme == hub.scheme && asked.authority == hub.authority
    }

    /// The certificates are the operating system's, so that a company's own authority counts.
    fn agent(&self, url: &str) -> Result<Agent, SourceError> {
        let patience = &self.patience;
        let bad = |detail: &str| SourceError::Unreachable {
            detail: format!("{url:?}: {detail}"),
        };
        let parsed: Uri = url.parse().map_err(|_| bad("no URL"))?;
        let (scheme, host) = parsed
            .scheme_str()
            .zip(parsed.host())
            .ok_or_else(|| bad("no URL"))?;
        if !["http", "https"].contains(&scheme) {
            return Err(bad("neither http nor https"));
        }
        let proxy = proxy_for((scheme, host), &|name| self.around.variable(name))?;
        let unusable = |error: ureq::Error| bad(&format!("its proxy: {error}"));
        let proxy = proxy
            .map(|proxy| Proxy::new(&proxy))
            .transpose()
            .map_err(unusable)?;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .proxy(proxy)
            .user_agent(concat!("gogrid/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_send_request(Some(patience.first_byte))
            .timeout_recv_response(Some(patience.first_byte))
            .timeout_per_read(Some(patience.silence));
        Ok(config.build().into())
    }

    fn unreachable(&self, error: ureq::Error) -> Stop {
        use ureq::Error as E;
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let (again, detail) = match &error {
            E::Timeout(Timeout::Resolve | Timeout::Connect) => {
                let detail = format!("no connection within {}", seconds(self.patience.connect));
                (Some(Again::Unreached), detail)
            }
            E::Timeout(_) => {
                let detail = format!("no answer within {}", seconds(self.patience.first_byte));
                (Some(Again::Soon), detail)
            }
            E::HostNotFound | E::ConnectionFailed => (Some(Again::Unreached), error.to_string()),
            E::Io(io) if is_unknown_name(io) => (Some(Again::Unreached), error.to_string()),
            E::Io(io) => (again_after(io.kind()), error.to_string()),
            E::Protocol(_) => (Some(Again::Soon), error.to_string()),
            // A certificate or a URL is the same the next time.
            _ => (None, error.to_string()),
        };
        let error = SourceError::Unreachable { detail };
        match again {
            Some(again) => Stop::Again(error, again),
            None => error.into(),
        }
    }
}

/// Whether no address was found for a name. The standard library has no kind for it, and these words.
fn is_unknown_name(error: &io::Error) -> bool {
    error
        .to_string()
        .starts_with("failed to lookup address information")
}

fn again_after(kind: ErrorKind) -> Option<Again> {
    match kind {
        ErrorKind::ConnectionRefused
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable => Some(Again::Unreached),
        // TLS that fails.
        ErrorKind::InvalidData | ErrorKind::InvalidInput => None,
        _ => Some(Again::Soon),
    }
}

impl Tries {
    fn given_up(&self, last: SourceError) -> SourceError {
        match self.made {
            0 | 1 => last,
            tries => SourceError::Repeatedly {
                tries,
                last: Box::new(last),
            },
        }
    }
}

/// Where in the file an answer begins; an error says that there is no file in it.
fn beginning(response: &Response<Body>, (from, expected): (u64, u64)) -> Result<u64, Stop> {
    let status = response.status().as_u16();
    let error = SourceError::Status { status };
    match status {
        200 => {
            check_length(header_u64(response, "content-length"), expected)?;
            Ok(0)
        }
        206 => {
            let (begins, total) = header(response, "content-range")
                .and_then(range)
                .ok_or(error)?;
            check_length(total, expected)?;
            match begins == Some(from) {
                true => Ok(from),
                // Nothing else was asked for.
                false => Err(SourceError::Status { status }.into()),
            }
        }
        416 => {
            let total = header(response, "content-range").and_then(range);
            check_length(total.and_then(|(_, total)| total), expected)?;
            match from > 0 {
                true => Err(Stop::Again(error, Again::Soon)),
                false => Err(error.into()),
            }
        }
        _ => Err(refusal(response)),
    }
}

/// Why an answer is not what was asked for, by its status.
fn refusal(response: &Response<Body>) -> Stop {
    let status = response.status().as_u16();
    match status {
        401 | 403 | 404 => not_shown(response, status).into(),
        408 | 425 | 429 | 500 | 502 | 503 | 504 => {
            let asked = header_u64(response, "retry-after").map(Duration::from_secs);
            let again = asked.map_or(Again::Soon, Again::After);
            Stop::Again(SourceError::Status { status }, again)
        }
        _ => SourceError::Status { status }.into(),
    }
}

/// Why the hub does not show something: it says so in a header of its own
/// (<https://github.com/huggingface/huggingface_hub>, `hf_raise_for_status`).
fn not_shown(response: &Response<Body>, status: u16) -> NotShown {
    let said = header(response, "x-error-message").unwrap_or_default();
    match (header(response, "x-error-code"), status) {
        (Some("GatedRepo"), _) | (None, 403) => NotShown::Gated,
        (_, 401) if said.contains("Invalid credentials") => NotShown::TokenRefused,
        // Without a token the hub answers so to a name that it has never heard, too.
        _ => NotShown::Unknown,
    }
}

impl From<NotShown> for Stop {
    fn from(problem: NotShown) -> Self {
        SourceError::from(problem).into()
    }
}

/// The first byte and the length of the whole, as far as told: `bytes 5-10/11`, `bytes */11`, `bytes 5-10/*`.
fn range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (part, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let begins = part
        .split_once('-')
        .and_then(|(first, _)| first.parse().ok());
    Some((begins, total.parse().ok()))
}

fn check_length(found: Option<u64>, expected: u64) -> Result<(), SourceError> {
    match found {
        Some(found) if found != expected => Err(SourceError::WrongLength { expected, found }),
        _ => Ok(()),
    }
}

/// The server's name for this version of the file, if equal names mean equal bytes.
fn version(response: &Response<Body>) -> Option<String> {
    let tag = header(response, "etag")?;
    let is_strong = tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"');
    (is_strong && tag.len() <= ETAG_MAX).then(|| tag.to_owned())
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

fn header_u64(response: &Response<Body>, name: &str) -> Option<u64> {
    header(response, name)?.trim().parse().ok()
}

/// Where a redirection leads. From https only to https.
fn target(url: &str, location: &str) -> Result<String, SourceError> {
    let bad = |why: &str| SourceError::Unreachable {
        detail: format!("it redirects to {location:?}, {why}"),
    };
    if location.is_empty() || location.len() > URL_MAX {
        return Err(SourceError::Unreachable {
            detail: format!("it redirects to an address of {} bytes", location.len()),
        });
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("from no URL"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let path = rest.get(host.len()..).unwrap_or("");
    let path = path.split(['?', '#']).next().unwrap_or("");
    let target = match location {
        _ if has_scheme(location) => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{host}{location}"),
        _ => {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{host}{folder}/{location}")
        }
    };
    let is_safe = |text: &str| text.to_ascii_lowercase().starts_with("https://");
    match is_safe(url) && !is_safe(&target) {
        true => Err(bad("which is not encrypted")),
        false => Ok(target),
    }
}

/// Whether an address says itself how it is reached (RFC 3986, 3.1), and rests on no other.
fn has_scheme(address: &str) -> bool {
    let Some((scheme, _)) = address.split_once(':') else {
        return false;
    };
    let is_in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(is_in_scheme)
}

/// A body that must keep coming.
struct Watched<'a, R> {
    body: R,
    web: &'a Web<'a>,
    since: Moment,
    came: u64,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.body.read(buffer)?;
        self.came += Bytes::of(read).0;
        let Patience {
            window, bytes_min, ..
        } = self.web.patience;
        let now = self.web.around.now();
        let past = Duration::from_nanos(now.0.saturating_sub(self.since.0));
        if past >= window && read > 0 {
            if self.came < bytes_min {
                let came = Bytes(self.came);
                let text = format!("only {came} came in {:.0} s", past.as_secs_f64());
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            (self.since, self.came) = (now, 0);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
