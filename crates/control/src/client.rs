use gogrid_host::{HostError, SocketName, Stream};

use crate::exchange::{LineError, read_line, write_line};
use crate::limits::{
    ANSWER_BYTES_MAX, ANSWER_MAX, HELLO_MAX, MOVED_MAX, TRANSFER_MAX, USAGE_BYTES_MAX,
};
use crate::protocol::{Answer, Refused, Request, View, is_answer, parse_answer, request_line};

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The running process cannot be reached.
    #[error("process {pid} cannot be reached: {source}")]
    Unreachable {
        /// Its id.
        pid: u32,
        /// Why not.
        source: HostError,
    },
    /// It took the call and gave no answer.
    #[error("process {pid} does not answer: {problem}")]
    NoAnswer {
        /// Its id.
        pid: u32,
        /// The answer that came instead.
        problem: String,
    },
    /// It refused.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// The ids of this user's processes that listen under the program's name and speak as it does. One
/// that takes a call and says nothing counts: it may be stopped.
pub fn running(program: &str) -> Result<Vec<u32>, HostError> {
    let names = SocketName::listed(program)?;
    let alive = names.iter().filter(|name| listens(name));
    Ok(alive.map(SocketName::pid).collect())
}

/// Whether that process is one of those of [`running`].
pub fn is_running(program: &str, pid: u32) -> Result<bool, HostError> {
    Ok(listens(&SocketName::of(program, pid)?))
}

fn listens(name: &SocketName) -> bool {
    let Ok(mut stream) = Stream::connect(name) else {
        // It may have so many callers that it takes no other.
        return name.is_alive();
    };
    // One that refuses before it reads has its reason to tell.
    let _ = write_line(&mut stream, &request_line(&Request::Usage), HELLO_MAX);
    match read_line(&mut stream, USAGE_BYTES_MAX, HELLO_MAX) {
        Ok(line) => is_answer(&line),
        Err(error) => matches!(error, LineError::TooSlow(_)),
    }
}

/// Asks a running process.
pub fn ask(program: &str, pid: u32, request: &Request) -> Result<View, ClientError> {
    let unreachable = |source| ClientError::Unreachable { pid, source };
    let name = SocketName::of(program, pid).map_err(unreachable)?;
    let mut stream = Stream::connect(&name).map_err(unreachable)?;
    let no_answer = |problem: String| ClientError::NoAnswer { pid, problem };
    let line = exchange(&mut stream, request).map_err(|error| no_answer(error.to_string()))?;
    match parse_answer(&line).map_err(no_answer)? {
        Answer::Done(view) => Ok(*view),
        Answer::Usage(_) => Err(no_answer("it told something else".to_owned())),
        Answer::Refused(refused) => Err(refused.into()),
    }
}

fn exchange(stream: &mut Stream, request: &Request) -> Result<Vec<u8>, LineError> {
    let asked = write_line(stream, &request_line(request), TRANSFER_MAX);
    // A caller that is refused before all is written finds the reason to read.
    let time_max = match request {
        Request::Move(_) => MOVED_MAX,
        _ => ANSWER_MAX,
    };
    let answer = read_line(stream, ANSWER_BYTES_MAX, time_max);
    asked.and(answer)
}
