//! The stage on a driver that fails, and what it asks of a driver. Without an adapter the tests say so and
//! pass, as those of the conformance suite do.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use gogrid_lease::Ledger;
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::{
    Backend, BlockId, Input, Opening, OutputBuf, Rows, SequenceRows, Stage, StageError, Step, Want,
};
use gogrid_testkit::fakes::PaceScript;
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{Bytes, FullSpeed, Piece, PlainThreads, Span, WeightType};
use tempfile::TempDir;

use crate::adapter::raw_adapter;
use crate::backend::Inner;
use crate::cost::{Class, Rates};
use crate::device::Device;
use crate::limits::SUBMISSION_NANOS;
use crate::op::{Op, next_batch};
use crate::products::Reduction;
use crate::recorder::WgpuRecorder;
use crate::recorder::faulty::{Fault, Faulty, Script};

type Scripted = Device<Faulty<WgpuRecorder>>;

/// A device that fails by a script. Its kernels are compiled once for all tests, which take turns.
static DEVICE: OnceLock<Option<Turns>> = OnceLock::new();

type Turns = std::sync::Mutex<(Arc<Scripted>, Arc<Script>)>;

fn with_device(test: impl FnOnce(&Arc<Scripted>, &Script)) {
    let open = || {
        let Ok(raw) = raw_adapter(0) else {
            let needed = std::env::var_os("GOGRID_NEEDS_GPU").is_some();
            assert!(!needed, "no GPU driver offers an adapter");
            return None;
        };
        let recorder = WgpuRecorder::open(&raw, &PlainThreads).expect("the adapter opens");
        let script = Arc::new(Script::default());
        let faulty = Faulty::new(recorder, Arc::clone(&script));
        let device = Device::open(faulty, Some(Reduction::Alone)).expect("no self-test");
        Some(std::sync::Mutex::new((Arc::new(device), script)))
    };
    match DEVICE.get_or_init(open) {
        Some(device) => {
            let held = device
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            held.1.begin(None);
            test(&held.0, &held.1);
        }
        None => eprintln!("skipped: no GPU driver offers an adapter"),
    }
}

/// A tiny model of a family, opened.
fn model(family: Family) -> (Model, TempDir) {
    model_of(family, WeightType::Q4_1)
}

fn model_of(family: Family, weights: WeightType) -> (Model, TempDir) {
    let spec = Spec {
        family,
        weights,
        seed: 3,
    };
    let directory = TempDir::new().expect("a folder");
    let path = directory.path().join("tiny.gguf");
    RandomModel::new(spec)
        .write_gguf(&path)
        .expect("it is written");
    (
        Model::open(&path, &OpenOptions::default()).expect("it opens"),
        directory,
    )
}

struct Outcome {
    result: Result<OutputBuf, StageError>,
    memory: Ledger,
}

/// Opens all of the model and runs a step of five rows. `while_waiting` is called where the stage waits.
fn open_and_run(device: &Arc<Scripted>, model: &Model, while_waiting: &mut dyn FnMut()) -> Outcome {
    let memory = Ledger::new(Bytes::gib(1));
    let mut backend = Inner::new(Arc::clone(device), memory.clone(), Arc::new(FullSpeed));
    let span = Span::whole_model(model.decoder().layers.len());
    let opened = backend.open(Opening::new(model, span, 32));
    let result = opened.and_then(|mut stage| run_step(&mut *stage, model, while_waiting));
    Outcome { result, memory }
}

fn run_step(
    stage: &mut dyn Stage,
    model: &Model,
    while_waiting: &mut dyn FnMut(),
) -> Result<OutputBuf, StageError> {
    let groups = model.decoder().kv_groups.len();
    let step = Arc::new(Step {
        sequences: vec![SequenceRows {
            tables: Arc::new(vec![vec![Some(BlockId(0))]; groups]),
            start: 0,
            length: 5,
            positions: Default::default(),
            wants: vec![Want::Logits; 5],
        }],
    });
    let ticket = stage.submit(&step, Input::Rows(&Rows::of_ids(vec![1, 2, 3, 4, 5])))?;
    let mut out = OutputBuf::default();
    loop {
        match stage.poll(ticket, &mut out) {
            Poll::Ready(done) => return done.map(|()| out),
            Poll::Pending => {
                while_waiting();
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_driver_that_fails_at_any_call_gives_a_typed_error_and_keeps_nothing() {
    with_device(|device, script| {
        let (model, _directory) = model(Family::Gemma3);
        let sound = open_and_run(device, &model, &mut || ());
        let logits = sound.result.expect("nothing fails").logits;
        script.begin(None);
        open_and_run(device, &model, &mut || ())
            .result
            .expect("nothing fails");
        let calls = script.calls();
        assert!(calls > 50, "{calls} calls");
        for fault in [Fault::Lost, Fault::Refused, Fault::OutOfMemory] {
            for part in 0..40 {
                let at = part * calls / 40;
                script.begin(Some((at, fault)));
                let Outcome { result, memory } = open_and_run(device, &model, &mut || ());
                let error = result.expect_err("a call failed");
                let text = error.to_string();
                let is_lost = matches!(error, StageError::Lost(_));
                assert_eq!(
                    is_lost,
                    fault == Fault::Lost,
                    "{fault:?} at call {at}: {text}"
                );
                let is_named = match fault {
                    Fault::OutOfMemory => matches!(error, StageError::OutOfMemory(_)),
                    _ => text.contains(&device.facts().name),
                };
                assert!(is_named, "{text}");
                assert_eq!(memory.used(), Bytes::ZERO, "{fault:?} at call {at}");
            }
        }
        script.begin(None);
        let after = open_and_run(device, &model, &mut || ());
        assert_eq!(after.result.expect("it works again").logits, logits);
    });
}

#[test]
fn weights_that_do_not_arrive_as_they_were_sent_are_refused() {
    with_device(|device, script| {
        let (model, _directory) = model(Family::Llama);
        open_and_run(device, &model, &mut || ())
            .result
            .expect("nothing fails");
        let calls = script.calls();
        let mut refused = 0;
        for at in 0..calls {
            script.begin(Some((at, Fault::Flips)));
            if let Err(error) = open_and_run(device, &model, &mut || ()).result {
                let text = error.to_string();
                assert!(text.contains("did not arrive as they were sent"), "{text}");
                refused += 1;
            }
        }
        // Each plane of each matrix, and the vectors; the step's own upload is no weight.
        assert!(refused > 20, "{refused} uploads were found to be changed");
    });
}

#[test]
fn a_device_that_hangs_keeps_a_step_waiting_until_it_is_lost() {
    with_device(|device, script| {
        let (model, _directory) = model(Family::Llama);
        let memory = Ledger::new(Bytes::gib(1));
        let mut backend = Inner::new(Arc::clone(device), memory.clone(), Arc::new(FullSpeed));
        let span = Span::whole_model(model.decoder().layers.len());
        let mut open = || {
            script.begin(None);
            let opened = backend.open(Opening::new(&model, span, 32));
            let stage = opened.expect("it opens");
            script.begin(None);
            stage
        };
        run_step(&mut *open(), &model, &mut || ()).expect("nothing fails");
        let calls = script.calls();
        for at in 0..calls {
            let mut stage = open();
            script.begin(Some((at, Fault::Hangs)));
            let mut waits = 0;
            let mut lose_late = || {
                waits += 1;
                if script.hanging() > 0 && waits > 1000 {
                    script.lose();
                }
            };
            match run_step(&mut *stage, &model, &mut lose_late) {
                // The call was no submission.
                Ok(_) => assert_eq!(script.hanging(), 0),
                Err(error) => assert!(matches!(error, StageError::Lost(_)), "{error}"),
            }
        }
        assert_eq!(memory.used(), Bytes::ZERO);
    });
}

/// The rows `start` to `end` of a sequence in one step, on blocks from 0 on.
fn rows_from(model: &Model, start: usize, end: usize) -> (Arc<Step>, Rows) {
    let groups = model.decoder().kv_groups.len();
    let blocks: Vec<_> = (0..end.div_ceil(32) as u32)
        .map(|b| Some(BlockId(b)))
        .collect();
    let step = Step {
        sequences: vec![SequenceRows {
            tables: Arc::new(vec![blocks; groups]),
            start,
            length: end,
            positions: Default::default(),
            wants: vec![Want::Nothing; end - start],
        }],
    };
    (Arc::new(step), Rows::of_ids(vec![1; end - start]))
}

#[test]
fn a_token_takes_at_most_eight_dispatches_a_layer_and_reads_weights_once() {
    with_device(|device, _| {
        for family in Family::ALL {
            let (model, _directory) = model(family);
            let decoder = model.decoder();
            let memory = Ledger::new(Bytes::gib(1));
            let mut backend = Inner::new(Arc::clone(device), memory, Arc::new(FullSpeed));
            let span = Span::whole_model(decoder.layers.len());
            let mut stage = backend
                .open_stage(&Opening::new(&model, span, 32))
                .expect("it opens");
            let (step, rows) = rows_from(&model, 0, 1);
            let ops = stage.ops_of(&step, &rows);
            let dispatches: Vec<_> = ops
                .iter()
                .filter_map(|op| match op {
                    Op::Dispatch(dispatch) => Some(dispatch),
                    Op::Copy { .. } => None,
                })
                .collect();
            // The embedding, and the look for values that are not finite, are no layer's.
            let of_layers = dispatches.len() - 2;
            // OLMo 2 norms queries and keys over all their heads, before each turns.
            let each = match decoder.architecture {
                "olmo2" => 9,
                _ => 8,
            };
            let most = each * decoder.layers.len();
            assert!(
                of_layers <= most,
                "{}: {of_layers}, at most {most}",
                family.name()
            );
            let vector = dispatches.iter().filter(|d| d.cost.class == Class::Vector);
            let bound: u64 = vector.map(|dispatch| dispatch.cost.work.bytes).sum();
            let pieces = span.pieces(decoder.layers.len());
            let needed = pieces.filter(|piece| !matches!(piece, Piece::Embedding | Piece::Head));
            let needed: Bytes = needed
                .flat_map(|piece| decoder.piece_weights(piece))
                .map(|weight| weight.kept_bytes())
                .sum();
            // Tiny matrices end in planes that are not full.
            let share = bound as f64 / needed.0 as f64;
            assert!((1.0..=1.1).contains(&share), "{}: {share}", family.name());
        }
    });
}

#[test]
fn no_submission_is_predicted_to_take_longer_than_it_may() {
    with_device(|device, _| {
        let (model, _directory) = model(Family::Llama);
        let memory = Ledger::new(Bytes::gib(1));
        let mut backend = Inner::new(Arc::clone(device), memory, Arc::new(FullSpeed));
        let span = Span::whole_model(model.decoder().layers.len());
        let mut stage = backend
            .open_stage(&Opening::new(&model, span, 64))
            .expect("it opens");
        let (step, rows) = rows_from(&model, 0, 64);
        // As slow as a device can be: every kernel is cut.
        for slower in [1.0, 30.0, 1000.0] {
            let mut ops: VecDeque<_> = stage.ops_of(&step, &rows).into();
            let rates = Rates::pessimistic(true).slower(slower);
            let (mut groups_before, mut groups_after) = (0u64, 0u64);
            for op in &ops {
                groups_before += groups(op);
            }
            while !ops.is_empty() {
                let batch = next_batch(&mut ops, &rates, 65_535);
                groups_after += batch.ops.iter().map(groups).sum::<u64>();
                let takes: f64 = batch.costs.iter().map(|cost| rates.nanos(cost)).sum();
                let is_smallest = batch.costs.len() == 1
                    && batch.ops.iter().all(|op| match op {
                        Op::Dispatch(dispatch) => dispatch.groups[0] == 1,
                        Op::Copy { .. } => true,
                    });
                assert!(
                    takes <= SUBMISSION_NANOS || is_smallest,
                    "{takes} ns at {slower}"
                );
            }
            assert_eq!(groups_before, groups_after, "nothing is lost or done twice");
        }
    });
}

fn groups(op: &Op<Faulty<WgpuRecorder>>) -> u64 {
    match op {
        Op::Dispatch(dispatch) => dispatch.groups.iter().map(|&n| u64::from(n)).product(),
        Op::Copy { .. } => 0,
    }
}

#[test]
fn a_driver_that_computes_wrong_products_is_refused_by_name() {
    let Ok(raw) = raw_adapter(0) else {
        let needed = std::env::var_os("GOGRID_NEEDS_GPU").is_some();
        assert!(!needed, "no GPU driver offers an adapter");
        return;
    };
    let mut refused = 0;
    // Among them is the write of the weights. That of the input loses a bit of its last places.
    for at in 0..12 {
        let recorder = WgpuRecorder::open(&raw, &PlainThreads).expect("the adapter opens");
        let script = Arc::new(Script::default());
        script.begin(Some((at, Fault::Flips)));
        if let Err(error) = Device::open(Faulty::new(recorder, script), None) {
            let text = error.to_string();
            assert!(text.contains("computes wrong results"), "{text}");
            refused += 1;
        }
    }
    assert_eq!(refused, 1, "one of twelve calls writes the weights");
}

#[test]
fn a_step_of_more_rows_than_the_one_before_means_the_same() {
    with_device(|device, _| {
        // Outputs are normed before they are added, by a kernel on some rows of a buffer.
        let (model, _directory) = model(Family::Gemma2);
        let memory = Ledger::new(Bytes::gib(1));
        let mut backend = Inner::new(Arc::clone(device), memory, Arc::new(FullSpeed));
        let span = Span::whole_model(model.decoder().layers.len());
        let mut open = || {
            backend
                .open(Opening::new(&model, span, 32))
                .expect("it opens")
        };
        let alone = run_step(&mut *open(), &model, &mut || ()).expect("nothing fails");
        let mut stage = open();
        let (step, rows) = rows_from(&model, 0, 1);
        run(&mut *stage, (&step, &rows)).expect("one row");
        let after = run_step(&mut *stage, &model, &mut || ()).expect("five rows");
        assert_eq!(alone.logits, after.logits);
    });
}

/// Runs a step to its end.
fn run(stage: &mut dyn Stage, (step, rows): (&Arc<Step>, &Rows)) -> Result<OutputBuf, StageError> {
    let ticket = stage.submit(step, Input::Rows(rows))?;
    loop {
        let mut out = OutputBuf::default();
        match stage.poll(ticket, &mut out) {
            Poll::Ready(done) => return done.map(|()| out),
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

#[test]
fn sequences_go_on_as_before_when_the_slabs_before_theirs_are_given_back() {
    // In slabs of two slots nothing moves: two blocks are in the last, and no other is left.
    check_given_back(2);
}

#[test]
fn sequences_go_on_as_before_when_their_blocks_move_to_lower_slabs() {
    check_given_back(1);
    check_given_back(3);
}

/// Sums may be made in another order.
fn assert_near(ours: &[f32], theirs: &[f32], what: &str) {
    let off = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    let off = off.fold(0.0, f32::max);
    assert!(
        ours.len() == theirs.len() && off < 1e-3,
        "{what}: off by {off}"
    );
}

fn check_given_back(slots: usize) {
    with_device(|device, _| {
        let (model, _directory) = model(Family::Llama);
        let memory = Ledger::new(Bytes::gib(1));
        let mut backend = Inner::new(Arc::clone(device), memory, Arc::new(FullSpeed));
        let span = Span::whole_model(model.decoder().layers.len());
        let mut stage = backend
            .open_stage(&Opening::new(&model, span, 32))
            .expect("it opens");
        stage.pools.iter_mut().for_each(|pool| pool.narrow(slots));
        let step_of = |first_block: u32, (start, end): (usize, usize)| {
            let groups = model.decoder().kv_groups.len();
            let blocks: Vec<_> = (0..end.div_ceil(32) as u32)
                .map(|b| Some(BlockId(first_block + b)))
                .collect();
            let sequence = SequenceRows {
                tables: Arc::new(vec![blocks; groups]),
                start,
                length: end,
                positions: Default::default(),
                wants: vec![Want::Logits; end - start],
            };
            let ids = (start..end).map(|i| 1 + i as u32 % 20).collect();
            (
                Arc::new(Step {
                    sequences: vec![sequence],
                }),
                Rows::of_ids(ids),
            )
        };
        let go = |stage: &mut dyn Stage, first: u32, range| {
            let (step, rows) = step_of(first, range);
            run(stage, (&step, &rows)).expect("it runs").logits
        };
        // One sequence in blocks 0 to 7, which are four slabs of two slots or more of one; the other in
        // blocks 10 and 11.
        for start in (0..256).step_by(32) {
            go(&mut stage, 0, (start, start + 32));
        }
        go(&mut stage, 10, (0, 32));
        go(&mut stage, 10, (32, 64));
        let expected = go(&mut stage, 0, (40, 41));
        let before = go(&mut stage, 10, (40, 41));
        assert_near(&before, &expected, "both had the same rows");
        let blocks: Vec<_> = (0..8).map(BlockId).collect();
        for group in 0..model.decoder().kv_groups.len() {
            stage.release(group, &blocks);
        }
        let after = go(&mut stage, 10, (40, 41));
        assert_near(&before, &after, "the sequence that is left");
    });
}

#[test]
fn every_weight_type_means_the_same_however_sums_are_added_up() {
    let Ok(raw) = raw_adapter(0) else {
        let needed = std::env::var_os("GOGRID_NEEDS_GPU").is_some();
        assert!(!needed, "no GPU driver offers an adapter");
        return;
    };
    let open = |reduction| {
        let recorder = WgpuRecorder::open(&raw, &PlainThreads).expect("the adapter opens");
        let faulty = Faulty::new(recorder, Arc::default());
        Arc::new(Device::open(faulty, Some(reduction)).expect("no self-test"))
    };
    let alone = open(Reduction::Alone);
    let others = [Reduction::Shared(16), Reduction::Subgroups].map(open);
    for (family, weights) in WeightType::ALL
        .map(|weights| (Family::Llama, weights))
        .into_iter()
        .chain([
            (Family::Gemma2, WeightType::Q8_0),
            (Family::Qwen2, WeightType::F16),
        ])
    {
        let (model, _directory) = model_of(family, weights);
        let logits = |device| {
            let run = open_and_run(device, &model, &mut || ());
            run.result.expect("nothing fails").logits
        };
        let expected = logits(&alone);
        for device in &others {
            let what = format!("{} {weights}, {:?}", family.name(), device.reduction);
            assert_near(&logits(device), &expected, &what);
        }
    }
}

#[test]
fn a_step_in_many_submissions_means_the_same_and_can_be_left_at_any() {
    with_device(|device, _| {
        let (model, _directory) = model(Family::Llama);
        let expected = open_and_run(device, &model, &mut || ());
        let expected = expected.result.expect("nothing fails").logits;
        // What is uploaded, too, is copied in several of them.
        let slow = || *device.rates() = Rates::pessimistic(true).slower(200.0);
        slow();
        let cut = open_and_run(device, &model, &mut || ());
        assert_eq!(cut.result.expect("nothing fails").logits, expected);
        for after in 0..12 {
            slow();
            let pace = Arc::new(PaceScript::abandon_after(after));
            let memory = Ledger::new(Bytes::gib(1));
            let mut backend = Inner::new(Arc::clone(device), memory, pace);
            let span = Span::whole_model(model.decoder().layers.len());
            let mut stage = backend
                .open(Opening::new(&model, span, 32))
                .expect("it opens");
            let left = run_step(&mut *stage, &model, &mut || ());
            assert!(
                matches!(left, Err(StageError::Abandoned)),
                "{after}: {left:?}"
            );
            let again = run_step(&mut *stage, &model, &mut || ()).expect("nothing fails");
            assert_eq!(again.logits, expected, "left after {after} submissions");
        }
        *device.rates() = Rates::pessimistic(true);
    });
}
