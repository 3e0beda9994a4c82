//! The conformance suite itself: it passes stages that are right, and finds those that are not.

use std::sync::Arc;
use std::task::Poll;

use gogrid_lease::Ledger;
use gogrid_model::Model;
use gogrid_pipeline::{
    Backend, BlockId, Costs, Footprint, Input, Opening, OutputBuf, Stage, StageError, Step, Ticket,
};
use gogrid_testkit::conformance::{
    Subject, Tolerance, check_batches, check_chunks, check_cuts, check_meaning,
    check_rests_and_widths, check_wants,
};
use gogrid_testkit::fakes::{FakeBackend, Faults};
use gogrid_units::Span;

fn fake() -> FakeBackend {
    FakeBackend {
        seconds: 1e-6,
        faults: Faults::default(),
    }
}

const fn subject(backend: &(dyn Fn() -> Box<dyn Backend> + Sync)) -> Subject<'_> {
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
    let right = subject(&|| Box::new(fake()));
    check_cuts(&right);
    check_chunks(&right);
    check_batches(&right);
    check_wants(&right);
    check_rests_and_widths(&right);
}

#[test]
#[should_panic(expected = "reference: log-probabilities differ")]
fn a_stage_that_means_something_else_is_found() {
    check_meaning(&subject(&|| Box::new(fake())));
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
    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.1.predict(model, span, rows_max)
    }

    fn measure(&mut self, model: &Model, memory: &Ledger) -> Result<Costs, StageError> {
        self.1.measure(model, memory)
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
}

#[test]
#[should_panic(expected = "chunks of 1: bits differ")]
fn a_stage_that_depends_on_chunks_is_found() {
    check_chunks(&subject(&|| {
        Box::new(WrongBackend(Wrong::ManyRows, fake()))
    }));
}

#[test]
#[should_panic(expected = "in a batch: bits differ")]
fn a_stage_that_depends_on_its_batch_is_found() {
    check_batches(&subject(&|| {
        Box::new(WrongBackend(Wrong::ManySequences, fake()))
    }));
}

#[test]
#[should_panic(expected = "cut at [1]: bits differ")]
fn a_stage_that_depends_on_its_cut_is_found() {
    check_cuts(&subject(&|| {
        Box::new(WrongBackend(Wrong::LaterStage, fake()))
    }));
}
