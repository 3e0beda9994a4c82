//! The conformance suite itself: it passes stages that are right, and finds those that are not.

use std::sync::Arc;
use std::task::Poll;

use gogrid_model::Model;
use gogrid_pipeline::{
    Backend, BlockId, Footprint, Input, LayerKv, Opening, OutputBuf, Stage, StageError, Step,
    Ticket,
};
use gogrid_testkit::conformance::{
    DeviceContext, Subject, Tolerance, check_abandoned_steps, check_batches, check_chunks,
    check_cuts, check_meaning, check_memory, check_moved_blocks, check_rests_and_widths,
    check_shared_blocks, check_unwritten_blocks, check_wants,
};
use gogrid_testkit::fakes::{AcceleratorScript, FakeAccelerator, FakeBackend, RealTime};
use gogrid_units::Span;

fn fake(context: DeviceContext) -> FakeBackend {
    FakeBackend::new(context.memory)
}

const fn subject(backend: &(dyn Fn(DeviceContext) -> Box<dyn Backend> + Sync)) -> Subject<'_> {
    Subject {
        backend,
        tolerance: &|_| Tolerance {
            mean: 0.01,
            max: 0.1,
        },
        is_exact: true,
    }
}

#[test]
fn a_stage_that_keeps_its_tokens_apart_passes() {
    let right = subject(&|context| Box::new(fake(context)));
    check_cuts(&right);
    check_chunks(&right);
    check_batches(&right);
    check_wants(&right);
    check_rests_and_widths(&right);
    check_memory(&right);
    check_moved_blocks(&right);
    check_shared_blocks(&right);
}

/// An accelerator that answers at once, beside a thread that keeps its time.
struct InRealTime {
    inner: FakeAccelerator,
    _time: RealTime,
}

impl Backend for InRealTime {
    fn check(&self, model: &Model, span: Span) -> Result<(), StageError> {
        self.inner.check(model, span)
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.inner.predict(model, span, rows_max)
    }

    fn open(&mut self, request: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        self.inner.open(request)
    }
}

#[test]
fn a_fake_accelerator_that_answers_later_passes() {
    let right = subject(&|DeviceContext { memory, pace }| {
        let inner = FakeAccelerator::new(memory, pace, AcceleratorScript::default());
        let _time = inner.handle().in_real_time();
        Box::new(InRealTime { inner, _time })
    });
    check_cuts(&right);
    check_chunks(&right);
    check_batches(&right);
    check_wants(&right);
    check_abandoned_steps(&right);
    check_rests_and_widths(&right);
    check_memory(&right);
    check_moved_blocks(&right);
    check_shared_blocks(&right);
    check_unwritten_blocks(&right);
}

#[test]
#[should_panic(expected = "reference: log-probabilities differ")]
fn a_stage_that_means_something_else_is_found() {
    check_meaning(&subject(&|context| Box::new(fake(context))));
}

/// What is wrong with a stage.
#[derive(Clone, Copy)]
enum Wrong {
    /// Steps of many rows have one bit more.
    ManyRows,
    /// Steps of more than one sequence have one bit more.
    ManySequences,
    /// Stages that begin in the middle have one bit more.
    LaterStage,
}

struct WrongBackend(Wrong, FakeBackend);

struct WrongStage {
    wrong: Wrong,
    inner: Box<dyn Stage>,
    begins: usize,
    step: Option<Arc<Step>>,
}

impl Backend for WrongBackend {
    fn check(&self, model: &Model, span: Span) -> Result<(), StageError> {
        self.1.check(model, span)
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.1.predict(model, span, rows_max)
    }

    fn open(&mut self, request: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        Ok(Box::new(WrongStage {
            wrong: self.0,
            begins: request.span.start,
            inner: self.1.open(request)?,
            step: None,
        }))
    }
}

impl Stage for WrongStage {
    fn footprint(&self) -> Footprint {
        self.inner.footprint()
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }

    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError> {
        self.step = Some(Arc::clone(step));
        self.inner.submit(step, input)
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        let done = self.inner.poll(ticket, out);
        let step = self.step.as_ref().expect("a step was submitted");
        let is_wrong = match self.wrong {
            Wrong::ManyRows => step.rows() > 40,
            Wrong::ManySequences => step.sequences.len() > 1,
            Wrong::LaterStage => self.begins > 0,
        };
        if let (true, Some(logit)) = (is_wrong, out.logits.last_mut()) {
            *logit = logit.next_up();
        }
        done
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        self.inner.release(group, blocks);
    }

    fn export(&mut self, group: usize, block: BlockId) -> Result<Vec<LayerKv>, StageError> {
        self.inner.export(group, block)
    }

    fn import(
        &mut self,
        group: usize,
        block: BlockId,
        layers: &[LayerKv],
    ) -> Result<(), StageError> {
        self.inner.import(group, block, layers)
    }
}

#[test]
#[should_panic(expected = "chunks of 1: bits differ")]
fn a_stage_that_depends_on_chunks_is_found() {
    check_chunks(&subject(&|context| {
        Box::new(WrongBackend(Wrong::ManyRows, fake(context)))
    }));
}

#[test]
#[should_panic(expected = "in a batch: bits differ")]
fn a_stage_that_depends_on_its_batch_is_found() {
    check_batches(&subject(&|context| {
        Box::new(WrongBackend(Wrong::ManySequences, fake(context)))
    }));
}

#[test]
#[should_panic(expected = "cut at [1]: bits differ")]
fn a_stage_that_depends_on_its_cut_is_found() {
    check_cuts(&subject(&|context| {
        Box::new(WrongBackend(Wrong::LaterStage, fake(context)))
    }));
}
