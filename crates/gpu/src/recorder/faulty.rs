//! A recorder that fails where a test says, and else is the one it wraps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gogrid_units::Bytes;

use super::{
    BufferKind, BufferRange, Command, Done, Facts, Failure, KernelSource, Recorder, Submission,
};

/// What a driver does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The device is lost at this call, and stays lost.
    Lost,
    /// The call fails.
    Refused,
    /// The call fails for want of memory.
    OutOfMemory,
    /// What is written is not what arrives.
    Flips,
    /// A submission is never done, until the test loses the device.
    Hangs,
}

/// See the module.
pub(crate) struct Faulty<R> {
    inner: R,
    facts: Facts,
    script: Arc<Script>,
}

/// The test's end.
#[derive(Default)]
pub(crate) struct Script {
    calls: AtomicU64,
    fault: Mutex<Option<(u64, Fault)>>,
    lost: Mutex<bool>,
    hanging: Mutex<Vec<Done>>,
}

impl Script {
    /// Counts calls from 0 on, and does wrong at one of them.
    pub(crate) fn begin(&self, fault: Option<(u64, Fault)>) {
        self.calls.store(0, Ordering::Relaxed);
        *lock(&self.fault) = fault;
        *lock(&self.lost) = false;
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Submissions that hang.
    pub(crate) fn hanging(&self) -> usize {
        lock(&self.hanging).len()
    }

    /// The device is lost, as one that does not answer.
    pub(crate) fn lose(&self) {
        *lock(&self.lost) = true;
        for done in std::mem::take(&mut *lock(&self.hanging)) {
            done(Err(lost()));
        }
    }

    fn next(&self) -> Result<Option<Fault>, Failure> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let fault = lock(&self.fault).filter(|(at, _)| *at == call);
        if *lock(&self.lost) {
            return Err(lost());
        }
        match fault {
            Some((_, Fault::Lost)) => {
                *lock(&self.lost) = true;
                Err(lost())
            }
            Some((_, Fault::Refused)) => Err(Failure::Driver("refused by the script".to_owned())),
            Some((_, Fault::OutOfMemory)) => Err(Failure::OutOfMemory(Bytes(1))),
            other => Ok(other.map(|(_, fault)| fault)),
        }
    }
}

fn lost() -> Failure {
    Failure::Lost("lost by the script".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Recorder> Faulty<R> {
    pub(crate) fn new(inner: R, script: Arc<Script>) -> Self {
        let facts = inner.facts().clone();
        Self {
            inner,
            facts,
            script,
        }
    }
}

impl<R: Recorder> Recorder for Faulty<R> {
    type Buffer = R::Buffer;
    type Pipeline = R::Pipeline;
    type Bindings = R::Bindings;

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn buffer(&self, bytes: u64, kind: BufferKind) -> Result<R::Buffer, Failure> {
        self.script.next()?;
        self.inner.buffer(bytes, kind)
    }

    fn pipeline(&self, kernel: &KernelSource<'_>) -> Result<R::Pipeline, Failure> {
        self.script.next()?;
        self.inner.pipeline(kernel)
    }

    fn bindings(
        &self,
        pipeline: &R::Pipeline,
        buffers: &[BufferRange<'_, R::Buffer>],
    ) -> Result<R::Bindings, Failure> {
        self.script.next()?;
        self.inner.bindings(pipeline, buffers)
    }

    fn fill(&self, upload: &R::Buffer, bytes: &[u8]) -> Result<(), Failure> {
        let mut bytes = bytes.to_vec();
        if self.script.next()? == Some(Fault::Flips) {
            bytes[0] ^= 4;
        }
        self.inner.fill(upload, &bytes)
    }

    fn submit(&self, submission: Submission<'_, Self>) -> Result<(), Failure> {
        let fault = self.script.next()?;
        let done: Done = match fault {
            Some(Fault::Hangs) => {
                lock(&self.script.hanging).push(submission.done);
                Box::new(|_| ())
            }
            _ => submission.done,
        };
        let commands: Vec<_> = submission.commands.iter().map(as_inner).collect();
        self.inner.submit(Submission {
            commands: &commands,
            uploads: submission.uploads,
            readback: submission.readback,
            done,
        })
    }

    fn read(&self, readback: &R::Buffer, out: &mut [u8]) -> Result<(), Failure> {
        self.script.next()?;
        self.inner.read(readback, out)
    }

    fn lost(&self) -> Option<String> {
        lock(&self.script.lost).then(|| "lost by the script".to_owned())
    }
}

fn as_inner<'a, R: Recorder>(command: &Command<'a, Faulty<R>>) -> Command<'a, R> {
    match command {
        Command::Dispatch {
            pipeline,
            bindings,
            immediates,
            groups,
        } => Command::Dispatch {
            pipeline,
            bindings,
            immediates,
            groups: *groups,
        },
        Command::Copy { from, to, bytes } => Command::Copy {
            from: *from,
            to: *to,
            bytes: *bytes,
        },
    }
}
