//! One open GPU: its kernels, its memory, and what it was found to take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gogrid_lease::{Kind, Lease, Ledger};
use gogrid_pipeline::StageError;
use gogrid_units::Bytes;

use crate::cost::Rates;
use crate::kernel::Kernel;
use crate::limits::{IMMEDIATE_BYTES, INVOCATIONS, KERNEL_BUFFERS, SHARED_BYTES};
use crate::products::Reduction;
use crate::recorder::{
    ANSWER_TIME_MAX, BufferKind, BufferRange, Command, Facts, Failure, KernelSource, Recorder,
    Submission,
};
use crate::self_test::find_kernels;

/// See the module.
pub(crate) struct Device<R: Recorder> {
    pub(crate) recorder: R,
    /// Compiled when they are first used. A lock, since stages are opened on another thread than they
    /// run on.
    kernels: Mutex<HashMap<Kernel, Arc<R::Pipeline>>>,
    rates: Mutex<Rates>,
    pub(crate) reduction: Reduction,
    /// Whether many rows are multiplied by tiles.
    pub(crate) is_tiled: bool,
    buffers: AtomicU64,
}

/// Memory on the device, or for transfers, with the lease on it.
pub(crate) struct Buf<R: Recorder> {
    // The memory is given back before its lease.
    pub(crate) raw: R::Buffer,
    pub(crate) bytes: u64,
    /// No other buffer of the device has or had it.
    pub(crate) id: u64,
    _lease: Option<Lease>,
}

/// A part of a buffer.
pub(crate) struct Part<R: Recorder> {
    pub(crate) buffer: Arc<Buf<R>>,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl<R: Recorder> Part<R> {
    /// All of a buffer.
    pub(crate) fn all(buffer: &Arc<Buf<R>>) -> Self {
        Self {
            buffer: Arc::clone(buffer),
            offset: 0,
            bytes: buffer.bytes,
        }
    }
}

impl<R: Recorder> Clone for Part<R> {
    fn clone(&self) -> Self {
        Self {
            buffer: Arc::clone(&self.buffer),
            ..*self
        }
    }
}

/// Memory that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) memory: &'a Ledger,
    pub(crate) kind: Kind,
    pub(crate) bytes: u64,
    pub(crate) place: BufferKind,
}

impl<R: Recorder> Device<R> {
    /// Asks an open device what it can do; with a `reduction`, its kernels are not looked for.
    pub(crate) fn open(recorder: R, reduction: Option<Reduction>) -> Result<Self, StageError> {
        let mut device = Self::new(recorder, reduction.unwrap_or(Reduction::Alone));
        device.check()?;
        if reduction.is_none() {
            let found = find_kernels(&device)?;
            device.reduction = found.reduction;
            device.is_tiled = found.is_tiled;
        }
        Ok(device)
    }

    /// Whether it has what kernels need.
    fn check(&self) -> Result<(), StageError> {
        let facts = self.facts();
        let needs = [
            (
                "invocations of a workgroup",
                facts.invocations_max,
                INVOCATIONS,
            ),
            (
                "shared bytes of a workgroup",
                facts.shared_bytes,
                SHARED_BYTES,
            ),
            ("buffers of a kernel", facts.buffers_max, KERNEL_BUFFERS),
        ];
        match needs.iter().find(|(_, has, needed)| has < needed) {
            Some((what, has, needed)) => Err(StageError::Unsupported(format!(
                "{}: {has} {what}, {needed} are needed",
                facts.name
            ))),
            None => Ok(()),
        }
    }

    fn new(recorder: R, reduction: Reduction) -> Self {
        let rates = Rates::pessimistic(recorder.facts().is_software);
        Self {
            recorder,
            kernels: Mutex::default(),
            rates: Mutex::new(rates),
            reduction,
            is_tiled: true,
            buffers: AtomicU64::new(0),
        }
    }

    pub(crate) fn facts(&self) -> &Facts {
        self.recorder.facts()
    }

    pub(crate) fn rates(&self) -> MutexGuard<'_, Rates> {
        // Every write leaves them sound.
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A failure as the error of a stage here.
    pub(crate) fn error(&self, failure: Failure) -> StageError {
        failure.on(&self.facts().name)
    }

    /// Memory that is leased first. Buffers are whole multiples of 16 bytes, and of some length.
    pub(crate) fn leased(&self, ask: Ask<'_>) -> Result<Arc<Buf<R>>, StageError> {
        let bytes = buffer_bytes(ask.bytes);
        let lease = ask.memory.reserve(ask.kind, Bytes(bytes))?;
        self.buffer(bytes, ask.place, Some(lease))
            .map_err(|failure| self.error(failure))
    }

    /// Memory that is leased elsewhere.
    pub(crate) fn unleased(&self, bytes: u64, place: BufferKind) -> Result<Arc<Buf<R>>, Failure> {
        self.buffer(buffer_bytes(bytes), place, None)
    }

    fn buffer(
        &self,
        bytes: u64,
        place: BufferKind,
        lease: Option<Lease>,
    ) -> Result<Arc<Buf<R>>, Failure> {
        Ok(Arc::new(Buf {
            raw: self.recorder.buffer(bytes, place)?,
            bytes,
            id: self.buffers.fetch_add(1, Ordering::Relaxed),
            _lease: lease,
        }))
    }

    /// The compiled kernel.
    pub(crate) fn pipeline(&self, kernel: Kernel) -> Result<Arc<R::Pipeline>, Failure> {
        let known = self.lock_kernels().get(&kernel).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let compiled = Arc::new(self.recorder.pipeline(&KernelSource {
            name: &kernel.name(),
            text: &kernel.text(),
            written: kernel.written(),
            immediate_bytes: IMMEDIATE_BYTES,
        })?);
        self.lock_kernels().insert(kernel, Arc::clone(&compiled));
        Ok(compiled)
    }

    fn lock_kernels(&self) -> MutexGuard<'_, HashMap<Kernel, Arc<R::Pipeline>>> {
        // A kernel is put in whole.
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bindings(
        &self,
        pipeline: &R::Pipeline,
        parts: &[Part<R>],
    ) -> Result<R::Bindings, Failure> {
        let range = |part| {
            let Part {
                buffer,
                offset,
                bytes,
            }: &Part<R> = part;
            BufferRange {
                buffer: &buffer.raw,
                offset: *offset,
                bytes: *bytes,
            }
        };
        let ranges: Vec<_> = parts.iter().map(range).collect();
        self.recorder.bindings(pipeline, &ranges)
    }

    /// Has commands done, and waits for it: while a stage is opened, or its blocks are moved. Says how
    /// long the device worked, where it tells.
    pub(crate) fn run(
        &self,
        commands: &[Command<'_, R>],
        upload: Option<&Buf<R>>,
        readback: Option<&Buf<R>>,
    ) -> Result<Option<u64>, Failure> {
        let (tell, told) = sync_channel(1);
        let uploads: Vec<_> = upload.into_iter().map(|buffer| &buffer.raw).collect();
        self.recorder.submit(Submission {
            commands,
            uploads: &uploads,
            readback: readback.map(|buffer| &buffer.raw),
            done: Box::new(move |result| {
                // Whoever waited has gone; nobody else is told.
                let _ = tell.send(result);
            }),
        })?;
        let answer = told.recv_timeout(2 * ANSWER_TIME_MAX);
        answer.unwrap_or_else(|_| Err(Failure::Lost("no answer".to_owned())))
    }
}

/// Bytes of a buffer for `bytes`: none is empty, and all can be read in words of four.
pub(crate) fn buffer_bytes(bytes: u64) -> u64 {
    bytes.max(16).next_multiple_of(16)
}
