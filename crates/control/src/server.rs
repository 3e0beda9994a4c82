use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{Builder, JoinHandle};

use gogrid_host::{HostError, Listener, SocketName, Stream};
use gogrid_units::contain;

use crate::control::{Control, refused};
use crate::exchange::{LineError, read_line, write_line};
use crate::limits::{AFTER_ERROR, CALLERS_MAX, REQUEST_BYTES_MAX, TRANSFER_MAX};
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
    let mut callers: Vec<JoinHandle<()>> = Vec::new();
    let turn = || hear(listener, control, over, &mut callers);
    take_turns(turn, &mut |problem| control.note_failure(LISTENER, problem));
}

/// Hears one caller.
fn hear(
    listener: &Listener,
    control: &Arc<Control>,
    over: &Receiver<()>,
    callers: &mut Vec<JoinHandle<()>>,
) -> ControlFlow<()> {
    let accepted = listener.accept();
    let is_over = match accepted {
        Ok(_) => over.try_recv() == Err(TryRecvError::Disconnected),
        Err(_) => over.recv_timeout(AFTER_ERROR) == Err(RecvTimeoutError::Disconnected),
    };
    if is_over {
        return ControlFlow::Break(());
    }
    let Ok(stream) = accepted else {
        return ControlFlow::Continue(());
    };
    callers.retain(|caller| !caller.is_finished());
    let is_full = callers.len() >= CALLERS_MAX;
    callers.extend(start(stream, control, is_full));
    ControlFlow::Continue(())
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
