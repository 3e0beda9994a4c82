//! The whole way over fake stages of a tiny model: engine, runner, drivers and channels are real.

use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_governor::Observation;
use gogrid_lease::Kind;
use gogrid_pipeline::{Backend, PlacedSpan, Positions};
use gogrid_testkit::fakes::{FakeBackend, FakeModel, Faults};
use gogrid_units::Span;

use super::*;
use crate::error::GenerateError;
use crate::fixture::{TestDevice, TestMachine};
pub(super) use crate::fixture::{free, model};
use crate::generation::{Event, Figures, Finish};
use crate::request::{Continuation, Prompt, PromptRows, Sampling};

/// A CPU of one core whose stages are fakes.
pub(crate) fn fake_cpu(core: usize, faults: Faults) -> TestDevice {
    TestDevice::cpu(core, move |loan| {
        let faults = faults.clone();
        Box::new(FakeBackend::new(loan.memory).with_faults(faults)) as Box<dyn Backend>
    })
}

/// A pipeline of two devices with the model cut in the middle, and what the model would say.
fn pipeline(options: Options, faults: Faults) -> (HeterogeneousPipeline, FakeModel) {
    pipeline_that_sees(Observation::default(), options, faults)
}

/// The same, on a machine that tells this.
pub(super) fn pipeline_that_sees(
    seen: Observation,
    options: Options,
    faults: Faults,
) -> (HeterogeneousPipeline, FakeModel) {
    let model = model();
    let layers = model.decoder().layers.len();
    let (front, back) = Span::whole_model(layers).split_at(layers);
    let plan = [(0, front), (1, back)].map(|(device, span)| PlacedSpan { device, span });
    let options = Options {
        plan: Some(plan.to_vec()),
        ..options
    };
    let devices = vec![fake_cpu(0, Faults::default()), fake_cpu(1, faults)];
    let machine = TestMachine {
        seen,
        ..TestMachine::of(devices)
    };
    let fake = FakeModel::of(model.decoder());
    let pipeline = HeterogeneousPipeline::under(&machine.open(&options), model, &options);
    (pipeline.expect("it opens"), fake)
}

pub(super) fn request(ids: Vec<u32>, max_tokens: usize) -> GenerateRequest {
    let sampling = Sampling {
        ignore_eos: true,
        ..Sampling::default()
    };
    GenerateRequest {
        sampling,
        ..GenerateRequest::new(Prompt::Ids(ids), max_tokens)
    }
}

pub(super) type Outcome = Result<(Vec<u32>, Finish, Figures), GenerateError>;

pub(super) async fn collect(mut generation: Generation) -> Outcome {
    let mut all = Vec::new();
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta { ids, .. } => all.extend(ids),
            Event::Finished { reason, figures } => return Ok((all, reason, figures)),
            _ => {}
        }
    }
    panic!("a stream without an end")
}

/// The next that is told of what a request gives, and not of how it stands.
pub(super) async fn next_given(
    generation: &mut Generation,
) -> Option<Result<Event, GenerateError>> {
    loop {
        let event = generation.next().await;
        let is_given = |event: &Event| {
            matches!(
                event,
                Event::Prompt { .. } | Event::Delta { .. } | Event::Finished { .. }
            )
        };
        if !matches!(&event, Some(Ok(event)) if !is_given(event)) {
            return event;
        }
    }
}

pub(super) fn greedy(fake: &FakeModel, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    for _ in 0..count {
        let next = fake.next(&ids);
        ids.push(next);
    }
    ids.split_off(prompt.len())
}

#[test]
fn many_at_once_get_what_each_would_get_alone() {
    let (pipeline, fake) = pipeline(free(), Faults::default());
    let prompts: Vec<Vec<u32>> = (1..8)
        .map(|n| (0..n * 29).map(|i| i % 50 + n).collect())
        .collect();
    block_on(async {
        let mut generations = Vec::new();
        for prompt in &prompts {
            generations.push(
                pipeline
                    .generate(request(prompt.clone(), 20))
                    .await
                    .expect("admitted"),
            );
        }
        for (generation, prompt) in generations.into_iter().zip(&prompts) {
            let (ids, reason, figures) = collect(generation).await.expect("it goes well");
            assert_eq!(ids, greedy(&fake, prompt, 20));
            assert_eq!(reason, Finish::Length);
            assert_eq!(
                (figures.prompt_tokens, figures.decode_steps),
                (prompt.len(), 19)
            );
        }
        let status = pipeline.status().await;
        assert_eq!(
            (status.queued, status.running, status.stats.total_requests),
            (0, 0, 7)
        );
        assert_eq!(status.devices.iter().map(|d| d.kv_bytes).sum::<u64>(), 0);
        assert_eq!(status.degraded, None);
        // The engine, the observer and a driver for each device, and one that starts them.
        let (excepted, threads): (Vec<_>, Vec<_>) = status
            .threads
            .iter()
            .partition(|thread| thread.excepted.is_some());
        assert_eq!((excepted.len(), threads.len()), (1, 4));
        let nice = status.limits.process_priority;
        for thread in threads {
            assert!(
                thread.nice == Some(nice) || !thread.problems.is_empty(),
                "{thread:?}"
            );
        }
    });
}

#[test]
fn score_gives_what_the_model_says_of_each_token() {
    let (pipeline, fake) = pipeline(free(), Faults::default());
    let ids: Vec<u32> = (0..150).map(|i| i * 7 % 60).collect();
    let scores = block_on(pipeline.score(ids.clone(), Whose::Guest)).expect("it goes well");
    assert_eq!(scores.len(), ids.len() - 1);
    for at in [1, 32, 149] {
        let expected = gogrid_testkit::log_softmax(&fake.logits(&ids[..at]))[ids[at] as usize];
        assert!((f64::from(scores[at - 1]) - expected).abs() < 1e-4, "{at}");
    }
}

#[test]
fn dropping_the_stream_gives_everything_back() {
    let (pipeline, _) = pipeline(free(), Faults::default());
    block_on(async {
        let mut running = pipeline
            .generate(request(vec![1, 2, 3], 400))
            .await
            .expect("admitted");
        next_given(&mut running)
            .await
            .expect("a token")
            .expect("it goes well");
        drop(running);
        // The next request is answered after the engine has seen the drop.
        let after = pipeline
            .generate(request(vec![1], 1))
            .await
            .expect("admitted");
        collect(after).await.expect("it goes well");
        while pipeline.status().await.running > 0 {}
        assert_eq!(
            pipeline.machine.hardware.memories[0]
                .ledger
                .used_by(Kind::Kv),
            Bytes::ZERO
        );
    });
}

#[test]
fn a_stage_that_fails_ends_what_was_in_it_and_no_more() {
    let (pipeline, fake) = pipeline(
        free(),
        Faults {
            fail: vec![3],
            ..Faults::default()
        },
    );
    block_on(async {
        let first = pipeline
            .generate(request(vec![5, 6], 50))
            .await
            .expect("admitted");
        let error = collect(first).await.expect_err("its fourth step fails");
        assert!(
            matches!(&error, GenerateError::Stage { stage: 1, device, .. } if device == "cpu:1"),
            "{error}"
        );
        assert_eq!(pipeline.status().await.degraded, Some(error.to_string()));
        let second = pipeline
            .generate(request(vec![5, 6], 5))
            .await
            .expect("admitted");
        assert_eq!(
            collect(second).await.expect("it goes well").0,
            greedy(&fake, &[5, 6], 5)
        );
        assert_eq!(pipeline.status().await.degraded, None);
    });
}

#[test]
fn an_abandoned_step_is_run_again() {
    let faults = Faults {
        abandon: vec![0, 2, 3],
        pending: 2,
        ..Faults::default()
    };
    let (pipeline, fake) = pipeline(free(), faults);
    let ids = block_on(async {
        let generation = pipeline
            .generate(request(vec![9; 40], 6))
            .await
            .expect("admitted");
        collect(generation).await.expect("it goes well").0
    });
    assert_eq!(ids, greedy(&fake, &[9; 40], 6));
}

#[test]
fn a_credit_is_used_by_the_next_request() {
    let limits = ResourceConfig {
        min_request_interval_ms: 30,
        ..ResourceConfig::default()
    };
    let (pipeline, _) = pipeline(
        Options {
            limits,
            ..Options::default()
        },
        Faults::default(),
    );
    block_on(async {
        for _ in 0..3 {
            pipeline.throttle_if_needed().await;
            let generation = pipeline
                .generate(request(vec![1], 1))
                .await
                .expect("admitted");
            collect(generation).await.expect("it goes well");
        }
        // Six if credits were not used: a request would take a start of its own.
        assert_eq!(pipeline.get_resource_stats().await.total_requests, 3);
    });
}

#[test]
fn forced_tokens_and_the_same_prompt_give_the_same_scores() {
    let (pipeline, _) = pipeline(free(), Faults::default());
    block_on(async {
        let forced = GenerateRequest {
            continuation: Continuation::Forced(vec![3, 4, 5]),
            ..request(vec![1, 2], 1)
        };
        let generation = pipeline.generate(forced).await.expect("admitted");
        let (ids, reason, figures) = collect(generation).await.expect("it goes well");
        assert_eq!(
            (ids, reason, figures.decode_steps),
            (vec![3, 4, 5], Finish::Stop, 3)
        );
    });
}

#[test]
fn bad_requests_are_refused_by_field() {
    let (pipeline, _) = pipeline(free(), Faults::default());
    let context = pipeline.intake.model.decoder().context;
    let check = |request: GenerateRequest, words: &str| {
        let refusal = block_on(pipeline.generate(request)).expect_err("refused");
        assert!(refusal.to_string().starts_with(words), "{refusal}");
    };
    let sampled = |sampling| GenerateRequest {
        sampling,
        ..request(vec![1], 1)
    };
    check(request(vec![], 1), "prompt: no tokens");
    check(request(vec![1], 0), "max_tokens: 0");
    check(request(vec![u32::MAX], 1), "prompt: token 4294967295");
    let mut own = PromptRows::of_ids(vec![1, 2]);
    own.positions = Positions::Given {
        axes: 4,
        values: [0; 8].into(),
    };
    let rows = |own| GenerateRequest::new(Prompt::Rows(own), 1);
    check(rows(own), "prompt.positions: 4 axes");
    check(
        request(vec![1; context], 1),
        &format!("prompt of {context} tokens does not fit"),
    );
    check(
        sampled(Sampling {
            temperature: f32::NAN,
            ..Sampling::default()
        }),
        "temperature: NaN",
    );
    check(
        sampled(Sampling {
            top_p: 1.5,
            ..Sampling::default()
        }),
        "top_p: 1.5",
    );
    check(
        sampled(Sampling {
            stop: vec![String::new()],
            ..Sampling::default()
        }),
        "stop: a string of 0",
    );
    let forced = Continuation::Forced(vec![1; context]);
    check(
        GenerateRequest {
            continuation: forced,
            ..request(vec![1], 1)
        },
        "continuation: ",
    );
}

#[test]
fn the_queue_has_an_end() {
    let limits = ResourceConfig {
        min_request_interval_ms: 60_000,
        max_batch_size: 1,
        ..ResourceConfig::default()
    };
    let (pipeline, _) = pipeline(
        Options {
            limits,
            ..Options::default()
        },
        Faults::default(),
    );
    block_on(async {
        let mut waiting = Vec::new();
        let refusal = loop {
            match pipeline.generate(request(vec![1], 1)).await {
                Ok(generation) => waiting.push(generation),
                Err(refusal) => break refusal,
            }
            assert!(waiting.len() <= QUEUED_MAX + 1, "no bound");
        };
        assert!(
            matches!(refusal, Refusal::TooManyQueued { retry_after, .. } if retry_after.as_secs() > 1)
        );
        // What waits is lost to nobody: all end when they are cancelled.
        pipeline.cancel_all().await;
        for generation in waiting {
            let reason = collect(generation).await.expect("it ends well").1;
            assert!(matches!(reason, Finish::Cancelled | Finish::Length));
        }
        assert!(pipeline.generate(request(vec![1], 1)).await.is_ok());
    });
}

#[test]
fn limits_change_while_it_runs() {
    let (pipeline, fake) = pipeline(free(), Faults::default());
    block_on(async {
        let mut running = pipeline
            .generate(request(vec![1, 2], 30))
            .await
            .expect("admitted");
        let first = next_given(&mut running)
            .await
            .expect("a token")
            .expect("it goes well");
        let none = ResourceConfig {
            max_vram_usage_percent: 0.0,
            ..ResourceConfig::default()
        };
        pipeline
            .set_limits(none.clone())
            .await
            .expect("they are valid");
        let refusal = pipeline
            .generate(request(vec![1], 1))
            .await
            .expect_err("no room");
        assert!(matches!(refusal, Refusal::MemoryCap { .. }), "{refusal}");
        assert!(pipeline.check_resource_limits(1).await.is_err());
        let status = pipeline.status().await;
        assert_eq!((status.limits, status.refused_memory), (none, 2));
        let (rest, ..) = collect(running).await.expect("nothing in flight is lost");
        let expected = greedy(&fake, &[1, 2], 30);
        assert!(matches!(first, Event::Delta { ids, .. } if ids == expected[..1]));
        assert_eq!(rest, expected[1..]);
        let bad = ResourceConfig {
            max_batch_size: 0,
            ..ResourceConfig::default()
        };
        assert!(pipeline.set_limits(bad).await.is_err());
    });
}

#[test]
fn dropping_the_pipeline_ends_every_stream() {
    let (pipeline, _) = pipeline(free(), Faults::default());
    let generation = block_on(pipeline.generate(request(vec![1, 2], 100_000))).expect("admitted");
    drop(pipeline);
    let outcome = block_on(collect(generation));
    assert!(
        matches!(outcome, Err(GenerateError::Stopped)),
        "{outcome:?}"
    );
}

/// What would be done on devices where every piece takes so many seconds.
fn prediction(seconds: &[f64], options: Options) -> Prediction {
    let devices = (0..seconds.len()).map(|core| fake_cpu(core, Faults::default()));
    let machine = TestMachine::of(devices.collect()).open(&options);
    let opener = Opener::new(Arc::clone(&machine.hardware), model(), options);
    opener.know_costs(seconds);
    opener.foresee().expect("it fits")
}

#[test]
fn a_prediction_says_where_how_fast_and_why() {
    let pieces = 2 * model().decoder().layers.len() + 2;
    let mut options = free();
    options.limits.max_compute_usage_percent = 1.0;
    let prediction = prediction(&[2e-3, 1e-3], options);
    // One stream: the faster device takes all of it, since nothing else limits.
    let [stage] = &prediction.stages[..] else {
        panic!("{prediction:?}")
    };
    assert_eq!(
        (&*stage.device, stage.first_piece, stage.end_piece),
        ("cpu:1", 0, pieces)
    );
    let seconds = pieces as f64 * 1e-3;
    assert!(
        (prediction.decode_tok_s * seconds - 1.0).abs() < 1e-9,
        "{prediction:?}"
    );
    assert_eq!(prediction.devices[0].memory_used_bytes, 0);
    assert!(prediction.devices[1].kv_bytes > 0);
    assert!(prediction.is_sure);
    assert!(
        prediction
            .why
            .iter()
            .any(|line| line.starts_with("the compute limit of cpu:1 costs"))
    );
}

#[test]
fn a_prediction_counts_the_rest_that_credit_does_not_spare() {
    let (front, back) = Span::whole_model(model().decoder().layers.len()).split_at(3);
    let mut options = free();
    options.limits.max_compute_usage_percent = 0.5;
    let spans = [(0, front), (1, back)];
    let spans = spans.map(|(device, span)| PlacedSpan { device, span });
    options.plan = Some(spans.to_vec());
    let prediction = prediction(&[1e-3; 2], options);
    // While the other works, each earns credit for 2.5 ms of work.
    let busy = [front, back].map(|span| span.len() as f64 * 1e-3);
    let in_turn = busy.map(|busy| busy.max((busy - 2.5e-3) / 0.5));
    let chain = in_turn.iter().sum::<f64>() + crate::limits::CROSSING_SECONDS;
    let token = busy.iter().fold(chain, |most, busy| most.max(busy / 0.5));
    assert!(
        (prediction.decode_tok_s * token - 1.0).abs() < 1e-9,
        "{prediction:?}"
    );
}

#[test]
fn the_compute_limit_is_held_and_none_at_all_is_refused() {
    let (pipeline, _) = pipeline(free(), Faults::default());
    let status = block_on(pipeline.status());
    // Where the system tells a thread's CPU time, which the paces' tests need too.
    let named = |line: &String| line.starts_with("max_compute_usage_percent");
    assert!(!status.not_enforced.iter().any(named), "{status:?}");
    let none = ResourceConfig {
        max_compute_usage_percent: 0.0,
        ..status.limits.clone()
    };
    let error = block_on(pipeline.set_limits(none)).expect_err("no step would end");
    assert!(
        error
            .to_string()
            .starts_with("max_compute_usage_percent: 0"),
        "{error}"
    );
    assert_eq!(block_on(pipeline.status()).limits, status.limits);
}

#[test]
fn placements_that_cannot_be_are_refused() {
    let model = model();
    let pieces = Span::whole_model(model.decoder().layers.len());
    let open = |limits: ResourceConfig, plan: Vec<PlacedSpan>| {
        let options = Options {
            limits,
            plan: Some(plan),
            ..Options::default()
        };
        let machine = TestMachine::of(vec![fake_cpu(0, Faults::default())]).try_open(&options);
        let opened = machine.and_then(|machine| {
            HeterogeneousPipeline::under(&machine, Arc::clone(&model), &options)
        });
        opened.expect_err("refused")
    };
    let whole = vec![PlacedSpan {
        device: 0,
        span: pieces,
    }];
    let none = ResourceConfig {
        max_vram_usage_percent: 0.0,
        ..ResourceConfig::default()
    };
    let error = open(none, whole.clone());
    assert!(matches!(error, OpenError::DoesNotFit(_)), "{error}");
    let still = ResourceConfig {
        max_compute_usage_percent: 0.0,
        ..ResourceConfig::default()
    };
    let error = open(still, whole);
    assert!(
        error
            .to_string()
            .starts_with("max_compute_usage_percent: 0"),
        "{error}"
    );
    let half = vec![PlacedSpan {
        device: 0,
        span: pieces.split_at(3).0,
    }];
    let error = open(ResourceConfig::default(), half);
    assert!(
        error
            .to_string()
            .starts_with("plan: the stages end at piece 3"),
        "{error}"
    );
    let elsewhere = vec![PlacedSpan {
        device: 1,
        span: pieces,
    }];
    let error = open(ResourceConfig::default(), elsewhere);
    assert!(
        error
            .to_string()
            .starts_with("plan: stage 0 is on device 1"),
        "{error}"
    );
}
