//! What a device has of a step: submissions that are handed over, and what they say when they are done.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use gogrid_pipeline::StageError;

use crate::cost::Cost;
use crate::device::{Device, Part};
use crate::kernel::Kernel;
use crate::op::{Batch, Op};
use crate::recorder::{Command, Failure, Recorder, Submission};
use crate::stage::{BINDINGS_MAX, GpuStage, Open};

/// What the device has of a step, and what its submissions said.
pub(crate) struct Flight {
    state: Mutex<FlightState>,
    waker: Waker,
}

#[derive(Default)]
pub(crate) struct FlightState {
    pub(crate) open: usize,
    failure: Option<Failure>,
    /// Nanoseconds of submissions that are done, with what they did, not yet charged.
    done: Vec<(Option<u64>, Vec<Cost>)>,
}

impl Flight {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Self { state, waker })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, FlightState> {
        // Each change is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_one(&self, result: Result<Option<u64>, Failure>, costs: Vec<Cost>) {
        let mut state = self.lock();
        state.open -= 1;
        match result {
            Ok(nanos) => state.done.push((nanos, costs)),
            Err(failure) => {
                state.failure.get_or_insert(failure);
            }
        }
        drop(state);
        self.waker.wake_by_ref();
    }
}

impl<R: Recorder> GpuStage<R> {
    /// Takes up what submissions said: charges their time, and learns from it. Says how many are not done.
    pub(crate) fn take_up(&self, open: &Open<R>) -> Result<usize, StageError> {
        let mut state = open.flight.lock();
        let done = std::mem::take(&mut state.done);
        let (failure, in_flight) = (state.failure.clone(), state.open);
        drop(state);
        for (nanos, costs) in done {
            let Some(nanos) = nanos else { continue };
            self.pace.charge(nanos);
            self.device.rates().learn(&costs, nanos as f64);
        }
        match failure {
            Some(failure) => Err(self.device.error(failure)),
            None => Ok(in_flight),
        }
    }

    pub(crate) fn hand_over(
        &mut self,
        open: &mut Open<R>,
        batch: Batch<R>,
    ) -> Result<(), StageError> {
        let fail = |failure, device: &Device<R>| device.error(failure);
        let mut kernels = Vec::new();
        for op in &batch.ops {
            if let Op::Dispatch(dispatch) = op {
                let pipeline = self.device.pipeline(dispatch.kernel);
                let pipeline = pipeline.map_err(|failure| fail(failure, &self.device))?;
                let bindings = self.bindings(dispatch.kernel, (&pipeline, &dispatch.parts))?;
                let words = dispatch
                    .immediates
                    .iter()
                    .flat_map(|word| word.to_le_bytes());
                kernels.push((pipeline, bindings, words.collect::<Vec<u8>>()));
            }
        }
        let mut made = kernels.iter();
        let commands: Vec<_> = batch
            .ops
            .iter()
            .map(|op| match op {
                Op::Dispatch(dispatch) => {
                    let (pipeline, bindings, immediates) = made.next().expect("one for each");
                    Command::Dispatch {
                        pipeline: &**pipeline,
                        bindings: &**bindings,
                        immediates,
                        groups: dispatch.groups,
                    }
                }
                Op::Copy { from, to, bytes } => Command::Copy {
                    from: (&from.0.raw, from.1),
                    to: (&to.0.raw, to.1),
                    bytes: *bytes,
                },
            })
            .collect();
        if let Some(bytes) = open.upload.take() {
            let filled = self.device.recorder.fill(&self.scratch.upload.raw, &bytes);
            filled.map_err(|failure| self.device.error(failure))?;
            open.is_uploading = true;
        }
        // It is the host's again with the last submission that copies from it.
        let copies = |op: &Op<R>| match op {
            Op::Copy { from, .. } => from.0.id == self.scratch.upload.id,
            Op::Dispatch(_) => false,
        };
        let ends_upload = batch.ops.iter().any(copies) && !open.ops.iter().any(copies);
        let uploads = [&self.scratch.upload.raw];
        let flight = Arc::clone(&open.flight);
        flight.lock().open += 1;
        let costs = batch.costs;
        let submitted = self.device.recorder.submit(Submission {
            commands: &commands,
            uploads: &uploads[..usize::from(ends_upload)],
            readback: open.ops.is_empty().then_some(&self.scratch.readback.raw),
            done: Box::new(move |result| flight.end_one(result, costs)),
        });
        match submitted {
            Ok(()) => {
                open.is_uploading &= !ends_upload;
                open.is_reading = open.ops.is_empty();
                Ok(())
            }
            Err(failure) => {
                open.flight.lock().open -= 1;
                Err(self.device.error(failure))
            }
        }
    }

    /// Has the buffers of a step that ends early as the next step needs them. Nothing of it is at the device.
    pub(crate) fn settle(&self, open: &Open<R>) {
        if open.is_uploading {
            // Where it fails, the next step's upload fails, and says why.
            let _ = self.device.run(&[], Some(&self.scratch.upload), None);
        }
        if open.is_reading {
            let _ = self
                .device
                .recorder
                .read(&self.scratch.readback.raw, &mut [0; 4]);
        }
    }

    fn bindings(
        &mut self,
        kernel: Kernel,
        (pipeline, parts): (&R::Pipeline, &[Part<R>]),
    ) -> Result<Arc<R::Bindings>, StageError> {
        let key: Vec<_> = parts
            .iter()
            .map(|part| (part.buffer.id, part.offset, part.bytes))
            .collect();
        if let Some(known) = self.bindings.get(&(kernel, key.clone())) {
            return Ok(Arc::clone(known));
        }
        let made = self.device.bindings(pipeline, parts);
        let made = Arc::new(made.map_err(|failure| self.device.error(failure))?);
        if self.bindings.len() >= BINDINGS_MAX {
            self.bindings.clear();
        }
        self.bindings.insert((kernel, key), Arc::clone(&made));
        Ok(made)
    }
}
