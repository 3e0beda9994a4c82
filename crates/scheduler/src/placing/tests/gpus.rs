//! GPUs that nobody asked for: which of them a model stands on, and what becomes of one that fails.

use gogrid_pipeline::{Backend, CostBook, Opening, Stage, StageError};
use gogrid_testkit::fakes::{AcceleratorScript, FakeAccelerator, FakeBackend};

use super::*;
use crate::machine::Loan;

/// A GPU whose driver says no, when a model is looked at or when a stage is opened.
struct Unable {
    inner: FakeBackend,
    /// What it answers to a look at a model.
    lacks: Option<&'static str>,
}

impl Backend for Unable {
    fn check(&self, _model: &Model, _span: Span) -> Result<(), StageError> {
        let lacks = |what: &str| StageError::Unsupported(what.to_owned());
        self.lacks.map_or(Ok(()), |what| Err(lacks(what)))
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.inner.predict(model, span, rows_max)
    }

    fn open(&mut self, _opening: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        Err(StageError::Device("it does not answer".to_owned()))
    }
}

fn one_stream() -> Options {
    Options {
        objective: Objective::OneStream,
        ..options(None)
    }
}

/// A CPU, and a GPU with a memory of its own.
fn beside(
    is_optional: bool,
    gpu: impl FnMut(Loan) -> Result<Box<dyn Backend>, OpenError> + Send + 'static,
) -> Result<Opener, OpenError> {
    let cpu = TestDevice::cpu(0, |loan| Box::new(backend(loan.memory)));
    let gpu = TestDevice {
        is_optional,
        backend: Box::new(gpu),
        ..TestDevice::accelerator(0, 1, |loan| Box::new(FakeBackend::new(loan.memory)))
    };
    let machine = TestMachine {
        memories: vec![Bytes::gib(1); 2],
        ..TestMachine::of(vec![cpu, gpu])
    };
    let hardware = Arc::clone(&machine.try_open(&one_stream())?.hardware);
    Ok(Opener::new(hardware, model(Family::Gemma3), one_stream()))
}

fn fake(loan: Loan) -> Result<Box<dyn Backend>, OpenError> {
    Ok(Box::new(FakeBackend::new(loan.memory)))
}

fn unable(lacks: Option<&'static str>) -> impl FnMut(Loan) -> Result<Box<dyn Backend>, OpenError> {
    move |loan| {
        let inner = FakeBackend::new(loan.memory);
        Ok(Box::new(Unable { inner, lacks }))
    }
}

/// The devices that a model stands on.
fn stands_on(opener: &Opener) -> Vec<usize> {
    let spans = opener.first_spans().expect("it fits");
    spans.iter().map(|stage| stage.device).collect()
}

#[test]
fn a_gpu_that_would_only_slow_things_is_left_out_and_one_that_is_faster_is_picked() {
    let check = |seconds, expected: &[usize]| {
        let opener = beside(true, fake).expect("both open");
        opener.know_costs(&[1.0, seconds]);
        assert_eq!(stands_on(&opener), expected, "{seconds} s a piece");
    };
    check(100.0, &[0]);
    check(0.01, &[1]);
}

#[test]
fn a_gpu_that_fails_is_left_out_with_the_reason_unless_somebody_asked_for_it() {
    for (lacks, evidence) in [(Some("f16"), "f16"), (None, "it does not answer")] {
        let opener = beside(true, unable(lacks)).expect("both open");
        opener
            .hardware
            .costs()
            .put(opener.cost_key(&opener.hardware.devices[0]), ones(&opener));
        assert_eq!(stands_on(&opener), [0]);
        let why = opener.foresee().expect("it fits on the CPU").why;
        let is_said =
            |line: &String| line.starts_with("not used: gpu:0") && line.contains(evidence);
        assert!(why.iter().any(is_said), "{why:?}");
        let opener = beside(false, unable(lacks)).expect("both open");
        let error = opener
            .first_spans()
            .expect_err("it was asked for")
            .to_string();
        assert!(
            error.contains("gpu:0") && error.contains(evidence),
            "{error}"
        );
    }
}

fn ones(opener: &Opener) -> Costs {
    let pieces = Span::whole_model(opener.shape.layers).len();
    Costs {
        decode: vec![1.0; pieces],
        prefill: vec![1.0; pieces],
        is_sure: true,
    }
}

#[test]
fn a_gpu_that_does_not_open_leaves_the_cpu_to_itself_unless_somebody_asked_for_it() {
    let fails = |_: Loan| {
        Err(OpenError::Device {
            device: "gpu:0".to_owned(),
            problem: "a driver of another version".to_owned(),
        })
    };
    let opener = beside(true, fails).expect("the CPU opens");
    let names = opener.hardware.devices.iter().map(|device| &*device.name);
    assert_eq!(names.collect::<Vec<_>>(), ["cpu:0"]);
    assert_eq!(
        opener.hardware.left_out,
        ["gpu:0: a driver of another version"]
    );
    // There is nothing to choose, so nothing is timed.
    assert_eq!(stands_on(&opener), [0]);
    assert_eq!(*opener.hardware.costs(), CostBook::default());
    let error = beside(false, fails)
        .map(drop)
        .expect_err("it was asked for");
    assert!(error.to_string().contains("another version"), "{error}");
}

#[test]
fn a_placement_by_hand_needs_the_gpu_that_it_names_and_no_other() {
    let check = |device: usize| {
        let opener = beside(true, unable(Some("f16"))).expect("both open");
        let span = Span::whole_model(opener.shape.layers);
        let plan = vec![PlacedSpan { device, span }];
        let options = Options {
            plan: Some(plan.clone()),
            ..one_stream()
        };
        let placed = place(&opener, &[0, 1], &options, Timing::Unmeasured);
        placed.map(|placing| placing.stages() == plan)
    };
    assert!(check(0).expect("the CPU can"));
    let error = check(1).expect_err("the GPU cannot").to_string();
    assert!(error.contains("gpu:0") && error.contains("f16"), "{error}");
}

#[test]
fn pieces_cost_what_a_gpu_reports_however_long_its_rests_and_threads_take() {
    let nanos_per_row = 200_000;
    let script = AcceleratorScript {
        nanos_per_row,
        ..AcceleratorScript::default()
    };
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let opener = beside(true, move |loan| {
        let gpu = FakeAccelerator::new(loan.memory, loan.pace, script.clone());
        let _ = tell.send(gpu.handle());
        Ok(Box::new(gpu))
    });
    let opener = opener.expect("both open");
    let _time = told.recv().expect("it was opened").in_real_time();
    let costs = opener
        .costs(&opener.hardware.devices[1])
        .expect("it answers");
    for seconds in costs.decode.iter().chain(&costs.prefill) {
        let expected = nanos_per_row as f64 * 1e-9;
        assert!((seconds / expected - 1.0).abs() < 1e-6, "{costs:?}");
    }
}
