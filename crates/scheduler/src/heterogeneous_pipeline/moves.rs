//! Layers that move while requests run, devices that are lost, and several models on one machine.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use gogrid_lease::Kind;
use gogrid_pipeline::{Backend, PlacedSpan};
use gogrid_testkit::fakes::{
    AcceleratorHandle, AcceleratorScript, FakeAccelerator, FakeBackend, FakeModel, Faults, RealTime,
};
use gogrid_units::Span;

use super::tests::{collect, fake_cpu, free, greedy, model, next_given, request};
use super::*;
use crate::error::GenerateError;
use crate::fixture::{TestDevice, TestMachine};
use crate::generation::Event;
use crate::limits::RETRY_LOST_AFTER_MIN;
use crate::machine::Loan;

/// What a backend leaves for its test when it is opened.
type Handle = Arc<Mutex<Option<AcceleratorHandle>>>;

/// An accelerator in real time, and the test's end of it.
struct Live {
    device: AcceleratorHandle,
    _time: RealTime,
}

impl Live {
    fn of(device: AcceleratorHandle) -> Self {
        let _time = device.in_real_time();
        Self { device, _time }
    }
}

fn placed(device: usize, start: usize, end: usize) -> PlacedSpan {
    let span = Span::new(start, end);
    PlacedSpan { device, span }
}

/// An accelerator that answers in real time, 20 us a row, and the test's end of it.
fn accelerator(memory: usize, script: AcceleratorScript) -> (TestDevice, Handle) {
    let handle: Handle = Arc::default();
    let its = Arc::clone(&handle);
    let script = AcceleratorScript {
        nanos_per_row: 20_000,
        ..script
    };
    let open = move |loan: Loan| {
        let mut its = its.lock().expect("no panic");
        let device = match &*its {
            None => FakeAccelerator::new(loan.memory, loan.pace, script.clone()),
            Some(device) => {
                let again = device.open_again(loan.memory, loan.pace);
                again.map_err(|error| OpenError::of_stage("gpu", error))?
            }
        };
        *its = Some(device.handle());
        Ok(Box::new(device) as Box<dyn Backend>)
    };
    let device = TestDevice {
        backend: Box::new(open),
        ..TestDevice::accelerator(memory, memory, |_| {
            unreachable!("it is opened by the other")
        })
    };
    (device, handle)
}

/// Two CPUs on one memory and an accelerator on another.
fn machine(script: AcceleratorScript, options: &Options) -> (Arc<Machine>, Live) {
    let (device, handle) = accelerator(1, script);
    let machine = TestMachine {
        memories: vec![Bytes::gib(1); 2],
        ..TestMachine::of(vec![
            fake_cpu(0, Faults::default()),
            fake_cpu(1, Faults::default()),
            device,
        ])
    };
    let machine = machine.open(options);
    let handle = handle.lock().expect("no panic").clone();
    (machine, Live::of(handle.expect("it was opened")))
}

/// A pipeline on such a machine, with its stages where `plan` says.
fn pipeline(
    script: AcceleratorScript,
    plan: impl Fn(usize) -> Vec<PlacedSpan>,
) -> (HeterogeneousPipeline, FakeModel, Live) {
    let model = model();
    let pieces = Span::whole_model(model.decoder().layers.len()).end;
    let options = Options {
        plan: Some(plan(pieces)),
        ..free()
    };
    let (machine, handle) = machine(script, &options);
    let fake = FakeModel::of(model.decoder());
    let pipeline = HeterogeneousPipeline::under(&machine, model, &options);
    (pipeline.expect("it opens"), fake, handle)
}

fn leased(pipeline: &HeterogeneousPipeline, kind: Kind) -> Vec<Bytes> {
    let memories = pipeline.machine.hardware.memories.iter();
    memories.map(|memory| memory.ledger.used_by(kind)).collect()
}

#[test]
fn a_device_is_asked_how_fast_it_copies() {
    let script = AcceleratorScript {
        copy_bytes_per_second: Some(3e12),
        ..AcceleratorScript::default()
    };
    let (machine, live) = machine(script, &free());
    let asked = |device| machine.copy_bytes_per_second(device);
    assert_eq!(asked(2).expect("it is there"), Some(3e12));
    assert_eq!(asked(0).expect("it is there"), None);
    assert!(matches!(asked(3), Err(OpenError::BadDevice(_))));
    live.device.lose();
    let error = asked(2).expect_err("it is lost").to_string();
    assert!(error.contains("device lost"), "{error}");
}

#[test]
fn an_accelerator_and_a_cpu_make_one_pipeline_either_way_round_and_twice() {
    for order in [vec![2, 0], vec![0, 2], vec![2, 0, 2], vec![0, 2, 1]] {
        let plan = |pieces: usize| {
            let count = order.len();
            let cut = |index: usize| index * pieces / count;
            let stages = order.iter().enumerate();
            stages
                .map(|(index, &device)| placed(device, cut(index), cut(index + 1)))
                .collect()
        };
        let (pipeline, fake, _time) = pipeline(AcceleratorScript::default(), plan);
        block_on(async {
            let mut generations = Vec::new();
            for first in 1..6 {
                let admitted = pipeline.generate(request(vec![first; 40], 12)).await;
                generations.push((first, admitted.expect("admitted")));
            }
            for (first, generation) in generations {
                let (ids, ..) = collect(generation).await.expect("it goes well");
                assert_eq!(ids, greedy(&fake, &[first; 40], 12), "{order:?}");
            }
        });
        assert_eq!(leased(&pipeline, Kind::Kv), [Bytes::ZERO; 2]);
    }
}

#[test]
fn layers_move_between_steps_and_no_token_changes() {
    let whole = |pieces| vec![placed(0, 0, pieces)];
    let (pipeline, fake, _time) = pipeline(AcceleratorScript::default(), whole);
    let pieces = pipeline.stages()[0].span.end;
    let plans = [
        vec![placed(0, 0, 3), placed(1, 3, pieces)],
        vec![placed(1, 0, 4), placed(2, 4, pieces)],
        vec![placed(2, 0, 2), placed(1, 2, 5), placed(0, 5, pieces)],
        vec![placed(0, 0, pieces)],
    ];
    block_on(async {
        let mut running = Vec::new();
        for first in 1..4 {
            let admitted = pipeline.generate(request(vec![first; 50], 160)).await;
            running.push((first, admitted.expect("admitted"), Vec::new()));
        }
        for plan in plans.iter().cycle().take(12) {
            // Some tokens are made in between.
            for (_, generation, ids) in &mut running {
                if let Some(Ok(Event::Delta { ids: new, .. })) = next_given(generation).await {
                    ids.extend(new);
                }
            }
            pipeline.move_to(plan.clone()).await.expect("there is room");
            assert_eq!(pipeline.stages(), *plan);
            let status = pipeline.status().await;
            let names: Vec<_> = status.stages.iter().map(|stage| &*stage.device).collect();
            let expected = plan
                .iter()
                .map(|stage| ["cpu:0", "cpu:1", "gpu:1"][stage.device]);
            assert_eq!(names, expected.collect::<Vec<_>>());
            for memory in &status.memories {
                assert!(memory.used_bytes <= memory.cap_bytes, "{memory:?}");
            }
        }
        for (first, generation, mut ids) in running {
            ids.extend(collect(generation).await.expect("it goes well").0);
            assert_eq!(ids, greedy(&fake, &[first; 50], 160));
        }
    });
    assert_eq!(leased(&pipeline, Kind::Kv), [Bytes::ZERO; 2]);
    // All of it stands on the first memory again.
    assert_eq!(leased(&pipeline, Kind::Weights)[1], Bytes::ZERO);
}

#[test]
fn a_move_that_cannot_be_leaves_everything_where_it_was() {
    let whole = |pieces| vec![placed(0, 0, pieces)];
    let (pipeline, fake, _time) = pipeline(AcceleratorScript::default(), whole);
    let pieces = pipeline.stages()[0].span.end;
    let before = pipeline.stages();
    block_on(async {
        let generation = pipeline.generate(request(vec![3; 20], 60)).await.unwrap();
        for bad in [
            vec![placed(0, 0, 3)],
            vec![placed(9, 0, pieces)],
            vec![placed(0, 0, 3), placed(1, 4, pieces)],
            vec![],
        ] {
            let error = pipeline.move_to(bad).await.expect_err("it is no placement");
            assert!(error.to_string().starts_with("plan: "), "{error}");
        }
        let memory = &pipeline.machine.hardware.memories[1].ledger;
        let cap = memory.cap();
        memory.set_cap(Bytes(1));
        let error = pipeline.move_to(vec![placed(2, 0, pieces)]).await;
        assert!(matches!(error, Err(OpenError::DoesNotFit(_))), "{error:?}");
        memory.set_cap(cap);
        assert_eq!(pipeline.stages(), before);
        let ids = collect(generation).await.expect("it goes well").0;
        assert_eq!(ids, greedy(&fake, &[3; 20], 60));
    });
}

#[test]
fn a_device_that_is_lost_in_a_step_is_left_and_what_ran_there_is_run_again() {
    let plan = |pieces| vec![placed(0, 0, 3), placed(2, 3, pieces)];
    let script = AcceleratorScript {
        lost_at: vec![9],
        ..AcceleratorScript::default()
    };
    let (pipeline, fake, handle) = pipeline(script, plan);
    block_on(async {
        let mut generations = Vec::new();
        for first in 1..4 {
            let admitted = pipeline.generate(request(vec![first; 30], 40)).await;
            generations.push((first, admitted.expect("admitted")));
        }
        for (first, generation) in generations {
            let (ids, ..) = collect(generation).await.expect("it goes on elsewhere");
            assert_eq!(ids, greedy(&fake, &[first; 30], 40));
        }
        let status = pipeline.status().await;
        assert!(
            status
                .stages
                .iter()
                .all(|stage| stage.device.starts_with("cpu")),
            "{status:?}"
        );
        let gpu = &status.devices[2];
        assert!(gpu.lost.is_some(), "{gpu:?}");
        // It comes back, and is used again when it is asked for.
        handle.device.come_back();
        let pieces = status.stages.last().expect("a stage").end_piece;
        pipeline
            .move_to(vec![placed(2, 0, pieces)])
            .await
            .expect("it is back");
        let generation = pipeline
            .generate(request(vec![8], 5))
            .await
            .expect("admitted");
        let ids = collect(generation).await.expect("it goes well").0;
        assert_eq!(ids, greedy(&fake, &[8], 5));
        assert_eq!(pipeline.status().await.devices[2].lost, None);
    });
    assert_eq!(leased(&pipeline, Kind::Kv), [Bytes::ZERO; 2]);
    assert_eq!(leased(&pipeline, Kind::Weights)[0], Bytes::ZERO);
}

/// The machine of `pipeline`, where the model stands on the accelerator because that is faster.
#[test]
fn a_lost_device_is_tried_again_and_used_again_and_meanwhile_the_model_is_degraded() {
    let script = AcceleratorScript {
        lost_at: vec![9],
        ..AcceleratorScript::default()
    };
    let (machine, handle) = machine(script, &free());
    let model = model();
    let hardware = Arc::clone(&machine.hardware);
    Opener::new(hardware, Arc::clone(&model), free()).know_costs(&[1e-2, 1e-2, 1e-6]);
    let fake = FakeModel::of(model.decoder());
    let pipeline = HeterogeneousPipeline::under(&machine, model, &free()).expect("it opens");
    let places = || {
        let stages = pipeline.stages();
        stages.iter().map(|stage| stage.device).collect::<Vec<_>>()
    };
    let status = || block_on(pipeline.status());
    let generate = || {
        let generation = block_on(pipeline.generate(request(vec![7; 30], 40))).expect("admitted");
        let (ids, ..) = block_on(collect(generation)).expect("it goes on");
        assert_eq!(ids, greedy(&fake, &[7; 30], 40));
    };
    assert_eq!(places(), [2]);
    generate();
    assert!(!places().contains(&2), "it is lost");
    // The step that passed on what is left says nothing of the device.
    let is_said = |degraded: Option<String>| {
        degraded.is_some_and(|why| why.starts_with("gpu:1 is lost: ") && why.contains("gone"))
    };
    assert!(is_said(status().degraded), "{:?}", status().degraded);
    assert!(is_said(
        block_on(machine.status()).models[0].degraded.clone()
    ));
    // A first try comes too early.
    let was_tried = |status: Status| {
        let lost = status.devices[2].lost.as_deref();
        lost.is_some_and(|why| why.contains("it was tried again"))
    };
    wait_until("a lost device is tried", || was_tried(status()));
    generate();
    assert!(!places().contains(&2), "it is lost still");
    handle.device.come_back();
    wait_until("the model is back", || places() == [2]);
    assert_eq!(
        (status().degraded, status().devices[2].lost.clone()),
        (None, None)
    );
    generate();
    assert_eq!(places(), [2]);
}

#[test]
fn a_lost_device_is_left_alone_while_work_is_stopped() {
    let (machine, handle) = machine(AcceleratorScript::default(), &free());
    let pipeline = HeterogeneousPipeline::under(&machine, model(), &free()).expect("it opens");
    let gpu = &machine.hardware.devices[2];
    let was_tried = || {
        gpu.lost()
            .is_some_and(|why| why.contains("it was tried again"))
    };
    block_on(pipeline.pause()).expect("it holds");
    handle.device.lose();
    gpu.note_lost("gone");
    // Longer than to the first try of a device of a machine that works.
    pause(RETRY_LOST_AFTER_MIN * 5 / 2);
    // The observer is told something, and looks at everything.
    block_on(pipeline.set_limits(free().limits)).expect("in range");
    assert!(!was_tried(), "{:?}", gpu.lost());
    block_on(pipeline.resume()).expect("it holds");
    wait_until("the device is tried", was_tried);
}

#[test]
fn a_thread_that_waits_for_a_gpu_keeps_its_priority_and_says_why() {
    // Ends the backend's thread when the machine is gone.
    let (ends, waits) = std::sync::mpsc::sync_channel::<()>(0);
    let mut waits = Some(waits);
    let gpu = TestDevice::accelerator(0, 0, move |loan: Loan| {
        let waits = waits.take().expect("it is opened once");
        let body = move || {
            let _ = waits.recv();
        };
        let thread = loan.spawn.spawn("waiter", Box::new(body));
        drop(thread.expect("it starts"));
        Box::new(FakeBackend::new(loan.memory))
    });
    let machine = TestMachine::of(vec![gpu]).open(&free());
    let threads = machine.hardware.threads.statuses();
    let waiter = threads.iter().find(|thread| thread.name == "gpu:0 waiter");
    let why = waiter.expect("it is listed").excepted.as_deref();
    assert!(
        why.is_some_and(|why| why.starts_with("waits for a GPU")),
        "{why:?}"
    );
    drop(ends);
}

/// A machine on which models stand on the accelerator as its options say, and so many of them.
fn models_on_the_accelerator(count: usize) -> (Vec<HeterogeneousPipeline>, FakeModel, Live) {
    let (machine, handle) = machine(AcceleratorScript::default(), &free());
    let pieces = Span::whole_model(model().decoder().layers.len()).end;
    let options = Options {
        plan: Some(vec![placed(2, 0, pieces)]),
        ..free()
    };
    let open = |_| HeterogeneousPipeline::under(&machine, model(), &options).expect("it opens");
    let pipelines = (0..count).map(open).collect();
    (pipelines, FakeModel::of(model().decoder()), handle)
}

fn devices_of(pipeline: &HeterogeneousPipeline) -> Vec<usize> {
    let stages = pipeline.stages();
    stages.iter().map(|stage| stage.device).collect()
}

fn check_generates(pipeline: &HeterogeneousPipeline, fake: &FakeModel) {
    let generation = block_on(pipeline.generate(request(vec![7; 30], 9))).expect("admitted");
    let (ids, ..) = block_on(collect(generation)).expect("it goes on");
    assert_eq!(ids, greedy(fake, &[7; 30], 9));
}

#[test]
fn stages_of_a_lost_opening_say_nothing_of_the_device_that_is_back() {
    let (pipelines, fake, handle) = models_on_the_accelerator(2);
    let gpu = &pipelines[0].machine.hardware.devices[2];
    handle.device.lose();
    check_generates(&pipelines[0], &fake);
    assert!(gpu.lost().is_some(), "its stages were lost");
    handle.device.come_back();
    wait_until("the device is back", || gpu.lost().is_none());
    wait_until("the first model is back", || {
        devices_of(&pipelines[0]) == [2]
    });
    // The second did nothing meanwhile, and its stages are dead.
    check_generates(&pipelines[1], &fake);
    assert_eq!((gpu.lost(), gpu.opening()), (None, 1));
    wait_until("the second model is back", || {
        devices_of(&pipelines[1]) == [2]
    });
    pipelines
        .iter()
        .for_each(|pipeline| check_generates(pipeline, &fake));
    assert_eq!((gpu.lost(), gpu.opening()), (None, 1));
}

#[test]
fn layers_that_a_caller_moved_stay_when_a_device_is_back() {
    let (pipelines, fake, handle) = models_on_the_accelerator(1);
    let pipeline = &pipelines[0];
    let gpu = &pipeline.machine.hardware.devices[2];
    handle.device.lose();
    check_generates(pipeline, &fake);
    let pieces = Span::whole_model(model().decoder().layers.len()).end;
    let (left, right) = (placed(1, 0, 3), placed(0, 3, pieces));
    block_on(pipeline.move_to(vec![left, right])).expect("they are there");
    handle.device.come_back();
    wait_until("the device is back", || gpu.lost().is_none());
    // Longer than a return takes.
    pause(Duration::from_millis(500));
    check_generates(pipeline, &fake);
    assert_eq!(devices_of(pipeline), [1, 0]);
}

#[test]
fn a_return_that_finds_no_room_is_tried_again() {
    let (pipelines, fake, handle) = models_on_the_accelerator(1);
    let pipeline = &pipelines[0];
    let hardware = &pipeline.machine.hardware;
    handle.device.lose();
    check_generates(pipeline, &fake);
    let ledger = &hardware.memories[1].ledger;
    let filled = ledger.reserve(Kind::Weights, ledger.cap().saturating_sub(ledger.used()));
    let filled = filled.expect("so much is free");
    handle.device.come_back();
    let is_due = || pipeline.relocator.return_at().is_some();
    wait_until("a return has failed", is_due);
    assert_ne!(devices_of(pipeline), [2]);
    drop(filled);
    wait_until("the model is back", || devices_of(pipeline) == [2]);
    check_generates(pipeline, &fake);
}

#[test]
fn a_model_with_no_place_left_says_so_and_ends_what_waits_until_the_device_is_back() {
    let model = model();
    let script = AcceleratorScript {
        lost_at: vec![4],
        ..AcceleratorScript::default()
    };
    let (device, handle) = accelerator(0, script);
    let machine = TestMachine::of(vec![device]).open(&free());
    let fake = FakeModel::of(model.decoder());
    let handle = handle.lock().expect("no panic").clone();
    let handle = Live::of(handle.expect("it was opened"));
    let pipeline = HeterogeneousPipeline::under(&machine, model, &free()).expect("it opens");
    block_on(async {
        let generation = pipeline.generate(request(vec![1; 9], 50)).await.unwrap();
        let error = collect(generation).await.expect_err("nothing is left");
        assert!(
            matches!(error, GenerateError::NoPlaceLeft { .. }),
            "{error}"
        );
        let status = pipeline.status().await;
        assert!(status.degraded.is_some(), "{status:?}");
        let later = pipeline
            .generate(request(vec![1], 5))
            .await
            .expect("admitted");
        collect(later).await.expect_err("nothing is left");
        let ledger = &machine.hardware.memories[0].ledger;
        assert_eq!(ledger.used(), Bytes::ZERO);
        handle.device.come_back();
        let began = now();
        while pipeline.status().await.degraded.is_some() {
            assert!(began.elapsed() < WAITS_MAX, "it does not stand again");
            std::thread::yield_now();
        }
        let generation = pipeline.generate(request(vec![1; 9], 5)).await;
        let back = collect(generation.expect("admitted")).await;
        assert_eq!(back.expect("it is back").0, greedy(&fake, &[1; 9], 5));
    });
    drop(pipeline);
    assert_eq!(machine.hardware.memories[0].ledger.used(), Bytes::ZERO);
}

#[test]
fn two_models_share_the_memory_and_end_apart() {
    let (machine, _time) = machine(AcceleratorScript::default(), &free());
    let open = |plan: &dyn Fn(usize) -> Vec<PlacedSpan>| {
        let model = model();
        let pieces = Span::whole_model(model.decoder().layers.len()).end;
        let options = Options {
            plan: Some(plan(pieces)),
            ..free()
        };
        HeterogeneousPipeline::under(&machine, model, &options).expect("it opens")
    };
    let first = open(&|pieces| vec![placed(0, 0, 3), placed(2, 3, pieces)]);
    let fake = FakeModel::of(first.intake.model.decoder());
    let second = open(&|pieces| vec![placed(2, 0, 3), placed(0, 3, pieces)]);
    block_on(async {
        let mut generations = Vec::new();
        for token in 1..5 {
            for pipeline in [&first, &second] {
                let admitted = pipeline.generate(request(vec![token; 35], 30)).await;
                generations.push((token, admitted.expect("admitted")));
            }
        }
        let status = machine.status().await;
        assert_eq!(status.models.len(), 2);
        assert!(
            status.memories.iter().all(|m| m.used_bytes > 0),
            "{status:?}"
        );
        for (token, generation) in generations {
            let ids = collect(generation).await.expect("it goes well").0;
            assert_eq!(ids, greedy(&fake, &[token; 35], 30));
        }
        // One ledger: what the first holds is what the second cannot have.
        let held = machine.status().await.memories[0].used_bytes;
        let limits = ResourceConfig {
            max_vram_usage_percent: (held + 10) as f64 / Bytes::gib(1).0 as f64,
            ..free().limits
        };
        second.set_limits(limits).await.expect("in range");
        assert!(
            first.generate(request(vec![1], 5)).await.is_err(),
            "no room"
        );
        first.set_limits(free().limits).await.expect("in range");
        drop(first);
        assert_eq!(machine.status().await.models.len(), 1);
        let generation = second
            .generate(request(vec![7], 5))
            .await
            .expect("admitted");
        let ids = collect(generation).await.expect("it goes well").0;
        assert_eq!(ids, greedy(&fake, &[7], 5));
    });
    drop(second);
    let used = machine.hardware.memories.iter().map(|m| m.ledger.used());
    assert_eq!(used.collect::<Vec<_>>(), [Bytes::ZERO; 2]);
}

#[test]
fn a_model_that_finds_the_cap_filled_is_refused_and_disturbs_nobody() {
    let (machine, _time) = machine(AcceleratorScript::default(), &free());
    let options = |plan| Options {
        plan: Some(plan),
        ..free()
    };
    let pieces = Span::whole_model(model().decoder().layers.len()).end;
    let first = options(vec![placed(0, 0, pieces)]);
    let first = HeterogeneousPipeline::under(&machine, model(), &first).expect("it opens");
    let ledger = &machine.hardware.memories[0].ledger;
    ledger.set_cap(ledger.used());
    let second = options(vec![placed(1, 0, pieces)]);
    let refused = HeterogeneousPipeline::under(&machine, model(), &second);
    assert!(
        matches!(refused, Err(OpenError::DoesNotFit(_))),
        "{refused:?}"
    );
    assert_eq!(block_on(machine.status()).models.len(), 1);
    ledger.set_cap(Bytes::gib(1));
    let generation = block_on(first.generate(request(vec![1], 5))).expect("admitted");
    assert_eq!(
        block_on(collect(generation)).expect("it goes well").0.len(),
        5
    );
}

/// Wake-ups that may follow work's arrival at the device however late its threads run: each of two
/// drivers and the engine has a few words to hear. A thread that polls has more in any second.
const WAKES_ON_THEIR_WAY: u64 = 8;

#[test]
fn nobody_wakes_while_an_accelerator_works() {
    let script = AcceleratorScript {
        hang: vec![2],
        ..AcceleratorScript::default()
    };
    let whole = |pieces| vec![placed(2, 0, pieces)];
    let (pipeline, fake, handle) = pipeline(script, whole);
    let generation = block_on(pipeline.generate(request(vec![4, 4], 6))).expect("admitted");
    let wake_ups = || {
        let drivers = pipeline.machine.hardware.devices.iter();
        let drivers: u64 = drivers.map(|device| device.driver.wake_ups()).sum();
        drivers + pipeline.engine().wake_ups()
    };
    wait_until("the device hangs", || handle.device.hangs());
    let before = wake_ups();
    pause(Duration::from_secs(1));
    let woken = wake_ups() - before;
    assert!(woken <= WAKES_ON_THEIR_WAY, "{woken}: something polls");
    handle.device.answer();
    let ids = block_on(collect(generation)).expect("it goes well").0;
    assert_eq!(ids, greedy(&fake, &[4, 4], 6));
}

/// Long enough for a try of a lost device on a slow machine.
const WAITS_MAX: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "a failure must not be a hang")]
fn now() -> Instant {
    Instant::now()
}

/// Waits for what another thread does, and fails where it does not come.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = now();
    while !is_so() {
        assert!(began.elapsed() < WAITS_MAX, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is asserted is that nothing happens meanwhile"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Killed {
    Engine,
    Observer,
    Driver,
}

impl Killed {
    fn kill(self, pipeline: &HeterogeneousPipeline) {
        match self {
            Self::Engine => drop(pipeline.engine().send(Message::Panic)),
            Self::Observer => pipeline.machine.kill_observer(),
            Self::Driver => pipeline.machine.hardware.devices[1].driver.inject_panic(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Observer => "observer",
            Self::Driver => "cpu:1 driver",
        }
    }
}

/// When a thread is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    NothingRuns,
    StepsRun,
    WorkIsStopped,
}

/// Each kind of thread, at each kind of moment.
#[test]
fn no_thread_dies_unseen() {
    for killed in [Killed::Engine, Killed::Observer, Killed::Driver] {
        for when in [When::NothingRuns, When::StepsRun, When::WorkIsStopped] {
            check_killed(killed, when);
        }
    }
}

fn check_killed(killed: Killed, when: When) {
    let what = format!("{killed:?}, {when:?}");
    let plan = |pieces| vec![placed(0, 0, 3), placed(1, 3, pieces)];
    let (pipeline, _, _time) = pipeline(AcceleratorScript::default(), plan);
    let machine = Arc::clone(&pipeline.machine);
    let waiting = block_on(async {
        if when == When::WorkIsStopped {
            pipeline.pause().await.expect("it holds");
        }
        let admitted = match when {
            When::NothingRuns => None,
            _ => Some(pipeline.generate(request(vec![1; 40], 300)).await),
        };
        admitted.map(|admitted| admitted.expect("admitted"))
    });
    killed.kill(&pipeline);
    // A driver ends when it comes to it.
    wait_until("the death is noted", || {
        !machine.hardware.health.failures().is_empty()
    });
    if let Some(waiting) = waiting.filter(|_| killed != Killed::Driver) {
        let error = block_on(collect(waiting)).expect_err("it ends with an error");
        assert!(error.to_string().contains("has ended"), "{what}: {error}");
    }
    let status = block_on(pipeline.status());
    let failures: Vec<_> = status.failures.iter().map(|f| &*f.thread).collect();
    assert_eq!(failures, [killed.name()], "{what}");
    if killed == Killed::Observer {
        assert!(machine.hardware.gate.is_shut(Whose::Owner), "{what}");
        assert_eq!(status.ruling.compute_share, 0.0, "{what}");
        let refused = block_on(pipeline.set_limits(free().limits));
        let not_held = matches!(refused, Err(crate::ChangeError::NotHeld(_)));
        assert!(not_held, "{what}: {refused:?}");
        assert!(block_on(pipeline.resume()).is_err(), "{what}");
    }
    check_later(&pipeline, (killed, when), &what);
}

/// What a request after the end of a thread comes to.
fn check_later(pipeline: &HeterogeneousPipeline, (killed, when): (Killed, When), what: &str) {
    if killed == Killed::Driver && when == When::WorkIsStopped {
        block_on(pipeline.resume()).expect("it holds");
    }
    let later = block_on(pipeline.generate(request(vec![1], 3)));
    match killed {
        Killed::Driver => {
            // What ran there goes on where a driver lives.
            let ids = block_on(collect(later.expect("admitted")))
                .expect("it goes on")
                .0;
            assert_eq!(ids.len(), 3, "{what}");
            let stages = block_on(pipeline.status()).stages;
            assert!(
                stages.iter().all(|stage| stage.device != "cpu:1"),
                "{what}: {stages:?}"
            );
        }
        Killed::Engine | Killed::Observer => {
            let refused = matches!(later, Err(Refusal::ThreadFailed(_)));
            assert!(refused, "{what}: {later:?}");
        }
    }
}

#[test]
fn a_spawner_that_dies_is_named_and_what_runs_goes_on() {
    let whole = |pieces| vec![placed(0, 0, pieces)];
    let (pipeline, fake, _time) = pipeline(AcceleratorScript::default(), whole);
    let machine = Arc::clone(pipeline.machine());
    machine.hardware.threads.kill_spawner();
    let pieces = pipeline.stages()[0].span.end;
    block_on(async {
        // It cannot start the thread that would move layers.
        let error = pipeline.move_to(vec![placed(1, 0, pieces)]).await;
        assert!(matches!(error, Err(OpenError::NotMoved(_))), "{error:?}");
        // Other priorities need fresh threads, or are set on those there are; either way it holds on.
        let limits = ResourceConfig {
            process_priority: 19,
            ..free().limits
        };
        pipeline.set_limits(limits).await.expect("it answers");
        let generation = pipeline
            .generate(request(vec![5; 9], 7))
            .await
            .expect("admitted");
        let ids = collect(generation).await.expect("it goes on").0;
        assert_eq!(ids, greedy(&fake, &[5; 9], 7));
        let named = |line: &String| line.starts_with("priorities: spawner: it has ended");
        let status = pipeline.status().await;
        assert!(
            status.not_enforced.iter().any(named),
            "{:?}",
            status.not_enforced
        );
    });
}

/// A backend that panics when it opens a stage.
struct Panics;

impl Backend for Panics {
    fn check(&self, _model: &Model, _span: Span) -> Result<(), gogrid_pipeline::StageError> {
        Ok(())
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> gogrid_pipeline::Footprint {
        let ledger = gogrid_lease::Ledger::new(Bytes::gib(1));
        FakeBackend::new(ledger).predict(model, span, rows_max)
    }

    fn open(
        &mut self,
        _: gogrid_pipeline::Opening<'_>,
    ) -> Result<Box<dyn gogrid_pipeline::Stage>, gogrid_pipeline::StageError> {
        panic!("as a test asked")
    }
}

#[test]
fn a_mover_that_panics_leaves_the_stages_and_a_loader_that_does_is_an_error() {
    let model = model();
    let pieces = Span::whole_model(model.decoder().layers.len()).end;
    let panics = TestDevice::cpu(1, |_| Box::new(Panics) as Box<dyn Backend>);
    let devices = vec![fake_cpu(0, Faults::default()), panics];
    let options = move |device| Options {
        plan: Some(vec![placed(device, 0, pieces)]),
        ..free()
    };
    let machine = TestMachine::of(devices).open(&free());
    let fake = FakeModel::of(model.decoder());
    let pipeline = HeterogeneousPipeline::under(&machine, Arc::clone(&model), &options(0));
    let pipeline = pipeline.expect("it opens");
    block_on(async {
        let generation = pipeline
            .generate(request(vec![2; 40], 50))
            .await
            .expect("admitted");
        let error = pipeline.move_to(vec![placed(1, 0, pieces)]).await;
        let words = error.expect_err("it panics").to_string();
        assert!(
            words.contains("mover") && words.contains("as a test asked"),
            "{words}"
        );
        assert_eq!(pipeline.stages(), [placed(0, 0, pieces)]);
        let ids = collect(generation).await.expect("it goes on").0;
        assert_eq!(ids, greedy(&fake, &[2; 40], 50));
    });
    let threads = machine.hardware.threads.clone();
    let its = Arc::clone(&machine);
    let loaded = threads
        .on_loader(move || HeterogeneousPipeline::under(&its, model, &options(1)))
        .expect_err("it panics");
    assert!(loaded.to_string().contains("loader"), "{loaded}");
}

/// The room that one model's requests wait for comes from another model's end.
#[test]
fn a_request_that_waits_for_room_starts_when_another_model_gives_it_back() {
    for ends_by_drop in [false, true] {
        let script = AcceleratorScript {
            hang: vec![0],
            ..AcceleratorScript::default()
        };
        let (device, handle) = accelerator(0, script);
        let devices = vec![fake_cpu(0, Faults::default()), device];
        let machine = TestMachine::of(devices).open(&free());
        let live = Live::of(
            handle
                .lock()
                .expect("no panic")
                .clone()
                .expect("it was opened"),
        );
        let open = |device| {
            let model = model();
            let pieces = Span::whole_model(model.decoder().layers.len()).end;
            let options = Options {
                plan: Some(vec![placed(device, 0, pieces)]),
                ..free()
            };
            HeterogeneousPipeline::under(&machine, model, &options).expect("it opens")
        };
        let (first, second) = (open(1), open(0));
        let ledger = &machine.hardware.memories[0].ledger;
        block_on(async {
            // Its first step hangs, and it holds its room.
            let holds = first
                .generate(request(vec![1; 60], 400))
                .await
                .expect("admitted");
            while first.status().await.running == 0 {}
            ledger.set_cap(ledger.used());
            let mut waits = second
                .generate(request(vec![2; 60], 3))
                .await
                .expect("admitted");
            assert_eq!(second.status().await.queued, 1);
            match ends_by_drop {
                true => drop(first),
                false => {
                    drop(holds);
                    live.device.answer();
                }
            }
            let event = next_given(&mut waits).await.expect("an event");
            assert!(event.is_ok(), "{event:?}");
        });
    }
}

#[test]
fn a_loss_with_steps_in_flight_blames_no_device_that_is_sound() {
    let plan = |pieces| vec![placed(2, 0, 3), placed(0, 3, pieces)];
    for lost_at in 3..12 {
        let script = AcceleratorScript {
            lost_at: vec![lost_at],
            ..AcceleratorScript::default()
        };
        let (pipeline, fake, _time) = pipeline(script, plan);
        block_on(async {
            let mut generations = Vec::new();
            for first in 1..6 {
                let admitted = pipeline.generate(request(vec![first; 90], 12)).await;
                generations.push((first, admitted.expect("admitted")));
            }
            for (first, generation) in generations {
                let ids = collect(generation).await.expect("it goes on").0;
                assert_eq!(ids, greedy(&fake, &[first; 90], 12));
            }
            let status = pipeline.status().await;
            let lost: Vec<_> = status.devices.iter().map(|d| d.lost.is_some()).collect();
            assert_eq!(lost, [false, false, true], "{status:?}");
        });
    }
}

#[test]
fn threads_of_every_model_are_listed_and_hold_new_priorities() {
    let (machine, _time) = machine(AcceleratorScript::default(), &free());
    let pieces = Span::whole_model(model().decoder().layers.len()).end;
    let options = Options {
        plan: Some(vec![placed(0, 0, pieces)]),
        ..free()
    };
    let open = || HeterogeneousPipeline::under(&machine, model(), &options).expect("it opens");
    let _both = [open(), open()];
    let limits = ResourceConfig {
        process_priority: 19,
        ..free().limits
    };
    block_on(machine.set_limits(limits)).expect("in range");
    let status = block_on(machine.status());
    let engines = status.threads.iter().filter(|t| t.name.ends_with("engine"));
    let engines: Vec<_> = engines.map(|t| (t.name.clone(), t.nice)).collect();
    let nice = Some(19);
    assert_eq!(
        engines,
        [
            ("engine".to_owned(), nice),
            ("model 2 engine".to_owned(), nice)
        ]
    );
}
