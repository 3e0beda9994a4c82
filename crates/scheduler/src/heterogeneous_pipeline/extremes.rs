//! Numbers from outside at the ends of their ranges: each is refused by its field's name, or holds.

use std::task::{Context, Poll, Waker};

use futures_executor::block_on;
use gogrid_pipeline::PlacedSpan;
use gogrid_testkit::fakes::Faults;
use proptest::prelude::*;

use super::tests::{collect, fake_cpu, free, model, request};
use super::*;
use crate::error::ChangeError;
use crate::fixture::TestMachine;

fn pipeline() -> HeterogeneousPipeline {
    let machine = TestMachine::of(vec![fake_cpu(0, Faults::default())]).open(&free());
    HeterogeneousPipeline::under(&machine, model(), &free()).expect("it opens")
}

fn float() -> impl Strategy<Value = f64> {
    let ends = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        -0.0,
        0.0,
        1.0,
        1.0 + f64::EPSILON,
    ];
    prop_oneof![
        proptest::sample::select(ends.to_vec()),
        any::<f64>(),
        0.0..=1.0
    ]
}

fn limits() -> impl Strategy<Value = ResourceConfig> {
    let whole = || prop_oneof![Just(u64::MAX), Just(i64::MAX as u64), Just(0), any::<u64>()];
    let priority = prop_oneof![Just(i32::MIN), Just(i32::MAX), -20..=19_i32];
    let io = (any::<u8>(), any::<u8>());
    let batch = prop_oneof![Just(usize::MAX), 0..=65_usize];
    let starts = (whole(), any::<bool>(), batch);
    (float(), float(), priority, io, starts).prop_map(|(memory, compute, nice, io, starts)| {
        ResourceConfig {
            max_vram_usage_percent: memory,
            max_compute_usage_percent: compute,
            process_priority: nice,
            io_priority_class: io.0,
            io_priority_level: io.1,
            min_request_interval_ms: starts.0,
            enable_auto_throttle: starts.1,
            max_batch_size: starts.2,
        }
    })
}

fn time() -> impl Strategy<Value = Duration> {
    let ends = [
        Duration::MAX,
        Duration::ZERO,
        Duration::from_millis(u64::MAX),
    ];
    prop_oneof![proptest::sample::select(ends.to_vec()), any::<Duration>()]
}

/// Sets limits while a request waits, and goes back to ordinary ones.
async fn check_limits(pipeline: &HeterogeneousPipeline, limits: ResourceConfig, time: Duration) {
    let before = pipeline.settings().limits;
    let set = pipeline.set_limits(limits.clone()).await;
    let is_sound = limits.validate().is_ok() && limits.check_compute().is_ok();
    match &set {
        Ok(()) => assert!(
            is_sound && pipeline.settings().limits == limits,
            "{limits:?}"
        ),
        Err(ChangeError::Config(_) | ChangeError::NoCompute(_)) => {
            assert!(
                !is_sound && pipeline.settings().limits == before,
                "{limits:?}"
            );
        }
        Err(other) => panic!("{other}, {limits:?}"),
    }
    assert_eq!(pipeline.snooze(time).await, Ok(()));
    let waiting = pipeline.generate(request(vec![1; 3], usize::MAX)).await;
    // Where there is not a byte for it, it is refused; else it waits.
    let waiting = waiting.ok().map(|mut waiting| {
        let mut context = Context::from_waker(Waker::noop());
        let polled = futures_util::StreamExt::poll_next_unpin(&mut waiting, &mut context);
        assert!(matches!(polled, Poll::Pending | Poll::Ready(Some(_))));
        waiting
    });
    let _ = pipeline.check_resource_limits(u64::MAX).await;
    drop(pipeline.status().await.prometheus());
    assert_eq!(pipeline.set_limits(free().limits).await, Ok(()));
    assert_eq!(pipeline.resume().await, Ok(()));
    drop(waiting);
    let after = pipeline.generate(request(vec![1; 3], 2)).await;
    collect(after.expect("admitted")).await.expect("it goes on");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn limits_at_the_ends_of_their_ranges_are_refused_or_hold(
        changes in proptest::collection::vec((limits(), time()), 1..4),
    ) {
        let pipeline = pipeline();
        for (limits, time) in changes {
            block_on(check_limits(&pipeline, limits, time));
        }
        prop_assert_eq!(pipeline.machine.hardware.health.failures(), []);
    }
}

/// Stages that come from a caller or a file need not make sense.
#[test]
fn stages_at_the_ends_of_their_ranges_are_refused() {
    let pipeline = pipeline();
    let stood = pipeline.stages();
    let ends = [0, 1, 3, usize::MAX - 1, usize::MAX];
    for device in [0, 1, usize::MAX] {
        for start in ends {
            for end in ends {
                let span = gogrid_units::Span { start, end };
                let stages = vec![PlacedSpan { device, span }; 2];
                let error = block_on(pipeline.move_to(stages)).expect_err("it is no line");
                assert!(!error.to_string().contains("panicked"), "{error}");
            }
        }
    }
    assert_eq!(pipeline.stages(), stood);
    let many = vec![stood[0]; 100_000];
    let error = block_on(pipeline.move_to(many)).expect_err("too many");
    assert!(error.to_string().contains("100000 stages"), "{error}");
}
