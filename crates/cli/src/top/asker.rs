//! The thread that asks: the screen must hear keys and signals while a process takes its time.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::Builder;

use anyhow::{Context, bail};
use gogrid_control::{ClientError, Request, View, ask, is_running};

use crate::exit::NotRunning;
use crate::live::PROGRAM;

/// Requests that wait while one is asked: keys that were pressed meanwhile.
const WAITING_MAX: usize = 4;

/// An answer.
pub(super) enum Told {
    View(Box<View>),
    /// It did not do that, or does not answer now.
    Problem(String),
    /// It has ended.
    Ended(NotRunning),
}

pub(super) struct Asker {
    pub(super) pid: u32,
    requests: SyncSender<Request>,
    told: Receiver<Told>,
    /// Requests without an answer.
    open: usize,
}

impl Asker {
    pub(super) fn start(pid: u32) -> anyhow::Result<Self> {
        let (requests, asked) = sync_channel::<Request>(WAITING_MAX);
        let (telling, told) = sync_channel(WAITING_MAX);
        let thread = Builder::new().name("gogrid-asker".to_owned());
        // It ends when the screen's ends of the channels do, once its last answer has come.
        let started = thread.spawn(move || {
            for request in asked {
                if telling.send(answer(pid, &request)).is_err() {
                    return;
                }
            }
        });
        started.context("cannot start a thread")?;
        let open = 0;
        Ok(Self {
            pid,
            requests,
            told,
            open,
        })
    }

    /// Puts a request, unless too many wait; says whether it did.
    pub(super) fn put(&mut self, request: Request) -> bool {
        let is_put = self.requests.try_send(request).is_ok();
        self.open += usize::from(is_put);
        is_put
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// The next answer, if it is there.
    pub(super) fn told(&mut self) -> anyhow::Result<Option<Told>> {
        match self.told.try_recv() {
            Ok(told) => {
                self.open -= 1;
                Ok(Some(told))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => bail!("the thread that asks has ended"),
        }
    }
}

fn answer(pid: u32, request: &Request) -> Told {
    let problem = match ask(PROGRAM, pid, request) {
        Ok(view) => return Told::View(Box::new(view)),
        Err(ClientError::Refused(refused)) => return Told::Problem(refused.to_string()),
        Err(problem) => problem,
    };
    match is_running(PROGRAM, pid) {
        Ok(false) => Told::Ended(NotRunning::Not(pid)),
        Ok(true) | Err(_) => Told::Problem(problem.to_string()),
    }
}
