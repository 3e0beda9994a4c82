use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{Builder, JoinHandle};

use gogrid_host::{HostError, Listener, SocketName, Stream};
use gogrid_units::contain;

use crate::control::{Control, refused};
use crate::exchange::{LineError, read_line, write_line};
use crate::limits::{AFTER_ERROR, CALLERS_MAX, REFUSED_IN_A_ROW, REQUEST_BYTES_MAX, TRANSFER_MAX};
use crate::protocol::{Answer, Cause, answer_line, parse_request};
use crate::turns::take_turns;

/// What the listening thread is called in the status.
const LISTENER: &str = "control socket";

/// Listens for commands until it is dropped. While nobody calls, its thread sleeps.
pub struct Server {
    name: SocketName,
    /// Dropped to say that it is over.
    going_on: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why nobody can be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The system has no such socket for us.
    #[error(transparent)]
    Socket(#[from] HostError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl Server {
    /// Listens under the program's name and this process's id.
    pub fn start(program: &str, control: Arc<Control>) -> Result<Self, ServerError> {
        let name = SocketName::own(program)?;
        let listener = Listener::bind(&name)?;
        let (going_on, over) = sync_channel(0);
        let thread = Builder::new()
            .name("gogrid-control".to_owned())
            .spawn(move || listen(&listener, &control, &over))?;
        Ok(Self {
            name,
            going_on: Some(going_on),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    /// Callers that are still talked with are left to themselves: a slow one must not delay the end.
    fn drop(&mut self) {
        drop(self.going_on.take());
        // The thread waits for a caller, so there has to be one.
        let called = Stream::connect(&self.name);
        if let (Ok(_), Some(thread)) = (called, self.thread.take()) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn listen(listener: &Listener, control: &Arc<Control>, over: &Receiver<()>) {
    let mut callers = Callers::default();
    let turn = || callers.hear(listener, control, over);
    take_turns(turn, &mut |problem| control.note_failure(LISTENER, problem));
}

/// Those that are talked with.
#[derive(Default)]
struct Callers {
    threads: Vec<JoinHandle<()>>,
    /// Those in a row that the system did not let in.
    refused: usize,
}

impl Callers {
    /// Hears one caller.
    fn hear(
        &mut self,
        listener: &Listener,
        control: &Arc<Control>,
        over: &Receiver<()>,
    ) -> ControlFlow<()> {
        let accepted = listener.accept();
        let is_over = match accepted {
            Ok(_) => over.try_recv() == Err(TryRecvError::Disconnected),
            Err(_) => over.recv_timeout(AFTER_ERROR) == Err(RecvTimeoutError::Disconnected),
        };
        if is_over {
            return ControlFlow::Break(());
        }
        if let Some(problem) = self.note(accepted.as_ref().err()) {
            control.note_failure(LISTENER, &problem);
        }
        let Ok(stream) = accepted else {
            return ControlFlow::Continue(());
        };
        self.threads.retain(|caller| !caller.is_finished());
        let is_full = self.threads.len() >= CALLERS_MAX;
        self.threads.extend(start(stream, control, is_full));
        ControlFlow::Continue(())
    }

    /// What is to be noted of a caller that came, or of the error in its stead: once for all errors in
    /// a row, such as those of a process that has no more descriptors.
    fn note(&mut self, error: Option<&HostError>) -> Option<String> {
        let Some(error) = error else {
            self.refused = 0;
            return None;
        };
        self.refused = self.refused.saturating_add(1);
        let problem = format!("{REFUSED_IN_A_ROW} callers in a row could not be let in: {error}");
        (self.refused == REFUSED_IN_A_ROW).then_some(problem)
    }
}

/// Talks with a caller on a thread of its own, or says here that there are too many. The line that
/// says so fits into any socket's buffer, so nobody is waited for.
fn start(mut stream: Stream, control: &Arc<Control>, is_full: bool) -> Option<JoinHandle<()>> {
    if is_full {
        let message = format!("{CALLERS_MAX} callers at once are the most; try again");
        reply(&mut stream, &Answer::Refused(refused(Cause::Busy, message)));
        return None;
    }
    let control = Arc::clone(control);
    let thread = Builder::new().name("gogrid-caller".to_owned());
    // Without a thread the stream closes, which is all that can be said.
    thread.spawn(move || converse(&mut stream, &control)).ok()
}

fn converse(stream: &mut Stream, control: &Control) {
    let answer = match read_line(stream, REQUEST_BYTES_MAX, TRANSFER_MAX) {
        // Nobody is there to be answered.
        Err(LineError::Io(_)) => return,
        Err(error) => Answer::Refused(refused(Cause::Request, format!("no request: {error}"))),
        Ok(line) => answer(&line, control),
    };
    reply(stream, &answer);
}

/// The answer to a line. A panic on the way to it is this caller's answer, and noted.
fn answer(line: &[u8], control: &Control) -> Answer {
    let found = contain(|| match parse_request(line) {
        Ok(request) => control.reply(request),
        Err(error) => Answer::Refused(refused(Cause::Request, format!("no request: {error}"))),
    });
    found.unwrap_or_else(|problem| {
        control.note_failure("control caller", &problem);
        let message = format!("it may be done or not, since a bug came between: {problem}");
        Answer::Refused(refused(Cause::Pipeline, message))
    })
}

fn reply(stream: &mut Stream, answer: &Answer) {
    // A caller that has gone or does not read has no use for it.
    let _ = write_line(stream, &answer_line(answer), TRANSFER_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_a_row_are_noted_once_and_those_between_callers_never() {
        let mut callers = Callers::default();
        let error = HostError::Absent { ability: "sockets" };
        for _ in 0..3 {
            for _ in 1..REFUSED_IN_A_ROW {
                assert_eq!(callers.note(Some(&error)), None);
            }
            assert_eq!(callers.note(None), None);
        }
        let noted: Vec<_> = (0..100)
            .filter_map(|_| callers.note(Some(&error)))
            .collect();
        assert_eq!(noted.len(), 1);
        assert!(noted[0].ends_with(&error.to_string()), "{noted:?}");
    }
}
