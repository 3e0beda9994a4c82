//! The accelerator's stages: they hand steps to the device, and compute once it has answered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use gogrid_lease::Lease;
use gogrid_pipeline::{
    BlockId, Cancel, Footprint, Input, LayerKv, OutputBuf, Rows, Stage, StageError, Step, Ticket,
};
use gogrid_units::{Go, Pace, Work};

use super::{AcceleratorHandle, DEPTH, Given, State, lock};
use crate::fakes::FakeStage;

/// A run of pieces on a fake accelerator.
pub(super) struct AcceleratorStage {
    pub(super) device: AcceleratorHandle,
    /// How often the device had been lost when it was opened.
    pub(super) losses: u64,
    /// What computes once the device has answered.
    pub(super) inner: FakeStage,
    pub(super) held: Footprint,
    pub(super) open: VecDeque<Open>,
    pub(super) waker: Waker,
    pub(super) cancel: Cancel,
    pub(super) pace: Arc<dyn Pace>,
    pub(super) _leases: Vec<Lease>,
}

pub(super) struct Open {
    number: u64,
    step: Arc<Step>,
    input: StepInput,
    is_done: Arc<Mutex<bool>>,
}

/// What went in, kept until the device has answered.
enum StepInput {
    Rows(Rows),
    Hidden(Vec<f32>),
}

pub(super) fn lost() -> StageError {
    StageError::Lost("the fake accelerator is gone".to_owned())
}

impl AcceleratorStage {
    fn check_there(&self, state: &State) -> Result<(), StageError> {
        let is_there = !state.is_lost && state.losses == self.losses;
        is_there.then_some(()).ok_or_else(lost)
    }

    /// The pause point, on the thread that hands work to the device.
    fn ask_pace(&self, rows: usize) -> Result<(), StageError> {
        let work = Work {
            bytes: self.held.weights.0,
            multiply_adds: self.held.weights.0.saturating_mul(rows as u64),
        };
        loop {
            if self.cancel.is_cancelled() {
                return Err(StageError::Abandoned);
            }
            match self.pace.point(work) {
                Go::Go => return Ok(()),
                Go::Rest(until) => self.pace.rest(until),
                Go::Abandon => return Err(StageError::Abandoned),
            }
        }
    }

    /// Hands a step's work to the device, under the number that it answers.
    fn hand_over(&self, rows: usize, slot: &Arc<Mutex<bool>>) -> Result<u64, StageError> {
        let mut state = self.device.lock();
        self.check_there(&state)?;
        let number = state.submissions;
        state.submissions += 1;
        if state.script.lost_at.contains(&number) {
            let given = state.lose();
            drop(state);
            given.into_iter().for_each(|given| given.waker.wake());
            return Err(lost());
        }
        if state.queue.is_empty() {
            state.began = state.now;
        }
        let given = Given {
            number,
            nanos: state.script.nanos_per_row * rows as u64,
            waker: self.waker.clone(),
            pace: Arc::clone(&self.pace),
            slot: Arc::clone(slot),
        };
        state.queue.push_back(given);
        let spurious = state.script.spurious_wakes;
        drop(state);
        self.device.shared.changed.notify_all();
        (0..spurious).for_each(|_| self.waker.wake_by_ref());
        Ok(number)
    }

    /// What the device made of the oldest step.
    fn compute(&mut self, open: &Open, out: &mut OutputBuf) -> Result<(), StageError> {
        let state = self.device.lock();
        if state.script.fail.contains(&open.number) {
            let text = format!("submission {} was to fail", open.number);
            return Err(StageError::Device(text));
        }
        drop(state);
        let input = match &open.input {
            StepInput::Rows(rows) => Input::Rows(rows),
            StepInput::Hidden(hidden) => Input::Hidden(hidden),
        };
        let ticket = self.inner.submit(&open.step, input)?;
        match self.inner.poll(ticket, out) {
            Poll::Ready(done) => done,
            Poll::Pending => unreachable!("it has no pending polls"),
        }
    }
}

impl Stage for AcceleratorStage {
    fn footprint(&self) -> Footprint {
        Footprint {
            kv_blocks_held: self.inner.footprint().kv_blocks_held,
            ..self.held.clone()
        }
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError> {
        assert!(self.open.len() < DEPTH, "{DEPTH} steps are open");
        self.ask_pace(step.rows())?;
        let is_done = Arc::default();
        let number = self.hand_over(step.rows(), &is_done)?;
        self.open.push_back(Open {
            number,
            step: Arc::clone(step),
            input: match input {
                Input::Rows(rows) => StepInput::Rows(rows.clone()),
                Input::Hidden(hidden) => StepInput::Hidden(hidden.to_vec()),
            },
            is_done,
        });
        Ok(Ticket(number))
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        let open = self.open.pop_front().expect("a step is open");
        assert_eq!(open.number, ticket.0, "the oldest step is polled");
        let there = self.check_there(&self.device.lock());
        if there.is_err() {
            return Poll::Ready(there);
        }
        if !*lock(&open.is_done) {
            self.open.push_front(open);
            return Poll::Pending;
        }
        Poll::Ready(self.compute(&open, out))
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        self.inner.release(group, blocks);
    }

    fn export(&mut self, group: usize, block: BlockId) -> Result<Vec<LayerKv>, StageError> {
        assert!(self.open.is_empty(), "no ticket is open");
        self.check_there(&self.device.lock())?;
        self.inner.export(group, block)
    }

    fn import(
        &mut self,
        group: usize,
        block: BlockId,
        layers: &[LayerKv],
    ) -> Result<(), StageError> {
        assert!(self.open.is_empty(), "no ticket is open");
        self.check_there(&self.device.lock())?;
        self.inner.import(group, block, layers)
    }
}
