use gogrid_host::{HostError, SocketName, Stream};

use crate::exchange::{LineError, read_line, write_line};
use crate::limits::{ANSWER_BYTES_MAX, ANSWER_MAX, MOVED_MAX, TRANSFER_MAX};
use crate::protocol::{Answer, Refused, Request, View, parse_answer, request_line};

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

/// The ids of this user's processes that listen under the program's name.
pub fn running(program: &str) -> Result<Vec<u32>, HostError> {
    let names = SocketName::running(program)?;
    Ok(names.iter().map(SocketName::pid).collect())
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
